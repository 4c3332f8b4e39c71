"""Attacks on an image by the sign of a gradient: FGSM and PGD.

Shape letters: H, W image size.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_sign(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """The sign, -1, 0 or 1, of the gradient of ``function``, a scalar, at ``inputs``; same shape.

    Raises:
        ValueError: the gradient is NaN or infinite somewhere.
    """
    with torch.enable_grad():
        inputs = inputs.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(function(inputs), inputs)
    if not gradient.isfinite().all():
        raise ValueError('wanted a finite gradient at every pixel, found NaN or infinity')
    return gradient.sign()


def attacked(
    image: Tensor,
    objective: Callable[[Tensor], Tensor],
    *,
    epsilon: float,
    steps: int,
    step_size: float,
) -> Tensor:
    """An image near another one, with a larger objective.

    One step of size ``epsilon`` is FGSM (Goodfellow et al., ICLR 2015). Several are PGD (Madry et
    al., ICLR 2018) from the image itself, not from a random place near it.

    Args:
        image: (3, H, W) float32 in [0, 255].
        objective: image -> scalar, differentiable.
        epsilon: largest change of a value, in grey levels.
        steps: gradients that are taken.
        step_size: change of a value in a step, in grey levels.

    Returns:
        (3, H, W) float32 in [0, 255], nowhere more than ``epsilon`` from ``image``.
    """
    lowest = (image - epsilon).clamp(min=0)
    highest = (image + epsilon).clamp(max=255)
    moved = image
    for _ in range(steps):
        moved = (moved + step_size * gradient_sign(objective, moved)).clamp(lowest, highest)
    return moved
