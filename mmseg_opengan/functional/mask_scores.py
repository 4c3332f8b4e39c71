"""Scores of mask heads (MaskFormer, Mask2Former, SAN), whose class scores are sums over masks.

Shape letters: N images, Q queries, K closed classes, h and w the grid. Scores: larger = more open.
"""

import torch
from torch import Tensor


def class_scores(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    r"""L_k = sum_q softmax(c_q)_k sigmoid(m_q), without the class "no object".

    Args:
        class_logits: (N, Q, K + 1), "no object" last.
        mask_logits: (N, Q, h, w).

    Returns:
        (N, K, h, w), each in [0, Q]. They are no logits, and do not sum to 1 over the classes.
    """
    classes = class_logits.softmax(-1)[..., :-1]
    return torch.einsum('bqc,bqhw->bchw', classes, mask_logits.sigmoid())


def as_logits(scores: Tensor) -> Tensor:
    """log(L / sum L): logits whose softmax is L / sum L.

    A pixel that belongs to no mask (all L = 0) gets equal logits, and a class with L = 0 the
    logarithm of the smallest normal number instead of minus infinity.

    Args:
        scores: (N, K, h, w) class scores L, >= 0.

    Returns:
        (N, K, h, w), finite and at most 0; float64 for float64, float32 for all else.
    """
    scores = scores if scores.dtype == torch.float64 else scores.float()
    smallest = torch.finfo(scores.dtype).tiny
    largest = scores.amax(1, keepdim=True)
    # The floor lies below the largest class, not below 1: faint pixels keep their ratios.
    relative = torch.where(largest < smallest, 1, scores / largest.clamp(min=smallest))
    return relative.clamp(min=smallest).log().log_softmax(1)


def rba(scores: Tensor) -> Tensor:
    """RbA, rejected by all: -sum_k tanh L_k (Nayal et al., ICCV 2023).

    Args:
        scores: (N, K, h, w) class scores L, >= 0.

    Returns:
        (N, h, w), in [-K, 0].
    """
    return -scores.tanh().sum(1)


def mask2anomaly(scores: Tensor) -> Tensor:
    """1 - max_k L_k (Rai et al., ICCV 2023).

    Args:
        scores: (N, K, h, w) class scores L, >= 0.

    Returns:
        (N, h, w), at most 1; below 0 where several masks of one class overlap.
    """
    return 1 - scores.amax(1)


def eam(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    r"""EAM, 1 - sum_q sigmoid(m_q) max_k softmax(c_q)_k (Grcic et al., CVPRW 2023).

    The softmax is over K + 1 classes, the maximum over the K without "no object".

    Args:
        class_logits: (N, Q, K + 1), "no object" last.
        mask_logits: (N, Q, h, w).

    Returns:
        (N, h, w), at most 1; below 0 where masks overlap.
    """
    sure = class_logits.softmax(-1)[..., :-1].amax(-1)
    return 1 - torch.einsum('bq,bqhw->bhw', sure, mask_logits.sigmoid())
