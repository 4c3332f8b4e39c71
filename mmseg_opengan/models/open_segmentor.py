"""A frozen segmentor that gives open-set score maps beside its unchanged closed prediction.

Shapes: inputs (N, 3, H, W); features (N, C, h, w) and logits (N, K, h, w) on the feature grid; scores (N, h, w).
"""

from contextlib import contextmanager

import torch
from mmengine.runner.checkpoint import get_state_dict
from mmengine.structures import PixelData
from mmseg.models.utils import resize
from torch import Tensor, nn

from ..contracts import OPEN_SCORES, RESOLUTIONS
from ..functional.pixels import LeanPostprocessing
from ..functional.scores import smoothed
from .checkpoint_parts import (
    OWN,
    TRAINED,
    absolute,
    digest_of,
    discriminator_part,
    read_segmentor,
    require_fit,
    segmentor_part,
)
from .opengan_head import OpenGANHead, Tap, tapped
from .scorers.base import SCORERS

#: Key of ``checkpoint['meta']`` that says which segmentor a checkpoint of D and G belongs to.
META_KEY = 'opengan'


class OpenSetMixin:
    """Adds score maps to ``EncoderDecoder`` or ``CascadeEncoderDecoder``; mix in before one of them.

    The closed path is mmseg's own code, and its result is bit-identical to the unwrapped model's. Score maps travel
    in the sample as ``data_sample.open_scores``, one named map per scorer, never as a class channel.

    Args:
        scorers: configs of scorers, by the name under which their maps travel.
        resolution: ``'feature'`` keeps the un-resized maps (the paper's evaluation; whole mode, no resize, flip or
            padding); ``'image'`` resizes them to the original image as mmseg resizes logits.
        smoothing: standard deviation, in pixels of the network's input, of the Gaussian weights with which every score
            map is averaged over its neighbours, before it is resized; 0 leaves scores as they are (the paper).
        segmentor_checkpoint: the frozen segmentor's weights, where they do not come through ``load_from`` or no
            longer lie where the checkpoint of D and G says.
    """

    def __init__(self, *, decode_head, scorers: dict | None = None, resolution: str = 'feature', smoothing: float = 0.,
                 segmentor_checkpoint: str | None = None, **kwargs):
        if resolution not in RESOLUTIONS:
            raise ValueError(f'resolution: wanted one of {RESOLUTIONS}, found {resolution!r}')
        if smoothing < 0:
            raise ValueError(f'smoothing: wanted a standard deviation in pixels, >= 0, found {smoothing}')
        super().__init__(decode_head=tapped(decode_head), **kwargs)
        self.resolution = resolution
        self.smoothing = smoothing
        self.segmentor_checkpoint = segmentor_checkpoint
        self.segmentor_source = None
        self.segmentor_loaded = False
        self.discriminator_loaded = False
        self._expected_sha256 = None
        self._sha256 = None
        self._windows = []
        self._score_maps = {}
        self._trainable = [p for p in self.parameters() if p.requires_grad]
        self.requires_grad_(False)
        self.register_load_state_dict_post_hook(_expect_no_networks)
        self.scorers = nn.ModuleDict({name: SCORERS.build(cfg) for name, cfg in (scorers or {}).items()})
        self.train(self.training)  # a feature bank is built before the training loop sets any mode

    # ------------------------------------------------------------------ the tap

    @property
    def tap_head(self) -> OpenGANHead:
        """The wrapped head: the decode head, or the last of a cascade."""
        return self.decode_head[-1] if isinstance(self.decode_head, nn.ModuleList) else self.decode_head

    @torch.no_grad()
    def extract_taps(self, inputs: Tensor) -> Tap:
        """Features and logits of preprocessed images (N, 3, H, W), whole-image mode."""
        with self._flags_of_mmseg():
            self._forward(inputs)
        return self.tap_head.pop_tap()

    def score_features(self, tap: Tap) -> dict[str, Tensor]:
        """Score maps (N, h, w) by name: of every scorer, or at image resolution of those that read features."""
        return {name: scorer(tap.features, tap.logits) for name, scorer in self.scorers.items()
                if not scorer.reads_image and (self.resolution == 'feature' or not scorer.from_logits)}

    def score_inputs(self, inputs: Tensor, grid) -> dict[str, Tensor]:
        """Score maps (N, h, w) on ``grid`` (h, w), by name, of scorers that read the network's input (N, 3, H, W)."""
        return {name: self._at_size(scorer.score_image(inputs, self._differentiable_tap), grid)
                for name, scorer in self.scorers.items() if scorer.reads_image}

    def _differentiable_tap(self, inputs: Tensor) -> Tap:
        """As ``extract_taps``; follows gradients to ``inputs`` where they are enabled, never to the weights."""
        before = [weight.requires_grad for weight in self._trainable]
        for weight in self._trainable:
            weight.requires_grad_(not torch.is_grad_enabled())
        try:
            self._forward(inputs)
            return self.tap_head.pop_tap()
        finally:
            for weight, flag in zip(self._trainable, before):
                weight.requires_grad_(flag)

    def _at_size(self, scores: Tensor, size) -> Tensor:
        """(N, h, w) maps resized to ``size`` (rows, columns) as mmseg resizes logits."""
        if tuple(scores.shape[1:]) == tuple(size):
            return scores
        return resize(scores[:, None].float(), size=tuple(size), mode='bilinear', align_corners=self.align_corners,
                      warning=False)[:, 0]

    def _smoothed(self, scores: Tensor, input_size) -> Tensor:
        """(N, h, w) maps of inputs of ``input_size`` (rows, columns), smoothed if the model's option says so."""
        if not self.smoothing:
            return scores
        return smoothed(scores, tuple(self.smoothing * own / full for own, full in zip(scores.shape[1:], input_size)))

    # ------------------------------------------------------------------ prediction

    def encode_decode(self, inputs, batch_img_metas):
        seg_logits = super().encode_decode(inputs, batch_img_metas)
        tap = self.tap_head.pop_tap()
        maps = {**self.score_features(tap), **self.score_inputs(inputs, tap.logits.shape[2:])}
        maps = {name: self._smoothed(scores, inputs.shape[2:]) for name, scores in maps.items()}
        if self.resolution == 'image':
            maps = {name: self._at_size(scores.float(), seg_logits.shape[2:]) for name, scores in maps.items()}
        self._windows.append(maps)
        return seg_logits

    def inference(self, inputs, batch_img_metas):
        self._windows = []
        with self._flags_of_mmseg():
            seg_logits = super().inference(inputs, batch_img_metas)
        windows, self._windows = self._windows, []
        slides = self.test_cfg.get('mode', 'whole') == 'slide'
        self._score_maps = self._merge_windows(windows, inputs.shape[2:]) if slides else windows[0]
        return seg_logits

    def _merge_windows(self, windows, size):
        """Average the windows of ``slide_inference`` where they overlap, in the order in which it visits them."""
        if self.resolution == 'feature':
            raise ValueError("resolution='feature' needs test_cfg.mode='whole', found 'slide'; use resolution='image'")
        boxes = list(_window_boxes(size, self.test_cfg.crop_size, self.test_cfg.stride))
        merged = {}
        for name, first in windows[0].items():
            total = first.new_zeros((len(first), *size))
            count = first.new_zeros(size)
            for (top, bottom, left, right), maps in zip(boxes, windows):
                total[:, top:bottom, left:right] += maps[name]
                count[top:bottom, left:right] += 1
            merged[name] = total / count
        return merged

    def postprocess_result(self, seg_logits, data_samples=None):
        size = seg_logits.shape[2:]
        with LeanPostprocessing():
            results = super().postprocess_result(seg_logits, data_samples)
            if any(scorer.last_class_is_open for scorer in self.scorers.values()):
                for sample in results:
                    sample.pred_sem_seg = PixelData(data=sample.seg_logits.data[:-1].argmax(dim=0, keepdim=True))
        maps, self._score_maps = self._score_maps, {}
        for i, sample in enumerate(results):
            one = {name: scores[i:i + 1] for name, scores in maps.items()}
            if data_samples is not None:
                place = _check_plain if self.resolution == 'feature' else self._to_original_size
                one = {name: place(scores, sample.metainfo, size) for name, scores in one.items()}
            if self.resolution == 'image':
                one.update({name: self._smoothed(scorer(None, sample.seg_logits.data[None]), size)
                            for name, scorer in self.scorers.items()
                            if scorer.from_logits and not scorer.reads_image})
            if one:
                sample.set_data({OPEN_SCORES: PixelData(**one)})
        return results

    def _to_original_size(self, scores: Tensor, meta: dict, size) -> Tensor:
        """(1, H, W) padded map -> (1, *ori_shape), in the steps in which mmseg treats logits."""
        left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
        scores = scores[:, top:size[0] - bottom, left:size[1] - right]
        if meta.get('flip'):
            scores = scores.flip(dims=(2 if meta['flip_direction'] == 'horizontal' else 1,))
        return self._at_size(scores, meta['ori_shape'][:2])

    # ------------------------------------------------------------------ frozen weights

    @contextmanager
    def _flags_of_mmseg(self):
        """Let the segmentor's weights say what they say in mmseg's own model while no gradient is kept.

        torch picks a matrix kernel by ``requires_grad``, under ``no_grad`` too, and kernels round differently.
        """
        weights = [] if torch.is_grad_enabled() else self._trainable
        for weight in weights:
            weight.requires_grad_(True)
        try:
            yield
        finally:
            for weight in weights:
                weight.requires_grad_(False)

    def train(self, mode: bool = True):
        """Only D and G ever leave eval mode: the segmentor's BN statistics never move.

        mmengine calls this before every step: the segmentor's hundreds of modules are looked at, not set each time.
        """
        self.training = mode
        for name, child in self.named_children():
            if f'{name}.' in TRAINED:
                child.train(mode)
            elif any(module.training for module in child.modules()):
                child.eval()
        return self

    def init_weights(self):
        """Leave loaded weights alone; initialise the rest as mmseg does, to be replaced by ``load_from``."""
        if not self.segmentor_loaded:
            super().init_weights()

    def segmentor_state(self) -> dict[str, Tensor]:
        """The frozen segmentor's weights under mmseg's published names."""
        return segmentor_part(self.state_dict())

    def segmentor_sha256(self) -> str:
        """Digest of names and values of all segmentor weights: what a feature store or a D belongs to."""
        if self._sha256 is None:
            self._sha256 = digest_of(self.segmentor_state())
        return self._sha256

    def strip_checkpoint(self, checkpoint: dict) -> None:
        """Keep D and G only in a checkpoint about to be saved, and note which segmentor they belong to."""
        # Distributed training wraps D and G by themselves: discriminator.module.layers...
        checkpoint['state_dict'] = {key.replace('.module.', '.', 1): value
                                    for key, value in checkpoint['state_dict'].items() if key.startswith(TRAINED)}
        checkpoint.setdefault('meta', {})[META_KEY] = dict(
            segmentor_checkpoint=self.segmentor_source or self.segmentor_checkpoint,
            segmentor_sha256=self.segmentor_sha256())

    def complete_checkpoint(self, checkpoint: dict, filename: str | None = None) -> None:
        """Add the segmentor's weights to a checkpoint of D and G about to be loaded.

        Raises:
            RuntimeError: the checkpoint does not say which segmentor it belongs to, or the weights found are others.
        """
        state = checkpoint.get('state_dict', checkpoint)
        if segmentor_part(state):
            self.segmentor_source = absolute(filename)
            return
        meta = checkpoint.get('meta', {}).get(META_KEY, {})
        source = self.segmentor_checkpoint or meta.get('segmentor_checkpoint')
        if source is None:
            raise RuntimeError('This checkpoint holds D and G only and names no segmentor. Set '
                               'model.segmentor_checkpoint to the weights of the segmentor it was trained on.')
        try:
            segmentor = read_segmentor(source)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"The checkpoint of D and G was trained on the segmentor '{source}', which is not "
                                    'there. Set model.segmentor_checkpoint to where it lies now.') from error
        state.update(segmentor)
        self.segmentor_source = source
        self._expected_sha256 = meta.get('segmentor_sha256')

    def _load_from_state_dict(self, state_dict, prefix, *args):
        """Refuse a checkpoint that would leave any part of the segmentor or of D at its random initialisation."""
        own = self.segmentor_state()
        if not segmentor_part(state_dict) and not self.segmentor_loaded:
            if self.segmentor_checkpoint is None:
                raise RuntimeError('This checkpoint holds D and G only, and no segmentor is loaded: set '
                                   'model.segmentor_checkpoint to the weights of the segmentor it was trained on.')
            state_dict.update(read_segmentor(self.segmentor_checkpoint))
        for key in [key for key in state_dict if key.startswith('auxiliary_head.') and key not in own]:
            del state_dict[key]
        given = segmentor_part(state_dict)
        require_fit('segmentor', own, given)
        require_fit('discriminator', discriminator_part(get_state_dict(self)), discriminator_part(state_dict))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._sha256 = None
        self.segmentor_loaded = self.segmentor_loaded or bool(given)
        self.discriminator_loaded |= any(key.startswith('discriminator.') for key in state_dict)

    def check_segmentor(self) -> None:
        """Raise unless the segmentor's weights are loaded, and are those that a loaded D was trained on."""
        if not self.segmentor_loaded and self.segmentor_checkpoint is not None:
            self.load_state_dict(read_segmentor(self.segmentor_checkpoint), strict=False)
            self.segmentor_source = absolute(self.segmentor_checkpoint)
        if not self.segmentor_loaded:
            raise RuntimeError('The frozen segmentor has random weights. Set load_from (training) or '
                               'model.segmentor_checkpoint to its trained checkpoint.')
        expected, self._expected_sha256 = self._expected_sha256, None
        if expected is not None and expected != self.segmentor_sha256():
            raise RuntimeError(f"D was trained on other segmentor weights than those in '{self.segmentor_source}' "
                               f'(sha256 wanted {expected[:12]}, found {self.segmentor_sha256()[:12]}).')
        for name, scorer in self.scorers.items():
            if scorer.segmentor_sha256 not in (None, self.segmentor_sha256()):
                raise RuntimeError(f"The scorer '{name}' was fitted on another segmentor (sha256 "
                                   f'{scorer.segmentor_sha256[:12]}) than the one loaded '
                                   f'({self.segmentor_sha256()[:12]}). Fit or train it again.')


def _expect_no_networks(module, incompatible_keys) -> None:
    """A segmentor's checkpoint holds neither D nor G: nothing to warn about before training."""
    if not module.discriminator_loaded:
        missing = incompatible_keys.missing_keys
        missing[:] = [key for key in missing if not key.startswith(OWN)]


def _window_boxes(size, crop, stride):
    """(top, bottom, left, right) of mmseg's sliding windows, in its order."""
    starts = [[max(min(i * step + window, length) - window, 0)
               for i in range(max(length - window + step - 1, 0) // step + 1)]
              for length, window, step in zip(size, crop, stride)]
    for top in starts[0]:
        for left in starts[1]:
            yield top, min(top + crop[0], size[0]), left, min(left + crop[1], size[1])


def _check_plain(scores: Tensor, meta: dict, size) -> Tensor:
    """Pass a feature-grid map of an image that was not resized, padded or flipped; raise otherwise."""
    padded = any(meta.get('img_padding_size', meta.get('padding_size', ())))
    if padded or meta.get('flip') or tuple(meta['ori_shape'][:2]) != tuple(size):
        raise ValueError(
            f"resolution='feature' needs images that are not resized, padded or flipped; {meta.get('img_path', 'one')} "
            f"has ori_shape {tuple(meta['ori_shape'][:2])}, network input {tuple(size)}, flip "
            f"{bool(meta.get('flip'))}, padded {padded}. Use resolution='image'.")
    return scores
