"""The discriminator D and the generator G on per-pixel features (paper section 6.1)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu_
from torch.nn.modules.batchnorm import _BatchNorm

from ..functional.pixels import pixels_first
from .options import check_choices, check_whole, check_widths

HIDDEN_D = (512, 256, 128, 64)
HIDDEN_G = (512, 256, 128, 256)
SLOPE = 0.2  # of every LeakyReLU
_WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def init_normal(module: nn.Module) -> None:
    """DCGAN's initialisation, as in the authors' notebook: N(0, .02) weights, N(1, .02) BN scales,
    zero biases.
    """
    if isinstance(module, _WEIGHTED):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, _BatchNorm):
        nn.init.normal_(module.weight, 1.0, 0.02)


def _hidden_layers(
    channels: Sequence[int], *, act: str = 'leaky_relu', first_bn: bool = True
) -> Iterator[nn.Module]:
    for i, (inside, outside) in enumerate(pairwise(channels)):
        yield nn.Linear(inside, outside)
        if i > 0 or first_bn:
            yield nn.BatchNorm1d(outside)
        yield nn.ReLU(inplace=True) if act == 'relu' else nn.LeakyReLU(SLOPE, inplace=True)


class FeatureDiscriminator(nn.Module):
    """D: in_channels -> 512 -> 256 -> 128 -> 64 -> 1, BN and LeakyReLU(.2) after each hidden layer,
    about 2 MB.

    It returns raw logits of *closed*; the paper's sigmoid belongs to whoever reads them.

    Args:
        in_channels: channels of the tapped feature (HRNetV2-W48: 720, W18: 270).
        hidden: widths of the hidden layers.
        first_bn: batch norm after the first layer too (paper 6.1: True; authors' notebook: False).
    """

    def __init__(
        self, in_channels: int, *, hidden: Sequence[int] = HIDDEN_D, first_bn: bool = True
    ):
        super().__init__()
        check_widths('hidden', hidden)
        self.in_channels = in_channels
        self.layers = nn.Sequential(
            *_hidden_layers((in_channels, *hidden), first_bn=first_bn), nn.Linear(hidden[-1], 1)
        )
        self.apply(init_normal)

    def forward(self, features: Tensor) -> Tensor:
        """(P, C) pixel features -> (P,) raw logits, log-odds of closed."""
        if features.dim() != 2 or features.shape[1] != self.in_channels:
            raise ValueError(
                f'discriminator: wanted features of shape (pixels, {self.in_channels}), found '
                f'{tuple(features.shape)}; set in_channels to the channels entering conv_seg'
            )
        return self.layers(features).squeeze(1)

    def folded(self) -> list[tuple[Tensor, Tensor]] | None:
        """Weight and bias of each linear layer in eval mode, its batch norm folded in; between
        them LeakyReLU(.2). They are computed anew at each call, so that they are never stale.

        None in training mode, and where a layer or ``forward`` is of another kind.
        """
        kinds = [type(layer) for layer in self.layers]
        is_own = type(self).forward is FeatureDiscriminator.forward
        if self.training or not is_own or not {*kinds} <= {nn.Linear, nn.BatchNorm1d, nn.LeakyReLU}:
            return None
        found: list[tuple[Tensor, Tensor]] = []
        layer: Any
        for kind, layer in zip(kinds, self.layers):
            if kind is nn.Linear:
                found.append((layer.weight, layer.bias))
            elif kind is nn.BatchNorm1d:
                weight, bias = found.pop()
                scale = (layer.running_var + layer.eps).rsqrt() * layer.weight
                shift = layer.bias - layer.running_mean * scale
                found.append((weight * scale[:, None], bias * scale + shift))
        return found


class FeatureGenerator(nn.Module):
    """G: noise -> 512 -> 256 -> 128 -> 256 -> out_channels, BN and activation after each hidden
    layer, about 2 MB.

    Args:
        out_channels: channels of the tapped feature.
        noise_channels: size of z ~ N(0, 1); 64 in the paper.
        hidden: widths of the hidden layers.
        act: ``'leaky_relu'`` (paper) or ``'relu'`` (authors' notebook).
        out_act: ``'none'`` (authors' notebook), ``'tanh'`` (paper; cannot reach features beyond 1),
            ``'relu'`` (features that enter ``conv_seg`` after a ReLU are never negative), or
            ``'auto'``: ``'relu'`` if the first step's closed features are never negative, else
            ``'none'``.
    """

    def __init__(
        self,
        out_channels: int,
        *,
        noise_channels: int = 64,
        hidden: Sequence[int] = HIDDEN_G,
        act: str = 'leaky_relu',
        out_act: str = 'none',
    ):
        super().__init__()
        out_acts = {'none': nn.Identity, 'tanh': nn.Tanh, 'relu': nn.ReLU, 'auto': _ReluIfSeen}
        check_choices(out_act=(out_act, out_acts), act=(act, ('leaky_relu', 'relu')))
        check_widths('hidden', hidden)
        check_whole(noise_channels=noise_channels)
        self.noise_channels = noise_channels
        self.layers = nn.Sequential(
            *_hidden_layers((noise_channels, *hidden), act=act),
            nn.Linear(hidden[-1], out_channels),
            out_acts[out_act](),
        )
        self.apply(init_normal)

    def observe(self, closed: Tensor) -> None:
        """Look at a step's closed features (n, C) before G's turn: they decide
        ``out_act='auto'``.
        """
        last = self.layers[-1]
        if isinstance(last, _ReluIfSeen):
            last.decide(closed)

    def forward(self, noise: Tensor) -> Tensor:
        """(P, noise_channels) standard normal noise -> (P, C) generated features."""
        return self.layers(noise)


class _ReluIfSeen(nn.Module):
    """A ReLU if the first real features it saw were all >= 0, else the identity; checkpoints hold
    which: 1 or 0, -1 before any was seen.
    """

    kind: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('kind', torch.tensor(-1))

    def decide(self, features: Tensor) -> None:
        if len(features) and self.kind == -1:
            self.kind.copy_((features >= 0).all())

    def forward(self, values: Tensor) -> Tensor:
        return torch.where(self.kind == 1, values.relu(), values)


@contextmanager
def frozen(network: nn.Module) -> Iterator[nn.Module]:
    """Let gradients pass through ``network`` while its weights and its BN running statistics stay
    as they are.

    The generator's step sends a batch of fakes only through D. Were D's running statistics to
    follow that batch, D would collapse in eval mode, as users of the authors' code saw (their issue
    #10).
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    trained = [p for p in network.parameters() if p.requires_grad]
    for norm in norms:
        norm.track_running_stats = False
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield network
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for parameter in trained:
            parameter.requires_grad_(True)


def discriminate(discriminator: nn.Module, features: Tensor) -> Tensor:
    """Raw closed logits of feature maps: (N, C, h, w) -> (N, h, w), a bounded number of pixels at a
    time. A graph recorded on a CPU takes all at once.

    A discriminator in eval mode runs with its batch norms folded in, equal to its ``forward`` up to
    rounding (about 1e-6 of the logits' range). One that does not fold runs as it is. Gradients are
    followed where they are enabled.
    """
    batch, channels, rows, cols = features.shape
    folded = discriminator.folded() if isinstance(discriminator, FeatureDiscriminator) else None
    on_cpu = features.device.type == 'cpu'
    at_once = on_cpu and is_recorded()
    if folded is None or channels != discriminator.in_channels:
        pixels = pixels_first(features)
        parts = (pixels,) if at_once else pixels.split(65536)
        return torch.cat([discriminator(part) for part in parts]).view(batch, rows, cols)
    if at_once:
        return _folded_logits(folded, features)
    # What fits a CPU's caches, or keeps an accelerator busy.
    strip = max(1, (1024 if on_cpu else 65536) // cols)
    images = []
    for image in features.split(1):
        strips = [_folded_logits(folded, part) for part in image.split(strip, dim=2)]
        images.append(torch.cat(strips, dim=1))
    return torch.cat(images)


def is_recorded() -> bool:
    """A graph is recorded that must fit maps of any size: it has no loop over their parts."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def _folded_logits(folded: list[tuple[Tensor, Tensor]], features: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h, w), N 1 on a GPU; ``features`` is left as it is.

    On a CPU a layer is a 1x1 convolution, which takes half of the time of a matrix product there.
    On a GPU it is a product, as torch computes convolutions with TF32 by default.
    """
    maps = features
    for i, (weight, bias) in enumerate(folded):
        if i:
            maps = leaky_relu_(maps, SLOPE)
        if features.device.type == 'cpu':
            maps = conv2d(maps, weight[:, :, None, None], bias)
        else:
            product = torch.addmm(bias[:, None], weight, maps[0].flatten(1))
            maps = product.unflatten(1, features.shape[2:])[None]
    return maps[:, 0].to(features.dtype)
