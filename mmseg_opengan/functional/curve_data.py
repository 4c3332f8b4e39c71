"""The curves of one score map as short lists of numbers: what figures draw and what a file keeps of
them.
"""

import warnings

import numpy as np
import torch

from .calibration import UNCALIBRATED, Calibration, reliability
from .detection import ScoreBins, pr_points, roc_points
from .recognition import RecognitionCounts

#: Of a curve; those dropped lie on the line between two that are kept, to the eye.
MAX_POINTS = 400


def curve_data(
    bins: ScoreBins,
    *,
    calibration: Calibration | None = None,
    open_logit: bool = False,
    recognition: RecognitionCounts | None = None,
) -> dict:
    """Everything that figures show of one score map.

    Args:
        bins: its scores.
        calibration: fitted on open validation.
        open_logit: the score is an open logit, so that its plain sigmoid means something.
        recognition: the same pixels with their closed classes.

    Returns:
        dict of dicts of lists of floats: ``roc`` (fpr, tpr), ``pr`` (recall, precision),
            ``density`` (edges, and closed
        and open shares between them), ``reliability`` (``before`` and ``after`` calibration, each
        with probability, open_fraction and num_pixels), ``macro_f1`` (threshold, macro_f1,
        open_f1). What is undefined is left out.
    """
    found: dict[str, dict] = {}
    if bins.closed.any() and bins.open.any():
        fpr, tpr, _ = roc_points(bins, max_points=MAX_POINTS)
        recall, precision, _ = pr_points(bins, max_points=MAX_POINTS)
        found.update(
            roc=dict(fpr=_short(fpr), tpr=_short(tpr)),
            pr=dict(recall=_short(recall), precision=_short(precision)),
        )
        shown = {}
        if open_logit:
            shown['before'] = reliability(bins, UNCALIBRATED)
        if calibration is not None:
            shown['after'] = reliability(bins, calibration)
        found['reliability'] = {
            name: {key: _short(values) for key, values in points._asdict().items()}
            for name, points in shown.items()
        }
        if recognition is not None:
            found['macro_f1'] = _macro_f1(recognition)
    if len(bins.lower):
        found['density'] = density(bins)
    return found


def density(bins: ScoreBins, *, num_bars: int = 100) -> dict:
    """Shares of closed and of open pixels over the score.

    Returns:
        dict: ``edges`` (num_bars + 1), and ``closed`` and ``open`` (num_bars), each of sum 1, or 0
            without a pixel. The
        edges span what at least 99.9 % of either group lies in: a few far scores must not squeeze
        the picture.
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
        heights, borders = np.histogram(edges, bins=num_bars, range=(low, high), weights=counts)
        found[name] = _short(heights / max(heights.sum(), 1))
    return dict(edges=borders.tolist(), **found)


def _macro_f1(recognition):
    """Macro-F1 and the open class's F1 where they change, thinned, from the smallest score to the
    largest.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        thresholds, macro = recognition.macro_f1_curve()
    open_f1 = recognition.f1_curves()[:, -1]
    change = macro.diff().abs() + open_f1.diff().abs()
    changes = torch.nonzero(change)[:, 0]
    if not len(changes):
        return dict(threshold=[], macro_f1=[], open_f1=[])
    keep = torch.arange(int(changes[0]), int(changes[-1]) + 2)
    keep = keep[thresholds[keep].isfinite()]
    # Evenly in score and evenly along the curve: neither a cliff nor a plateau loses its shape.
    length = torch.cat([macro.new_zeros(1), change.cumsum(0)])[keep]
    picked = []
    for along in (thresholds[keep].double(), length):
        steps = np.linspace(float(along[0]), float(along[-1]), MAX_POINTS // 2)
        picked.append(torch.searchsorted(along, torch.from_numpy(steps)))
    keep = keep[torch.cat(picked).clamp_(max=len(keep) - 1).unique()]
    return dict(
        threshold=_short(thresholds[keep]),
        macro_f1=_short(macro[keep]),
        open_f1=_short(open_f1[keep]),
    )


def _short(values) -> list[float]:
    """Seven digits of each number, more than a figure shows; integers stay whole."""
    return [
        float(f'{value:.7g}') if isinstance(value, float) else value for value in values.tolist()
    ]
