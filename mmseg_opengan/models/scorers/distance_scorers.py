"""Distances to closed pixels: nearest class mean, Mahalanobis distance, k-th nearest neighbour."""

import torch
from torch import Tensor

from ...functional.distances import (
    by_columns,
    class_means,
    kth_neighbour,
    nearest_centre,
    pooled_covariance,
    project,
    unit_length,
    whitening,
)
from ..options import check_whole
from .base import SCORERS, FitData, FittedScorer

_BLOCK = 2**26  # bytes of a block of distances to all references


def _prepared(data: FitData, normalize: bool) -> Tensor:
    return unit_length(data.features) if normalize else data.features


@SCORERS.register_module()
class ClassCentroid(FittedScorer):
    """Euclidean distance of a feature to the nearest class mean: min_k |x - mu_k| (the paper's
    section 10 and [40]).

    mu_k is the mean feature of the training pixels whose true class is k.

    Args:
        normalize: divide features by their L2 norm before anything else, which the paper's section
            10 finds crucial.
        checkpoint: file that ``tools/fit_scorers.py`` wrote.
    """

    candidates = dict(normalize=[True, False])

    def __init__(self, *, normalize: bool = True, checkpoint: str | None = None):
        super().__init__()
        self.normalize = normalize
        self.load_file(checkpoint)

    def _fit(self, data):
        features = _prepared(data, self.normalize)
        means, _ = class_means(features, data.labels, len(data.weight))
        return dict(means_=means.float())

    def _score(self, features, logits):
        return by_columns(
            lambda points: nearest_centre(points, self.means_, unit=self.normalize), features
        )


@SCORERS.register_module()
class GDM(FittedScorer):
    """Mahalanobis distance to the nearest class of a Gaussian discriminant model: min_k (x -
    mu_k)^T S^-1 (x - mu_k).

    mu_k are the class means by true class, S is one covariance about them for all classes; the
    score is the distance's square root (Lee et al., NeurIPS 2018, "A Simple Unified Framework for
    Detecting Out-of-Distribution Samples and Adversarial Attacks"; without their input perturbation
    and their ensemble of layers).

    Args:
        normalize: divide features by their L2 norm first.
        checkpoint: file that ``tools/fit_scorers.py`` wrote.
    """

    candidates = dict(normalize=[False, True])

    def __init__(self, *, normalize: bool = False, checkpoint: str | None = None):
        super().__init__()
        self.normalize = normalize
        self.load_file(checkpoint)

    def _fit(self, data):
        features = _prepared(data, self.normalize)
        weight = whitening(pooled_covariance(features, data.labels, len(data.weight)))
        means, _ = class_means(features, data.labels, len(data.weight))
        # The origin amid the data costs the fewest digits.
        offset = weight @ features.double().mean(0)
        return dict(
            weight_=weight.float(),
            offset_=offset.float(),
            means_=(means @ weight.T - offset).float(),
        )

    def _score(self, features, logits):
        return by_columns(
            lambda points: nearest_centre(
                project(points, self.weight_, self.offset_, unit=self.normalize), self.means_
            ),
            features,
        )


@SCORERS.register_module()
class NearestNeighbour(FittedScorer):
    """Euclidean distance to the k-th nearest of R training features of unit length, exact (the
    paper's NN_fea, [50]).

    The references are drawn from the training pixels without replacement. They take 4 * C * R bytes
    (20,000 of 720
    channels: 58 MB), scoring needs a block of 64 MiB beside them and C * R multiply-adds a pixel,
    472 GMAC for the
    32,768 pixels of a 512x1024 image: with HRNet-W48's 187 GMAC it is the slow one of the
    statistical methods.

    Args:
        k: which neighbour; 1 is the nearest.
        num_references: R, or all training pixels where there are fewer.
        checkpoint: file that ``tools/fit_scorers.py`` wrote.
    """

    candidates = dict(k=[1, 5, 20])

    def __init__(
        self,
        *,
        k: int = 1,
        num_references: int = 20000,
        checkpoint: str | None = None,
    ):
        super().__init__()
        check_whole(k=k, num_references=num_references)
        if k > num_references:
            raise ValueError(f'k: wanted 1 to num_references ({num_references}), found {k}')
        self.k = k
        self.num_references = num_references
        self.load_file(checkpoint)

    def _fit(self, data):
        if len(data.features) < self.k:
            raise ValueError(
                f'fit: wanted at least k = {self.k} pixels, found {len(data.features)}'
            )
        generator = torch.Generator().manual_seed(data.seed)
        chosen = torch.randperm(len(data.features), generator=generator)[: self.num_references]
        return dict(references_=unit_length(data.features)[chosen.to(data.features.device)])

    def _score(self, features, logits):
        return by_columns(
            lambda points: kth_neighbour(points, self.references_, self.k, unit=True),
            features,
            chunk=max(1, _BLOCK // (4 * len(self.references_))),
        )
