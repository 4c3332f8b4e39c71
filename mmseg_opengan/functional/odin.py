"""ODIN: softmax with a temperature, on an image moved a little towards what the network already
believes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .attacks import gradient_sign


def perturbed(
    inputs: Tensor, classify: Callable[[Tensor], Tensor], temperature: float, epsilon: float
) -> Tensor:
    """x - epsilon * sign(-d/dx sum_p log max_k softmax(f(x)_p / T)_k), p the pixels (Liang et al.,
    ICLR 2018, Eq. 2).

    The gradient is exact: one pass through the network and back.

    Args:
        inputs: (N, 3, H, W), any scale; ``epsilon`` is in their units.
        classify: images -> (N, K, h, w) logits, differentiable.
    """

    def doubt(images: Tensor) -> Tensor:
        return -torch.log_softmax(classify(images).float() / temperature, dim=1).amax(1).sum()

    return inputs.detach() - epsilon * gradient_sign(doubt, inputs)
