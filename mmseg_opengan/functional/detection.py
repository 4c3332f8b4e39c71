"""Numbers and curves of open-set detection, computed from counts of closed and open pixels per
score bin.

Every function takes :class:`ScoreBins` and is exact for what the bins hold. The error bounds say
what binning itself can have moved. A pixel is called open where ``score >= threshold``. With TP, FP
the open and closed pixels called open at a threshold, P and N all of them: TPR = recall = TP / P,
FPR = FP / N, precision = TP / (TP + FP). Scores in one bin tie: they pass a threshold together and
count as half a pair in AUROC.

Counts are int64 (sums to 4e18); ratios and their sums are float64. Where a number is undefined,
because one of the two groups has no pixel, it is nan and a warning says so. Conventions are
scikit-learn's, but points are thinned.
"""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch

from ..contracts import CLOSED, VOID

#: A kind with fewer open pixels has no number of its own.
LEAST_PIXELS = 10


class ScoreBins(NamedTuple):
    """Counts of the non-empty score bins, in ascending order of score; four CPU tensors of equal
    length.

    Attributes:
        closed: int64, closed pixels in the bin.
        open: int64, open pixels in the bin.
        lower: float64, smallest score of the bin: ``score >= lower[i]`` holds for the pixels of
            bins i, i + 1, ...
        single: bool, the bin holds one score value only, so that its ties are ties of the scores
            themselves.
    """

    closed: torch.Tensor
    open: torch.Tensor
    lower: torch.Tensor
    single: torch.Tensor


def exact_bins(scores: torch.Tensor, open_map: torch.Tensor) -> ScoreBins:
    """One bin per distinct score, found by sorting: for tests and small data (needs about 50 bytes
    a pixel).

    Args:
        scores: floating point, any shape, larger = more open; compared in its own precision.
        open_map: labels of that shape as in ``contracts``: 0 closed, 255 void, anything else open.
            Bool: True is open.

    Raises:
        ValueError: the shapes differ, or a scored pixel is NaN or infinite.
    """
    if scores.shape != open_map.shape:
        raise ValueError(
            f'open_map must have the shape of scores {tuple(scores.shape)}, got '
            f'{tuple(open_map.shape)}'
        )
    scored = open_map != VOID
    scores, is_open = scores.detach()[scored].cpu(), (open_map[scored] != CLOSED).cpu()
    bad = int((~scores.isfinite()).sum())
    if bad:
        raise ValueError(
            f'scores must be finite: {bad} of {scores.numel()} scored pixels are NaN or infinite'
        )
    lower, index = torch.unique(scores, return_inverse=True)
    closed = torch.bincount(index[~is_open], minlength=len(lower))
    opened = torch.bincount(index[is_open], minlength=len(lower))
    return ScoreBins(closed, opened, lower.double(), torch.ones(len(lower), dtype=torch.bool))


def auroc(bins: ScoreBins) -> float:
    """Area under the ROC curve: the fraction of (closed, open) pairs with the open score larger,
    ties one half.
    """
    if _undefined('AUROC', bins):
        return math.nan
    twice_below = 2 * bins.closed.cumsum(0) - bins.closed
    rank = twice_below.double() / (2 * int(bins.closed.sum()))
    return float((bins.open.double() * rank).sum() / int(bins.open.sum()))


def average_precision(bins: ScoreBins) -> float:
    """AP as the step sum over thresholds of (recall gained) x (precision there); never the
    trapezoid.
    """
    if _undefined('AP', bins):
        return math.nan
    fp, tp = _called_open(bins)
    gained = bins.open.flip(0).double()
    return float((gained * (tp.double() / (tp + fp).double())).sum() / int(tp[-1]))


def fpr_at_tpr(bins: ScoreBins, *, tpr: float = 0.95) -> float:
    """FPR at the first (largest) threshold whose TPR is at least ``tpr``, in (0, 1]."""
    if _undefined('FPR at a TPR', bins):
        return math.nan
    fp, _ = _called_open(bins)
    return int(fp[_first_reaching(bins, tpr)]) / int(fp[-1])


def threshold_at_tpr(bins: ScoreBins, *, tpr: float = 0.95) -> float:
    """The largest threshold whose TPR is at least ``tpr``, in (0, 1]; needs open pixels only."""
    if _undefined('A threshold at a TPR', bins, ['open']):
        return math.nan
    return float(bins.lower.flip(0)[_first_reaching(bins, tpr)])


def threshold_at_fpr(bins: ScoreBins, *, fpr: float = 0.05) -> float:
    """The smallest threshold whose FPR is at most ``fpr``, in [0, 1]; needs closed pixels only.

    It is ``inf`` (nothing is called open) where the bin of the largest scores alone holds more
    closed pixels than that.
    """
    if _undefined('A threshold at an FPR', bins, ['closed']):
        return math.nan
    fp, _ = _called_open(bins)
    allowed = int((fp.double() / int(fp[-1]) <= fpr).sum())
    return float(bins.lower.flip(0)[allowed - 1]) if allowed else math.inf


def best_f1(bins: ScoreBins) -> tuple[float, float]:
    """The largest F1 = 2 TP / (TP + FP + P) over all thresholds, and the (largest such)
    threshold.
    """
    if _undefined('F1', bins):
        return math.nan, math.nan
    fp, tp = _called_open(bins)
    f1 = 2 * tp.double() / (tp + fp + tp[-1]).double()
    best = int(f1.argmax())
    return float(f1[best]), float(bins.lower.flip(0)[best])


def auroc_error_bound(bins: ScoreBins) -> float:
    """Rigorous bound on |auroc(bins) - AUROC of the float32 scores|.

    Only pairs inside a bin can be ordered wrongly. Each is counted as 1/2, and errs by at most 1/2.
    The bound is sum_b closed_b open_b / (2 P N), over the bins that hold more than one score value.
    """
    if _undefined('The AUROC error bound', bins):
        return math.nan
    pairs = (bins.closed.double() * bins.open.double())[~bins.single].sum()
    return float(pairs / int(bins.closed.sum()) / int(bins.open.sum()) / 2)


def ap_error_bound(bins: ScoreBins) -> float:
    """Rigorous bound on |average_precision(bins) - AP of the float32 scores|.

    Of the o open and c closed pixels of a bin, with TP and FP above it, AP is largest where all
    open ones tie and come first: precision (TP + o) / (TP + o + FP). It is smallest where all
    closed ones come first and the open ones follow one by one: the sum over i = 1 .. o of
    (TP + i) / (TP + i + F) with F = FP + c, which is at least o - F log(1 + o / (TP + F)).
    """
    if _undefined('The AP error bound', bins):
        return math.nan
    fp, tp = (counts.double() for counts in _called_open(bins))
    closed, opened = bins.closed.flip(0).double(), bins.open.flip(0).double()
    counted = opened * tp / (tp + fp)
    most = opened * tp / (tp + fp - closed).clamp(min=1)
    before = tp - opened + fp
    least = torch.where(fp > 0, opened - fp * torch.log1p(opened / before), opened)
    several = ~bins.single.flip(0) & (opened > 0)
    above = float((most - counted)[several].sum())
    below = float((counted - least)[several].sum())
    return max(above, below) / float(tp[-1])


def fpr_error_bound(bins: ScoreBins, *, tpr: float = 0.95) -> float:
    """Rigorous bound on |fpr_at_tpr(bins) - that of the float32 scores|: the share of the closed
    pixels in the bin of its threshold, which may lie at any score in it.
    """
    if _undefined('The error bound of an FPR', bins):
        return math.nan
    at = len(bins.open) - 1 - _first_reaching(bins, tpr)
    return 0.0 if bins.single[at] else int(bins.closed[at]) / int(bins.closed.sum())


#: What a summary holds of one score map, and how it is computed.
NUMBERS: dict[str, Callable[[ScoreBins], float]] = dict(
    AUROC=auroc,
    AP=average_precision,
    FPR95=fpr_at_tpr,
    auroc_error_bound=auroc_error_bound,
    ap_error_bound=ap_error_bound,
    fpr95_error_bound=fpr_error_bound,
)


def numbers(bins: ScoreBins) -> dict:
    """All of ``NUMBERS``, num_closed and num_open; nan where closed or open pixels are missing."""
    closed, opened = int(bins.closed.sum()), int(bins.open.sum())
    both = closed > 0 and opened > 0
    found = {name: function(bins) if both else math.nan for name, function in NUMBERS.items()}
    return dict(found, num_closed=closed, num_open=opened)


def rates(fp: int, tp: int, negative: int, positive: int) -> dict:
    """What calling ``fp`` of ``negative`` closed and ``tp`` of ``positive`` open pixels open is
    worth.

    Returns:
        dict: TPR, FPR, precision and F1, each in [0, 1]; nan where its denominator is 0.
    """
    ratios = dict(
        TPR=(tp, positive),
        FPR=(fp, negative),
        precision=(tp, tp + fp),
        F1=(2 * tp, tp + fp + positive),
    )
    return {name: part / whole if whole else math.nan for name, (part, whole) in ratios.items()}


def roc_points(
    bins: ScoreBins, *, max_points: int = 1000
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """FPR, TPR and threshold, each (n,) float64, from (0, 0) at threshold inf to (1, 1).

    At most ``max_points`` points of the curve are kept, evenly along it: each dropped point lies
    within 2 / (max_points - 1) of a kept one, so that the picture does not change. None are moved.
    """
    if _undefined('The ROC curve', bins):
        return (torch.full((1,), math.nan, dtype=torch.float64),) * 3
    fp, tp = _called_open(bins)
    fpr, tpr = _begun(0, fp.double() / int(fp[-1])), _begun(0, tp.double() / int(tp[-1]))
    kept = _along(fpr, tpr, max_points)
    return fpr[kept], tpr[kept], _begun(math.inf, bins.lower.flip(0))[kept]


def pr_points(bins: ScoreBins, *, max_points: int = 1000) -> tuple[torch.Tensor, torch.Tensor]:
    """Recall and precision, each (n,) float64, from (0, 1) at threshold inf to recall 1.

    Thinned as in :func:`roc_points`, evenly along the curve. Draw it as steps: AP is the area under
    those.
    """
    if _undefined('The precision-recall curve', bins):
        return (torch.full((1,), math.nan, dtype=torch.float64),) * 2
    fp, tp = _called_open(bins)
    recall = _begun(0, tp.double() / int(tp[-1]))
    precision = _begun(1, tp.double() / (tp + fp).double())
    kept = _along(recall, precision, max_points)
    return recall[kept], precision[kept]


def _called_open(bins):
    """(FP, TP), int64: closed and open pixels at or above each threshold, in descending order of
    threshold.
    """
    return bins.closed.flip(0).cumsum(0), bins.open.flip(0).cumsum(0)


def _begun(first, rest):
    """A curve's values, behind the one at the threshold inf."""
    return torch.nn.functional.pad(rest, (1, 0), value=first)


def _first_reaching(bins, tpr):
    """Index, in descending order of threshold, of the first TPR >= ``tpr``."""
    _, tp = _called_open(bins)
    # The quotient, not tpr * P, is compared: 19 / 20 must count as .95.
    return int((tp.double() / int(tp[-1]) < tpr).sum())


def _along(x, y, max_points):
    """Indices of points at equal steps of the length |dx| + |dy| along the curve, both ends
    included; of all where they are few.
    """
    if len(x) <= max_points:
        return torch.arange(len(x))
    length = _begun(0, (x.diff().abs() + y.diff().abs()).cumsum(0))
    steps = torch.linspace(0, float(length[-1]), max_points, dtype=length.dtype)
    kept = torch.searchsorted(length, steps).clamp_(max=len(x) - 1)
    kept[-1] = len(x) - 1
    return kept.unique()


def _undefined(name, bins, needs=('closed', 'open')):
    missing = [group for group in needs if not getattr(bins, group).any()]
    if missing:
        warnings.warn(
            f'{name} is undefined and given as nan: no {" and no ".join(missing)} pixel '
            'was counted',
            stacklevel=3,
        )
    return bool(missing)


def mean_over_kinds(per_class: dict[str, dict]) -> float:
    """Mean AUROC over the open classes with at least ``LEAST_PIXELS`` pixels; nan without any.

    The pooled AUROC is that of the largest kinds. This one counts each kind alike.
    """
    found = [one['AUROC'] for one in per_class.values() if one['num_open'] >= LEAST_PIXELS]
    return sum(found) / len(found) if found else math.nan
