"""What a training or an evaluation asks of its data before it starts."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from ..contracts import CLOSED, FIRST_OPEN, VOID
from ..files import as_json, sha256_of
from ..functional.detection import LEAST_PIXELS
from ..functional.pixels import labels_on_grid, open_map_of


def require_steps(loader: Any) -> None:
    """A training loader must yield the batches of steps, as its source makes them."""
    collate = getattr(loader.collate_fn, 'func', loader.collate_fn)
    for option, found, wanted in (
        ('sampler', type(loader.sampler).__name__, 'StepSampler'),
        ('collate_fn', getattr(collate, '__name__', repr(collate)), 'one_step'),
    ):
        if found != wanted:
            raise ValueError(
                f"train_dataloader.{option}: wanted dict(type='{wanted}'), found '{found}'"
            )


def require_whole_images(dataset: Any) -> None:
    """An evaluation must be able to lay score maps on the images that were read."""
    for labelled in _labelled(dataset):
        labelled.require_whole_images()


def warn_of_another_pipeline(cfg: Any) -> None:
    """Say that mmseg's ``inference_model`` would prepare images otherwise than a test does."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    dataset = dataset.get('images') or dataset
    tested = dataset.get('pipeline')
    named = cfg.get('test_pipeline')
    if tested and named and as_json(tested) != as_json(named):
        print_log(
            'test_pipeline: wanted the pipeline of test_dataloader, found another. '
            "mmseg's inference_model reads test_pipeline, so its maps differ from those of a test.",
            logger='current',
            level=logging.WARNING,
        )


def lack_of_pixels(dataset: Any) -> str:
    """Says which kind of pixels a data set with labels lacks, '' where it has both.

    Labels are read until both kinds are found.
    """
    has_closed = has_open = False
    read = 0
    for labelled in _labelled(dataset):
        for index in range(len(labelled)):
            _, open_map = labelled.read_labels(index)
            has_closed |= bool((open_map == CLOSED).any())
            has_open |= bool(((open_map != CLOSED) & (open_map != VOID)).any())
            read += 1
            if has_closed and has_open:
                return ''
    if not read:
        return ''  # labels of another package's data set
    policy = dataset.metainfo.get('label_policy')
    hint = '. In these masks 1 is open and 255 is void' if policy == 'anomaly' else ''
    kind = 'open' if has_closed else 'closed'
    return (
        f"wanted closed and open pixels, found no {kind} one in {read} images of '{policy}'{hint}"
    )


def lack_of_kinds(dataset: Any, grid_of: Callable[[dict], Sequence[int] | None]) -> str:
    """Says that no open class of a data set has pixels enough for a number of its own, '' where one
    has, or where labels are another package's.

    Images are read until one has.

    Args:
        grid_of: (h, w) of an item's score maps, on which pixels are counted; None: the labels' own.
    """
    names = dataset.metainfo['open_classes']
    pixels = torch.zeros(len(names), dtype=torch.int64)
    parts = list(_labelled(dataset))
    for labelled in parts:
        for index in range(len(labelled)):
            _, open_map = labelled.read_labels(index)
            if not ((open_map != CLOSED) & (open_map != VOID)).any():
                continue
            item = labelled[index]
            labels = open_map_of(item['data_samples']).data[0]
            grid = grid_of(item)
            if grid is not None:
                labels = labels_on_grid(labels, grid)
            found = torch.bincount(labels.flatten(), minlength=VOID + 1)
            pixels += found[FIRST_OPEN : FIRST_OPEN + len(names)]
            if (pixels >= LEAST_PIXELS).any():
                return ''
    if not parts:
        return ''
    counted = {name: number for name, number in zip(names, pixels.tolist()) if number}
    return (
        f'wanted an open class with at least {LEAST_PIXELS} pixels in open validation, on the grid '
        f'of the score maps, found {counted or "no open pixel"}'
    )


def warn_of_shared_images(training: Iterable[Any], validation: Any) -> None:
    """Say once that open validation has images that are trained on: its numbers are too good then.

    Images are the same where the file is, or where its bytes are.
    """
    by_size: dict[int, list[Path]] = {}
    for dataset in training:
        for path in _image_files(dataset):
            by_size.setdefault(path.stat().st_size, []).append(path)
    shared = []
    for path in _image_files(validation):
        for other in by_size.get(path.stat().st_size, []):
            if other == path or sha256_of(other) == sha256_of(path):
                shared.append((path, other))
                break
    if shared:
        print_log(
            f'val_dataloader: {len(shared)} images of open validation are trained on, such as '
            f"'{shared[0][0]}', which is '{shared[0][1]}'. Its numbers are too good then, and the "
            'checkpoint is chosen by them. Take other images.',
            logger='current',
            level=logging.WARNING,
        )


def _image_files(dataset: Any) -> list[Path]:
    """The local image files of a data set, links followed."""
    paths = []
    for labelled in _labelled(dataset):
        for index in range(len(labelled)):
            path = labelled.get_data_info(index)['img_path']
            if os.path.isfile(path):
                paths.append(Path(path).resolve())
    return paths


def _labelled(dataset: Any) -> Iterator[Any]:
    """The data sets with open maps inside whatever wraps them."""
    if hasattr(dataset, 'read_labels'):
        yield dataset
        return
    inner = getattr(dataset, 'images', None) or getattr(dataset, 'dataset', None)
    for part in getattr(dataset, 'datasets', None) or ([] if inner is None else [inner]):
        yield from _labelled(part)
