"""Block-bootstrap intervals of AUROC: neighbouring video frames are not independent, so whole
blocks are redrawn.

AUROC is bilinear in the closed and the open pixels. With B blocks of images, a B x B table of pair
wins is all that a resample needs, however many pixels there are; the table is exact and small
enough to store beside the metrics.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from .detection import ScoreBins

#: With fewer blocks there is no interval: the few resamples that they allow spread too little.
MIN_BLOCKS = 8
_RESAMPLES = 2000
_BINS = 65536  # of all blocks in memory at once


class BlockTable(NamedTuple):
    """What resampling needs to know of one score map.

    Attributes:
        wins: (B, B) float64, pairs (closed pixel of block i, open pixel of block j) in which the
            open one scores higher; ties count half.
        closed, open: (B,) float64, pixels of each block.
    """

    wins: np.ndarray
    closed: np.ndarray
    open: np.ndarray

    def to_json(self) -> dict:
        return {name: value.tolist() for name, value in self._asdict().items()}

    @classmethod
    def from_json(cls, stored: dict) -> 'BlockTable':
        return cls(*(np.asarray(stored[name], float) for name in cls._fields))


def block_table(blocks: Sequence[ScoreBins]) -> BlockTable:
    """The table of a sequence of blocks, all counted with the same binning.

    All blocks are laid on the bins that any of them has, ``_BINS`` at a time: one matrix product
    gives every pair of blocks. Sums are whole halves, exact in float64.
    """
    lower = torch.unique(torch.cat([block.lower for block in blocks]))
    places = [torch.searchsorted(lower, block.lower) for block in blocks]
    wins = torch.zeros(len(blocks), len(blocks), dtype=torch.float64)
    below = torch.zeros(len(blocks), 1, dtype=torch.float64)
    for start in range(0, len(lower), _BINS):
        size = min(_BINS, len(lower) - start)
        closed = torch.zeros(len(blocks), size, dtype=torch.float64)
        opened = torch.zeros(len(blocks), size, dtype=torch.float64)
        for row, (block, place) in enumerate(zip(blocks, places)):
            here = slice(*torch.searchsorted(place, torch.tensor([start, start + size])).tolist())
            closed[row, place[here] - start] = block.closed[here].double()
            opened[row, place[here] - start] = block.open[here].double()
        through = below + closed.cumsum(dim=1)
        wins += (through - closed / 2) @ opened.T
        below = through[:, -1:]
    return BlockTable(
        wins.numpy(),
        np.array([float(block.closed.sum()) for block in blocks]),
        np.array([float(block.open.sum()) for block in blocks]),
    )


def resampled_aurocs(tables: Sequence[BlockTable]) -> np.ndarray:
    """Pooled AUROC of each resample of the blocks, averaged over tables (the seeds of one method).

    The same blocks are drawn for every method, so that differences are paired.

    Returns:
        (2000,) float64; nan where a resample lacks open or closed pixels, and everywhere,
        with a warning, where there are fewer than ``MIN_BLOCKS`` blocks.
    """
    number = len(tables[0].closed)
    if number < MIN_BLOCKS:
        warnings.warn(
            f'No bootstrap interval: wanted {MIN_BLOCKS} blocks of images or more, found '
            f'{number}, whose resamples say little of other images. Take smaller blocks or more '
            'images',
            stacklevel=2,
        )
        return np.full(_RESAMPLES, np.nan)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(number, np.full(number, 1 / number), size=_RESAMPLES).astype(float)
    values = np.zeros(_RESAMPLES)
    for table in tables:
        pairs = (weights @ table.closed) * (weights @ table.open)
        pairs[pairs == 0] = np.nan
        values += np.einsum('ri,ij,rj->r', weights, table.wins, weights) / pairs / len(tables)
    return values


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of resampled values, those that are nan left out; (nan, nan) where
    none is left.
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return float('nan'), float('nan')
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
