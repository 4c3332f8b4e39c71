"""The contract of every open-set scorer, and the registry it is built from."""

from abc import ABCMeta, abstractmethod

from mmengine.registry import Registry
from torch import Tensor, nn

SCORERS = Registry('open-set scorer', scope='mmseg')


class Scorer(nn.Module, metaclass=ABCMeta):
    """Maps a segmentor's features and logits to an open-set score; larger = more open.

    A scorer takes tensors and never reaches back for the model. What it learns in ``fit`` lives in buffers or
    parameters, so that it moves between devices and saves with ``state_dict``.
    """

    #: True for scorers of the closed logits alone. At image resolution they see the logits that mmseg has resized, the
    #: convention of the anomaly benchmarks; scores from features are computed on the grid, then resized.
    from_logits = False
    #: True for scorers whose score is an open logit: its sigmoid is a probability of open.
    is_logit = False

    @abstractmethod
    def score(self, features: Tensor, logits: Tensor) -> Tensor:
        """Scores of feature maps.

        Args:
            features: (N, C, h, w), what enters ``conv_seg``.
            logits: (N, K, h, w), what leaves it.

        Returns:
            (N, h, w) float scores, larger = more open.
        """

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return self.score(features, logits)
