"""Labels on the feature grid, each pixel's class, and random pixel draws that are pure functions of
(seed, step).

Shape letters: H, W image size in pixels; h, w feature grid size; C channels; K closed classes.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from ..contracts import GT_OPEN_MAP

_Labels = TypeVar('_Labels', np.ndarray, Tensor)
_STRIDES = (1, 2, 4, 8, 16, 32, 64)


def grid_stride(image_size: Sequence[int], grid_size: Sequence[int]) -> int:
    """Pixels per grid cell, the same along both axes.

    Args:
        image_size: (H, W) of the label map.
        grid_size: (h, w) of the feature map, with h = ceil(H / stride) or floor(H / stride), w
            alike.

    Raises:
        ValueError: no single stride leads from one size to the other.

    Example:
        >>> grid_stride((1024, 2048), (256, 512))
        4
    """
    (height, width), (rows, cols) = image_size, grid_size
    if rows > 0 and cols > 0:
        # Small images fit several strides (9 columns of 65 pixels: 7 or 8); networks stride by
        # powers of two.
        for stride in (
            *sorted(_STRIDES, key=lambda stride: abs(stride - width / cols)),
            round(width / cols),
        ):
            if stride and all(
                cells in (size // stride, -(-size // stride))
                for size, cells in ((height, rows), (width, cols))
            ):
                return stride
    raise ValueError(
        f'a feature grid of {rows}x{cols} does not fit an image of {height}x{width}: wanted '
        f'one stride '
        f'for both axes, found {height / max(rows, 1):g} and {width / max(cols, 1):g}. Is '
        f'the image '
        'resized or padded on the way (Resize, size_divisor)? Training wants labels that are '
        'resized too '
        '(LoadOpenSetAnnotations before Resize), an evaluation those of the original (after '
        'Resize) and '
        "resolution='image'. Padded images do for an evaluation only."
    )


def labels_on_grid(labels: _Labels, grid_size: Sequence[int]) -> _Labels:
    """Labels at the feature grid, taken at index stride * i as the authors' code does (nearest
    neighbour).

    Args:
        labels: (..., H, W) array or tensor.
        grid_size: (h, w).

    Returns:
        The (..., h, w) view of ``labels``.
    """
    stride = grid_stride(labels.shape[-2:], grid_size)
    rows, cols = grid_size
    return labels[..., ::stride, ::stride][..., :rows, :cols]


def open_map_of(sample: Any) -> Any:
    """What a data sample, or a sample as a dict, holds as ``gt_open_map``.

    Raises:
        ValueError: nothing.
    """
    found = sample.get(GT_OPEN_MAP)
    if found is None:
        raise ValueError(
            f'{sample.get("img_path")}: no open map. Wanted LoadOpenSetAnnotations and '
            f'PackOpenSetInputs '
            "in the pipeline, in place of mmseg's LoadAnnotations and PackSegInputs"
        )
    return found


def pixels_first(features: Tensor) -> Tensor:
    """(N, C, h, w) feature maps as (N * h * w, C) rows, one per pixel."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def step_rng(seed: int, step: int, stream: int) -> np.random.Generator:
    """An independent generator for each (seed, step, stream); the same on every machine."""
    return np.random.default_rng([seed, step, stream])


def choose_image(num_images: int, step: int, seed: int, per_step: int = 1) -> np.ndarray:
    """Images of one step: every image once an epoch, in an order shuffled anew each epoch.

    Returns:
        (per_step,) int64 image indices.
    """
    if num_images < 1:
        raise ValueError('wanted at least one image to draw closed pixels from, found none')
    positions = range(step * per_step, (step + 1) * per_step)
    return np.array([_order(num_images, p // num_images, seed)[p % num_images] for p in positions])


@lru_cache(
    maxsize=2
)  # the epochs of one step; shuffling a million images takes as long as a tenth of a step
def _order(num_images: int, epoch: int, seed: int) -> np.ndarray:
    """An epoch's order of the images."""
    return step_rng(seed, epoch, 0).permutation(num_images)


def choose_closed(available: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of ``wanted`` of ``available`` closed pixels: without replacement while they last.

    Where fewer are available than wanted, all of them are taken and the rest is drawn with
    replacement. No pixel
    available gives an empty draw: that term is dropped from the loss of the step.
    """
    if available == 0 or wanted == 0:
        return np.empty(0, np.int64)
    if available >= wanted:
        return rng.choice(available, wanted, replace=False)
    return np.concatenate(
        [rng.permutation(available), rng.integers(available, size=wanted - available)]
    )


def choose_open(available: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of ``wanted`` of ``available`` open pixels; with replacement only where fewer are
    available.
    """
    if available == 0 or wanted == 0:
        return np.empty(0, np.int64)
    return rng.choice(available, wanted, replace=available < wanted)
