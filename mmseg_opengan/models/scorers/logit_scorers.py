"""Scorers that need no fitting: functions of the closed logits."""

from typing import Any

from ...functional import scores
from ..options import check_numbers, check_whole
from .base import SCORERS, Scorer


class LogitScorer(Scorer):
    """A function of the logits (N, K, h, w) alone, without options."""

    reads = 'logits'
    function: Any = None

    def score(self, features, logits):
        return type(self).function(logits.float())


@SCORERS.register_module()
class MSP(LogitScorer):
    """1 - maximum softmax probability; see :func:`functional.scores.msp`."""

    function = staticmethod(scores.msp)


@SCORERS.register_module()
class Entropy(LogitScorer):
    """Softmax entropy; see :func:`functional.scores.entropy`."""

    function = staticmethod(scores.entropy)


@SCORERS.register_module()
class MaxLogit(LogitScorer):
    """Minus the largest logit; see :func:`functional.scores.max_logit`.

    Refused for mask heads: of log(L / sum L) it is -log max p, the order of MSP again.
    """

    class_scores = 'refused'
    function = staticmethod(scores.max_logit)


@SCORERS.register_module()
class Energy(LogitScorer):
    """Minus logsumexp of the logits; see :func:`functional.scores.energy`.

    Refused for mask heads: of log(L / sum L), which is normalised, it is the constant 0.
    """

    class_scores = 'refused'
    function = staticmethod(scores.energy)


@SCORERS.register_module()
class GEN(Scorer):
    """Generalised entropy of the softmax; see :func:`functional.scores.gen`.

    Args:
        gamma: exponent, above 0. The smaller, the more unlikely classes count.
        top: how many classes count, the most likely ones; None: all.
    """

    reads = 'logits'

    def __init__(self, *, gamma: float = 0.1, top: int | None = None):
        super().__init__()
        check_numbers('(0, inf)', gamma=gamma)
        if top is not None:
            check_whole(top=top)
        self.gamma = gamma
        self.top = top

    def score(self, features, logits):
        return scores.gen(logits, self.gamma, self.top)
