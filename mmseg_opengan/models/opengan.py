"""OpenGAN: a discriminator and a generator on the pixel features of a frozen segmentor.

Shapes: features (N, C, h, w) on the feature grid; C channels; n pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..contracts import CLOSED, HYBRID, OPENGAN
from ..functional.gan_losses import GENERATOR_LOSSES, REDUCTIONS
from ..functional.pixels import labels_on_grid, open_map_of, pixels_first
from .frozen_segmentor import load_whole, part_of
from .fusion import Fusion
from .gan_step import gan_step, logits_of_rows
from .networks import FeatureDiscriminator, FeatureGenerator, discriminate, frozen
from .open_set_segmentor import (
    DIGEST,
    OpenSetSegmentor,
    hex_of,
)
from .options import check_choices, check_numbers
from .score_maps import in_float32
from .scorers.base import FitData
from .tap_adapters import Tap

for _network in (FeatureDiscriminator, FeatureGenerator):
    MODELS.register_module(module=_network)


@MODELS.register_module()
class OpenGANSegmentor(OpenSetSegmentor):
    """Trains D and G on the features of a segmentor that it holds, and adds D's score map.

    One model, three methods: OpenGAN has everything; OpenGAN-0 has no open training pixels
    (``open=None`` in the source); CLS has no generator (``generator=None``).

    Args:
        discriminator: config of D, or None for a model that evaluates other scorers only.
            ``in_channels`` comes from the segmentor.
        generator: config of G, or None. ``out_channels`` comes from the segmentor.
        lambda_open, lambda_fake: weights of Eq. 2, see
            :func:`functional.gan_losses.discriminator_loss`.
        reduction: ``'term'`` (Eq. 2) or ``'batch'`` (authors' notebook).
        generator_loss: ``'non_saturating'`` or ``'minimax'`` (Eq. 1).
        fuse: options of :class:`Fusion`, e.g. ``dict(free=dict(type='GEN'), weight=.5)``: a map
            ``hybrid`` of D's score and a free one, by which open validation can choose
            (``save_best='hybrid/AUROC'``). None: no such map.
        **options: ``segmentor``, ``scorers``, ``resolution``, ... of :class:`OpenSetSegmentor`.

    Raises:
        ValueError: a wrong option, or a generator without a discriminator.
    """

    def __init__(
        self,
        *,
        discriminator: dict | None = None,
        generator: dict | None = None,
        lambda_open: float = 1.0,
        lambda_fake: float = 0.2,
        reduction: str = 'term',
        generator_loss: str = 'non_saturating',
        fuse: dict | None = None,
        **options: Any,
    ):
        check_choices(
            reduction=(reduction, REDUCTIONS), generator_loss=(generator_loss, GENERATOR_LOSSES)
        )
        check_numbers('[0, inf)', lambda_open=lambda_open, lambda_fake=lambda_fake)
        if generator is not None and discriminator is None:
            raise ValueError('generator: wanted a discriminator too, found None')
        super().__init__(**options)
        channels = self.network_channels
        self.discriminator: Any = discriminator and MODELS.build(
            dict(discriminator, in_channels=channels)
        )
        self.generator: Any = generator and MODELS.build(dict(generator, out_channels=channels))
        self.discriminator_loaded = False
        self.loss_options: dict[str, Any] = dict(
            lambda_open=lambda_open, lambda_fake=lambda_fake, reduction=reduction
        )
        self.generator_loss = generator_loss
        self.fusion: Any = None if fuse is None else self._build_fusion(fuse)
        self.register_load_state_dict_post_hook(_expect_no_scorers)

    def _build_fusion(self, options: dict) -> Fusion:
        if self.discriminator is None:
            raise ValueError('fuse: wanted a discriminator too, found None')
        if self.head.adapter.classifier is None:
            raise ValueError(
                'fuse: wanted a head that classifies a feature with conv_seg, found '
                f'{type(self.head.head).__name__}'
            )
        return Fusion(**options)

    @property
    def network_channels(self) -> int:
        """Channels of what D reads and G makes: the tapped feature's."""
        return self.head.channels

    def score_tap(self, tap: Tap) -> dict[str, Tensor]:
        """As of :class:`OpenSetSegmentor`, and D's map."""
        maps = super().score_tap(tap)
        with in_float32(self._device):
            if self.discriminator is not None:
                maps[OPENGAN] = self.open_logits(tap)
            if self.fusion is not None:
                features = tap.features.float()
                logits = tap.logits.float()
                maps[HYBRID] = self.fusion(maps[OPENGAN], features, logits)
        return maps

    def open_logits(self, tap: Tap) -> Tensor:
        """(N, h, w) of a pass by D."""
        return -discriminate(_unwrap(self.discriminator), tap.features.float())

    @property
    def score_names(self) -> dict[str, bool]:
        """As of :class:`OpenSetSegmentor`, with D's map and the fused one."""
        found = dict(super().score_names)
        if self.discriminator is not None:
            found[OPENGAN] = True
        if self.fusion is not None:
            found[HYBRID] = False
        return found

    @torch.no_grad()
    def measure_fusion(self, features: Tensor) -> None:
        """Standardise the fused score on closed pixels (n, C), for D as it is now in eval mode."""
        weight, bias = (value.float() for value in self.head.adapter.classifier or ())
        features = features.to(weight.device).float()
        logits = torch.addmm(bias, features, weight.T)
        network = _unwrap(self.discriminator)
        training = network.training
        maps = features.T[None, :, :, None].contiguous()
        trained = -discriminate(network.eval(), maps).flatten()
        network.train(training)
        data = FitData(features, logits, logits.argmax(dim=1), weight, bias)
        self.fusion.measure(trained, data)

    # ------------------------------------------------------------------ state

    def lean_checkpoint(self, checkpoint: dict) -> None:
        """Keep D and G in a checkpoint about to be saved, and note their segmentor in ``meta``."""
        state = {}
        for key, value in checkpoint['state_dict'].items():
            if not key.startswith('scorers.'):
                # Distributed training wraps D and G by themselves: discriminator.module.layers...
                state[key.replace('.module.', '.', 1)] = value
        checkpoint['state_dict'] = state
        checkpoint.setdefault('meta', {}).setdefault(OPENGAN, {})['segmentor'] = dict(
            config=self.held.config,
            checkpoint=self.held.source,
            sha256=self.segmentor_sha256(),
        )

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        """Refuse what would leave a part of D random, or belongs to another segmentor."""
        weights = part_of(state_dict, 'discriminator.')
        if not weights and self.discriminator is None:
            self._take_segmentor(state_dict)
        elif not weights:
            raise RuntimeError(
                'This checkpoint holds no discriminator. Wanted one that OpenGAN training wrote; '
                "the segmentor's weights go to model.segmentor.checkpoint."
            )
        elif self.discriminator is not None:
            load_whole(_unwrap(self.discriminator), weights, 'discriminator', 'The checkpoint')
        own = self.segmentor_digest.cpu()
        noted = state_dict.get(DIGEST, torch.zeros_like(own)).cpu()
        if weights and not torch.equal(noted, own):
            if not self.held.loaded:
                raise RuntimeError(
                    'This checkpoint holds D and G, and no segmentor is loaded: set '
                    'model.segmentor.checkpoint to the weights that D was trained on.'
                )
            raise RuntimeError(
                f"D was trained on another segmentor than that of '{self.held.source}' (found "
                f'sha256 {hex_of(noted)[:12]} in the checkpoint, wanted {hex_of(own)[:12]}): other '
                'weights, options of the network or preprocessing. The checkpoint holds its '
                "config as meta['opengan']['segmentor']."
            )
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.discriminator_loaded |= bool(weights)

    def _take_segmentor(self, state_dict: dict[str, Tensor]) -> None:
        """Without D a checkpoint is the segmentor's: taken where none is loaded, else compared."""
        own = ('generator.', 'scorers.', DIGEST)
        names = [key for key in state_dict if not key.startswith(own)]
        weights = {key: state_dict.pop(key) for key in names}
        if weights and not self.held.loaded:
            self.load_segmentor(weights)
        elif weights and not self.held.holds(weights):
            raise RuntimeError(
                'The checkpoint holds other segmentor weights than '
                f"model.segmentor.checkpoint, '{self.held.source}'."
            )

    # ------------------------------------------------------------------ training

    def train_step(self, data: dict, optim_wrapper: OptimWrapperDict) -> dict[str, Tensor]:
        """One step of D, then one of G.

        Args:
            data: what a feature source yields: ``draw`` (a :class:`PixelDraw`), ``open`` (No, C) or
                None, and either ``closed`` (Nc, C) or whole images ``inputs`` with
                ``data_samples``.
            optim_wrapper: an ``OptimWrapperDict`` with ``discriminator`` and, where there is a G,
                ``generator``.

        Returns:
            dict: every loss term, the mean D(x) of each group that has pixels, and
            ``empty_groups``, how many groups that should have pixels had none.
        """
        draw = data['draw']
        self.discriminator_loaded = True
        real = self._real(data)
        noise: Any = ()
        if self.generator is not None:
            noise = draw.noise(_unwrap(self.generator).noise_channels)
        log = gan_step(
            (self.discriminator, self.generator),
            optim_wrapper,
            [z.to(self._device) for z in noise],
            lambda made: self._logits_of_groups(real, made, draw),
            lambda network, made: self._logits_of_made(network, made, draw, 1),
            loss_options=self.loss_options,
            kind=self.generator_loss,
        )
        wants_open = draw.sampler.num_open > 0 and data.get('open', ()) is not None
        wanted = ('closed', 'open') if wants_open else ('closed',)
        log['empty_groups'] = torch.tensor(float(sum(f'D_{group}' not in log for group in wanted)))
        return log

    @property
    def _device(self) -> torch.device:
        return self.segmentor_digest.device

    def _real(self, data: dict) -> Any:
        """The step's closed and open pixels, (Nc, C) and (No, C)."""
        closed = self._closed_pixels(data).to(self._device).float()
        opened = closed[:0] if data['open'] is None else data['open'].to(self._device).float()
        generator = _unwrap(self.generator)
        if hasattr(generator, 'observe'):
            generator.observe(closed)
        return closed, opened

    def _logits_of_groups(self, real: Any, made: Tensor | None, draw: Any) -> Sequence[Tensor]:
        """D's logits (n,) of closed, open and generated pixels, by one forward of all."""
        closed, opened = real
        return logits_of_rows(self.discriminator, closed, opened, made)

    def _logits_of_made(self, network: nn.Module, made: Tensor, draw: Any, turn: int) -> Tensor:
        """A D's logits (n,) of generated pixels, in D's turn (0) or in G's (1)."""
        return network(made)

    def _closed_pixels(self, data: dict) -> Tensor:
        """The step's closed features: given by a store, or tapped from the step's images."""
        if 'closed' in data:
            return data['closed']
        found = []
        for image, sample in zip(data['inputs'], data['data_samples']):
            features = self.extract_image(image, sample)
            open_map = labels_on_grid(open_map_of(sample).data[0], features.shape[-2:])
            is_closed = (open_map == CLOSED).flatten().to(features.device)
            found.append(pixels_first(features[None])[is_closed])
        rows = torch.cat(found)
        return rows[torch.from_numpy(data['draw'].closed(len(rows))).to(rows.device)]

    @torch.no_grad()
    def score_generated(self, number: int, seed: int) -> Tensor:
        """(number,) open scores of generated features, of a noise that ``seed`` fixes.

        D scores as it does in validation; G is as D met it in training, with batch norm of the
        batch itself.
        """
        generator = _unwrap(self.generator)
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(self._noise_shape(number), generator=random)
        training = generator.training
        with frozen(generator.train()):
            made = generator(noise.to(self._device)).float()
        generator.train(training)
        return -_unwrap(self.discriminator)(made).flatten()[:number]

    def _noise_shape(self, number: int) -> tuple[int, ...]:
        """Of the noise that makes at least ``number`` generated pixels."""
        return number, _unwrap(self.generator).noise_channels


def _expect_no_scorers(module: nn.Module, incompatible_keys: Any) -> None:
    """Checkpoints of training hold no scorers: nothing to warn about."""
    missing = incompatible_keys.missing_keys
    missing[:] = [key for key in missing if not key.startswith('scorers.')]


def _unwrap(network: Any) -> Any:
    return network.module if is_model_wrapper(network) else network
