"""Checks of option values, at the time a model is built."""

from collections.abc import Collection
from typing import Any


def check_choices(**options: tuple[Any, Collection]) -> None:
    for name, (value, known) in options.items():
        if value not in tuple(known):
            raise ValueError(f'{name}: wanted one of {tuple(known)}, found {value!r}')


def check_numbers(interval: str, **numbers: float) -> None:
    """Raise a ValueError unless numbers lie in an interval such as ``'(0, 1]'``."""
    low, high = map(float, interval[1:-1].split(','))
    for name, value in numbers.items():
        inside = isinstance(value, (int, float)) and not isinstance(value, bool)
        inside = inside and low <= value <= high
        if value == low:
            inside = inside and interval.startswith('[')
        if value == high:
            inside = inside and interval.endswith(']')
        if not inside:
            raise ValueError(f'{name}: wanted a number in {interval}, found {value!r}')


def check_whole(**numbers: int) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f'{name}: wanted a whole number of at least 1, found {value!r}')


def check_widths(name: str, widths: Any) -> None:
    """Raise a ValueError unless these are channels of one layer or more."""
    if not isinstance(widths, (list, tuple)) or not widths:
        raise ValueError(f'{name}: wanted a list of widths, found {widths!r}')
    check_whole(**{f'{name}[{i}]': width for i, width in enumerate(widths)})
