"""Pixel features on disk: fp16 shards, memory-mapped, with a manifest that says what every row is.

A bank is a folder::

    manifest.json                 identity (segmentor, policy, ...), one entry per finished shard, counts
    shard-00000.closed.npy        (rows, C) float16 features of closed pixels
    shard-00000.closed.pixels.npy (rows,) records: image, row, col on the grid, label
    shard-00000.open.npy          the same for open pixels (label: index into open_classes)
    shard-00000.open.pixels.npy

A shard covers a few images and appears whole or not at all: its files are written under temporary names and renamed,
then the manifest is replaced. Extraction therefore resumes after a kill with byte-identical result.
"""

import hashlib
import json
import shutil
import zlib
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from ..contracts import CLOSED, FIRST_OPEN, VOID
from ..functional.files import replacing, write_json

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

VERSION = 1
GROUPS = ('closed', 'open')
PIXEL = np.dtype([('image', '<i4'), ('row', '<u2'), ('col', '<u2'), ('label', 'u1')])


class FeatureBankError(RuntimeError):
    """A bank does not fit the request: another segmentor, policy or version, damaged, or too large for the disk."""


class FeatureBank:
    """Read access to a bank. Nothing is loaded into memory but the rows that are asked for.

    Args:
        root: the bank's folder.
        identity: what the bank must be made from; every key given is compared with the manifest.

    Raises:
        FileNotFoundError: there is no bank.
        FeatureBankError: the bank is another one than ``identity`` describes, or a shard is missing or truncated.
    """

    def __init__(self, root, identity: dict | None = None):
        self.root = Path(root)
        self.manifest = read_manifest(self.root)
        if self.manifest is None:
            raise FileNotFoundError(f"There is no feature bank in '{self.root}' (manifest.json is missing). Training "
                                    'builds it on first use; tools/extract_features.py builds it beforehand.')
        check_identity(self.root, self.manifest, identity or {})
        self._features = {group: [] for group in GROUPS}
        self._rows = {group: {} for group in GROUPS}  # image name -> (first row, number of rows)
        self._starts = {group: [0] for group in GROUPS}
        for shard in self.manifest['shards']:
            self._add_shard(shard)

    def _add_shard(self, shard):
        for group in GROUPS:
            entry = shard['groups'][group]
            path = self.root / entry['file']
            if not path.exists() or path.stat().st_size != entry['bytes']:
                found = f'{path.stat().st_size} bytes' if path.exists() else 'no file'
                raise FeatureBankError(f"Feature bank shard '{path}': wanted {entry['bytes']} bytes, found {found}. "
                                       'Delete the bank and let it be built again.')
            start = self._starts[group][-1]
            for name, count in entry['images'].items():
                self._rows[group][name] = (start, count)
                start += count
            self._features[group].append(np.load(path, mmap_mode='r'))
            self._starts[group].append(start)

    def images(self, group: str) -> list[str]:
        """Names of the images that gave (possibly zero) pixels to a group."""
        return list(self._rows[group])

    def num_pixels(self, group: str) -> int:
        return self._starts[group][-1]

    @property
    def channels(self) -> int:
        return self.manifest['identity']['channels']

    def pool(self, group: str, images: Iterable[str]) -> 'RowPool':
        """The rows of some images, in the order given.

        Raises:
            FeatureBankError: the bank lacks one of the images.
        """
        images = list(images)
        lacking = [name for name in images if name not in self._rows[group]]
        if lacking:
            raise FeatureBankError(f"Feature bank '{self.root}' lacks the {group} pixels of {len(lacking)} images, "
                                   f'such as {lacking[0]}')
        spans = np.array([self._rows[group][name] for name in images], np.int64).reshape(-1, 2)
        return RowPool(spans[:, 0], spans[:, 1])

    def gather(self, group: str, rows: np.ndarray) -> torch.Tensor:
        """(n, C) float16 features of global rows, in the order given; read in file order."""
        out = np.empty((len(rows), self.channels), np.float16)
        order = np.argsort(rows, kind='stable')
        ends = np.searchsorted(rows[order], self._starts[group])
        for features, start, first, last in zip(self._features[group], self._starts[group], ends[:-1], ends[1:]):
            if last > first:
                chosen = order[first:last]
                out[chosen] = features[rows[chosen] - start]
        return torch.from_numpy(out)

    def pixels(self, group: str) -> np.ndarray:
        """Records (image index, row, col, label) of all rows of a group; images as in ``manifest['images']``."""
        parts = [np.load(self.root / shard['groups'][group]['pixels_file']) for shard in self.manifest['shards']]
        return np.concatenate(parts) if parts else np.empty(0, PIXEL)

    def verify(self) -> None:
        """Compare every shard with its checksum.

        Raises:
            FeatureBankError: naming the first damaged file.
        """
        for shard in self.manifest['shards']:
            for entry in shard['groups'].values():
                found = _sha256(self.root / entry['file'])
                if found != entry['sha256']:
                    raise FeatureBankError(f"Feature bank shard '{self.root / entry['file']}' is damaged: sha256 "
                                           f"wanted {entry['sha256'][:12]}, found {found[:12]}")


class RowPool:
    """Rows of a bank that may be drawn: spans of consecutive rows, one per image."""

    def __init__(self, starts: np.ndarray, lengths: np.ndarray):
        self.starts = starts
        self.lengths = lengths

    def __len__(self):
        return int(self.lengths.sum())

    def select(self, images: np.ndarray) -> 'RowPool':
        """The pool of some of its images, by position."""
        return RowPool(self.starts[images], self.lengths[images])

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Global rows of indices into the pool."""
        ends = np.cumsum(self.lengths)
        span = np.searchsorted(ends, indices, side='right')
        return self.starts[span] + indices - (ends[span] - self.lengths[span])


def read_manifest(root: Path) -> dict | None:
    """The manifest of a bank, or None where there is none."""
    path = Path(root) / 'manifest.json'
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise FeatureBankError(f"'{path}' is not readable JSON ({error}). Delete the bank.") from error
    if manifest.get('version') != VERSION:
        raise FeatureBankError(f"'{path}': wanted version {VERSION}, found {manifest.get('version')!r}. Delete the "
                               'bank and let it be built again.')
    return manifest


def check_identity(root: Path, manifest: dict, wanted: dict) -> None:
    """Refuse a bank made from something else."""
    found = manifest['identity']
    differing = [f'{key}: wanted {value!r}, found {found.get(key)!r}' for key, value in wanted.items()
                 if found.get(key) != value]
    if differing:
        raise FeatureBankError(f"The feature bank in '{root}' was made from something else ({'; '.join(differing)}). "
                               'Choose another folder for this one, or delete it.')


class BankWriter:
    """Adds images to a bank, a shard at a time.

    Args:
        root: the bank's folder, made if needed.
        identity: what the features come from; stored, and compared when the bank exists.
        images_per_shard: a shard is written when it has this many images.
    """

    def __init__(self, root, identity: dict, *, images_per_shard: int = 16):
        self.root = Path(root)
        self.images_per_shard = images_per_shard
        self.manifest = read_manifest(self.root)
        if self.manifest is None:
            self.root.mkdir(parents=True, exist_ok=True)
            self.manifest = dict(version=VERSION, identity=identity, images=[], shards=[],
                                 counts=dict.fromkeys(GROUPS, 0))
        check_identity(self.root, self.manifest, identity)
        self._index = {name: i for i, name in enumerate(self.manifest['images'])}
        self._pending = []

    def has(self, group: str, image: str) -> bool:
        return any(image in shard['groups'][group]['images'] for shard in self.manifest['shards'])

    def add(self, image: str, parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Add one image.

        Args:
            image: its name, unique in the bank.
            parts: for each group to add, features (n, C) float16 and pixels (n, 3): row, col, label.

        Raises:
            ValueError: NaN or infinite features (an overflow of float16 included), naming the image.
        """
        for group, (features, _) in parts.items():
            bad = int((~np.isfinite(features)).sum())
            if bad:
                raise ValueError(f"{bad} of {features.size} {group} features of '{image}' are NaN or beyond float16")
        self._pending.append((image, parts))
        if len(self._pending) >= self.images_per_shard:
            self.flush()

    def flush(self) -> None:
        """Write the images added since the last shard as one shard."""
        if not self._pending:
            return
        number = len(self.manifest['shards'])
        for image, _ in self._pending:
            if image not in self._index:
                self._index[image] = len(self.manifest['images'])
                self.manifest['images'].append(image)
        groups = {group: self._write_group(f'shard-{number:05d}.{group}', group) for group in GROUPS}
        self.manifest['shards'].append(dict(groups=groups))
        for group in GROUPS:
            self.manifest['counts'][group] += sum(groups[group]['images'].values())
        write_json(self.root / 'manifest.json', self.manifest)
        self._pending = []

    def _write_group(self, stem, group):
        channels = self.manifest['identity']['channels']
        parts = [(image, *parts[group]) for image, parts in self._pending if group in parts]
        features = np.concatenate([np.empty((0, channels), np.float16), *(f for _, f, _ in parts)])
        pixels = np.empty(len(features), PIXEL)
        pixels['image'] = np.repeat([self._index[image] for image, *_ in parts], [len(f) for _, f, _ in parts])
        where = np.concatenate([np.empty((0, 3), np.int64), *(p for *_, p in parts)])
        pixels['row'], pixels['col'], pixels['label'] = where.T
        path, pixels_path = self.root / f'{stem}.npy', self.root / f'{stem}.pixels.npy'
        for target, array in ((pixels_path, pixels), (path, features)):
            with replacing(target) as file:
                np.save(file, array)
        return dict(file=path.name, pixels_file=pixels_path.name, bytes=path.stat().st_size, sha256=_sha256(path),
                    images={image: len(features) for image, features, _ in parts})


@contextmanager
def locked(root: Path):
    """Let one process at a time write to a bank: two trainings may start with the same empty folder.

    The lock goes with the process that holds it, so a kill leaves none behind. There is none where the system or the
    file system knows no ``flock``.
    """
    Path(root).mkdir(parents=True, exist_ok=True)
    with open(Path(root) / '.lock', 'w') as file:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def choose_pixels(open_map: np.ndarray, classes: np.ndarray, group: str, limit: int | None, seed: int,
                  image: str) -> np.ndarray:
    """(n, 3) grid pixels (row, col, label) of a group, in raster order: seeded by image name, not by position.

    Args:
        open_map, classes: (h, w) labels on the grid.
        limit: at most so many closed pixels; None and the open group take all.
    """
    if group == 'open':
        rows, cols = np.nonzero((open_map != CLOSED) & (open_map != VOID))
        return np.stack([rows, cols, open_map[rows, cols].astype(np.int64) - FIRST_OPEN], axis=1)
    rows, cols = np.nonzero(open_map == CLOSED)
    if limit is not None and len(rows) > limit:
        rng = np.random.default_rng([seed, zlib.crc32(image.encode())])
        chosen = np.sort(rng.choice(len(rows), limit, replace=False))
        rows, cols = rows[chosen], cols[chosen]
    return np.stack([rows, cols, classes[rows, cols].astype(np.int64)], axis=1)


def require_space(root: Path, needed: int) -> None:
    """Refuse to start what the disk cannot hold.

    Raises:
        FeatureBankError: naming the folder, the bytes wanted and found.
    """
    Path(root).mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if needed > free:
        raise FeatureBankError(f"The feature bank in '{root}' needs {needed / 1e9:.2f} GB, and the disk has "
                               f'{free / 1e9:.2f} GB free. Lower closed_per_image, use fewer open images, or choose '
                               'another folder.')


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
