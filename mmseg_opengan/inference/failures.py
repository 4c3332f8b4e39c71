"""The files that a run could not read, as a table beside what it wrote."""

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from ..files import replacing

FAILURES = 'failures.csv'


def write_failures(out_dir: str | Path, bad: Sequence[tuple[str, str]]) -> None:
    """(name, error) of each file to ``failures.csv``; without any, that of an earlier run goes."""
    path = Path(out_dir, FAILURES)
    if not bad:
        path.unlink(missing_ok=True)
        return
    text = StringIO(newline='')
    csv.writer(text).writerows([('name', 'error'), *bad])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.getvalue().encode())
