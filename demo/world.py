"""Writes the demo world: procedural street scenes on disk, laid out and labelled like
Cityscapes.
"""

import json
import multiprocessing
import os
import shutil
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from demo.open_kinds import COMMON, VAL_ONLY
from demo.scene import render_scene

MANIFEST = 'demo_world.json'
_VERSION = 2  # raise it when the pictures change
#: Test images of the first city hold open kinds that training has, those of the second others.
SEEN, UNSEEN = 'yelstadt', 'zetheim'
_CITIES = {'train': ('ahausen', 'bestadt', 'cefeld'), 'val': (SEEN, UNSEEN)}
_KINDS_PER_IMAGE = 3


def write_demo_world(
    root,
    *,
    num_train: int = 120,
    num_val: int = 40,
    seed: int = 0,
    size=(256, 512),
    processes: int = 1,
    progress: bool = True,
) -> Path:
    """Write ``leftImg8bit`` and ``gtFine`` with splits ``train`` and ``val``, and a manifest of
    what is in them.

    A picture depends on (seed, split, index) and the size only: the same arguments give the same
    bytes, in any number of processes. Everything
    is written into a temporary folder beside ``root``, which then takes its name; a complete world
    with the same arguments is left alone, one with other arguments is replaced.

    Args:
        root: Folder to create.
        num_train: Training images; the data set holds out the last 10 of them for model selection.
        num_val: Validation images, of two cities: those of the second hold open kinds that occur
            only there.
        seed: Seed of the world.
        size: (H, W) of every image.
        processes: Processes that draw.
        progress: Show a progress bar.

    Returns:
        ``root`` as a path.

    Raises:
        ValueError: a negative count or seed, or a size below 32 x 64.
        FileExistsError: ``root`` exists and is not a demo world.
    """
    root, (height, width) = Path(root), (int(v) for v in size)
    if min(num_train, num_val, seed) < 0:
        raise ValueError(
            f'num_train, num_val and seed must not be negative, but got {num_train}, '
            f'{num_val}, {seed}.'
        )
    if height < 32 or width < 64:
        raise ValueError(f'size must be at least (32, 64), but got {(height, width)}.')
    wanted = {
        'version': _VERSION,
        'num_train': num_train,
        'num_val': num_val,
        'seed': seed,
        'size': [height, width],
    }
    found = _read_manifest(root)
    if found is not None and found['parameters'] == wanted and _complete(root, found):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f'.{root.name}-', dir=root.parent))
    try:
        new = scratch / 'new'
        plan = [
            (split, i, _stem(split, i, count))
            for split, count in (('train', num_train), ('val', num_val))
            for i in range(count)
        ]
        with _drawing(processes) as imap:
            drawn = imap(partial(_draw, root=new, seed=seed, size=(height, width)), plan)
            images = dict(
                tqdm(drawn, total=len(plan), desc='demo world', unit='image', disable=not progress)
            )
        new.mkdir(exist_ok=True)
        (new / MANIFEST).write_text(
            json.dumps({'parameters': wanted, 'open_kinds': images}, indent=1) + '\n'
        )
        if root.exists():
            os.replace(root, scratch / 'old')
        os.replace(new, root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return root


def kinds_of(city: str, index: int, seed: int) -> tuple:
    """Open kinds of one image. They take turns, so that each occurs about equally often."""
    kinds = VAL_ONLY if city == UNSEEN else COMMON
    chosen = []
    for place in range(index * _KINDS_PER_IMAGE, (index + 1) * _KINDS_PER_IMAGE):
        turn, number = divmod(place, len(kinds))
        order = np.random.default_rng([seed, 2, turn]).permutation(len(kinds))
        chosen.append(kinds[order[number]])
    return tuple(dict.fromkeys(chosen))


@contextmanager
def _drawing(processes: int):
    """A ``map`` that yields results in order, as they come."""
    if processes == 1:
        yield map
        return
    with multiprocessing.Pool(processes, initializer=cv2.setNumThreads, initargs=(0,)) as pool:
        yield pool.imap


def _draw(job: tuple, *, root: Path, seed: int, size) -> tuple[str, list]:
    """Draw and write one image; returns its stem and the open kinds in it."""
    split, index, stem = job
    kinds = list(kinds_of(stem.split('/')[1], index, seed))
    _write_pair(root, stem, np.random.default_rng([seed, int(split == 'val'), index]), kinds, size)
    return stem, kinds


def _stem(split: str, index: int, count: int) -> str:
    cities = _CITIES[split]
    city = cities[index * len(cities) // count]
    return f'{split}/{city}/{city}_{index:06d}_000000'


def _files(root: Path, stem: str) -> tuple[Path, Path]:
    return (
        root / 'leftImg8bit' / f'{stem}_leftImg8bit.png',
        root / 'gtFine' / f'{stem}_gtFine_labelIds.png',
    )


def _write_pair(root, stem, rng, kinds, size):
    for file, picture in zip(_files(root, stem), render_scene(rng, kinds=kinds, size=size)):
        file.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(file), picture):
            raise OSError(f"cannot write '{file}'.")


def _read_manifest(root: Path) -> dict | None:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    try:
        return json.loads((root / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise FileExistsError(
            f"'{root}' exists and is not a demo world (wanted '{MANIFEST}' in it): choose another "
            'folder or remove it.'
        ) from error


def _complete(root: Path, manifest: dict) -> bool:
    return all(file.is_file() for stem in manifest['open_kinds'] for file in _files(root, stem))
