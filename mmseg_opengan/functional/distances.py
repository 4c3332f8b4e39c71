"""Distances of pixel features to what was learned from closed pixels: class means, shared
covariance, neighbours.

Shapes: points (C, P), P pixels, channels first as they lie in a map -> scores (P,), larger =
further away; training pixels (n, C), labels (n,). :func:`by_columns` walks over maps (N, C, H, W).
No copy of a map with pixels first is made, and no (pixels, K, C) array.
"""

from collections.abc import Callable

import torch
from torch import Tensor

_COLUMNS = 2048  # pixels at a time on a CPU
_CHUNK = 2**16  # training pixels that are float64 at a time
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
    """Covariance (C, C) float64 of the features about their own class's mean, over all classes,
    divided by n.
    """
    means, classes = class_means(features, labels, num_classes)
    at = torch.searchsorted(classes, labels)
    total = torch.zeros(
        features.shape[1], features.shape[1], dtype=torch.float64, device=features.device
    )
    for some, mean in zip(features.split(_CHUNK), at.split(_CHUNK)):
        centred = some.double() - means[mean]
        total += centred.T @ centred
    return total / len(features)


def whitening(covariance: Tensor) -> Tensor:
    """Matrix (D, C) W with W^T W the (pseudo-)inverse of the covariance (C, C): |W d|^2 is
    Mahalanobis' d^T S^-1 d.

    Directions in which nothing varies (channels that a ReLU keeps at zero) have no inverse and are
    left out, D <= C.
    """
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * torch.finfo(torch.float32).eps
    return (vectors[:, kept] / values[kept].sqrt()).T


def unit_length(features: Tensor, dim: int = 1) -> Tensor:
    """Features divided by their L2 norm; a zero stays zero."""
    return torch.nn.functional.normalize(features, dim=dim)


def by_columns(
    function: Callable[[Tensor], Tensor], maps: Tensor, *, chunk: int | None = None
) -> Tensor:
    """Apply a function of points, (C, p) -> (p,), to maps (N, C, H, W) -> (N, H, W), a bounded
    number at a time.

    Args:
        chunk: pixels at a time. None: so few that what the function makes of them stays in a CPU's
            caches.
    """
    chunk = chunk or (_COLUMNS if maps.device.type == 'cpu' else 2**16)
    out = maps.new_empty(len(maps), *maps.shape[2:])
    for image, row in zip(maps.flatten(2), out.flatten(1)):
        for points, part in zip(image.split(chunk, dim=1), row.split(chunk)):
            part.copy_(function(points))
    return out


def project(points: Tensor, weight: Tensor, offset: Tensor, *, unit: bool = False) -> Tensor:
    """weight @ x - offset of every point: (C, P), (D, C), (D,) -> (D, P).

    Args:
        unit: of x divided by its length; the division comes after the product, on D numbers a pixel
            and not on C.
    """
    projected = weight @ points
    if unit:
        projected /= _length(points)
    return projected.sub_(offset[:, None])


def nearest_centre(points: Tensor, centres: Tensor, *, unit: bool = False) -> Tensor:
    """Euclidean distance to the nearest of K centres: (C, P), (K, C) -> (P,), by one matrix
    product.

    |x - c|^2 = |x|^2 - 2 c.x + |c|^2 loses digits where x is close to c compared with |x|: in
    float32 distances below about 1e-3 |x| are noise. Move the origin into the data where that
    matters.

    Args:
        unit: of x divided by its length, without making a divided copy.
    """
    square, cross = _square(points), centres @ points
    if unit:
        cross /= _length(points)
        square = (square > _TINY**2).to(square)
    return _root(square + (centres.square().sum(1)[:, None] - 2 * cross).amin(0))


def kth_neighbour(points: Tensor, references: Tensor, k: int, *, unit: bool = False) -> Tensor:
    """Euclidean distance to the k-th nearest of R references, brute force and so exact: (C, P), (R,
    C) -> (P,).

    Makes a (P, R) array: give it few points at a time.

    Args:
        k: 1 is the nearest.
        unit: as in :func:`nearest_centre`.
    """
    if unit:
        points = unit_length(points, dim=0)
    distance = torch.addmm(
        references.square().sum(1), points.T, references.T, alpha=-2
    )  # all but |x|^2
    # topk takes a third of the time of kthvalue on a CPU.
    least = (
        distance.amin(1)
        if k == 1
        else distance.topk(
            k,
            dim=1,
            largest=False,
            sorted=False,
        ).values.amax(1)
    )
    return _root(least + _square(points))


def _square(points: Tensor) -> Tensor:
    """(C, P) -> (P,) squared lengths. On a CPU it takes a seventh of the time of ``vector_norm``
    along channels.
    """
    return points.square().sum(0)


def _length(points: Tensor) -> Tensor:
    """(C, P) -> (P,) lengths, never below what a zero is divided by."""
    return _square(points).sqrt_().clamp_(min=_TINY)


def _root(square: Tensor) -> Tensor:
    """Square root of what rounding may have made negative."""
    return square.clamp_(min=0).sqrt_()
