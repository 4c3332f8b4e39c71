"""OpenMax on per-pixel logits."""

import math

import numpy as np
import torch

from ...functional.openmax import openmax
from ..options import check_whole
from .base import SCORERS, FittedScorer

_NEVER = (1.0, 1.0, math.inf)  # shape, scale, shift of a class whose logits are never revised


@SCORERS.register_module()
class OpenMax(FittedScorer):
    """Log-odds of the unknown class that OpenMax adds to the softmax: see
    :func:`functional.openmax.openmax`.

    Bendale and Boult, CVPR 2016. For each class, the mean logits of its correctly classified
    training pixels, and a Weibull distribution fitted to the ``tail_size`` largest of their
    Euclidean distances to it (maximum likelihood by SciPy). As in the authors' libMR, distances
    count from one below the smallest of the tail. A class with fewer than 3 different distances is
    never revised.

    Args:
        alpha: classes of highest logit that are revised (at most K).
        tail_size: distances that the Weibull distribution is fitted to, at most all.
        checkpoint: file that ``tools/fit_scorers.py`` wrote.
    """

    reads = 'logits'
    is_logit = True
    candidates = dict(alpha=[1, 3, 5, 10], tail_size=[20, 100, 1000])

    def __init__(self, *, alpha: int = 3, tail_size: int = 100, checkpoint: str | None = None):
        super().__init__()
        check_whole(alpha=alpha, tail_size=tail_size)
        if tail_size < 3:
            raise ValueError(f'tail_size: wanted at least 3, found {tail_size}')
        self.alpha = alpha
        self.tail_size = tail_size
        self.load_file(checkpoint)

    def _fit(self, data):
        logits = data.logits.double().cpu()
        labels = data.labels.cpu()
        num_classes = logits.shape[1]
        means = torch.zeros(num_classes, num_classes, dtype=torch.float64)
        weibull = [_NEVER] * num_classes
        correct = logits.argmax(1) == labels
        for k in range(num_classes):
            own = logits[correct & (labels == k)]
            if len(own):
                means[k] = own.mean(0)
                distances = (own - means[k]).norm(dim=1).sort().values
                weibull[k] = _fit_tail(distances[-self.tail_size :].numpy())
        learned = dict(means_=means, weibull_=torch.tensor(weibull).T)
        return {name: value.float().to(data.logits.device) for name, value in learned.items()}

    def _score(self, features, logits):
        return openmax(logits, self.means_, self.weibull_, min(self.alpha, logits.shape[1]))


def _fit_tail(distances: np.ndarray) -> tuple[float, float, float]:
    """Shape, scale and shift of the Weibull distribution of ascending distances."""
    # Here: importing it takes a second, and scoring does not need it.
    from scipy.stats import weibull_min

    if len(np.unique(distances)) < 3:
        return _NEVER
    shift = distances[0] - 1
    shape, _, scale = weibull_min.fit(distances - shift, floc=0)
    return float(shape), float(scale), float(shift)
