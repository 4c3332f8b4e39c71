"""Open-set scores computed from closed logits. Larger = more open, everywhere.

Shapes: logits (N, K, H, W) -> scores (N, H, W).
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad


def msp(logits: Tensor) -> Tensor:
    """1 - maximum softmax probability, in [0, 1 - 1/K] (Hendrycks and Gimpel, ICLR 2017).

    Computed as the sum of the other classes' probabilities, which keeps the order of confident
    pixels where ``1 - p`` rounds to 0 (logits that lead by 17 or more in float32).
    """
    largest, winner = logits.max(dim=1, keepdim=True)
    others = torch.exp(logits - largest).scatter(1, winner, 0).sum(dim=1)
    return others / (1 + others)


def msp_log_odds(logits: Tensor, temperature: float = 1.0) -> Tensor:
    r"""The order of ``msp(logits / temperature)`` on the scale of the logits, at most 0.

    .. math:: T \log \frac{1}{K - 1} \sum_{k \ne m} e^{(v_k - v_m) / T}, \quad m = \arg\max_k v_k,

    T times the log-odds against the largest class, less the most that they can be. With T = 1000
    all probabilities lie within 1 % of each other, where float32 tells few apart.
    """
    exact = (
        torch.float32 if logits.device.type == 'mps' else torch.float64
    )  # which Apple's GPUs do not have
    scaled = logits.to(exact) / temperature
    largest, winner = scaled.max(dim=1, keepdim=True)
    others = (scaled - largest).scatter(1, winner, -math.inf)
    return (temperature * (torch.logsumexp(others, dim=1) - math.log(logits.shape[1] - 1))).float()


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax in nats, in [0, log K] (Steinhardt and Liang, NeurIPS 2016; the
    paper's [58]).
    """
    log_p = torch.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def gen(logits: Tensor, gamma: float = 0.1, top: int | None = None) -> Tensor:
    r"""GEN, the generalised entropy (Liu et al., CVPR 2023): larger where the softmax is less sure.

    .. math:: \sum_k p_k^\gamma (1 - p_k)^\gamma

    Args:
        logits: (N, K, H, W).
        gamma: above 0; the paper's lie below 1. The smaller, the more unlikely classes count.
        top: so many of the largest probabilities are summed over; None, or above K: all.

    Returns:
        (N, H, W) float32, at least 0 and at most ``top * 4 ** -gamma``.
    """
    log_p = torch.log_softmax(logits.float(), dim=1)
    winner = log_p.argmax(dim=1, keepdim=True)
    log_others = log_p.scatter(1, winner, -math.inf)
    # 1 - p rounds to 0 where one class leads: the winner's is the sum of the others.
    log_rest_of_winner = torch.logsumexp(log_others, dim=1, keepdim=True)
    log_rest = torch.log1p(-log_others.exp()).scatter(1, winner, log_rest_of_winner)
    terms = torch.exp(gamma * (log_p + log_rest))
    if top is not None and top < terms.shape[1]:
        largest = log_p.topk(top, dim=1).indices
        terms = terms.gather(1, largest)
    return terms.sum(dim=1)


def max_logit(logits: Tensor) -> Tensor:
    """Minus the largest logit (Hendrycks et al., ICML 2022)."""
    return -logits.amax(dim=1)


def energy(logits: Tensor) -> Tensor:
    """Minus logsumexp of the logits (Liu et al., NeurIPS 2020)."""
    return -torch.logsumexp(logits, dim=1)


def max_logit_statistics(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (K,) of the largest logit of the pixels (n, K) predicted as each
    class.

    A class that fewer than two pixels were predicted as has those of all pixels.
    """
    largest, winner = logits.double().max(dim=1)
    count = torch.bincount(winner, minlength=logits.shape[1])
    mean = torch.zeros_like(count, dtype=torch.float64).index_add_(0, winner, largest) / count
    square = torch.zeros_like(mean).index_add_(0, winner, (largest - mean[winner]).square()) / count
    enough = count > 1
    return torch.where(enough, mean, largest.mean()), torch.where(
        enough, square.sqrt(), largest.std(correction=0)
    )


def standardized_max_logit(logits: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Minus the largest logit, standardised by the statistics (K,) of the predicted class (Jung et
    al., ICCV 2021).
    """
    largest, winner = logits.max(dim=1)
    return (mean[winner] - largest) / deviation[winner]


def fused(scores: tuple[Tensor, Tensor], mean: Tensor, deviation: Tensor, weight: float) -> Tensor:
    """(1 - w) max(z_0, 0) + w z_1 of two score maps (N, H, W), z = (score - mean) / deviation.

    The first only raises: where a trained score takes a pixel for an ordinary closed one, the free
    one alone orders it, as an open kind that training never had may look closed.

    Args:
        scores: the trained map and the free one.
        mean, deviation: (2,), of the scores of closed pixels.
        weight: w, in [0, 1].
    """
    first, second = ((one - mean[i]) / deviation[i] for i, one in enumerate(scores))
    return (1 - weight) * first.clamp(min=0) + weight * second


def smoothed(maps: Tensor, deviation: tuple[float, float]) -> Tensor:
    """Score maps (N, H, W) averaged over neighbours with Gaussian weights; a pixel at the edge
    repeats outwards.

    Args:
        deviation: standard deviation along rows' and columns' axis, in pixels of the map, >= 0; the
            kernel ends at four of them.
    """
    maps = maps.float()
    for axis, sigma in zip((1, 2), deviation):
        radius = math.ceil(4 * sigma)
        if radius:
            offsets = torch.arange(-radius, radius + 1, device=maps.device)
            kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
            lines = maps.movedim(axis, 2)
            padded = pad(lines.reshape(-1, 1, lines.shape[2]), (radius, radius), mode='replicate')
            maps = (
                conv1d(padded, (kernel / kernel.sum())[None, None])
                .view(lines.shape)
                .movedim(2, axis)
            )
    return maps
