"""Which pixels of an image a feature bank stores."""

import zlib
from dataclasses import dataclass

import numpy as np

from ..contracts import CLOSED, FIRST_OPEN, VOID

CHOICES = ('uniform', 'balanced')


@dataclass(frozen=True)
class PixelChoice:
    """All open pixels of an image, and at most ``limit`` closed ones: seeded by the image's name,
    not by its position.

    Args:
        limit: closed pixels per image; None takes all.
        how: ``'uniform'`` draws the closed pixels evenly, so that a class has its share of the
            image; ``'balanced'`` gives every class that is in the image the same number, and what a
            small class cannot fill goes to the others.
        seed: seed of the draw.

    Raises:
        ValueError: an unknown ``how``.
    """

    limit: int | None = 5000
    how: str = 'uniform'
    seed: int = 0

    def __post_init__(self) -> None:
        if self.how not in CHOICES:
            raise ValueError(f'closed_choice: wanted one of {CHOICES}, found {self.how!r}')

    def pixels(
        self, open_map: np.ndarray, classes: np.ndarray, group: str, image: str
    ) -> np.ndarray:
        """(n, 3) grid pixels (row, col, label) of a group in raster order, of (h, w) label maps on
        the grid.
        """
        rows, cols = np.nonzero(_of_group(open_map, group))
        if group == 'open':
            return np.stack(
                [rows, cols, open_map[rows, cols].astype(np.int64) - FIRST_OPEN], axis=1
            )
        labels = classes[rows, cols].astype(np.int64)
        pixels = np.stack([rows, cols, labels], axis=1)
        if self.limit is None or len(rows) <= self.limit:
            return pixels
        rng = np.random.default_rng([self.seed, zlib.crc32(image.encode())])
        draw = _balanced if self.how == 'balanced' else _uniform
        return pixels[np.sort(draw(labels, self.limit, rng))]

    def count(self, open_map: np.ndarray, group: str) -> int:
        """How many pixels :meth:`pixels` gives."""
        number = int(np.count_nonzero(_of_group(open_map, group)))
        return number if group == 'open' or self.limit is None else min(number, self.limit)


def _of_group(open_map, group):
    return open_map == CLOSED if group == 'closed' else (open_map != CLOSED) & (open_map != VOID)


def _uniform(labels, number, rng):
    return rng.choice(len(labels), number, replace=False)


def _balanced(labels, number, rng):
    """``number`` < len(labels) indices, as many of each label as of any other while it lasts."""
    order = rng.permutation(len(labels))
    _, kinds, counts = np.unique(labels[order], return_inverse=True, return_counts=True)
    quotas = np.zeros(len(counts), np.int64)
    smallest_first = np.argsort(counts, kind='stable')
    for done, kind in enumerate(smallest_first):
        quotas[kind] = min(counts[kind], (number - quotas.sum()) // (len(counts) - done))
    by_kind = np.argsort(
        kinds, kind='stable'
    )  # positions in `order`, kind after kind, each in drawn order
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[by_kind[rank < np.repeat(quotas, counts)]]
