"""OpenGAN: a frozen segmentor with a discriminator and a generator on its pixel features."""

import torch
from mmengine.model import is_model_wrapper
from mmseg.models.segmentors import CascadeEncoderDecoder, EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor

from ..contracts import CLOSED, OPENGAN
from ..functional.gan_losses import discriminator_loss, generator_loss, mean_closed_probability
from ..functional.pixels import labels_on_grid, open_map_of, pixels_first
from .networks import discriminate, frozen
from .open_segmentor import OpenSetMixin
from .stored_taps import StoredTapMixin


class OpenGANMixin(OpenSetMixin):
    """The two-optimizer step of OpenGAN (paper Eq. 2) on top of a frozen segmentor.

    One model, three methods: OpenGAN has everything; OpenGAN-0 draws no open pixels (``num_open=0`` in the sampler);
    CLS has no generator (``generator=None``).

    Args:
        discriminator: config of D, or None for a model that only evaluates other scorers. ``in_channels`` is filled
            in from the tapped head.
        generator: config of G, or None. ``out_channels`` is filled in likewise.
        lambda_open, lambda_fake: weights of Eq. 2, see :func:`functional.gan_losses.discriminator_loss`.
        reduction: ``'term'`` (Eq. 2) or ``'batch'`` (authors' notebook).
        generator_loss: ``'non_saturating'`` or ``'minimax'`` (Eq. 1).
    """

    def __init__(self, *, discriminator: dict | None, generator: dict | None = None, lambda_open: float = 1.0,
                 lambda_fake: float = 0.2, reduction: str = 'term', generator_loss: str = 'non_saturating', **kwargs):
        super().__init__(**kwargs)
        channels = self.network_channels
        self.discriminator = None if discriminator is None else MODELS.build(
            dict(discriminator, in_channels=channels))
        self.generator = None if generator is None else MODELS.build(dict(generator, out_channels=channels))
        self.loss_options = dict(lambda_open=lambda_open, lambda_fake=lambda_fake, reduction=reduction)
        self.generator_loss = generator_loss

    @property
    def network_channels(self) -> int:
        """Channels of what D reads and G makes: the tapped feature's."""
        return self.tap_head.feature_channels

    def score_features(self, tap):
        maps = super().score_features(tap)
        if self.discriminator is not None:
            maps[OPENGAN] = -discriminate(_unwrap(self.discriminator), tap.features.float())
        return maps

    def train_step(self, data: dict, optim_wrapper) -> dict[str, Tensor]:
        """One step of D, then one of G.

        Args:
            data: what a feature source yields: ``draw`` (a :class:`PixelDraw`), ``open`` (No, C) or None, and either
                ``closed`` (Nc, C) or whole images ``inputs`` with ``data_samples``.
            optim_wrapper: an ``OptimWrapperDict`` with ``discriminator`` and, where there is a G, ``generator``.

        Returns:
            dict: every loss term, the mean D(x) of each group that has pixels, and ``empty_groups``, how many groups
            that should have pixels had none.
        """
        draw = data['draw']
        self.discriminator_loaded = True
        device = next(self.discriminator.parameters()).device
        closed = self._closed_pixels(data, draw).to(device).float()
        open_ = closed[:0] if data['open'] is None else data['open'].to(device).float()
        fake = closed[:0]
        if self.generator is not None:
            generator = _unwrap(self.generator)
            if hasattr(generator, 'observe'):
                generator.observe(closed)
            noise_d, noise_g = (z.to(device) for z in draw.noise(generator.noise_channels))
            with torch.no_grad():
                fake = self.generator(noise_d).float()
        groups = (closed, open_, fake)
        log = self._step_discriminator(
            lambda: self.discriminator(torch.cat(groups)).split([len(group) for group in groups]),
            optim_wrapper['discriminator'])
        log['empty_groups'] = torch.tensor(float(not len(closed)) + float(draw.sampler.num_open > 0 and not len(open_)))
        if self.generator is not None:
            log.update(self._step_generator(lambda network: network(self.generator(noise_g)),
                                            optim_wrapper['generator']))
        return log

    def _closed_pixels(self, data, draw):
        """The step's closed features: given by a store, or tapped from the step's images."""
        if 'closed' in data:
            return data['closed']
        rows = []
        for image, sample in zip(data['inputs'], data['data_samples']):
            features = self.extract_image(image, sample)
            open_map = labels_on_grid(open_map_of(sample).data[0], features.shape[-2:])
            rows.append(pixels_first(features[None])[(open_map == CLOSED).flatten().to(features.device)])
        rows = torch.cat(rows)
        return rows[torch.from_numpy(draw.closed(len(rows))).to(rows.device)]

    def extract_image(self, image: Tensor, sample) -> Tensor:
        """Tapped features (C, h, w) of one raw image (3, H, W) and its data sample."""
        return self.extract_tap(image, sample).features[0]

    @torch.no_grad()
    def score_generated(self, number: int, seed: int) -> Tensor:
        """(number,) open scores of generated features, of a noise that ``seed`` fixes.

        D scores as it does in validation; G is as D met it in training, with batch norm of the batch itself.
        """
        generator, device = _unwrap(self.generator), next(self.generator.parameters()).device
        noise = torch.randn(self._noise_shape(number), generator=torch.Generator().manual_seed(seed))
        training = generator.training
        with frozen(generator.train()):
            fake = generator(noise.to(device)).float()
        generator.train(training)
        return -_unwrap(self.discriminator)(fake).flatten()[:number]

    def _noise_shape(self, number: int) -> tuple[int, ...]:
        """Of the noise that makes at least ``number`` generated pixels."""
        return number, _unwrap(self.generator).noise_channels

    def segmentor_identity(self) -> dict:
        """What makes features of an image what they are: network, weights, preprocessing. Plain values only."""
        before = self.data_preprocessor
        values = {name: getattr(before, name, None) for name in ('mean', 'std', 'channel_conversion', 'test_cfg')}
        preprocessor = {name: value.flatten().tolist() if isinstance(value, Tensor) else value
                        for name, value in values.items()}
        return dict(name=f'{type(self.backbone).__name__}+{type(self.tap_head.head).__name__}',
                    sha256=self.segmentor_sha256(), channels=self.tap_head.feature_channels,
                    preprocessor=dict(type=type(before).__name__, **preprocessor))

    def _step_discriminator(self, forward, optimizer):
        """``forward()`` gives D's logits of the closed, the open and the fake pixels, each (n,), with their graph."""
        with optimizer.optim_context(self.discriminator):
            logits = forward()
            terms = discriminator_loss(*logits, **self.loss_options)
            loss = sum(terms.values())
        optimizer.update_params(loss)
        log = {name: term.detach() for name, term in terms.items()}
        log['loss_discriminator'] = loss.detach()
        log.update({f'D_{name}': mean_closed_probability(group)
                    for name, group in zip(('closed', 'open', 'fake'), logits) if len(group)})
        return log

    def _step_generator(self, forward, optimizer):
        """``forward(D)`` gives the logits (n,) of newly generated pixels under a D that stays as it is."""
        discriminator = _unwrap(self.discriminator)
        with optimizer.optim_context(self.generator), frozen(discriminator):
            terms = generator_loss(forward(discriminator), kind=self.generator_loss)
            loss = sum(terms.values())
        optimizer.update_params(loss)
        return {name: term.detach() for name, term in terms.items()}


def _unwrap(network):
    return network.module if is_model_wrapper(network) else network


@MODELS.register_module()
class OpenGANSegmentor(OpenGANMixin, StoredTapMixin, EncoderDecoder):
    """OpenGAN on an :class:`EncoderDecoder`."""


@MODELS.register_module()
class CascadeOpenGANSegmentor(OpenGANMixin, StoredTapMixin, CascadeEncoderDecoder):
    """OpenGAN on a :class:`CascadeEncoderDecoder` (OCRHead); its last head is tapped."""
