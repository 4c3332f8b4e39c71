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

    class_scores = 'refused'  # of normalised class scores it is a constant, or MSP again

    function = staticmethod(scores.max_logit)


@SCORERS.register_module()
class Energy(_LogitScorer):
    """Minus logsumexp of the logits; see :func:`functional.scores.energy`."""

    class_scores = 'refused'  # of normalised class scores it is a constant, or MSP again

    function = staticmethod(scores.energy)


@SCORERS.register_module()
class GEN(Scorer):
    """Generalised entropy of the softmax; see :func:`functional.scores.gen`.

    Args:
        gamma: exponent, above 0 and below 1.
        top: classes that count, the most likely ones; None: all.
    """

    from_logits = True

    def __init__(self, *, gamma: float = 0.1, top: int | None = None):
        super().__init__()
        if not 0 < gamma < 1:
            raise ValueError(f'gamma: wanted a number above 0 and below 1, found {gamma!r}')
        if top is not None and top < 1:
            raise ValueError(f'top: wanted None or at least 1, found {top!r}')
        self.gamma = gamma
        self.top = top

    def score(self, features: Tensor | None, logits: Tensor) -> Tensor:
        return scores.gen(logits.float(), self.gamma, self.top)
