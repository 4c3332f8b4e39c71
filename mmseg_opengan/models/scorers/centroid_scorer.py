"""Distance to the nearest class mean."""

from torch import Tensor

from ...functional.distances import class_means, nearest_centre, unit_length
from .base import SCORERS, FitData, FittedScorer


@SCORERS.register_module()
class ClassCentroid(FittedScorer):
    """Euclidean distance of a feature to the nearest class mean: min_k |x - mu_k| (the paper's section 10 and [40]).

    mu_k is the mean feature of the training pixels whose true class is k.

    Args:
        normalize: divide features by their L2 norm before anything else, which the paper's section 10 finds crucial.
        checkpoint: file that ``tools/fit_scorers.py`` wrote.
    """

    learned = ('means_',)
    candidates = dict(normalize=[True, False])

    def __init__(self, *, normalize: bool = True, checkpoint: str | None = None):
        super().__init__()
        self.normalize = normalize
        self.load_file(checkpoint)

    def _fit(self, data: FitData) -> dict[str, Tensor]:
        features = unit_length(data.features) if self.normalize else data.features
        return dict(means_=class_means(features, data.labels, len(data.weight))[0].float())

    def _score(self, features: Tensor, logits: Tensor) -> Tensor:
        return nearest_centre(unit_length(features) if self.normalize else features, self.means_)
