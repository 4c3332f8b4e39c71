"""Calibration of open scores: probabilities that mean what they say (the paper leaves D
uncalibrated, its section 14).

Platt scaling is p(open) = sigmoid(slope * score + intercept), temperature scaling the same with
intercept 0 and slope = 1 / T (Platt 1999; Guo et al., ICML 2017). Both are fitted by maximum
likelihood on open validation, with Platt's targets (P + 1) / (P + 2) for open pixels and 1 / (N +
2) for closed ones, P and N of them, so that separable scores have a finite fit too. A slope above 0
keeps the order of scores: AUROC, AP and FPR95 do not change, and are computed from the raw scores,
whose order no rounding of a sigmoid can lose.

A calibrated probability is that of a pixel drawn like those of the validation set, where perhaps 1
% are open: most pixels then lie far below 1/2, and rightly so. For data with another fraction of
open pixels, and the same scores within each group, :meth:`Calibration.at_open_fraction` moves the
intercept. Temperature scaling has none to move, and cannot correct the balance of the training
batches (half of them closed): expect it to fail where Platt scaling works.

Everything is computed from :class:`ScoreBins`, each pixel at the lower edge of its bin: at most 0.2
% of a score away.
"""

import math
from typing import NamedTuple

import torch

from .detection import ScoreBins


class Calibration(NamedTuple):
    """p(open) = sigmoid(slope * score + intercept). As it is made, the plain sigmoid of an open
    logit.

    Attributes:
        slope: above 0.
        intercept: 0 for temperature scaling.
        method: ``'none'``, ``'platt'`` or ``'temperature'``.
        open_fraction: of the pixels it was fitted on, in (0, 1); nan if not fitted.
    """

    slope: float = 1.0
    intercept: float = 0.0
    method: str = 'none'
    open_fraction: float = math.nan

    def logit(self, scores: torch.Tensor) -> torch.Tensor:
        """Calibrated open logit: float32, or float64 where ``scores`` are."""
        return (
            self.slope * (scores if scores.dtype == torch.float64 else scores.float())
            + self.intercept
        )

    def probability(self, scores: torch.Tensor) -> torch.Tensor:
        """p(open) in [0, 1]: same shape, float32 or float64."""
        return self.logit(scores).sigmoid()

    def at_open_fraction(self, open_fraction: float) -> 'Calibration':
        """The calibration for data in which so large a part of the pixels is open, by Bayes'
        rule.
        """
        for name, fraction in (
            ('open_fraction', open_fraction),
            ('the fitted open_fraction', self.open_fraction),
        ):
            if not 0 < fraction < 1:
                raise ValueError(f'{name} must lie in (0, 1), got {fraction}')
        shift = _logit(open_fraction) - _logit(self.open_fraction)
        return self._replace(intercept=self.intercept + shift, open_fraction=open_fraction)

    def to_json(self) -> dict:
        """Four plain values: what a checkpoint or report holds."""
        return self._asdict()

    @classmethod
    def from_json(cls, stored: dict) -> 'Calibration':
        """The inverse of :meth:`to_json`."""
        if set(stored) != set(cls._fields):
            raise ValueError(
                f'stored calibration must have {list(cls._fields)}, got {sorted(stored)}'
            )
        calibration = cls(**stored)
        if not calibration.slope > 0:
            raise ValueError(f'slope must be above 0, got {calibration.slope}')
        return calibration


#: The plain sigmoid, "before" calibration; only open logits admit it.
UNCALIBRATED = Calibration()


def fit_platt(bins: ScoreBins) -> Calibration:
    """Slope and intercept of largest likelihood; see the head of this file.

    Raises:
        ValueError: no closed or no open pixel, one score value only, or a fitted slope that is not
            above 0 (open
            pixels score lower than closed ones: the score does not separate them).
    """
    return _fit(bins, 'platt')


def fit_temperature(bins: ScoreBins) -> Calibration:
    """Slope 1 / T of largest likelihood with intercept 0, for open logits; raises as
    :func:`fit_platt` does.
    """
    return _fit(bins, 'temperature')


def _fit(bins, method):
    closed, opened = int(bins.closed.sum()), int(bins.open.sum())
    if not closed or not opened:
        raise ValueError(f'bins must hold closed and open pixels, got {closed} and {opened}')
    pixels = (bins.closed + bins.open).double() / (closed + opened)
    open_target, closed_target = (opened + 1) / (opened + 2), 1 / (closed + 2)
    wanted = (bins.open.double() * open_target + bins.closed.double() * closed_target) / (
        closed + opened
    )
    # In standardized scores z the problem is well conditioned, and Newton's method takes about ten
    # steps.
    centre = float((pixels * bins.lower).sum()) if method == 'platt' else 0.0
    spread = float((pixels * (bins.lower - centre) ** 2).sum()) ** 0.5
    if len(bins.lower) < 2 or not spread > 1e-12 * abs(centre):
        raise ValueError(
            f'bins must hold two or more scores to fit {method} scaling, got one: {bins.lower[0]:g}'
        )
    z = (bins.lower - centre) / spread
    inputs = torch.stack([z, torch.ones_like(z)], 1) if method == 'platt' else z[:, None]
    slope, *intercept = _newton(inputs, pixels, wanted)
    slope = slope / spread
    if not slope > 0:
        hint = (
            '' if method == 'platt' else ', or their balance needs an intercept (use Platt scaling)'
        )
        raise ValueError(
            f'{method} scaling found the slope {slope:g}, wanted one above 0: pixels with '
            f'larger scores '
            f'are not more often open{hint}'
        )
    return Calibration(
        slope,
        intercept[0] - slope * centre if intercept else 0.0,
        method,
        opened / (closed + opened),
    )


def _newton(inputs, pixels, wanted):
    """Weights w (list of floats) that minimize sum pixels * softplus(inputs @ w) - wanted * (inputs
    @ w), convex.
    """

    def loss_at(weights: torch.Tensor) -> float:
        logit = inputs @ weights
        return float((pixels * torch.nn.functional.softplus(logit) - wanted * logit).sum())

    weights = torch.zeros(inputs.shape[1], dtype=torch.float64)
    loss = loss_at(weights)
    for _ in range(100):
        p = (inputs @ weights).sigmoid()
        gradient = inputs.T @ (pixels * p - wanted)
        curvature = (inputs * (pixels * p * (1 - p))[:, None]).T @ inputs
        step = torch.linalg.solve(curvature, gradient)
        if float(gradient @ step) < 1e-22:  # twice the loss that is left to gain
            break
        scale = 1.0
        while (new_loss := loss_at(weights - scale * step)) > loss and scale > 1e-9:
            scale /= 2
        weights, loss = weights - scale * step, new_loss
    return weights.tolist()


class Reliability(NamedTuple):
    """Points of a reliability diagram: groups of pixels by calibrated probability, ascending; (n,)
    tensors.

    Attributes:
        probability: float64, mean p(open) of the group.
        open_fraction: float64, the part of its pixels that is open.
        num_pixels: int64.
    """

    probability: torch.Tensor
    open_fraction: torch.Tensor
    num_pixels: torch.Tensor


def reliability(
    bins: ScoreBins,
    calibration: Calibration = UNCALIBRATED,
    *,
    grouping: str = 'mass',
    num_groups: int = 15,
) -> Reliability:
    """Probability against frequency, in groups of pixels; the diagonal is perfect. Empty groups are
    left out.

    Args:
        bins: the scores.
        calibration: how they become probabilities; by default by the plain sigmoid.
        grouping: ``'width'``, num_groups intervals [i, i + 1) / num_groups of probability, the last
            one closed; or ``'mass'``, by rank into num_groups of equally many pixels (but pixels of
            one score bin stay together). With 1 % of the pixels open, equal width leaves nearly all
            of them in the first group; equal mass resolves them.
        num_groups: at least 1.

    Raises:
        ValueError: an unknown grouping or num_groups below 1.
    """
    if grouping not in ('width', 'mass'):
        raise ValueError(f"grouping must be 'width' or 'mass', got {grouping!r}")
    if num_groups < 1:
        raise ValueError(f'num_groups must be at least 1, got {num_groups}')
    probability = calibration.probability(bins.lower)
    pixels = bins.closed + bins.open
    position = probability
    if grouping == 'mass':
        position = (pixels.cumsum(0).double() - pixels.double() / 2) / max(1, int(pixels.sum()))
    group = (position * num_groups).long().clamp_(max=num_groups - 1)

    def summed(values: torch.Tensor) -> torch.Tensor:
        return torch.zeros(num_groups, dtype=values.dtype).index_add_(0, group, values)

    size = summed(pixels)
    used = size > 0
    # In float64: torch divides integers in float32.
    mean, open_fraction = (
        (summed(values) / size.double())[used] for values in (pixels * probability, bins.open)
    )
    return Reliability(mean, open_fraction, size[used])


def expected_calibration_error(points: Reliability) -> float:
    """ECE, the mean over pixels of |probability - open fraction| of their group, in [0, 1]; nan
    without a pixel.

    It is that of p(open) itself, not of the confidence in the more likely of open and closed (Guo
    et al.). Always saying 1 % where 1 % is open has an ECE of 0: read it beside AUROC, and compare
    equal groupings only.
    """
    total = int(points.num_pixels.sum())
    if not total:
        return math.nan
    return float(
        (points.num_pixels * (points.probability - points.open_fraction).abs()).sum() / total
    )


def _logit(fraction):
    return math.log(fraction) - math.log1p(-fraction)
