"""The curves of one score map as short lists of numbers: what figures draw and what a file keeps of
them.
"""

import numpy as np

from .detection import ScoreBins, pr_points, roc_points

#: Of a curve; those dropped lie on the line between two that are kept, to the eye.
MAX_POINTS = 400


def curve_data(bins: ScoreBins) -> dict:
    """Everything that figures show of the scores in ``bins``.

    Returns:
        dict of dicts of lists of floats: ``roc`` (fpr, tpr), ``pr`` (recall, precision) and
            ``density`` (edges, and closed and open shares between them). What is undefined is left
            out.
    """
    found: dict[str, dict] = {}
    if bins.closed.any() and bins.open.any():
        fpr, tpr, _ = roc_points(bins, max_points=MAX_POINTS)
        recall, precision = pr_points(bins, max_points=MAX_POINTS)
        found.update(
            roc=dict(fpr=_short(fpr), tpr=_short(tpr)),
            pr=dict(recall=_short(recall), precision=_short(precision)),
        )
    if len(bins.lower):
        found['density'] = density(bins)
    return found


def density(bins: ScoreBins) -> dict:
    """Shares of closed and of open pixels over the score.

    Returns:
        dict: ``edges`` (101), and ``closed`` and ``open`` (100), each of sum 1, or 0 without a
            pixel. The edges span what at least 99.9 % of either group lies in: a few far scores
            must not squeeze the picture.
    """
    edges = bins.lower.numpy()
    closed, open_ = bins.closed.double().numpy(), bins.open.double().numpy()
    share = closed / max(closed.sum(), 1) + open_ / max(open_.sum(), 1)
    up_to = np.cumsum(share)
    inside = edges[(up_to > 0.002) & (up_to - share < 1.998)]
    low, high = (inside.min(), inside.max()) if len(inside) else (0.0, 1.0)
    high = max(high, low + 1e-6 * max(1, abs(low)))
    found = {}
    for name, counts in (('closed', closed), ('open', open_)):
        heights, borders = np.histogram(
            edges,
            bins=100,
            range=(low, high),
            weights=counts,
        )
        found[name] = _short(heights / max(heights.sum(), 1))
    return dict(edges=borders.tolist(), **found)


def _short(values) -> list[float]:
    """Seven digits of each number, more than a figure shows."""
    return [float(f'{value:.7g}') for value in values.tolist()]
