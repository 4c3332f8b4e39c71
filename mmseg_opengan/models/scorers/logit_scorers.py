"""Scorers that need no fitting: functions of the closed logits."""

from torch import Tensor

from ...functional import scores
from .base import SCORERS, Scorer


class _LogitScorer(Scorer):
    from_logits = True
    function = None

    def score(self, features: Tensor | None, logits: Tensor) -> Tensor:
        return type(self).function(logits.float())


@SCORERS.register_module()
class MSP(_LogitScorer):
    """1 - maximum softmax probability; see :func:`functional.scores.msp`."""

    function = staticmethod(scores.msp)


@SCORERS.register_module()
class Entropy(_LogitScorer):
    """Softmax entropy; see :func:`functional.scores.entropy`."""

    function = staticmethod(scores.entropy)


@SCORERS.register_module()
class MaxLogit(_LogitScorer):
    """Minus the largest logit; see :func:`functional.scores.max_logit`."""

    function = staticmethod(scores.max_logit)


@SCORERS.register_module()
class Energy(_LogitScorer):
    """Minus logsumexp of the logits; see :func:`functional.scores.energy`."""

    function = staticmethod(scores.energy)
