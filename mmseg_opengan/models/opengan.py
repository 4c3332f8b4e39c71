"""OpenGAN: a frozen segmentor, held, with a discriminator and a generator on its pixel features.

Shapes: inputs (N, 3, H, W); features (N, C, h, w) and logits (N, K, h, w) on the feature grid;
scores (N, h, w).
"""

import torch
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner.checkpoint import get_state_dict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..contracts import CLOSED, OPEN_SCORES, OPENGAN, RESOLUTIONS, TAP_FEATURES, TAP_LOGITS
from ..functional.gan_losses import (
    GENERATOR_LOSSES,
    REDUCTIONS,
    discriminator_loss,
    generator_loss,
    mean_closed_probability,
)
from ..functional.mask_scores import as_logits
from ..functional.pixels import labels_on_grid, open_map_of, pixels_first
from .frozen_segmentor import (
    absolute,
    build_segmentor,
    digest_of,
    load_segmentor,
    plain,
    read_config,
    read_weights,
)
from .networks import discriminate, frozen
from .score_maps import (
    at_size,
    merge_windows,
    require_plain,
    smoothed_for,
    to_original_size,
    window_boxes,
)
from .scorers.base import SCORERS
from .tap_adapters import Tap

_NETWORKS = ('discriminator', 'generator')
_DIGEST = 'segmentor_digest'


@MODELS.register_module()
class OpenGANSegmentor(BaseModel):
    """Holds any model of MMSegmentation, adds score maps to its results, and trains D and G on it.

    The segmentor is mmseg's own model, from its own config and checkpoint. It computes the closed
    prediction, which is bit-identical to its own. It is no part of this module's tree: state dict,
    parameters and modes are those of D and G alone. Its weights keep their ``requires_grad``, by
    which torch picks kernels, and no gradient ever reaches them.

    One model, three methods: OpenGAN has everything; OpenGAN-0 has no open training pixels
    (``open=None`` in the source); CLS has no generator (``generator=None``).

    Args:
        segmentor: ``config``, a config file of mmseg (``'mmseg::...'`` too) or a dict with
            ``model``; ``checkpoint``, its weights, a file or URL; None leaves them random, which
            training and testing refuse.
        discriminator: config of D, or None for a model that evaluates other scorers only.
            ``in_channels`` comes from the segmentor.
        generator: config of G, or None. ``out_channels`` comes from the segmentor.
        scorers: configs of scorers, by the name under which their maps travel.
        resolution: ``'feature'`` keeps the un-resized maps (the paper's evaluation; whole mode, no
            resize, flip or padding); ``'image'`` resizes them to the original image as mmseg
            resizes logits.
        smoothing: standard deviation, in pixels of the network's input, of the Gaussian weights
            with which score maps are averaged before they are resized; 0: none (the paper).
        test_cfg: replaces the segmentor's, e.g. ``dict(mode='whole')``.
        lambda_open, lambda_fake: weights of Eq. 2, see :func:`functional.gan_losses.discriminator_loss`.
        reduction: ``'term'`` (Eq. 2) or ``'batch'`` (authors' notebook).
        generator_loss: ``'non_saturating'`` or ``'minimax'`` (Eq. 1).
        train_cfg, pretrained, data_preprocessor: what mmengine and mmseg hand to any model; not used.

    Raises:
        FileNotFoundError: the segmentor's config or checkpoint is missing.
        RuntimeError: the checkpoint lacks a weight of the segmentor, or has one too many.
        TypeError: a decode head that no adapter knows.
        ValueError: a wrong option, or a scorer without meaning for this kind of head.
    """

    def __init__(self, *, segmentor: dict, discriminator: dict | None = None,
                 generator: dict | None = None, scorers: dict | None = None,
                 resolution: str = 'feature', smoothing: float = 0., test_cfg: dict | None = None,
                 lambda_open: float = 1.0, lambda_fake: float = 0.2, reduction: str = 'term',
                 generator_loss: str = 'non_saturating', train_cfg=None, pretrained=None,
                 data_preprocessor=None):
        super().__init__()
        _check_options(resolution=(resolution, RESOLUTIONS), reduction=(reduction, REDUCTIONS),
                       generator_loss=(generator_loss, GENERATOR_LOSSES))
        _check_weights(lambda_open=lambda_open, lambda_fake=lambda_fake, smoothing=smoothing)
        if generator is not None and discriminator is None:
            raise ValueError('generator: wanted a discriminator too, found None')
        self._hold(segmentor, test_cfg)
        self.resolution = resolution
        self.smoothing = smoothing
        self.discriminator_loaded = False
        built = {name: SCORERS.build(cfg) for name, cfg in (scorers or {}).items()}
        for name, scorer in built.items():
            self._require_meaning(name, scorer)
        channels = self.network_channels
        self.discriminator = discriminator and MODELS.build(dict(discriminator, in_channels=channels))
        self.generator = generator and MODELS.build(dict(generator, out_channels=channels))
        self.scorers = nn.ModuleDict(built).eval()
        self.loss_options = dict(lambda_open=lambda_open, lambda_fake=lambda_fake, reduction=reduction)
        self.generator_loss = generator_loss
        self.register_load_state_dict_post_hook(_expect_no_scorers)

    # ------------------------------------------------------------------ the held segmentor

    def _hold(self, options, test_cfg):
        unknown = sorted(set(options) - {'config', 'checkpoint'})
        if unknown or 'config' not in options:
            raise ValueError("model.segmentor: wanted dict(config=..., checkpoint=...), found the "
                             f'keys {sorted(options)}')
        config = read_config(options['config'])
        if test_cfg is not None:
            config['model']['test_cfg'] = plain(test_cfg)
        segmentor = build_segmentor(config)
        encoder = getattr(segmentor, 'backbone', None) or segmentor.image_encoder
        held = dict(segmentor=segmentor, segmentor_config=config, encoder=encoder,
                    head=MODELS.build(dict(type='OpenGANHead', head=segmentor.decode_head, encoder=encoder)))
        for name, value in held.items():
            object.__setattr__(self, name, value)  # past nn.Module: neither state nor mode of ours
        self.data_preprocessor = segmentor.data_preprocessor
        self.segmentor_source = None
        self.segmentor_loaded = False
        # In the state dict, so that whatever loads D compares the segmentor that D belongs to.
        self.register_buffer(_DIGEST, torch.zeros(32, dtype=torch.uint8))
        source = options.get('checkpoint')
        if source is not None:
            try:
                weights = read_weights(source)
            except FileNotFoundError as error:
                raise FileNotFoundError(f"model.segmentor.checkpoint: '{source}', the segmentor's "
                                        'weights, is not there') from error
            self.load_segmentor(weights, source)

    def load_segmentor(self, weights: dict[str, Tensor], source: str | None = None) -> None:
        """Give the held segmentor its weights, under mmseg's names; ``source`` is where they lie."""
        load_segmentor(self.segmentor, weights, source)
        self.segmentor_source = absolute(source)
        self.segmentor_loaded = True
        digest = bytes.fromhex(digest_of(self.segmentor.state_dict()))
        self.segmentor_digest.copy_(torch.frombuffer(bytearray(digest), dtype=torch.uint8))

    def segmentor_sha256(self) -> str:
        """Digest of all segmentor weights: what a feature bank or a D belongs to."""
        return _hex(self.segmentor_digest)

    def segmentor_identity(self) -> dict:
        """What makes features of an image what they are: network, weights, preprocessing."""
        before = self.data_preprocessor
        preprocessor = dict(type=type(before).__name__)
        for name in ('mean', 'std', 'channel_conversion', 'test_cfg'):
            value = getattr(before, name, None)
            preprocessor[name] = value.flatten().tolist() if isinstance(value, Tensor) else value
        return dict(name=f'{type(self.encoder).__name__}+{type(self.head.head).__name__}',
                    sha256=self.segmentor_sha256(), channels=self.head.channels,
                    preprocessor=preprocessor)

    def check_segmentor(self) -> None:
        """Raise unless the segmentor's weights are loaded, and are those that scorers belong to."""
        if not self.segmentor_loaded:
            raise RuntimeError('The frozen segmentor has random weights. Set '
                               'model.segmentor.checkpoint to its trained weights.')
        own = self.segmentor_sha256()
        for name, scorer in self.scorers.items():
            if scorer.segmentor_sha256 not in (None, own):
                raise RuntimeError(
                    f"The scorer '{name}' was fitted on another segmentor (sha256 "
                    f'{scorer.segmentor_sha256[:12]}) than the one loaded ({own[:12]}). Fit or train '
                    'it again.')

    @property
    def test_cfg(self):
        """The segmentor's: ``mode`` is ``'whole'`` or ``'slide'``."""
        return self.segmentor.test_cfg

    @property
    def align_corners(self) -> bool:
        return self.segmentor.align_corners

    @property
    def slides(self) -> bool:
        return self.test_cfg.get('mode', 'whole') == 'slide'

    def _apply(self, fn, *args, **kwargs):
        self.segmentor._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def train(self, mode: bool = True):
        """D and G change their mode; the segmentor and the scorers stay in eval mode."""
        super().train(mode)
        self.scorers.eval()
        self.data_preprocessor.eval()  # the segmentor's
        return self

    def init_weights(self) -> None:
        """Nothing to do: the segmentor is loaded, and D and G initialise themselves."""

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
            config=self.segmentor_config, checkpoint=self.segmentor_source,
            sha256=self.segmentor_sha256())

    def _load_from_state_dict(self, state_dict, prefix, *args):
        """Refuse what would leave a part of D random, or belongs to another segmentor."""
        given = {key for key in state_dict if key.startswith('discriminator.')}
        if not given and self.discriminator is None:
            self._take_segmentor(state_dict)
        elif not given:
            raise RuntimeError(
                'This checkpoint holds no discriminator. Wanted one that OpenGAN training wrote; '
                "the segmentor's weights go to model.segmentor.checkpoint.")
        own = {key: value for key, value in get_state_dict(self).items()
               if key.startswith('discriminator.')}
        if own:
            _require_fit(own, {key: state_dict[key] for key in given})
        wanted = state_dict.get(_DIGEST)
        if given and not self.segmentor_loaded and (wanted is None or wanted.any()):
            raise RuntimeError('This checkpoint holds D and G, and no segmentor is loaded: set '
                               'model.segmentor.checkpoint to the weights that D was trained on.')
        if given and (wanted is None or not torch.equal(wanted.cpu(), self.segmentor_digest.cpu())):
            found = 'no digest' if wanted is None else f'sha256 {_hex(wanted)[:12]}'
            raise RuntimeError(
                f"D was trained on other segmentor weights than those in '{self.segmentor_source}' "
                f'(found {found} in the checkpoint, wanted {self.segmentor_sha256()[:12]}).')
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.discriminator_loaded |= bool(given)

    def _take_segmentor(self, state_dict) -> None:
        """Without D a checkpoint is the segmentor's: taken where none is loaded, else compared."""
        own = (*(f'{name}.' for name in _NETWORKS), 'scorers.', _DIGEST)
        weights = {key: value for key, value in state_dict.items() if not key.startswith(own)}
        for key in weights:
            del state_dict[key]
        if not weights:
            return
        if not self.segmentor_loaded:
            self.load_segmentor(weights)
            return
        current = self.segmentor.state_dict()
        given = {key.removeprefix('module.'): value for key, value in weights.items()}
        if any(not torch.equal(value.cpu(), given[key].cpu()) for key, value in current.items()
               if key in given):
            raise RuntimeError('The checkpoint holds other segmentor weights than '
                               f"model.segmentor.checkpoint, '{self.segmentor_source}'.")

    # ------------------------------------------------------------------ the tap

    @property
    def network_channels(self) -> int:
        """Channels of what D reads and G makes: the tapped feature's."""
        return self.head.channels

    def tap_of(self, inputs: Tensor) -> Tap:
        """The tap of preprocessed images (N, 3, H, W), whole; follows gradients to ``inputs``."""
        size = torch.Size(inputs.shape[2:])
        meta = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size)
        with self.head.listening(resize=False) as taps:
            self.segmentor.encode_decode(inputs, [meta] * len(inputs))
        return taps[0]

    @torch.no_grad()
    def extract_taps(self, inputs: Tensor) -> Tap:
        """Features and logits of preprocessed images (N, 3, H, W), whole-image mode."""
        return self.tap_of(inputs)

    @torch.no_grad()
    def extract_tap(self, image: Tensor, sample) -> Tap:
        """The tap of one raw image (3, H, W) and its data sample."""
        batch = self.data_preprocessor(dict(inputs=[image], data_samples=[sample]), training=False)
        return self.extract_taps(batch['inputs'])

    def extract_image(self, image: Tensor, sample) -> Tensor:
        """Tapped features (C, h, w) of one raw image (3, H, W) and its data sample."""
        return self.extract_tap(image, sample).features[0]

    # ------------------------------------------------------------------ scores

    def _require_meaning(self, name, scorer):
        kind = type(self.head.head).__name__
        of_masks = self.head.adapter.gives_class_scores
        wrong = (scorer.class_scores == 'refused' if of_masks else scorer.class_scores == 'raw')
        if wrong or (scorer.reads_queries and not of_masks):
            given = 'class scores of masks' if of_masks else 'a logit for each class'
            raise ValueError(f"scorers: '{name}' ({type(scorer).__name__}) has no meaning for "
                             f'{kind}, which gives {given}')

    def _scores_from_logits(self, scorer, features, logits):
        """A scorer's map, from the logits or class scores (N, K, h, w) of this kind of head."""
        if self.head.adapter.gives_class_scores and scorer.class_scores == 'as_logits':
            logits = as_logits(logits.float())
        return scorer(features, logits)

    def score_features(self, tap: Tap) -> dict[str, Tensor]:
        """Maps (N, h, w) of D and all scorers; at image resolution not of those of logits alone."""
        maps = {}
        for name, scorer in self.scorers.items():
            if scorer.reads_image:
                continue
            if scorer.reads_queries:
                maps[name] = scorer.score_queries(*tap.queries)
            elif self.resolution == 'feature' or not scorer.from_logits:
                maps[name] = self._scores_from_logits(scorer, tap.features, tap.logits)
        maps.update(self._score_by_discriminator(tap))
        return maps

    def _score_by_discriminator(self, tap) -> dict[str, Tensor]:
        if self.discriminator is None:
            return {}
        return {OPENGAN: -discriminate(_unwrap(self.discriminator), tap.features.float())}

    def score_inputs(self, inputs: Tensor, grid) -> dict[str, Tensor]:
        """Maps (N, h, w) on ``grid`` (h, w) of scorers that read the network's input."""
        maps = {}
        for name, scorer in self.scorers.items():
            if scorer.reads_image:
                maps[name] = at_size(scorer.score_image(inputs, self.tap_of), grid, self.align_corners)
        return maps

    def _maps_of_pass(self, tap: Tap) -> dict[str, Tensor]:
        """Maps of one pass, smoothed; at image resolution of the size of the pass's input."""
        size = tap.inputs.shape[2:]
        maps = {**self.score_features(tap), **self.score_inputs(tap.inputs, tap.logits.shape[2:])}
        for name, scores in maps.items():
            maps[name] = smoothed_for(scores, size, self.smoothing)
            if self.resolution == 'image':
                maps[name] = at_size(maps[name].float(), size, self.align_corners)
        return maps

    # ------------------------------------------------------------------ prediction

    def forward(self, inputs: Tensor, data_samples=None, mode: str = 'tensor'):
        """``'predict'``: the segmentor's results with score maps; ``'tensor'``: its logits."""
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            return self.segmentor(inputs, data_samples, mode='tensor')
        raise ValueError(f"mode: wanted 'predict' or 'tensor', found {mode!r}. D and G are trained "
                         'by train_step.')

    def val_step(self, data):
        return self._step(data)

    def test_step(self, data):
        return self._step(data)

    def _step(self, data):
        """Results of a batch; where taps are stored in it, the segmentor does not run."""
        stored = None
        if TAP_FEATURES in data:
            parts = (torch.stack(list(data[key])) for key in (TAP_FEATURES, TAP_LOGITS))
            stored = Tap(*(part.to(self.segmentor_digest.device) for part in parts))
            data = {key: data[key] for key in data if key not in (TAP_FEATURES, TAP_LOGITS)}
        batch = self.data_preprocessor(data, False)
        return self.predict(batch['inputs'], batch['data_samples'], stored)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples=None, stored: Tap | None = None) -> list:
        """mmseg's results of preprocessed images, with ``open_scores`` in each.

        Args:
            inputs: (N, 3, H, W).
            data_samples: those of the images; None: maps stay at the size of the inputs.
            stored: features and logits that the segmentor made of these inputs before.
        """
        if self.resolution == 'feature' and self.slides and stored is None:
            raise ValueError("resolution='feature' needs test_cfg.mode='whole', found 'slide'. Set "
                             "model.test_cfg=dict(mode='whole'), or model.resolution='image'.")
        if stored is not None:
            windows, results = self._predict_stored(inputs, data_samples, stored)
        else:
            with self.head.listening(self._maps_of_pass) as windows:
                results = self.segmentor.predict(inputs, data_samples)
        size = inputs.shape[2:]
        maps = windows[0]
        if self.slides:
            boxes = window_boxes(size, self.test_cfg.crop_size, self.test_cfg.stride)
            maps = merge_windows(windows, boxes, size)
        for i, sample in enumerate(results):
            own = {name: scores[i:i + 1] for name, scores in maps.items()}
            self._finish(sample, own, size, placed=data_samples is not None)
        return results

    def _predict_stored(self, inputs, data_samples, stored):
        if self.slides or self.head.adapter.gives_class_scores:
            raise ValueError("Stored features belong to whole images of heads with logits: wanted "
                             f"test_cfg.mode='whole', found {self.test_cfg.get('mode')!r} of "
                             f'{type(self.head.head).__name__}')
        metas = [sample.metainfo for sample in data_samples]
        seg_logits = self.head.head.predict_by_feat(stored.logits, metas)
        results = self.segmentor.postprocess_result(seg_logits, data_samples)
        return [self._maps_of_pass(stored._replace(inputs=inputs))], results

    def _finish(self, sample, maps, size, placed: bool) -> None:
        """Bring an image's maps (1, h, w) to where they belong, and put them into its sample."""
        if any(scorer.last_class_is_open for scorer in self.scorers.values()):
            best = sample.seg_logits.data[:-1].argmax(dim=0, keepdim=True)
            sample.pred_sem_seg = PixelData(data=best)
        if self.resolution == 'feature':
            if placed:
                require_plain(sample.metainfo, size)
        else:
            if placed:
                maps = {name: to_original_size(scores, sample.metainfo, size, self.align_corners)
                        for name, scores in maps.items()}
            maps.update(self._scores_of_seg_logits(sample.seg_logits.data[None], size))
        if maps:
            sample.set_data({OPEN_SCORES: PixelData(**maps)})

    def _scores_of_seg_logits(self, logits, size) -> dict[str, Tensor]:
        """Scorers of logits alone see those that mmseg has resized, as anomaly benchmarks do."""
        maps = {}
        for name, scorer in self.scorers.items():
            if scorer.from_logits and not scorer.reads_image:
                scores = self._scores_from_logits(scorer, None, logits)
                maps[name] = smoothed_for(scores, size, self.smoothing)
        return maps

    # ------------------------------------------------------------------ training

    def train_step(self, data: dict, optim_wrapper) -> dict[str, Tensor]:
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
        sizes = [len(group) for group in groups]
        log = self._step_discriminator(lambda: self.discriminator(torch.cat(groups)).split(sizes),
                                       optim_wrapper['discriminator'])
        wanted = [closed] if data['open'] is None else [closed, open_]
        log['empty_groups'] = torch.tensor(float(sum(not len(group) for group in wanted)))
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
            is_closed = (open_map == CLOSED).flatten().to(features.device)
            rows.append(pixels_first(features[None])[is_closed])
        rows = torch.cat(rows)
        return rows[torch.from_numpy(draw.closed(len(rows))).to(rows.device)]

    @torch.no_grad()
    def score_generated(self, number: int, seed: int) -> Tensor:
        """(number,) open scores of generated features, of a noise that ``seed`` fixes.

        D scores as it does in validation; G is as D met it in training, with batch norm of the
        batch itself.
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

    def _step_discriminator(self, forward, optimizer):
        """``forward()`` gives D's logits (n,) of closed, open and fake pixels, with their graph."""
        with optimizer.optim_context(self.discriminator):
            logits = forward()
            terms = discriminator_loss(*logits, **self.loss_options)
            loss = sum(terms.values())
        optimizer.update_params(loss)
        log = {name: term.detach() for name, term in terms.items()}
        log['loss_discriminator'] = loss.detach()
        for name, group in zip(('closed', 'open', 'fake'), logits):
            if len(group):
                log[f'D_{name}'] = mean_closed_probability(group)
        return log

    def _step_generator(self, forward, optimizer):
        """``forward(D)`` gives logits (n,) of newly generated pixels; that D stays as it is."""
        discriminator = _unwrap(self.discriminator)
        with optimizer.optim_context(self.generator), frozen(discriminator):
            terms = generator_loss(forward(discriminator), kind=self.generator_loss)
            loss = sum(terms.values())
        optimizer.update_params(loss)
        return {name: term.detach() for name, term in terms.items()}


def _check_options(**options) -> None:
    for name, (value, known) in options.items():
        if value not in known:
            raise ValueError(f'{name}: wanted one of {known}, found {value!r}')


def _check_weights(**weights) -> None:
    for name, value in weights.items():
        if not 0 <= value < float('inf'):
            raise ValueError(f'{name}: wanted a number >= 0, found {value!r}')


def _require_fit(own: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Raise unless a checkpoint holds exactly D's weights."""
    missing = [key for key in own if key not in given and not key.endswith('num_batches_tracked')]
    unknown = [key for key in given if key not in own]
    shapes = [f'{key} (model {tuple(own[key].shape)}, checkpoint {tuple(given[key].shape)})'
              for key in own if key in given and own[key].shape != given[key].shape]
    faults = []
    for what, keys in (('missing in the checkpoint', missing), ('unknown to the model', unknown),
                       ('shapes differ', shapes)):
        if keys:
            faults.append(f'{what}: {", ".join(keys[:5])} ({len(keys)} in all)')
    if faults:
        raise RuntimeError('The checkpoint does not fit the discriminator, which would stay partly '
                           f'random. {"; ".join(faults)}')


def _expect_no_scorers(module, incompatible_keys) -> None:
    """Checkpoints of training hold no scorers: nothing to warn about."""
    missing = incompatible_keys.missing_keys
    missing[:] = [key for key in missing if not key.startswith('scorers.')]


def _hex(digest: Tensor) -> str:
    return bytes(digest.cpu().tolist()).hex()


def _unwrap(network):
    return network.module if is_model_wrapper(network) else network
