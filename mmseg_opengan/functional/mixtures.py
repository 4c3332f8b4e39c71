"""Log-likelihood of Gaussian mixtures.

Shapes: points (D, P), J components with whitening matrices (J, D, D).
"""

import math

import torch
from torch import Tensor


def whitening_of_components(
    kind: str, precisions_cholesky: Tensor, num_components: int, channels: int
) -> Tensor:
    """Matrices (J, D, D) A_j with A_j^T A_j the inverse covariance, whatever form scikit-learn
    stores them in.

    Args:
        kind: ``'full'``, ``'tied'``, ``'diag'`` or ``'spherical'``.
        precisions_cholesky: (J, D, D), (D, D), (J, D) or (J,), as
            ``GaussianMixture.precisions_cholesky_``.
    """
    if kind == 'full':
        return precisions_cholesky.mT.contiguous()
    if kind == 'tied':
        return precisions_cholesky.T.expand(num_components, -1, -1).contiguous()
    if kind == 'diag':
        return torch.diag_embed(precisions_cholesky)
    return torch.diag_embed(precisions_cholesky[:, None].expand(-1, channels))


def log_constants(log_weights: Tensor, whitening: Tensor) -> Tensor:
    """(J,) log w_j + log|det A_j| - D/2 log 2 pi: what does not depend on the point."""
    channels = whitening.shape[-1]
    return (
        log_weights
        + torch.linalg.slogdet(whitening).logabsdet
        - channels / 2 * math.log(2 * math.pi)
    )


def log_likelihood(points: Tensor, whitening: Tensor, centres: Tensor, constants: Tensor) -> Tensor:
    """log sum_j w_j N(x; mu_j, S_j): (D, P) -> (P,), by one matrix product for all components
    together.

    Args:
        centres: (J, D), the whitened means A_j mu_j.
        constants: (J,), see :func:`log_constants`.
    """
    distance = (
        (whitening.flatten(0, 1) @ points)
        .view(*centres.shape, -1)
        .sub_(centres[:, :, None])
        .square_()
        .sum(1)
    )
    return torch.logsumexp(constants[:, None] - distance / 2, dim=0)
