"""Adds shards to a feature bank from a thread of its own, so that whoever extracts features never
waits for a disk.
"""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from ..files import replacing
from .bank import (
    GROUPS,
    IMAGES_PER_SHARD,
    PIXEL,
    VERSION,
    add_shard,
    check_identity,
    empty_bank,
    first_of,
    next_stem,
    read_bank,
    remove_shards,
    write_record,
)

_EXPONENT = np.uint16(0x7C00)


class BankWriter:
    """Adds images to a bank, a shard at a time. To be used in a ``with`` statement, whose end
    writes the last shard.

    A full shard is checked, written and summed while the next one is collected, so two shards are
    in memory at most. What goes wrong in the thread is raised at the next shard, or at the end.
    After an error in the ``with`` block the shard being written is finished and the one being
    collected is dropped.

    Args:
        root: the bank's folder, made if needed.
        identity: what the features come from; stored, and compared when the bank exists.
        images_per_shard: a shard is written when it has this many images.
    """

    def __init__(
        self, root: str | Path, identity: dict, *, images_per_shard: int = IMAGES_PER_SHARD
    ):
        self.root = Path(root)
        self.images_per_shard = images_per_shard
        bank = read_bank(self.root)
        self._is_new = bank is None
        if bank is None:
            self.root.mkdir(parents=True, exist_ok=True)
            bank = dict(empty_bank(), identity=identity)
        self.bank = bank
        check_identity(self.root, self.bank, identity)
        self._index = {
            name: i for i, name in enumerate(self.bank['images'], first_of(self.bank, 'image'))
        }
        self._pending: list[tuple[str, dict, dict]] = []  # image, parts, files
        self._thread = ThreadPoolExecutor(1, thread_name_prefix='bank-writer')
        self._writing: Future[None] = Future()
        self._writing.set_result(None)

    def __enter__(self) -> 'BankWriter':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            self._thread.shutdown()

    def has(self, group: str, image: str) -> bool:
        """Whether a finished shard holds a group of an image."""
        return self.files(group, image) is not None

    def files(self, group: str, image: str) -> list | None:
        """Digests of the files of a stored group of an image, as given to :meth:`add`."""
        return self.bank['files'].get(image, {}).get(group)

    def add(
        self, image: str, parts: dict[str, tuple[np.ndarray, np.ndarray]], files: dict | None = None
    ) -> None:
        """Add one image.

        Args:
            image: its name, unique in the bank.
            parts: for each group to add, features (n, C) float16 and pixels (n, 3): row, col,
                label.
            files: for each group, digests of the files that it came from, to know them by later.

        Raises:
            ValueError: NaN or infinite features (an overflow of float16 included) in this or an
                earlier image, which is named.
            OSError: an earlier shard could not be written.
        """
        self._pending.append((image, parts, files or {group: [] for group in parts}))
        if len(self._pending) >= self.images_per_shard:
            self._start_writing()

    def flush(self) -> None:
        """Write the images added since the last shard as one shard, and wait until everything is on
        disk.
        """
        if self._pending:
            self._start_writing()
        self._writing.result()

    def _start_writing(self):
        self._writing.result()
        pending, self._pending = self._pending, []
        self._writing = self._thread.submit(self._write_shard, pending)

    def _write_shard(self, pending):
        for image, parts, _ in pending:
            _require_finite(image, parts)
        if self._is_new:
            remove_shards(self.root)
            manifest = dict(version=VERSION, identity=self.bank['identity'])
            write_record(self.root / 'manifest.json', manifest)
            self._is_new = False
        new = [image for image, *_ in pending if image not in self._index]
        self._index.update(
            {
                image: i
                for i, image in enumerate(new, first_of(self.bank, 'image') + len(self._index))
            }
        )
        stem = next_stem(self.bank)
        record: dict = dict(
            images=new,
            files={image: files for image, _, files in pending},
            groups={
                group: self._write_group(f'{stem}.{group}', group, pending) for group in GROUPS
            },
        )
        write_record(self.root / f'{stem}.json', record)
        add_shard(self.bank, record)

    def _write_group(self, stem, group, pending):
        parts = [(image, *parts[group]) for image, parts, _ in pending if group in parts]
        pixels = np.empty(sum(len(where) for *_, where in parts), PIXEL)
        pixels['image'] = np.repeat(
            [self._index[image] for image, *_ in parts], [len(where) for *_, where in parts]
        )
        where = np.concatenate([np.empty((0, 3), np.int64), *(where for *_, where in parts)])
        pixels['row'], pixels['col'], pixels['label'] = where.T
        path, pixels_path = self.root / f'{stem}.npy', self.root / f'{stem}.pixels.npy'
        pixels_digest = _write_rows(pixels_path, [pixels], PIXEL, ())
        digest = _write_rows(
            path,
            [features for _, features, _ in parts],
            np.dtype(np.float16),
            (self.bank['identity']['channels'],),
        )
        return dict(
            file=path.name,
            pixels_file=pixels_path.name,
            bytes=path.stat().st_size,
            sha256=digest,
            pixels_bytes=pixels_path.stat().st_size,
            pixels_sha256=pixels_digest,
            images={image: len(features) for image, features, _ in parts},
        )


def _require_finite(image, parts):
    for group, (features, _) in parts.items():
        bits = np.asarray(features, np.float16).view(np.uint16)
        # All exponent bits set: a sixth of isfinite's time, in pieces that stay in a cache.
        bad = sum(
            np.count_nonzero((some & _EXPONENT) == _EXPONENT)
            for some in np.array_split(bits, 1 + bits.size // 65536)
        )
        if bad:
            raise ValueError(
                f"{bad} of {features.size} {group} features of '{image}' are NaN or beyond float16"
            )


def _write_rows(path: Path, parts: list[np.ndarray], dtype: np.dtype, row_shape: tuple) -> str:
    """Arrays of rows, one behind the other, as one ``.npy`` file; no copy of them all is made.

    Returns:
        str: sha256 of the bytes.
    """
    digest = hashlib.sha256()
    with replacing(path) as file:
        head = _Tee(file, digest)
        np.lib.format.write_array_header_1_0(
            head,
            dict(
                descr=np.lib.format.dtype_to_descr(dtype),
                fortran_order=False,
                shape=(sum(map(len, parts)), *row_shape),
            ),
        )
        for part in parts:
            if part.size:
                head.write(np.ascontiguousarray(part, dtype).view(np.uint8).data)
    return digest.hexdigest()


class _Tee:
    """Writes to a file and feeds a digest."""

    def __init__(self, file: BinaryIO, digest: Any):
        self.file, self.digest = file, digest

    def write(self, data: Any) -> None:
        self.file.write(data)
        self.digest.update(data)
