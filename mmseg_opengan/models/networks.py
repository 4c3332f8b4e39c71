"""The discriminator D and the generator G on per-pixel features (paper section 6.1)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..functional.pixels import pixels_first
from .folding import Affine, apply_folded, fold
from .options import check_choices, check_widths

HIDDEN_D = (512, 256, 128, 64)
HIDDEN_G = (512, 256, 128, 256)


def _activation(name: str) -> nn.Module:
    check_choices(act=(name, ('leaky_relu', 'relu')))
    return nn.ReLU(inplace=True) if name == 'relu' else nn.LeakyReLU(0.2, inplace=True)


def _init_normal(module: nn.Module) -> None:
    """DCGAN's initialisation, as in the authors' notebook: N(0, .02) weights, N(1, .02) BN scales,
    zero biases.
    """
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, _BatchNorm) and module.affine:
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def _hidden_layers(
    channels: Sequence[int], *, act: str, first_bn: bool = True
) -> Iterator[nn.Module]:
    for i, (inside, outside) in enumerate(pairwise(channels)):
        yield nn.Linear(inside, outside)
        if i > 0 or first_bn:
            yield nn.BatchNorm1d(outside)
        yield _activation(act)


@MODELS.register_module()
class FeatureDiscriminator(nn.Module):
    """D: in_channels -> 512 -> 256 -> 128 -> 64 -> 1, BN and LeakyReLU(.2) after each hidden layer,
    about 2 MB.

    It returns raw logits of *closed*; the paper's sigmoid belongs to whoever reads them.

    Args:
        in_channels: channels of the tapped feature (HRNetV2-W48: 720, W18: 270).
        hidden: widths of the hidden layers.
        first_bn: batch norm after the first layer too (paper 6.1: True; authors' notebook: False).
        act: ``'leaky_relu'`` (paper) or ``'relu'``.
        normalize: ``'none'`` (paper section 10), ``'l2'`` (unit length), or ``'batch'`` (a BN
            without affine on the features, which makes D independent of the segmentor's feature
            scale).
        init: ``'normal'``, N(0, .02) (authors' notebook), or ``'default'``, torch's.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        hidden: Sequence[int] = HIDDEN_D,
        first_bn: bool = True,
        act: str = 'leaky_relu',
        normalize: str = 'none',
        init: str = 'normal',
    ):
        super().__init__()
        check_choices(normalize=(normalize, ('none', 'l2', 'batch')))
        check_widths('hidden', hidden)
        self.in_channels = in_channels
        self.normalize = normalize
        self.input_norm = (
            nn.BatchNorm1d(in_channels, affine=False) if normalize == 'batch' else None
        )
        self.layers = nn.Sequential(
            *_hidden_layers((in_channels, *hidden), act=act, first_bn=first_bn),
            nn.Linear(hidden[-1], 1),
        )
        _initialise(self, init)

    def forward(self, features: Tensor) -> Tensor:
        """(P, C) pixel features -> (P,) raw logits, log-odds of closed."""
        if features.dim() != 2 or features.shape[1] != self.in_channels:
            raise ValueError(
                f'discriminator: wanted features of shape (pixels, {self.in_channels}), found '
                f'{tuple(features.shape)}; set in_channels to the channels entering conv_seg'
            )
        if self.normalize == 'l2':
            features = nn.functional.normalize(features, dim=1)
        elif self.input_norm is not None:
            features = self.input_norm(features)
        return self.layers(features).squeeze(1)

    def folded(self) -> list[Affine] | None:
        """What ``forward`` does in eval mode after an L2 normalisation, for :func:`discriminate`;
        None if it cannot.
        """
        if self.training or type(self).forward is not FeatureDiscriminator.forward:
            return None
        return fold([*filter(None, [self.input_norm]), *self.layers])


@MODELS.register_module()
class FeatureGenerator(nn.Module):
    """G: noise -> 512 -> 256 -> 128 -> 256 -> out_channels, BN and activation after each hidden
    layer, about 2 MB.

    Args:
        out_channels: channels of the tapped feature.
        noise_channels: size of z ~ N(0, 1); 64 in the paper.
        act: ``'leaky_relu'`` (paper) or ``'relu'`` (authors' notebook).
        out_act: ``'none'`` (authors' notebook), ``'tanh'`` (paper; cannot reach features beyond 1),
            ``'relu'`` (features that enter ``conv_seg`` after a ReLU are never negative), or
            ``'auto'``: ``'relu'`` if the first step's closed features are never negative, else
            ``'none'``.
        init: as in :class:`FeatureDiscriminator`.
    """

    def __init__(
        self,
        out_channels: int,
        *,
        noise_channels: int = 64,
        hidden: Sequence[int] = HIDDEN_G,
        act: str = 'leaky_relu',
        out_act: str = 'none',
        init: str = 'normal',
    ):
        super().__init__()
        out_acts = {'none': nn.Identity, 'tanh': nn.Tanh, 'relu': nn.ReLU, 'auto': _ReluIfSeen}
        check_choices(out_act=(out_act, out_acts))
        check_widths('hidden', hidden)
        check_widths('noise_channels', [noise_channels])
        self.noise_channels = noise_channels
        self.layers = nn.Sequential(
            *_hidden_layers((noise_channels, *hidden), act=act),
            nn.Linear(hidden[-1], out_channels),
            out_acts[out_act](),
        )
        _initialise(self, init)

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
    which.
    """

    _UNDECIDED, _IDENTITY, _RELU = -1, 0, 1
    kind: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('kind', torch.tensor(self._UNDECIDED))

    def decide(self, features: Tensor) -> None:
        if len(features) and int(self.kind) == self._UNDECIDED:
            self.kind.fill_(self._RELU if bool((features >= 0).all()) else self._IDENTITY)

    def forward(self, values: Tensor) -> Tensor:
        return torch.where(self.kind == self._RELU, values.relu(), values)


def _initialise(network: nn.Module, init: str) -> None:
    check_choices(init=(init, ('normal', 'default')))
    if init == 'normal':
        network.apply(_init_normal)


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


@torch.no_grad()
def discriminate(discriminator: nn.Module, features: Tensor, chunk: int | None = None) -> Tensor:
    """Raw closed logits of feature maps: (N, C, h, w) -> (N, h, w), a bounded number of pixels at a
    time.

    A discriminator in eval mode runs with its batch norms folded in, equal to its ``forward`` up to
    rounding (about 1e-6 of the logits' range). One that does not fold runs as it is.

    Args:
        chunk: pixels at a time. None: what fits a CPU's caches, or keeps an accelerator busy. A
            graph recorded on a CPU takes all at once.
    """
    batch, _, rows, cols = features.shape
    folded = discriminator.folded() if isinstance(discriminator, FeatureDiscriminator) else None
    whole = features.device.type == 'cpu' and is_recorded()
    if folded is None or features.shape[1] != discriminator.in_channels:
        pixels = pixels_first(features)
        parts = (pixels,) if whole else pixels.split(chunk or 65536)
        logits = torch.cat([discriminator(part) for part in parts])
        return logits.view(batch, rows, cols)
    unit_length = discriminator.normalize == 'l2'
    if whole:
        return _folded_logits(folded, features, unit_length)
    chunk = chunk or (1024 if features.device.type == 'cpu' else 65536)
    images = []
    for image in features.split(1):
        parts = image.split(max(1, chunk // cols), dim=2)
        strips = [_folded_logits(folded, part, unit_length) for part in parts]
        images.append(torch.cat(strips, dim=1))
    return torch.cat(images)


def is_recorded() -> bool:
    """A graph is recorded that must fit maps of any size: it has no loop over their parts."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def _folded_logits(folded: list[Affine], features: Tensor, unit_length: bool) -> Tensor:
    """(N, C, h, w) -> (N, h, w); N is 1 on a GPU."""
    if unit_length:
        features = nn.functional.normalize(features, dim=1)
    return apply_folded(folded, features)[:, 0].to(features.dtype)
