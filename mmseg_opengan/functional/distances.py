"""Distances of pixel features to what was learned from closed pixels: class means, shared covariance, neighbours.

Shapes: feature maps (N, C, H, W) -> scores (N, H, W), larger = further away; training pixels (n, C), labels (n,).
Feature maps are multiplied as they lie, channels first: no copy with pixels first is made, and no (pixels, K, C) array.
"""

import torch
from torch import Tensor


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


def unit_length(features: Tensor, dim: int = 1) -> Tensor:
    """Features divided by their L2 norm; a zero stays zero."""
    return torch.nn.functional.normalize(features, dim=dim)


def nearest_centre(points: Tensor, centres: Tensor) -> Tensor:
    """Euclidean distance to the nearest of K centres: (N, C, H, W), (K, C) -> (N, H, W), by one matrix product.

    |x - c|^2 = |x|^2 - 2 c.x + |c|^2 loses digits where x is close to c compared with |x|: in float32 distances below
    about 1e-3 |x| are noise. Move the origin into the data where that matters.
    """
    flat = points.flatten(2)
    half = (centres.square().sum(1) / 2)[:, None] - centres @ flat  # (N, K, pixels)
    square = torch.linalg.vector_norm(flat, dim=1).square() + 2 * half.amin(1)
    return square.clamp_(min=0).sqrt_().view(len(points), *points.shape[2:])
