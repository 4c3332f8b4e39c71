"""Block-bootstrap intervals of AUROC: neighbouring video frames are not independent, so whole blocks are redrawn.

AUROC is bilinear in the closed and the open pixels. With B blocks of images, a B x B table of pair wins is all that a
resample needs, however many pixels there are.
"""

from collections.abc import Sequence

import numpy as np
import torch

from .curves import ScoreBins


def pair_wins(blocks: Sequence[ScoreBins]) -> np.ndarray:
    """Pairs (closed pixel of block i, open pixel of block j) in which the open one scores higher; ties count half.

    Args:
        blocks: score counts of each block, all with the same binning.

    Returns:
        (B, B) float64; its sum over all pairs of pixels is the pooled AUROC.
    """
    wins = np.zeros((len(blocks), len(blocks)))
    for i, closed in enumerate(blocks):
        below = torch.cat([torch.zeros(1), closed.closed.double().cumsum(0)]).double()
        for j, opened in enumerate(blocks):
            first = torch.searchsorted(closed.lower, opened.lower)
            beyond = torch.searchsorted(closed.lower, opened.lower, right=True)
            wins[i, j] = float((opened.open.double() * (below[first] + below[beyond]) / 2).sum())
    return wins


def auroc_interval(blocks: Sequence[ScoreBins], *, level: float = 0.95, num_resamples: int = 2000,
                   seed: int = 0) -> tuple[float, float]:
    """Percentile interval of pooled AUROC over resampled blocks.

    Args:
        blocks: score counts of blocks of consecutive images.
        level: coverage, in (0, 1).
        num_resamples: bootstrap samples; those without open or without closed pixels are skipped.

    Returns:
        (low, high); (nan, nan) where no resample has both kinds of pixels.
    """
    if not 0 < level < 1:
        raise ValueError(f'level: wanted a number in (0, 1), found {level}')
    wins = pair_wins(blocks)
    closed, opened = (np.array([float(counts.sum()) for counts in group])
                      for group in zip(*((block.closed, block.open) for block in blocks)))
    rng = np.random.default_rng(seed)
    number = len(blocks)
    weights = rng.multinomial(number, np.full(number, 1 / number), size=num_resamples).astype(float)
    pairs = (weights @ closed) * (weights @ opened)
    values = np.einsum('ri,ij,rj->r', weights, wins, weights)[pairs > 0] / pairs[pairs > 0]
    if not len(values):
        return float('nan'), float('nan')
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
