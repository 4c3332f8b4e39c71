"""Scorers made for mask heads (MaskFormer, Mask2Former, SAN)."""

from torch import Tensor

from ...functional import mask_scores
from .base import SCORERS, Scorer
from .logit_scorers import LogitScorer


class _ClassScoreScorer(LogitScorer):
    """Reads a mask head's class scores L (N, K, h, w), >= 0, where others read logits."""

    class_scores = 'raw'


@SCORERS.register_module()
class RbA(_ClassScoreScorer):
    """Rejected by all, in [-K, 0]; see :func:`functional.mask_scores.rba`."""

    function = staticmethod(mask_scores.rba)


@SCORERS.register_module()
class Mask2Anomaly(_ClassScoreScorer):
    """1 - the largest class score, at most 1; see :func:`functional.mask_scores.mask2anomaly`."""

    function = staticmethod(mask_scores.mask2anomaly)


@SCORERS.register_module()
class EAM(Scorer):
    """1 - the sum of masks, each times its largest class probability; at most 1.

    See :func:`functional.mask_scores.eam`.
    """

    reads = 'queries'

    def score(self, features, logits):
        raise TypeError("EAM needs a mask head's queries, found logits: call score_queries")

    def score_queries(self, class_logits: Tensor, mask_logits: Tensor) -> Tensor:
        """Scores of a mask head's queries.

        Args:
            class_logits: (N, Q, K + 1), "no object" last.
            mask_logits: (N, Q, h, w).

        Returns:
            (N, h, w) float32 scores, larger = more open.
        """
        return mask_scores.eam(class_logits.float(), mask_logits.float())
