"""Scores of mask heads (MaskFormer, Mask2Former, SAN), whose class scores are sums over masks.

Shape letters: N images, Q queries, K closed classes, h and w the grid. Scores: larger = more open.
"""

import torch
from torch import Tensor

_FLOOR = 1e-12  # below it a pixel belongs to no mask at all; its classes are then equally likely


def class_scores(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    r"""L_k = sum_q softmax(c_q)_k sigmoid(m_q), without the class "no object".

    Args:
        class_logits: (N, Q, K + 1), "no object" last.
        mask_logits: (N, Q, h, w).

    Returns:
        (N, K, h, w), each >= 0. They do not sum to 1.
    """
    classes = class_logits.softmax(-1)[..., :-1]
    return torch.einsum('bqc,bqhw->bchw', classes, mask_logits.sigmoid())


def as_logits(scores: Tensor) -> Tensor:
    """log(L / sum L) of (N, K, h, w) class scores: logits whose softmax is L / sum L, all finite."""
    scores = scores.clamp(min=_FLOOR)
    return scores.log() - scores.sum(1, keepdim=True).log()


def rba(scores: Tensor) -> Tensor:
    """Rejected by all, -sum_k tanh L_k, in [-K, 0] (Nayal et al., ICCV 2023); (N, K, h, w) -> (N, h, w)."""
    return -scores.tanh().sum(1)


def mask2anomaly(scores: Tensor) -> Tensor:
    """1 - max_k L_k (Rai et al., ICCV 2023); (N, K, h, w) -> (N, h, w)."""
    return 1 - scores.amax(1)


def eam(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    r"""1 - sum_q sigmoid(m_q) max_k softmax(c_q)_k over the K classes (Grcic et al., CVPRW 2023).

    Args:
        class_logits: (N, Q, K + 1), "no object" last.
        mask_logits: (N, Q, h, w).

    Returns:
        (N, h, w).
    """
    sure = class_logits.softmax(-1)[..., :-1].amax(-1)
    return 1 - torch.einsum('bq,bqhw->bhw', sure, mask_logits.sigmoid())
