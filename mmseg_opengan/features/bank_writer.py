"""Adds shards to a feature bank from a thread of its own, so that whoever extracts features never
waits for a disk.
"""

import itertools
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..files import replacing, sha256_of
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
        if bank is None:
            self.root.mkdir(parents=True, exist_ok=True)
            bank = dict(empty_bank(), identity=identity)
        self.bank = bank
        check_identity(self.root, self.bank, identity)
        first = first_of(bank, 'image')
        self._index = {name: i for i, name in enumerate(bank['images'], first)}
        self._pending: list[tuple[str, dict, dict, list | None]] = []  # image, parts, files, place
        self._thread = ThreadPoolExecutor(1, thread_name_prefix='bank-writer')
        self._writing: Future[None] = Future()
        self._writing.set_result(None)

    def __enter__(self) -> 'BankWriter':
        return self

    def __exit__(self, kind, error, traceback) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            self._thread.shutdown()

    def files(self, group: str, image: str) -> list | None:
        """Digests of the files of a group of an image, as given to :meth:`add`; None where no
        finished shard holds it.
        """
        return self.bank['files'].get(image, {}).get(group)

    def place(self, image: str) -> list | None:
        """Where the file of an image lay, as given to :meth:`add`."""
        return self.bank['places'].get(image)

    def add(
        self,
        image: str,
        parts: dict[str, tuple[np.ndarray, np.ndarray]],
        files: dict | None = None,
        place: list | None = None,
    ) -> None:
        """Add one image.

        Args:
            image: its name, unique in the bank.
            parts: for each group to add, features (n, C) float16 and pixels (n, 3): row, col,
                label.
            files: for each group, digests of the files that it came from, to know them by later.
            place: plain values by which the image's file is known without reading it.

        Raises:
            ValueError: NaN or infinite features (an overflow of float16 included) in this or an
                earlier image, which is named.
            OSError: an earlier shard could not be written.
        """
        self._pending.append((image, parts, files or {group: [] for group in parts}, place))
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
        for image, parts, *_ in pending:
            for group, (features, _) in parts.items():
                bad = features.size - np.count_nonzero(np.isfinite(features))
                if bad:
                    raise ValueError(
                        f"{bad} of {features.size} {group} features of '{image}' are NaN or beyond "
                        'float16'
                    )
        manifest = self.root / 'manifest.json'
        if not manifest.exists():
            remove_shards(self.root)
            write_record(manifest, dict(version=VERSION, identity=self.bank['identity']))
        first = first_of(self.bank, 'image') + len(self._index)
        new = [image for image, *_ in pending if image not in self._index]
        self._index.update(zip(new, itertools.count(first)))
        stem = next_stem(self.bank)
        groups = {group: self._write_group(stem, group, pending) for group in GROUPS}
        files = {image: files for image, _, files, _ in pending}
        places = {image: place for image, *_, place in pending}
        record = dict(images=new, files=files, places=places, groups=groups)
        write_record(self.root / f'{stem}.json', record)
        add_shard(self.bank, record)

    def _write_group(self, stem, group, pending):
        parts = [(image, *parts[group]) for image, parts, *_ in pending if group in parts]
        counts = [len(features) for _, features, _ in parts]
        pixels = np.empty(sum(counts), PIXEL)
        pixels['image'] = np.repeat([self._index[image] for image, *_ in parts], counts)
        where = np.concatenate([np.empty((0, 3), np.int64), *(where for *_, where in parts)])
        pixels['row'], pixels['col'], pixels['label'] = where.T
        path = self.root / f'{stem}.{group}.npy'
        pixels_path = self.root / f'{stem}.{group}.pixels.npy'
        with replacing(pixels_path) as file:
            np.save(file, pixels)
        shape = (len(pixels), self.bank['identity']['channels'])
        with replacing(path) as file:
            header = dict(descr='<f2', fortran_order=False, shape=shape)
            np.lib.format.write_array_header_1_0(file, header)
            for _, features, _ in parts:  # no copy of them all is made
                file.write(np.ascontiguousarray(features, np.float16).tobytes())
        return dict(
            file=path.name,
            pixels_file=pixels_path.name,
            bytes=path.stat().st_size,
            sha256=sha256_of(path),
            pixels_bytes=pixels_path.stat().st_size,
            pixels_sha256=sha256_of(pixels_path),
            images={image: len(features) for image, features, _ in parts},
        )
