"""Scorers that need no fitting: functions of the closed logits."""

from typing import Any

from ...functional import scores
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
class GEN(LogitScorer):
    """Generalised entropy of the softmax; see :func:`functional.scores.gen`."""

    function = staticmethod(scores.gen)
