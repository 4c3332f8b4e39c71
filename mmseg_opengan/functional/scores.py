"""Open-set scores computed from closed logits. Larger = more open, everywhere.

Shapes: logits (N, K, H, W) -> scores (N, H, W).
"""

import torch
from torch import Tensor


def msp(logits: Tensor) -> Tensor:
    """1 - maximum softmax probability, in [0, 1 - 1/K] (Hendrycks and Gimpel, ICLR 2017).

    Computed as the sum of the other classes' probabilities, which keeps the order of confident pixels where ``1 - p``
    rounds to 0 (logits that lead by 17 or more in float32).
    """
    largest, winner = logits.max(dim=1, keepdim=True)
    others = torch.exp(logits - largest).scatter(1, winner, 0).sum(dim=1)
    return others / (1 + others)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax in nats, in [0, log K] (Steinhardt and Liang, NeurIPS 2016; the paper's [58])."""
    log_p = torch.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def max_logit(logits: Tensor) -> Tensor:
    """Minus the largest logit (Hendrycks et al., ICML 2022)."""
    return -logits.amax(dim=1)


def energy(logits: Tensor) -> Tensor:
    """Minus logsumexp of the logits (Liu et al., NeurIPS 2020)."""
    return -torch.logsumexp(logits, dim=1)
