"""OpenMax: logits of well-known classes lose what their distance from the class's training pixels
takes away.
"""

import torch
from torch import Tensor


def weibull_cdf(values: Tensor, shape: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """1 - exp(-((x - shift) / scale) ^ shape), 0 below the shift; all arguments broadcast."""
    return -torch.expm1(-((values - shift).clamp(min=0) / scale).pow(shape))


def openmax(logits: Tensor, means: Tensor, weibull: Tensor, alpha: int) -> Tensor:
    """Log-odds of the unknown class: (N, K, H, W) -> (N, H, W); its sigmoid is OpenMax's
    P(unknown).

    v_0 - logsumexp_k(w_k v_k), with v the logits, v_0 = sum_k (1 - w_k) v_k, w_k = 1 - (alpha + 1 -
    i) / alpha * F_k(|v - mu_k|) for the class k of rank i <= alpha and w_k = 1 for the others, F_k
    the class's Weibull distribution.

    Bendale and Boult, CVPR 2016. As in their published code: the best class has the full weight
    (their Algorithm 2 has (alpha - i) / alpha), and F is the distribution function.

    Args:
        means: (K, K) mean logits mu_k of each class.
        weibull: (3, K) shape, scale and shift of each F_k.
        alpha: classes of highest logit that are revised, 1 to K.
    """
    batch, _, height, width = logits.shape
    flat = logits.flatten(2)
    distance = (
        flat.square().sum(1, keepdim=True) + means.square().sum(1)[:, None] - 2 * means @ flat
    ).clamp_(min=0)
    found = weibull_cdf(distance.sqrt_(), *weibull[:, None, :, None])  # (N, K, P)
    if alpha == 1:
        ranked = flat.argmax(1, keepdim=True)
    else:
        ranked = flat.topk(alpha, dim=1).indices
    weights = torch.arange(alpha, 0, -1, device=logits.device, dtype=flat.dtype)[:, None] / alpha
    taken = torch.zeros_like(flat).scatter_(1, ranked, found.gather(1, ranked) * weights) * flat
    return (taken.sum(1) - torch.logsumexp(flat - taken, dim=1)).view(batch, height, width)
