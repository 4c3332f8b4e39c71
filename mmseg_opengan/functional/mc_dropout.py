"""Uncertainty of the class under dropout before a linear classifier: only the classifier runs
again.
"""

import torch
from torch import Tensor

_PIXELS, _NUMBERS = 4096, 2**21  # of a block: pixels, and logits (8 MB)


def dropout_uncertainty(
    features: Tensor, weights: Tensor, bias: Tensor, *, mutual_information: bool
) -> Tensor:
    """Predictive entropy, or mutual information of class and dropout mask, in nats: (N, C, P) ->
    (N, P).

    With p_s the softmax under mask s of S: the entropy H(mean_s p_s), or H(mean_s p_s) - mean_s
    H(p_s). Gal and Ghahramani, ICML 2016; Houlsby et al., 2011 (mutual information).

    Args:
        weights: (S, K, C) the classifier's weights under each mask.
        bias: (K,).
    """
    num_samples, num_classes = weights.shape[:2]
    samples = max(1, _NUMBERS // (num_classes * _PIXELS))
    parts = weights.split(samples)
    out = []
    for image in features:
        blocks = image.split(_PIXELS, dim=1)
        found = [
            _uncertainty(some, parts, bias, num_samples, mutual_information) for some in blocks
        ]
        out.append(torch.cat(found))
    return torch.stack(out)


def _uncertainty(pixels, weights, bias, num_samples, mutual_information):
    mean = torch.zeros(len(bias), pixels.shape[1], device=pixels.device)
    inside = torch.zeros_like(mean[0])  # sum over masks of the entropy under each
    for some in weights:
        log_p = torch.log_softmax(
            (some.flatten(0, 1) @ pixels).view(len(some), len(bias), -1) + bias[:, None], dim=1
        )
        p = log_p.exp()
        mean += p.sum(0)
        if mutual_information:
            inside -= (p * log_p).sum((0, 1))
    mean /= num_samples
    total = -torch.xlogy(mean, mean).sum(0)
    return (total - inside / num_samples).clamp_(min=0) if mutual_information else total
