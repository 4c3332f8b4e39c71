"""Distances of pixel features to what was learned from closed pixels: class means, shared covariance, neighbours.

Shapes: feature maps (N, C, H, W) or, flat, (N, C, P) with P = H * W pixels -> scores, larger = further away; training
pixels (n, C), labels (n,). Maps are multiplied as they lie, channels first: no copy with pixels first is made, and no
(pixels, K, C) array.
"""

import torch
from torch import Tensor

_CHUNK = 2 ** 16  # training pixels that are float64 at a time
_TINY = 1e-12  # what the length of a zero feature counts as


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mean feature of each class that occurs.

    Returns:
        (k, C) float64 means and (k,) int64 the classes they belong to, ascending; k <= num_classes.
    """
    counts = torch.bincount(labels, minlength=num_classes)
    sums = torch.zeros(num_classes, features.shape[1], dtype=torch.float64, device=features.device)
    sums.index_add_(0, labels, features.double())
    present = counts.nonzero()[:, 0]
    return sums[present] / counts[present, None], present


def pooled_covariance(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Covariance (C, C) float64 of the features about their own class's mean, over all classes, divided by n."""
    means, classes = class_means(features, labels, num_classes)
    at = torch.searchsorted(classes, labels)
    total = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64, device=features.device)
    for some, mean in zip(features.split(_CHUNK), at.split(_CHUNK)):
        centred = some.double() - means[mean]
        total += centred.T @ centred
    return total / len(features)


def whitening(covariance: Tensor) -> Tensor:
    """Matrix (D, C) W with W^T W the (pseudo-)inverse of the covariance (C, C): |W d|^2 is Mahalanobis' d^T S^-1 d.

    Directions in which nothing varies (channels that a ReLU keeps at zero) have no inverse and are left out, D <= C.
    """
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * torch.finfo(torch.float32).eps
    return (vectors[:, kept] / values[kept].sqrt()).T


def unit_length(features: Tensor, dim: int = 1) -> Tensor:
    """Features divided by their L2 norm; a zero stays zero."""
    return torch.nn.functional.normalize(features, dim=dim)


def project(features: Tensor, weight: Tensor, offset: Tensor, *, unit: bool = False) -> Tensor:
    """weight @ x - offset at every pixel: (N, C, H, W), (D, C), (D,) -> (N, D, H * W).

    Args:
        unit: of x divided by its length; the division comes after the product, on D numbers a pixel and not on C.
    """
    flat = features.flatten(2)
    points = weight @ flat
    if unit:
        points /= _length(flat)[:, None]
    return points.sub_(offset[:, None])


def nearest_centre(points: Tensor, centres: Tensor, *, unit: bool = False) -> Tensor:
    """Euclidean distance to the nearest of K centres: (N, C, P), (K, C) -> (N, P), by one matrix product.

    |x - c|^2 = |x|^2 - 2 c.x + |c|^2 loses digits where x is close to c compared with |x|: in float32 distances below
    about 1e-3 |x| are noise. Move the origin into the data where that matters.

    Args:
        unit: of x divided by its length, without making a divided copy.
    """
    length = _length(points)[:, None] if unit else torch.linalg.vector_norm(points, dim=1, keepdim=True)
    cross = centres @ points  # (N, K, P)
    if unit:
        cross /= length
        length = torch.where(length > _TINY, 1., 0.)
    nearest = (centres.square().sum(1)[:, None] - 2 * cross).amin(1)
    return length[:, 0].square_().add_(nearest).clamp_(min=0).sqrt_()


def kth_neighbour(points: Tensor, references: Tensor, k: int, *, unit: bool = False,
                  block_bytes: int = 2 ** 26) -> Tensor:
    """Euclidean distance to the k-th nearest of R references, brute force and so exact: (N, C, P), (R, C) -> (N, P).

    Memory beyond input and output: about two blocks of distances of ``block_bytes`` (64 MiB).

    Args:
        k: 1 is the nearest.
        unit: as in :func:`nearest_centre`.
    """
    square = references.square().sum(1)[:, None]
    step = max(1, block_bytes // (4 * len(references)))
    found = []
    for image in points:
        columns = []
        for some in image.split(step, dim=1):
            if unit:
                some = unit_length(some, dim=0)
            distance = torch.addmm(square, references, some, alpha=-2)  # (R, p), all but |x|^2
            least = distance.amin(0) if k == 1 else distance.T.contiguous().kthvalue(k, dim=1).values
            columns.append(least + some.square().sum(0))
        found.append(torch.cat(columns))
    return torch.stack(found).clamp_(min=0).sqrt_()


def _length(points: Tensor) -> Tensor:
    """(N, C, P) -> (N, P) L2 norms, never below what a zero is divided by."""
    return torch.linalg.vector_norm(points, dim=1).clamp_(min=_TINY)
