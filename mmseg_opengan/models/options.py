"""Checks of option values, at the time a model is built."""

from collections.abc import Collection
from typing import Any


def check_choices(**options: tuple[Any, Collection]) -> None:
    for name, (value, known) in options.items():
        if value not in tuple(known):
            raise ValueError(f'{name}: wanted one of {tuple(known)}, found {value!r}')


def check_not_negative(**numbers: float) -> None:
    for name, value in numbers.items():
        if not _is_number(value) or not 0 <= value < float('inf'):
            raise ValueError(f'{name}: wanted a number >= 0, found {value!r}')


def check_positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not _is_number(value) or not 0 < value < float('inf'):
            raise ValueError(f'{name}: wanted a finite number above 0, found {value!r}')


def check_whole(**numbers: int) -> None:
    for name, value in numbers.items():
        if not _is_whole(value) or value < 1:
            raise ValueError(f'{name}: wanted a whole number of at least 1, found {value!r}')


def check_weight(name: str, weight: float) -> None:
    """Raise a ValueError unless a weight of the free score lies in [0, 1]."""
    if not _is_number(weight) or not 0 <= weight <= 1:
        raise ValueError(f'{name}: wanted a number in [0, 1], found {weight!r}')


def check_widths(name: str, widths: Any) -> None:
    """Raise a ValueError unless these are channels of one layer or more."""
    several = isinstance(widths, (list, tuple)) and len(widths) > 0
    if not several or not all(_is_whole(width) and width > 0 for width in widths):
        raise ValueError(f'{name}: wanted whole numbers above 0, found {widths!r}')


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
