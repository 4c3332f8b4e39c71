"""What a folder's files were made from: noted beside them, and compared before they are used again.

A record is a dict of plain values. Whoever makes something lists all that it depends on, notes that
in the folder, and asks for the same when it comes back.
"""

import json
from pathlib import Path
from typing import Any

from . import __version__
from .files import as_json, sha256_of, write_json

#: Name of the record in the folder that it describes.
RECORD = 'made_from.json'


def made_from(**parts: Any) -> dict:
    """A record of these parts and the version of this package, as JSON gives it back."""
    return as_json(dict(version=__version__, **parts))


def digest_of_file(path: str | Path | None) -> str | None:
    """SHA-256 of a local file; None of what is no such file."""
    return sha256_of(path) if path is not None and Path(path).is_file() else None


def note(folder: str | Path, record: dict) -> None:
    """Write a folder's record. The folder is made where it is missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RECORD, record)


def noted(folder: str | Path) -> dict:
    """A folder's record; {} where it has none."""
    path = Path(folder) / RECORD
    return json.loads(path.read_text()) if path.exists() else {}


def differences(wanted: dict, found: dict) -> list[str]:
    """One text for each value of ``wanted`` that ``found`` does not have. Further keys of ``found``
    do not matter; those of dicts inside do.

    Example:
        >>> differences(dict(seed=1, model=dict(act='relu')), dict(seed=1, model={}, more=2))
        ["model.act: wanted 'relu', found None"]
    """
    texts: list[str] = []
    for key, value in wanted.items():
        texts += _differences(key, value, found.get(key))
    return texts


def _differences(name: str, wanted: Any, found: Any) -> list[str]:
    if wanted == found:
        return []
    if not (isinstance(wanted, dict) and isinstance(found, dict)):
        return [f'{name}: wanted {wanted!r}, found {found!r}']
    texts = []
    for key in sorted({*wanted, *found}):
        texts += _differences(f'{name}.{key}', wanted.get(key), found.get(key))
    return texts


def require_same(
    what: str, wanted: dict, found: dict, *, advice: str, error: type[Exception] = ValueError
) -> None:
    """Refuse what was made from something else.

    Args:
        what: the thing, as the error's subject.
        wanted: its record if it were made now.
        found: its record.
        advice: what to do.
        error: class of the error.

    Raises:
        ValueError: or ``error``; names every difference.
    """
    texts = differences(wanted, found) if found else [f'found no {RECORD} that says of what']
    if texts:
        raise error(f'{what} was made from something else ({"; ".join(texts)}). {advice}')


def is_done(folder: str | Path, result: str | Path, wanted: dict) -> bool:
    """Whether a folder has a result, and its record everything of ``wanted``."""
    return (Path(folder) / result).exists() and not differences(wanted, noted(folder))
