"""Scorers made for mask heads (MaskFormer, Mask2Former, SAN)."""

from torch import Tensor

from ...functional import mask_scores
from .base import SCORERS, Scorer


class _ClassScoreScorer(Scorer):
    """Reads a mask head's class scores (N, K, h, w) where others read logits."""

    from_logits = True
    class_scores = 'raw'
    function = None

    def score(self, features: Tensor | None, logits: Tensor) -> Tensor:
        return type(self).function(logits.float())


@SCORERS.register_module()
class RbA(_ClassScoreScorer):
    """Rejected by all; see :func:`functional.mask_scores.rba`."""

    function = staticmethod(mask_scores.rba)


@SCORERS.register_module()
class Mask2Anomaly(_ClassScoreScorer):
    """1 - the largest class score; see :func:`functional.mask_scores.mask2anomaly`."""

    function = staticmethod(mask_scores.mask2anomaly)


@SCORERS.register_module()
class EAM(Scorer):
    """1 - the sum of masks, each as sure as its class; see :func:`functional.mask_scores.eam`."""

    reads_queries = True

    def score(self, features: Tensor | None, logits: Tensor) -> Tensor:
        raise TypeError('EAM reads the queries of a mask head: call score_queries')

    def score_queries(self, class_logits: Tensor, mask_logits: Tensor) -> Tensor:
        """(N, Q, K + 1) and (N, Q, h, w) -> (N, h, w)."""
        return mask_scores.eam(class_logits.float(), mask_logits.float())
