"""Pixel features on disk: fp16 shards, memory-mapped, with a record that says what every row is.

A bank is a folder::

    manifest.json                 identity (segmentor, policy, ...)
    shard-00000.closed.npy        (rows, C) float16 features of closed pixels
    shard-00000.closed.pixels.npy (rows,) records: image, row, col on the grid, label
    shard-00000.open.npy          the same for open pixels (label: index into open_classes)
    shard-00000.open.pixels.npy
    shard-00000.json              images, their places, digests of their files, rows, bytes and
    checksums of this shard

A shard covers a few images and appears whole or not at all: each file is written under a temporary
name and renamed, ``shard-*.json`` last, and what lacks it does not count. Each ``.json`` ends with
a digest of itself. Extraction
resumes after a kill with byte-identical result, and a shard costs the same however many there are.
"""

import functools
import hashlib
import itertools
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..files import json_bytes, sha256_of, write_json
from ..provenance import require_same

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

VERSION = 4
IMAGES_PER_SHARD = 16
# Shards mapped at a time, of each group. Linux lets a process have 65,530 mappings.
MAX_MAPPED = 16_384
GROUPS = ('closed', 'open')
_AGAIN = 'Delete the bank and let it be built again.'
PIXEL = np.dtype([('image', '<i4'), ('row', '<u2'), ('col', '<u2'), ('label', 'u1')])


class FeatureBankError(RuntimeError):
    """A bank does not fit the request: another segmentor, policy or version, damaged, or too large
    for the disk.
    """


class FeatureBank:
    """Read access to a bank. Nothing is loaded into memory but the rows that are asked for.

    Args:
        root: the bank's folder.
        identity: what the bank must be made from; every key given is compared with the manifest.

    Raises:
        FileNotFoundError: there is no bank.
        FeatureBankError: the bank is another one than ``identity`` describes, or a shard is missing
            or truncated.
    """

    def __init__(self, root: str | Path, identity: dict | None = None):
        self.root = Path(root)
        manifest = read_bank(self.root)
        if manifest is None:
            raise FileNotFoundError(
                f"There is no feature bank in '{self.root}' (manifest.json is missing). Training "
                'builds it on first use; tools/extract_features.py builds it beforehand.'
            )
        self.manifest = manifest
        check_identity(self.root, self.manifest, identity or {})
        #: By image and group, digests of the image and the label that the features come from.
        self.files: dict[str, dict[str, list]] = self.manifest.pop('files')
        del self.manifest['places']  # for writers only
        self._open = functools.lru_cache(MAX_MAPPED)(self._open)  # type: ignore[method-assign]
        # Image name -> (first row, number of rows)
        self._rows: dict[str, dict[str, tuple[int, int]]] = {group: {} for group in GROUPS}
        self._starts = {group: [0] for group in GROUPS}
        for shard in self.manifest['shards']:
            for group, entry in shard['groups'].items():
                self._require_size(entry['file'], entry['bytes'])
                self._require_size(entry['pixels_file'], entry['pixels_bytes'])
                start = self._starts[group][-1]
                for name, count in entry['images'].items():
                    self._rows[group][name] = (start, count)
                    start += count
                self._starts[group].append(start)

    def _require_size(self, name: str, wanted: int) -> Path:
        path = self.root / name
        found = f'{path.stat().st_size} bytes' if path.exists() else 'no file'
        if found != f'{wanted} bytes':
            raise FeatureBankError(
                f"Feature bank shard '{path}': wanted {wanted} bytes, found {found}. {_AGAIN}"
            )
        return path

    def _open(self, group: str, shard: int) -> np.ndarray:
        """The features (rows, C) of a shard, memory-mapped; torch's mapping, unlike numpy's, holds
        no descriptor.
        """
        entry = self.manifest['shards'][shard]['groups'][group]
        rows = self._starts[group][shard + 1] - self._starts[group][shard]
        head = entry['bytes'] - 2 * rows * self.channels
        path, shape = str(self.root / entry['file']), (rows, self.channels)
        try:
            values = torch.from_file(path, size=entry['bytes'] // 2, dtype=torch.float16)
        except RuntimeError:
            # A private mapping counts as memory where the kernel commits no more than it has.
            return np.memmap(path, np.float16, 'r', head, shape)
        return values[head // 2 :].view(shape).numpy()

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
            raise FeatureBankError(
                f"Feature bank '{self.root}' lacks the {group} pixels of {len(lacking)} images, "
                f'such as {lacking[0]}'
            )
        spans = np.array([self._rows[group][name] for name in images], np.int64).reshape(-1, 2)
        return RowPool(spans[:, 0], spans[:, 1])

    def gather(self, group: str, rows: np.ndarray) -> torch.Tensor:
        """(n, C) float16 features of global rows, in the order given; read in file order."""
        order = np.argsort(rows, kind='stable')
        found = np.empty((len(rows), self.channels), np.float16)
        ends = np.searchsorted(rows[order], self._starts[group])
        for shard, (first, last) in enumerate(itertools.pairwise(ends)):
            if last > first:
                at = order[first:last]
                found[at] = self._open(group, shard)[rows[at] - self._starts[group][shard]]
        return torch.from_numpy(found)

    def pixels(self, group: str) -> np.ndarray:
        """Records (image index, row, col, label) of all rows of a group; images as in
        ``manifest['images']``.
        """
        parts = [np.empty(0, PIXEL)]
        for shard in self.manifest['shards']:
            entry = shard['groups'][group]
            path = self._require_size(entry['pixels_file'], entry['pixels_bytes'])
            head = entry['pixels_bytes'] - PIXEL.itemsize * sum(entry['images'].values())
            parts.append(np.fromfile(path, PIXEL, offset=head))
        pixels = np.concatenate(parts)
        pixels['image'] -= first_of(self.manifest, 'image')
        return pixels

    def verify(self) -> None:
        """Compare every byte of every shard with its checksum.

        Raises:
            FeatureBankError: naming the first damaged file.
        """
        for shard in tqdm(self.manifest['shards'], desc='Verifying', unit='shard'):
            for entry in shard['groups'].values():
                for file, key in (('file', 'sha256'), ('pixels_file', 'pixels_sha256')):
                    path, wanted = self.root / entry[file], entry[key]
                    found = sha256_of(path)
                    if found != wanted:
                        raise FeatureBankError(
                            f"Feature bank shard '{path}' is damaged: sha256 wanted {wanted[:12]}, "
                            f'found {found[:12]}. {_AGAIN}'
                        )


class RowPool:
    """Rows of a bank that may be drawn: spans of consecutive rows, one per image."""

    def __init__(self, starts: np.ndarray, lengths: np.ndarray):
        self.starts = starts
        self.lengths = lengths

    def __len__(self) -> int:
        return int(self.lengths.sum())

    def select(self, images: np.ndarray) -> 'RowPool':
        """The pool of some of its images, by position."""
        return RowPool(self.starts[images], self.lengths[images])

    def without(self, dropped: np.ndarray) -> 'RowPool':
        """The pool without some rows of the bank: ``dropped`` is True at those."""
        kept = self.rows(np.arange(len(self)))
        kept = kept[~dropped[kept]]
        first = np.flatnonzero(np.diff(kept, prepend=-2) != 1)  # of each run of consecutive rows
        return RowPool(kept[first], np.diff(first, append=len(kept)))

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Global rows of indices into the pool."""
        ends = np.cumsum(self.lengths)
        span = np.searchsorted(ends, indices, side='right')
        return self.starts[span] + indices - (ends[span] - self.lengths[span])

    def sample(self, number: int, seed: int | list[int]) -> np.ndarray:
        """At most ``number`` global rows in ascending order, drawn without replacement."""
        generator = np.random.default_rng(seed)
        chosen = generator.choice(len(self), min(number, len(self)), replace=False)
        return self.rows(np.sort(chosen))


def read_manifest(root: Path) -> dict | None:
    """The manifest of a bank, or None where there is none."""
    path = Path(root) / 'manifest.json'
    return read_record(path, VERSION) if path.exists() else None


def read_bank(root: Path) -> dict | None:
    """The manifest with what all shards hold: ``images``, ``files``, ``places``, ``shards``;
    None without a bank.

    Raises:
        FeatureBankError: the record of a shard before the last one is missing, or not readable.
    """
    manifest = read_manifest(root)
    if manifest is None:
        return None
    bank = empty_bank() | manifest
    paths = Path(root).glob('shard-*.json')
    for path in sorted(paths, key=lambda path: int(path.stem.split('-')[1])):
        wanted = next_stem(bank)
        if path.stem != wanted:
            raise FeatureBankError(
                f"Feature bank '{root}': there is '{path.name}', but no '{wanted}.json'. {_AGAIN}"
            )
        add_shard(bank, read_record(path))
    return bank


def empty_bank() -> dict:
    """What :func:`read_bank` gives of a bank without shards, but for its manifest."""
    return dict(images=[], files={}, places={}, shards=[])


def first_of(bank: dict, what: str) -> int:
    """Number of a bank's first ``'shard'`` or ``'image'``: 0, but where it is a part of another
    bank.
    """
    return bank['identity'].get('part', {}).get(f'first_{what}', 0)


def next_stem(bank: dict) -> str:
    """Name of the shard behind those of a bank."""
    return f'shard-{first_of(bank, "shard") + len(bank["shards"]):05d}'


def remove_shards(root: Path) -> None:
    """Remove what lies in a folder without a manifest: shards of a bank that was never finished do
    not count.
    """
    for path in Path(root).glob('shard-*'):
        path.unlink()


def add_shard(bank: dict, record: dict) -> None:
    """Count one more shard's record (``images`` new to the bank, ``files``, ``places``, ``groups``)
    into :func:`read_bank`'s.
    """
    bank['images'] += record['images']
    for image, digests in record['files'].items():
        bank['files'].setdefault(image, {}).update(digests)
    bank['places'].update(record['places'])
    bank['shards'].append(dict(groups=record['groups']))


def write_record(path: Path, content: dict) -> None:
    """A JSON file that tells when a bit of it has changed."""
    write_json(path, dict(content, sha256=_digest(content)))


def read_record(path: Path, version: int | None = None) -> dict:
    """What :func:`write_record` wrote.

    Raises:
        FeatureBankError: another version than the one given, or a bit that has changed.
    """
    data = path.read_bytes()
    try:
        content = json.loads(data)
        found = content.get('version')
        is_whole = data == json_bytes(content)
        is_whole &= content.pop('sha256', None) == _digest(content)
    except (ValueError, AttributeError, RecursionError) as error:
        raise FeatureBankError(f"'{path}' is not readable JSON ({error!r}). {_AGAIN}") from error
    if found != version:
        raise FeatureBankError(f"'{path}': wanted version {version}, found {found!r}. {_AGAIN}")
    if not is_whole:
        raise FeatureBankError(f"'{path}' is damaged: wanted what its sha256 says. {_AGAIN}")
    return content


def _digest(content: dict) -> str:
    return hashlib.sha256(json_bytes(content)).hexdigest()


def check_identity(root: Path, manifest: dict, wanted: dict) -> None:
    """Refuse a bank made from something else."""
    require_same(
        f"The feature bank in '{root}'",
        wanted,
        manifest['identity'],
        advice='Choose another folder for this one, or delete it.',
        error=FeatureBankError,
    )


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Let one process at a time write to a bank: two trainings may start with the same empty
    folder.

    The lock goes with the process that holds it, so a kill leaves none behind. There is none where
    the system or the file system knows no ``flock``, or where nothing can be written. What a killed
    process has left half written is removed.
    """
    Path(root).mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with suppress(OSError):
            file = stack.enter_context(open(Path(root) / '.lock', 'a'))
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
                for half in Path(root).glob('*.tmp'):
                    half.unlink()
        yield


def require_space(root: Path, needed: int) -> None:
    """Refuse to start what the disk cannot hold.

    Raises:
        FeatureBankError: naming the folder, the bytes wanted and found.
    """
    Path(root).mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if needed > free:
        raise FeatureBankError(
            f"The feature bank in '{root}' needs {needed / 1e9:.2f} GB, and the disk has "
            f'{free / 1e9:.2f} GB free. Lower closed_per_image, use fewer open images, or choose '
            'another folder.'
        )
