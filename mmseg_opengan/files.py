"""The one way in which files are written, whole or not at all, and their digest."""

import codecs
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import numpy as np


@contextmanager
def replacing(path) -> Iterator[BinaryIO]:
    """A file open for writing bytes that takes its name only when it is complete; a reader never
    meets half of it.

    It is written beside its place as ``.{unique}.tmp`` and renamed at the end: of two writers the
    last one's file stays. After an error the old file is still there, and what was written of
    the new one is removed.

    Raises:
        OSError: it cannot be written, a full disk for one; names the file.

    Example:
        >>> with replacing('scores.npy') as file:  # doctest: +SKIP
        ...     np.save(file, scores)
    """
    name = f'.{os.getpid()}-{secrets.token_hex(4)}.tmp'
    temporary = os.path.join(os.path.dirname(path), name)
    try:
        # Not 'wb': numpy would write to the descriptor itself, and lose an error at the last bytes.
        with open(temporary, 'w+b') as file:
            yield file
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            os.remove(temporary)
        if isinstance(error, OSError) and error.filename is None:
            raise OSError(
                error.errno, f'{error.strerror or error} while it was written', str(path)
            ) from error
        raise


def write_json(path, content) -> None:
    """A JSON file; nan and infinity, which JSON does not have, become null."""
    with replacing(path) as file:
        file.write(json_bytes(content))


def json_bytes(content) -> bytes:
    """What :func:`write_json` writes."""
    return json.dumps(_plain(content), indent=1).encode()


def sha256_of(path) -> str:
    """Digest of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def half_where_it_fits(array: np.ndarray) -> np.ndarray:
    """Float16 to be stored, or the array as it is where a finite value is beyond float16's
    range.
    """
    finite = array[np.isfinite(array)]
    fits = np.abs(finite).max(initial=0) <= np.finfo(np.float16).max
    return array.astype(np.float16) if fits else array


def text_of(content: bytes, source: str) -> str:
    """The text of a file, in UTF-8 or, by its mark, UTF-16.

    Raises:
        ValueError: other bytes; names ``source``.
    """
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode('utf-16' if is_utf16 else 'utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{source}: wanted text in UTF-8, found other bytes ({error})') from error


def text_lines(content: bytes, source: str) -> list[str]:
    """The lines of a text file that are not empty; errors as of :func:`text_of`."""
    lines = [line.strip() for line in text_of(content, source).splitlines()]
    return [line for line in lines if line]


def label_type(num_classes: int) -> type:
    """Of arrays and PNG files that hold class ids: 8 bits, or 16 of more than 256 classes."""
    return np.uint8 if num_classes <= 256 else np.uint16


def as_json(value):
    """A value as :func:`write_json` and a reader give it back; what JSON does not have becomes its
    ``repr``.
    """
    return json.loads(json.dumps(_plain(value), default=repr))


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
