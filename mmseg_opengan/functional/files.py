"""The one way in which files are written: whole, or not at all."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


@contextmanager
def replacing(path) -> Iterator[BinaryIO]:
    """A file open for writing bytes that takes its name only when it is complete; a reader never meets half of it.

    It is written beside its place as ``{path}.tmp`` and renamed at the end. After an error the old file is still there.

    Example:
        >>> with replacing('scores.npy') as file:  # doctest: +SKIP
        ...     np.save(file, scores)
    """
    temporary = f'{path}.tmp'
    with open(temporary, 'wb') as file:
        yield file
    os.replace(temporary, path)


def write_json(path, content) -> None:
    """A JSON file; nan and infinity, which JSON does not have, become null."""
    with replacing(path) as file:
        file.write(json.dumps(_plain(content), indent=1).encode())


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
