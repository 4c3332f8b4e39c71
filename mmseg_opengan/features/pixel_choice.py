"""Which pixels of an image a feature bank stores."""

import zlib
from dataclasses import dataclass

import numpy as np

from ..contracts import CLOSED, FIRST_OPEN, VOID


@dataclass(frozen=True)
class PixelChoice:
    """All open pixels of an image, and at most ``limit`` closed ones, drawn evenly: a class has its
    share of the image. The draw depends on the image's name, not on its position.

    Args:
        limit: closed pixels per image; None takes all.
        seed: seed of the draw.

    Raises:
        ValueError: a limit or a seed that is none.
    """

    limit: int | None = 5000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.limit is not None and not (isinstance(self.limit, int) and self.limit >= 1):
            raise ValueError(
                f'closed_per_image: wanted None or a whole number above 0, found {self.limit!r}'
            )
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f'bank_seed: wanted a whole number >= 0, found {self.seed!r}')

    def pixels(
        self, open_map: np.ndarray, classes: np.ndarray, group: str, image: str
    ) -> np.ndarray:
        """(n, 3) grid pixels (row, col, label) of a group in raster order, of (h, w) label maps on
        the grid.
        """
        rows, cols = np.nonzero(_of_group(open_map, group))
        if group == 'open':
            labels = open_map[rows, cols].astype(np.int64) - FIRST_OPEN
        else:
            labels = classes[rows, cols].astype(np.int64)
        pixels = np.stack([rows, cols, labels], axis=1)
        number = self.count(open_map, group)
        if number == len(pixels):
            return pixels
        rng = np.random.default_rng([self.seed, zlib.crc32(image.encode())])
        return pixels[np.sort(rng.choice(len(pixels), number, replace=False))]

    def count(self, open_map: np.ndarray, group: str) -> int:
        """How many pixels :meth:`pixels` gives."""
        number = int(np.count_nonzero(_of_group(open_map, group)))
        return number if group == 'open' or self.limit is None else min(number, self.limit)


def _of_group(open_map, group):
    return open_map == CLOSED if group == 'closed' else (open_map != CLOSED) & (open_map != VOID)
