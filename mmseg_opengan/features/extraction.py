"""Features of many images into a bank: the segmentor waits neither for the images before it nor for
the disk behind it.

Threads read the next images while the segmentor works on one; the writer's thread checks and stores
the last ones.
"""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from torch import Tensor
from tqdm import tqdm

from ..files import sha256_of
from ..functional.pixels import grid_stride, labels_on_grid, open_map_of
from .bank import FeatureBankError, require_space
from .bank_writer import BankWriter
from .pixel_choice import PixelChoice

# Threads that read images, .07 s each at 1024 x 2048, each with one beside the one in work: half
# the cores, two to eight. Two keep up with a segmentor on a CPU, whose time they take, and eight
# with one on a GPU.
READERS = min(8, max(2, (os.cpu_count() or 2) // 2))


def extract_to_bank(
    root: Path,
    identity: dict,
    requests: dict[str, list],
    extract: Callable[..., Tensor],
    choice: PixelChoice,
) -> None:
    """Add to a bank what it lacks.

    Args:
        root: the bank's folder.
        identity: what the bank is made from.
        requests: for each group, (image name, dataset, index) in order.
        extract: maps a raw image (3, H, W) and its data sample to features (C, h, w).
        choice: which pixels are stored.

    Raises:
        FeatureBankError: the bank in place was made from something else, other images or labels of
            the same names included, or the disk is too small.
        ValueError: features that are NaN or beyond float16; or two files of one name.
    """
    digest = functools.cache(sha256_of)  # closed and open pixels come from the same files
    with BankWriter(root, identity) as writer:
        since = min((path.stat().st_mtime for path in root.glob('*.json')), default=0)
        todo: dict[str, dict[str, tuple[BaseDataset, int]]] = {}  # of each group of a name
        for group, images in requests.items():
            for name, dataset, index in images:
                stored = writer.files(group, name)
                if stored is not None:
                    place = writer.place(name)
                    found = file_digests(dataset, index, digest, known=place, since=since)
                    require_same_files(root, name, stored, found)
                else:
                    groups = todo.setdefault(name, {})
                    groups[group] = (dataset, index)
                    _require_one_file(name, *groups.values())
        if not todo:
            return
        _require_space(root, identity, todo, extract, choice)
        with ahead(_items, todo.values(), READERS) as items:
            for name, samples in zip(tqdm(todo, desc='Extracting features', unit='image'), items):
                first, *others = samples.values()
                if not all(torch.equal(item['inputs'], first['inputs']) for item in others):
                    raise ValueError(
                        f"'{name}' was read twice, for two label policies, and differs: wanted a "
                        'pipeline without random steps'
                    )
                features = extract(first['inputs'], first['data_samples'])
                parts, files = {}, {}
                for group, item in samples.items():
                    parts[group] = _stored_part(features, item['data_samples'], group, choice, name)
                    files[group] = file_digests(*todo[name][group], digest)
                writer.add(name, parts, files, place_of(*next(iter(todo[name].values()))))


def _for_each_group(groups, read):
    """``read(dataset, index)`` for every group of an image; once where their data sets mean the
    same by its labels.
    """
    found, keys = {}, {}
    for group, (dataset, index) in groups.items():
        key = keys[group] = (
            dataset.metainfo['label_policy'],
            dataset.get_data_info(index).get('seg_map_path'),
        )
        if key not in found:
            found[key] = read(dataset, index)
    return {group: found[key] for group, key in keys.items()}


def _items(groups):
    return _for_each_group(groups, lambda dataset, index: dataset[index])


def file_digests(
    dataset: BaseDataset,
    index: int,
    digest: Callable[[str], str] = sha256_of,
    *,
    known: list | None = None,
    since: float = 0,
) -> list[str | None]:
    """Digests of an image and of its label; None for what is no local file.

    Labels are small and always read. An image that is ``known`` (:func:`place_of`) is not read, and
    None, unless anything about its file has changed ``since`` a time. A copy that keeps an older
    time has still changed the file's.
    """
    info = dataset.get_data_info(index)
    found: list[str | None] = []
    for key in ('img_path', 'seg_map_path'):
        path = info.get(key) or ''
        if not os.path.isfile(path):
            found.append(None)
            continue
        status = os.stat(path)
        is_old = max(status.st_mtime, status.st_ctime) < since
        is_known = key == 'img_path' and known == _place(path)
        found.append(None if is_old and is_known else digest(path))
    return found


def place_of(dataset: BaseDataset, index: int) -> list | None:
    """Path, bytes and time of an image, by which it is known; None of what is no local file."""
    path = dataset.get_data_info(index)['img_path']
    return _place(path) if os.path.isfile(path) else None


def _place(path: str) -> list:
    status = os.stat(path)
    return [os.path.realpath(path), status.st_size, status.st_mtime_ns]


def require_same_files(root: Path, name: str, stored: list, found: list) -> None:
    """Refuse files that are not those of the same name whose features are stored. What has no
    digest is believed.

    Raises:
        FeatureBankError: naming the folder, the image and the digests.
    """
    for what, of_stored, of_found in zip(('image', 'label'), stored, found):
        if of_stored is not None and of_found is not None and of_stored != of_found:
            raise FeatureBankError(
                f"'{root}' has features of another '{name}': wanted its {what} of sha256 "
                f'{of_found[:12]}, found one of {of_stored[:12]}. Choose another folder for these '
                'data, or delete this one.'
            )


def _require_one_file(name, *images):
    """Refuse data sets whose images have the same name, below their own roots, and are not the
    same files.
    """
    paths = [Path(dataset.get_data_info(index)['img_path']) for dataset, index in images]
    if len({path.resolve() for path in paths}) > 1:
        raise ValueError(
            f"closed and open both have an image '{name}': '{paths[0]}' and '{paths[1]}'. A "
            'feature bank knows images by their path below data_root: choose data_roots that keep '
            'them apart.'
        )


def _stored_part(features, sample, group, choice, name):
    """The group's chosen features (n, C) float16 and their pixels (n, 3)."""
    open_map, classes = (
        labels_on_grid(field.data[0].numpy(), features.shape[-2:])
        for field in (open_map_of(sample), sample.gt_sem_seg)
    )
    where = choice.pixels(open_map, classes, group, name)
    place = torch.from_numpy(where[:, 0] * features.shape[-1] + where[:, 1]).to(features.device)
    chosen = features.flatten(1).index_select(1, place).to(torch.float16).T
    return chosen.contiguous().cpu().numpy(), where


def _require_space(root, identity, todo, extract, choice):
    """Count all pixels that will be stored, say so, and refuse what the disk cannot hold."""
    item = next(iter(_items(next(iter(todo.values()))).values()))
    grid = extract(item['inputs'], item['data_samples']).shape[-2:]
    stride = grid_stride(item['inputs'].shape[1:], grid)  # that of images of other sizes too

    def count(groups: dict) -> int:
        maps = _for_each_group(groups, lambda dataset, index: dataset.read_labels(index)[1])
        return sum(
            choice.count(open_map[::stride, ::stride], group) for group, open_map in maps.items()
        )

    with ahead(count, todo.values(), 2 * READERS) as counts:
        pixels = sum(
            tqdm(
                counts,
                total=len(todo),
                desc='Counting pixels',
                unit='image',
            )
        )
    needed = pixels * (2 * identity['channels'] + 9)
    print_log(
        f"Feature bank '{root}': {len(todo)} images, {pixels:,} pixels, {needed / 1e9:.2f} GB "
        f'to write',
        logger='current',
    )
    require_space(root, needed)


@contextmanager
def ahead(function: Callable, items: Iterable, readers: int) -> Iterator[Iterator]:
    """``map(function, items)``, in order, with up to ``readers`` results computed ahead by as many
    threads.

    A context, as a generator that an error abandons would end its threads wherever the garbage
    collector meets it, in the middle of another thread's start for one, and wait for a lock that
    this thread holds.
    """
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(readers, thread_name_prefix='reader') as pool:

        def results() -> Iterator:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > readers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        try:
            yield results()
        finally:
            for future in waiting:
                future.cancel()
