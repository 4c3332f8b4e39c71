"""Checks of option values, at the time a model is built."""

from collections.abc import Collection
from typing import Any


def check_choices(**options: tuple[Any, Collection]) -> None:
    for name, (value, known) in options.items():
        if value not in known:
            raise ValueError(f'{name}: wanted one of {known}, found {value!r}')


def check_not_negative(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 <= value < float('inf'):
            raise ValueError(f'{name}: wanted a number >= 0, found {value!r}')


def check_weight(name: str, weight: float) -> None:
    """Raise a ValueError unless a weight of the free score lies in [0, 1]."""
    if not 0 <= weight <= 1:
        raise ValueError(f'{name}: wanted a number in [0, 1], found {weight!r}')
