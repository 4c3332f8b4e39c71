"""What was found in each frame, in a file with one line a frame that outlives a stopped run.

A record belongs to what its frame was made from: a file as it was then, or the bytes of an array. A
frame that was replaced, or is no longer there, is not found in another's record.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..files import replacing
from .inputs import files_of


class Frame(NamedTuple):
    """A frame of the present inputs.

    Attributes:
        name: as of the inferencer.
        path: of its image; None of an array or a frame of a video.
        state: what it is made from, see :func:`frame_of`.
    """

    name: str
    path: str | None
    state: str


class Ranked(NamedTuple):
    """A frame with its score, and the place of its record in the file."""

    score: float
    frame: Frame
    place: int


def frame_of(name: str, source, video: str | None = None) -> Frame:
    """The frame of a name and its source, one of :class:`Entries`.

    Its state has the path, size and time of the image, or of the video; of an array its bytes'
    digest.
    """
    if video is not None:
        return Frame(name, None, f'{name} of {_state_of_file(video)}')
    if isinstance(source, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(source)).hexdigest()
        return Frame(name, None, f'{source.dtype} {source.shape} {digest}')
    path = files_of(source)[0]
    return Frame(name, path, _state_of_file(path))


def _state_of_file(path: str) -> str:
    place = os.path.abspath(path)
    try:
        found = os.stat(place)
    except OSError:  # who reads it says so
        return place
    return f'{place} {found.st_size} {found.st_mtime_ns}'


class Records:
    """The records in a file, of which memory holds places and scores alone.

    Args:
        path: the file; a new one is begun, and a line that a kill left half written goes.
        settings: what all records were made with, as plain values.

    Raises:
        ValueError: the file holds records of other settings.
    """

    def __init__(self, path: str | Path, settings: dict):
        self.path = path
        self._found: dict[str, tuple[float, int]] = {}  # by state
        if not os.path.isfile(path):
            with replacing(path) as file:
                file.write(json.dumps(settings).encode() + b'\n')
        self._read(settings)

    def _read(self, settings: dict) -> None:
        with open(self.path, 'r+b') as file:
            first = file.readline()
            found = json.loads(first) if first.endswith(b'\n') else None
            if found != settings:
                others = [key for key in settings if (found or {}).get(key) != settings[key]]
                raise ValueError(
                    f"'{self.path}': wanted frames of these inputs, model, score, threshold and "
                    f'smallest object, found those of another {", ".join(others)}. Choose another '
                    'folder, or remove this one.'
                )
            end = file.tell()
            for line in file:
                if not line.endswith(b'\n'):
                    break
                self._note(json.loads(line), end)
                end += len(line)
            file.truncate(end)

    def _note(self, record: dict, place: int) -> None:
        self._found[record['state']] = (record['score'], place)

    def __contains__(self, frame: Frame) -> bool:
        return frame.state in self._found

    def add(self, frame: Frame, record: dict) -> None:
        """Write the record of a frame, with its ``score``, behind the others."""
        record = dict(record, state=frame.state)
        line = json.dumps(record).encode() + b'\n'
        with open(self.path, 'ab', buffering=0) as file:
            file.write(line)
            self._note(record, file.tell() - len(line))  # others may have written too

    def ranked(self, frames: Iterable[Frame]) -> list[Ranked]:
        """Those of the frames that have a record, the highest score first."""
        found = []
        for frame in frames:
            if frame in self:
                score, place = self._found[frame.state]
                found.append(Ranked(score, frame, place))
        return sorted(found, key=lambda one: (-one.score, one.frame.name))

    def of(self, ranking: Iterable[Ranked]) -> Iterator[dict]:
        """The records in the order of a ranking, one at a time, with ``name`` and ``source``."""
        with open(self.path, 'rb') as file:
            for one in ranking:
                file.seek(one.place)
                record = json.loads(file.readline())
                if record['state'] != one.frame.state:
                    raise RuntimeError(
                        f"'{self.path}' was written anew by another run while it was read. Run it "
                        'again.'
                    )
                yield dict(record, name=one.frame.name, source=one.frame.path)
