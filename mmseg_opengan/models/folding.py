"""Batch norms folded into the linear layers beside them: what a per-pixel network computes in eval
mode, faster.

A folded network works on feature maps as they are, so that no transposed copy is made, and every
layer is one product and one pass of its activation.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu_


class Affine(NamedTuple):
    """x -> weight @ x + bias, then a leaky ReLU of slope ``slope`` below zero (1: none, 0:
    ReLU).
    """

    weight: Tensor  # (outside, inside)
    bias: Tensor  # (outside,)
    slope: float


def fold(layers: Iterable[nn.Module]) -> list[Affine] | None:
    """The layers of a network in eval mode, in order, as few :class:`Affine` as they can be.

    Linear layers, batch norms (before or after one), leaky ReLUs and ReLUs fold; dropout and
    identity do nothing in eval mode. The weights are computed anew at each call, so that they are
    never stale.

    Returns:
        list, or None where a layer does not fold: one of another kind, in training mode or with
            hooks, or a batch norm
        without running statistics or without a linear layer to go into.
    """
    folded: list[Affine] = []
    # (scale, shift) of a batch norm on the input of the next linear layer
    before: tuple[Tensor, Tensor] | None = None
    for layer in layers:
        if layer.training or layer._forward_hooks or layer._forward_pre_hooks:
            return None
        if type(layer) in (nn.Identity, nn.Dropout):
            continue
        if type(layer) is nn.Linear:
            weight: Tensor = layer.weight
            bias: Tensor = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias
            if before is not None:
                scale, shift = before
                weight, bias, before = weight * scale, bias + weight @ shift, None
            folded.append(Affine(weight, bias, 1.0))
        elif type(layer) is nn.BatchNorm1d and layer.running_mean is not None and before is None:
            scale, shift = _scale_and_shift(layer)
            if folded and folded[-1].slope == 1.0:
                weight, bias, slope = folded[-1]
                folded[-1] = Affine(weight * scale[:, None], bias * scale + shift, slope)
            else:
                before = scale, shift
        elif (
            type(layer) in (nn.LeakyReLU, nn.ReLU)
            and folded
            and folded[-1].slope == 1.0
            and before is None
        ):
            folded[-1] = folded[-1]._replace(
                slope=layer.negative_slope if type(layer) is nn.LeakyReLU else 0.0
            )
        else:
            return None
    return folded if folded and before is None else None


def _scale_and_shift(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """A batch norm in eval mode as x -> scale * x + shift."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def apply_folded(folded: list[Affine], maps: Tensor) -> Tensor:
    """(N, inside, h, w) -> (N, outside, h, w), N 1 on a GPU; ``maps`` is left as it is.

    On a CPU a layer is a 1x1 convolution, which takes half of the time of a matrix product there.
    On a GPU it is a product, as torch computes convolutions with TF32 by default.
    """
    size = maps.shape[2:]
    if maps.device.type != 'cpu':
        maps = maps.flatten(2)
    for weight, bias, slope in folded:
        if maps.device.type == 'cpu':
            maps = conv2d(maps, weight[:, :, None, None], bias)
        else:
            maps = torch.addmm(bias[:, None], weight, maps[0])[None]
        if slope != 1.0:
            maps = leaky_relu_(maps, slope)
    return maps.unflatten(2, size) if maps.ndim == 3 else maps
