"""Numbers as text: Markdown tables, CSV files, means over seeds, intervals."""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import replacing

#: Columns of a test's numbers, by their names in a report.
METRICS = {'AUROC': 'AUROC', 'AUROC_kinds': 'AUROC over kinds', 'AP': 'AP', 'FPR95': 'FPR95'}


def grouped(rows: Iterable[dict], key: str) -> dict[Any, list[dict]]:
    """Rows by their value of ``key``, in the order in which the values come."""
    groups: dict[Any, list[dict]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def markdown(head: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table; a cell that is None is empty."""
    lines = [_line(head), '|' + '---|' * len(head)]
    lines += [_line(row) for row in rows]
    return '\n'.join(lines)


def _line(cells):
    return '| ' + ' | '.join('' if cell is None else str(cell) for cell in cells) + ' |'


def csv_text(rows: Sequence[Mapping]) -> str:
    """A header and a line for each row; a value that is None, nan or missing is empty.

    The columns are those of all rows, in the order in which they occur first.
    """
    fields = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator='\n')
    writer.writeheader()
    for row in rows:
        writer.writerow({key: value for key, value in row.items() if is_number(value)})
    return text.getvalue()


def is_number(value) -> bool:
    """False for None and nan, which stand for what is not defined."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def as_number(value: float | None) -> float:
    """A number of a JSON file, where null stands for nan."""
    return math.nan if value is None else value


def number(value: float | None, form: str = '.4f') -> str:
    """A number's text; '' where it is not defined."""
    return format(value, form) if is_number(value) else ''


def mean(values: Sequence[float | None], form: str = '.4f') -> str:
    """Mean over seeds, with the standard deviation where there are several; '' of no value, or
    where one is not defined.
    """
    if not values or not all(map(is_number, values)):
        return ''
    text = format(statistics.mean(values), form)
    if len(values) > 1:
        text += f' ± {statistics.stdev(values):{form}}'
    return text


def interval_text(ends: tuple[float, float], form: str = '.3f') -> str:
    """``low to high``; '' where there is no interval."""
    low, high = (number(end, form) for end in ends)
    return f'{low} to {high}' if low else ''


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())
