"""Batch norms folded into the linear layers beside them: what a per-pixel network computes in eval mode, faster.

A folded network works on (C, n), the layout of a feature map, so that no transposed copy of the map is made, and every
layer is one matrix product and one pass of its activation.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu_


class Affine(NamedTuple):
    """x -> weight @ x + bias, then a leaky ReLU of slope ``slope`` below zero (1: none, 0: ReLU)."""

    weight: Tensor  # (outside, inside)
    bias: Tensor  # (outside, 1)
    slope: float


def fold(layers: Iterable[nn.Module]) -> list[Affine] | None:
    """The layers of a network in eval mode, in order, as few :class:`Affine` as they can be.

    Linear layers, batch norms (before or after one), leaky ReLUs and ReLUs fold; dropout and identity do nothing in
    eval mode. The weights are computed anew at each call, so that they are never stale.

    Returns:
        list, or None where a layer does not fold: one of another kind, in training mode or with hooks, or a batch norm
        without running statistics or without a linear layer to go into.
    """
    folded = []
    before = None  # (scale, shift) of a batch norm on the input of the next linear layer
    for layer in layers:
        if layer.training or layer._forward_hooks or layer._forward_pre_hooks:
            return None
        kind = type(layer)
        if kind in (nn.Identity, nn.Dropout):
            continue
        if kind is nn.Linear:
            bias = layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
            weight = layer.weight
            if before is not None:
                scale, shift = before
                weight, bias, before = weight * scale, bias + weight @ shift, None
            folded.append(Affine(weight, bias[:, None], 1.0))
        elif kind is nn.BatchNorm1d and layer.running_mean is not None and before is None:
            scale, shift = _scale_and_shift(layer)
            if folded and folded[-1].slope == 1.0:
                weight, bias, slope = folded[-1]
                folded[-1] = Affine(weight * scale[:, None], bias * scale[:, None] + shift[:, None], slope)
            else:
                before = scale, shift
        elif kind in (nn.LeakyReLU, nn.ReLU) and folded and folded[-1].slope == 1.0 and before is None:
            folded[-1] = folded[-1]._replace(slope=layer.negative_slope if kind is nn.LeakyReLU else 0.0)
        else:
            return None
    return folded if folded and before is None else None


def _scale_and_shift(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """A batch norm in eval mode as x -> scale * x + shift."""
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def apply_folded(folded: list[Affine], columns: Tensor) -> Tensor:
    """(inside, n) -> (outside, n); ``columns`` is left as it is."""
    for weight, bias, slope in folded:
        columns = torch.addmm(bias, weight, columns)
        if slope != 1.0:
            leaky_relu_(columns, slope)
    return columns
