"""A frozen segmentor, held, that gives open-set score maps beside its unchanged closed prediction.

Shapes: inputs (N, 3, H, W); features (N, C, h, w) and logits (N, K, h, w) on the feature grid;
scores (N, h, w).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ..contracts import OPEN_SCORES, RESOLUTIONS, TAP_FEATURES, TAP_LOGITS
from ..functional.mask_scores import as_logits
from .frozen_segmentor import FrozenSegmentor, preprocessing_of
from .opengan_head import OpenGANHead
from .options import check_choices, check_numbers
from .score_maps import (
    at_size,
    in_float32,
    merge_windows,
    require_plain,
    require_whole_image,
    smoothed_for,
    to_original_size,
    window_boxes,
    without_padding,
)
from .scorers.base import SCORERS, Scorer
from .tap_adapters import Tap

#: Name of the buffer that holds the digest of the segmentor's weights.
DIGEST = 'segmentor_digest'


class OpenSetSegmentor(BaseModel):
    """Holds any model of MMSegmentation and adds score maps to its results.

    The segmentor is mmseg's own model, from its own config and checkpoint. It computes the closed
    prediction, which is bit-identical to its own. It is no part of this module's tree: state dict,
    parameters and modes are those of what a subclass trains. Its weights keep their
    ``requires_grad``, by which torch picks kernels, and no gradient ever reaches them.

    Args:
        segmentor: ``config``, a config file of mmseg (``'mmseg::...'`` too) or a dict with
            ``model``; ``checkpoint``, its weights, a file or URL; None leaves them random, which
            training and testing refuse.
        scorers: configs of scorers, by the name under which their maps travel.
        resolution: ``'feature'`` keeps the un-resized maps (the paper's evaluation; whole mode, no
            resize, flip or padding); ``'image'`` resizes them to the original image as mmseg
            resizes logits.
        smoothing: standard deviation, in pixels of the network's input, of the Gaussian weights
            with which score maps are averaged before they are resized; 0: none (the paper).
        test_cfg: replaces the segmentor's, e.g. ``dict(mode='whole')``.
        train_cfg, pretrained, data_preprocessor: what mmengine and mmseg hand to any model; not
            used.

    Raises:
        FileNotFoundError: the segmentor's config or checkpoint is missing.
        RuntimeError: the checkpoint lacks a weight of the segmentor, or has one too many.
        TypeError: a decode head that no adapter knows.
        ValueError: a wrong option, or a scorer without meaning for this kind of head.
    """

    held: FrozenSegmentor
    segmentor: Any  # mmseg's own model, the held one's network
    head: OpenGANHead
    segmentor_digest: Tensor

    def __init__(
        self,
        *,
        segmentor: dict,
        scorers: dict | None = None,
        resolution: str = 'feature',
        smoothing: float = 0.0,
        test_cfg: dict | None = None,
        train_cfg: Any = None,
        pretrained: Any = None,
        data_preprocessor: Any = None,
    ):
        super().__init__()
        check_choices(resolution=(resolution, RESOLUTIONS))
        check_numbers('[0, inf)', smoothing=smoothing)
        self._hold(segmentor, test_cfg)
        self.resolution = resolution
        self.smoothing = smoothing
        built = {name: SCORERS.build(cfg) for name, cfg in (scorers or {}).items()}
        for name, scorer in built.items():
            self._require_meaning(name, scorer)
        self.scorers: Any = nn.ModuleDict(built).eval()  # of Scorer

    # ------------------------------------------------------------------ the held segmentor

    def _hold(self, options: dict, test_cfg: dict | None) -> None:
        if not {'config'} <= set(options) <= {'config', 'checkpoint'}:
            raise ValueError(
                'model.segmentor: wanted dict(config=..., checkpoint=...), found the '
                f'keys {sorted(options)}'
            )
        held = FrozenSegmentor(options['config'], options.get('checkpoint'), test_cfg)
        segmentor = held.network
        encoder = getattr(segmentor, 'backbone', None) or segmentor.image_encoder
        head = OpenGANHead(segmentor.decode_head, encoder)
        for name, value in dict(
            held=held,
            segmentor=segmentor,
            head=head,
        ).items():
            object.__setattr__(self, name, value)  # past nn.Module: neither state nor mode of ours
        self.data_preprocessor = segmentor.data_preprocessor
        # In the state dict, so that whatever loads D compares the segmentor that D belongs to.
        self.register_buffer(DIGEST, held.digest.clone())

    def load_segmentor(self, weights: dict[str, Tensor], source: str | None = None) -> None:
        """Give the held segmentor its weights, under mmseg's names, from ``source``."""
        self.held.load(weights, source)
        self.segmentor_digest.copy_(self.held.digest)

    def segmentor_sha256(self) -> str:
        """Digest of the segmentor's weights, options and preprocessing: what a feature bank or a D
        belongs to.
        """
        return hex_of(self.held.digest)

    def segmentor_identity(self) -> dict:
        """What makes features of an image what they are: network, weights, preprocessing."""
        return dict(
            name=f'{type(self.head.encoder).__name__}+{type(self.head.head).__name__}',
            sha256=self.segmentor_sha256(),
            channels=self.head.channels,
            preprocessor=preprocessing_of(self.data_preprocessor),
        )

    def check_segmentor(self) -> None:
        """Raise unless the segmentor's weights are loaded, and are those that scorers belong to."""
        if not self.held.loaded:
            raise RuntimeError(
                'The frozen segmentor has random weights. Set '
                'model.segmentor.checkpoint to its trained weights.'
            )
        own = self.segmentor_sha256()
        for name, scorer in self.scorers.items():
            if scorer.segmentor_sha256 not in (None, own):
                raise RuntimeError(
                    f"The scorer '{name}' was fitted on another segmentor (sha256 "
                    f'{scorer.segmentor_sha256[:12]}) than the one loaded ({own[:12]}). Fit or '
                    'train it again.'
                )

    @property
    def test_cfg(self) -> Any:
        """The segmentor's: ``mode`` is ``'whole'`` or ``'slide'``."""
        return self.segmentor.test_cfg

    @property
    def align_corners(self) -> bool:
        return self.segmentor.align_corners

    @property
    def score_names(self) -> dict[str, bool]:
        """Names of the score maps, and whether each is an open logit."""
        return {name: scorer.is_logit for name, scorer in self.scorers.items()}

    @property
    def has_open_class(self) -> bool:
        """The last class of the segmentor means open: the (K+1)-way classifier."""
        return any(scorer.last_class_is_open for scorer in self.scorers.values())

    @property
    def slides(self) -> bool:
        return self.test_cfg.get('mode', 'whole') == 'slide'

    def _apply(
        self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any
    ) -> 'OpenSetSegmentor':
        dtype = fn(torch.zeros(1)).dtype
        if dtype != torch.float32:
            raise TypeError(
                f'The open-set model: wanted weights of torch.float32, found {dtype}. '
                'For half precision run it inside torch.autocast.'
            )
        self.segmentor._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def train(self, mode: bool = True) -> 'OpenSetSegmentor':
        """Only what a subclass trains changes its mode; segmentor and scorers stay in eval mode."""
        super().train(mode)
        self.scorers.eval()
        self.data_preprocessor.eval()  # the segmentor's
        return self

    def init_weights(self) -> None:
        """Nothing to do: the segmentor is loaded, and networks on top initialise themselves."""

    # ------------------------------------------------------------------ the tap

    def tap_of(self, inputs: Tensor) -> Tap:
        """The tap of preprocessed images (N, 3, H, W), whole; follows gradients to ``inputs``."""
        with self.head.listening(resize=False) as taps:
            self.segmentor.encode_decode(inputs, [meta_of(inputs)] * len(inputs))
        return taps[0]

    @torch.no_grad()
    def extract_tap(self, image: Tensor, sample: SegDataSample) -> Tap:
        """The tap of one raw image (3, H, W) and its data sample."""
        batch = self.data_preprocessor(dict(inputs=[image], data_samples=[sample]), training=False)
        require_whole_image(sample.metainfo, batch['inputs'].shape[2:])
        return self.tap_of(batch['inputs'])

    def extract_image(self, image: Tensor, sample: SegDataSample) -> Tensor:
        """Tapped features (C, h, w) of one raw image (3, H, W) and its data sample."""
        return self.extract_tap(image, sample).features[0]

    # ------------------------------------------------------------------ scores

    def _require_meaning(self, name: str, scorer: Scorer) -> None:
        of_masks = self.head.adapter.gives_class_scores
        refused = 'refused' if of_masks else 'raw'
        if scorer.class_scores == refused or (scorer.reads == 'queries' and not of_masks):
            given = 'class scores of masks' if of_masks else 'a logit for each class'
            raise ValueError(
                f"scorers: '{name}' ({type(scorer).__name__}) has no meaning for "
                f'{type(self.head.head).__name__}, which gives {given}'
            )

    def _readings(self, logits: Tensor) -> dict[str, Tensor]:
        """What scorers read of the head's (N, K, h, w), by their ``class_scores``."""
        of_masks = self.head.adapter.gives_class_scores
        read = as_logits(logits) if of_masks else logits
        return dict(raw=logits, as_logits=read, refused=read)

    def score_tap(self, tap: Tap) -> dict[str, Tensor]:
        """Maps (N, h, w) of a pass on its grid; at image resolution not of scorers of logits."""
        maps = {}
        features, readings = tap.features.float(), self._readings(tap.logits.float())
        for name, scorer in self.scorers.items():
            if scorer.reads == 'image':
                scores = scorer.score_image(tap.inputs, self.tap_of)
                maps[name] = at_size(scores, tap.logits.shape[2:], self.align_corners)
                continue
            with in_float32(tap.logits.device):
                if scorer.reads == 'queries':
                    assert tap.queries is not None  # such scorers are refused elsewhere
                    maps[name] = scorer.score_queries(*(part.float() for part in tap.queries))
                elif scorer.reads == 'features' or self.resolution == 'feature':
                    maps[name] = scorer(features, readings[scorer.class_scores])
        return maps

    def score_logits(self, logits: Tensor, size: Sequence[int]) -> dict[str, Tensor]:
        """At image resolution, scorers of logits alone see (N, K, H, W) that mmseg has resized, as
        anomaly benchmarks do; ``size`` is that of the image in the network's input.
        """
        maps = {}
        readings = self._readings(logits.float())
        for name, scorer in self.scorers.items():
            if scorer.reads == 'logits':
                with in_float32(logits.device):
                    scores = scorer(None, readings[scorer.class_scores])
                maps[name] = smoothed_for(scores, size, self.smoothing)
        return maps

    def maps_of_pass(self, tap: Tap) -> dict[str, Tensor]:
        """Maps of one pass, smoothed; at image resolution of the size of the pass's input."""
        assert tap.inputs is not None  # the head has heard them
        size = tap.inputs.shape[2:]
        maps = {}
        for name, scores in self.score_tap(tap).items():
            maps[name] = smoothed_for(scores, size, self.smoothing)
            if self.resolution == 'image':
                maps[name] = at_size(maps[name].float(), size, self.align_corners)
        return maps

    # ------------------------------------------------------------------ prediction

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[SegDataSample] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """``'predict'``: the segmentor's results with score maps; ``'tensor'``: its logits."""
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            return self.segmentor(inputs, data_samples, mode='tensor')
        raise ValueError(
            f"mode: wanted 'predict' or 'tensor', found {mode!r}. D and G are trained by "
            'train_step.'
        )

    def val_step(self, data: dict) -> list[SegDataSample]:
        """Results of a batch; where taps are stored in it, the segmentor does not run."""
        sizes = sorted({tuple(image.shape[1:]) for image in data['inputs']})
        if len(sizes) > 1:
            raise ValueError(
                f'batch_size: wanted images of one size in a batch, found {sizes}. Set '
                "the data loader's batch_size=1."
            )
        stored = None
        if TAP_FEATURES in data:
            device = self.segmentor_digest.device
            keys = (TAP_FEATURES, TAP_LOGITS)
            features, logits = (torch.stack(list(data[key])).to(device) for key in keys)
            stored = Tap(features, logits)
            data = {key: data[key] for key in data if key not in keys}
        batch = self.data_preprocessor(data, False)
        return self.predict(batch['inputs'], batch['data_samples'], stored)

    test_step = val_step

    @torch.no_grad()
    def predict(
        self,
        inputs: Tensor,
        data_samples: list[SegDataSample] | None = None,
        stored: Tap | None = None,
    ) -> list[SegDataSample]:
        """mmseg's results of preprocessed images, with ``open_scores`` in each.

        Args:
            inputs: (N, 3, H, W).
            data_samples: those of the images; None: the inputs are the images.
            stored: features and logits that the segmentor made of these inputs before.
        """
        size = inputs.shape[2:]
        if data_samples is None:
            data_samples = [SegDataSample(metainfo=meta_of(inputs)) for _ in inputs]
        if self.slides and (self.resolution == 'feature' or stored is not None):
            raise ValueError(
                "resolution='feature' and stored features need test_cfg.mode='whole', found "
                "'slide'. Set model.test_cfg=dict(mode='whole'), or model.resolution='image'."
            )
        if stored is not None and self.head.adapter.gives_class_scores:
            raise ValueError(
                'Stored features: wanted a head with a logit for each class, found '
                f'{type(self.head.head).__name__}'
            )
        if stored is None:
            with self.head.listening(self.maps_of_pass) as windows:
                results = self.segmentor.predict(inputs, data_samples)
        else:
            metas = [sample.metainfo for sample in data_samples]
            seg_logits = self.head.head.predict_by_feat(stored.logits, metas)
            results = self.segmentor.postprocess_result(seg_logits, data_samples)
            windows = [self.maps_of_pass(stored._replace(inputs=inputs))]
        maps = windows[0]
        if self.slides:
            boxes = window_boxes(size, self.test_cfg.crop_size, self.test_cfg.stride)
            maps = merge_windows(windows, boxes, size)
        for i, sample in enumerate(results):
            own = {name: scores[i : i + 1] for name, scores in maps.items()}
            self._finish(sample, own, size)
        return results

    def _finish(self, sample: SegDataSample, maps: dict[str, Tensor], size: Sequence[int]) -> None:
        """Bring an image's maps (1, h, w) to where they belong, and put them into its sample."""
        meta = sample.metainfo
        logits = sample.seg_logits.data
        if self.has_open_class:
            best = logits[:-1].argmax(dim=0, keepdim=True)
            sample.pred_sem_seg = PixelData(data=best)
        if self.resolution == 'feature':
            require_plain(meta, size)
        else:
            require_whole_image(meta, size)
            for name, scores in maps.items():
                maps[name] = to_original_size(scores, meta, size, self.align_corners)
            maps.update(self.score_logits(logits[None], without_padding(size, meta)))
        if maps:
            sample.set_data({OPEN_SCORES: PixelData(**maps)})


def meta_of(inputs: Tensor) -> dict:
    """What mmseg wants to know of an image that is the network's input as it is."""
    keys = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    return dict.fromkeys(keys, inputs.shape[2:])


def hex_of(digest: Tensor) -> str:
    return bytes(digest.cpu().tolist()).hex()
