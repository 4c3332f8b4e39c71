"""Calibration of open scores: probabilities that mean what they say (the paper leaves D
uncalibrated, its section 14).

Platt scaling is p(open) = sigmoid(slope * score + intercept) (Platt, 1999). It is fitted by maximum
likelihood on open validation, with Platt's targets (P + 1) / (P + 2) for open pixels and 1 / (N +
2) for closed ones, P and N of them, so that separable scores have a finite fit too. A slope above 0
keeps the order of scores: AUROC, AP and FPR95 do not change, and are computed from the raw scores,
whose order no rounding of a sigmoid can lose.

A calibrated probability is that of a pixel drawn like those of the validation set, where perhaps 1
% are open: most pixels then lie far below 1/2, and rightly so.

Everything is computed from :class:`ScoreBins`, each pixel at the lower edge of its bin: at most 0.2
% of a score away.
"""

import math
from typing import NamedTuple

import torch

from .detection import ScoreBins

_GROUPS = 15  # of a reliability diagram


class Calibration(NamedTuple):
    """p(open) = sigmoid(slope * score + intercept), slope above 0. As it is made, the plain sigmoid
    of an open logit.
    """

    slope: float = 1.0
    intercept: float = 0.0

    def probability(self, scores: torch.Tensor) -> torch.Tensor:
        """p(open) in [0, 1]: same shape, float32 or float64."""
        scores = scores if scores.dtype == torch.float64 else scores.float()
        return (self.slope * scores + self.intercept).sigmoid()

    def score_of(self, probability: float) -> float:
        """The score whose p(open) it is.

        Raises:
            ValueError: a probability outside (0, 1).
        """
        if not 0 < probability < 1:
            raise ValueError(f'probability: wanted one in (0, 1), found {probability}')
        return (math.log(probability / (1 - probability)) - self.intercept) / self.slope

    def to_json(self) -> dict:
        """Two plain values: what a checkpoint or report holds."""
        return self._asdict()


def fit_platt(bins: ScoreBins) -> Calibration:
    """Slope and intercept of largest likelihood; see the head of this file.

    Raises:
        ValueError: no closed or no open pixel, one score value only, or a fitted slope that is not
            above 0 (open pixels score lower than closed ones: the score does not separate them).
    """
    closed, opened = int(bins.closed.sum()), int(bins.open.sum())
    if not closed or not opened:
        raise ValueError(f'bins: wanted closed and open pixels, found {closed} and {opened}')
    total = closed + opened
    pixels = (bins.closed + bins.open).double() / total
    open_target, closed_target = (opened + 1) / (opened + 2), 1 / (closed + 2)
    wanted = (bins.open.double() * open_target + bins.closed.double() * closed_target) / total
    # In standardized scores z the problem is well conditioned, and Newton's method takes about ten
    # steps.
    centre = float((pixels * bins.lower).sum())
    spread = float((pixels * (bins.lower - centre) ** 2).sum()) ** 0.5
    if len(bins.lower) < 2 or not spread > 1e-12 * abs(centre):
        raise ValueError(f'bins: wanted two or more scores, found one, {bins.lower[0]:g}')
    slope, intercept = _newton((bins.lower - centre) / spread, pixels, wanted)
    slope = slope / spread
    if not slope > 0:
        raise ValueError(
            f'Platt scaling: wanted a slope above 0, found {slope:g}: pixels with larger scores '
            'are not more often open'
        )
    return Calibration(slope, intercept - slope * centre)


def _newton(z, pixels, wanted):
    """Slope and intercept that minimize sum pixels * softplus(logit) - wanted * logit, convex."""
    inputs = torch.stack([z, torch.ones_like(z)], 1)

    def loss_at(weights: torch.Tensor) -> float:
        logit = inputs @ weights
        return float((pixels * torch.nn.functional.softplus(logit) - wanted * logit).sum())

    weights = torch.zeros(2, dtype=torch.float64)
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


def expected_calibration_error(bins: ScoreBins, calibration: Calibration | None = None) -> float:
    """ECE, the mean over pixels of |probability - open fraction| of their group, in [0, 1]; nan
    without a pixel.

    There are 15 groups of equally many pixels by rank; the pixels of one score bin stay together.
    Without a calibration p(open) is the plain sigmoid, which only open logits admit. It is that of
    p(open) itself, not of the confidence in the more likely of open and closed (Guo
    et al.). Always saying 1 % where 1 % is open has an ECE of 0: read it beside AUROC.
    """
    calibration = calibration or Calibration()
    pixels = bins.closed + bins.open
    total = int(pixels.sum())
    if not total:
        return math.nan
    position = (pixels.cumsum(0).double() - pixels.double() / 2) / total
    group = (position * _GROUPS).long().clamp_(max=_GROUPS - 1)
    sums = torch.zeros(3, _GROUPS, dtype=torch.float64)
    claimed = pixels * calibration.probability(bins.lower)
    sums.index_add_(1, group, torch.stack([pixels.double(), claimed, bins.open.double()]))
    size, claimed, opened = sums[:, sums[0] > 0]
    gaps = (claimed / size - opened / size).abs()
    return float((size * gaps).sum() / total)
