"""The tap: a decode-head wrapper that hands out the tensor entering the 1x1 classifier."""

from typing import NamedTuple

from mmengine.model import BaseModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor

_INNER = 'head.'


class Tap(NamedTuple):
    """What one forward pass of the head leaves behind."""

    features: Tensor  # (N, C, h, w), enters conv_seg
    logits: Tensor  # (N, K, h, w), leaves conv_seg


@MODELS.register_module()
class OpenGANHead(BaseModule):
    """Wraps any decode head that classifies a per-pixel feature with ``conv_seg``, and taps that feature.

    The head's own code computes the logits; the wrapper only listens to ``conv_seg``. In state dicts the wrapped head
    keeps mmseg's published names (``decode_head.conv_seg.weight``, not ``decode_head.head.conv_seg.weight``).

    Args:
        head: config of the wrapped head. FCNHead, ASPPHead, DepthwiseSeparableASPPHead, UPerHead, SegformerHead and
            OCRHead work, and so does every head that calls ``cls_seg`` once, last.

    Raises:
        TypeError: the head has no ``conv_seg`` of its own, or one logit for two classes.
        RuntimeError: on the first forward, when ``conv_seg`` does not fire exactly once or its output is not what
            the head returns.
    """

    def __init__(self, head: dict):
        super().__init__()
        self.head = MODELS.build(head)
        name = type(self.head).__name__
        if not isinstance(self.head, BaseDecodeHead) or not hasattr(self.head, 'conv_seg'):
            raise TypeError(f'OpenGANHead: {name} has no conv_seg. Wanted a BaseDecodeHead that classifies a per-pixel '
                            'feature with the 1x1 convolution conv_seg through cls_seg (FCNHead, ASPPHead, UPerHead, '
                            'SegformerHead, OCRHead, ...)')
        if self.head.out_channels == 1:
            raise TypeError(f'OpenGANHead: wanted a head with a logit for each class, found {name} with '
                            'out_channels=1, the sigmoid of one class. Train it with out_channels=num_classes=2.')
        self._tap = None
        self._register_state_dict_hook(self._save_published_names)
        self._register_load_state_dict_pre_hook(self._load_published_names)

    def __getattr__(self, name):
        """Everything mmseg asks of a decode head (``align_corners``, ``num_classes``, ...) is the wrapped head's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == 'head':
                raise
            return getattr(self.head, name)

    @property
    def feature_channels(self) -> int:
        """Channels of the tapped feature."""
        return self.head.conv_seg.in_channels

    def forward(self, *inputs) -> Tensor:
        """The wrapped head's logits (N, K, h, w), with the tap taken on the way."""
        fired = []
        handle = self.head.conv_seg.register_forward_hook(
            lambda module, args, output: fired.append(Tap(args[0], output)))
        try:
            logits = self.head(*inputs)
        finally:
            handle.remove()
        if len(fired) != 1 or fired[0].logits is not logits:
            raise RuntimeError(
                f'OpenGANHead: conv_seg of {type(self.head).__name__} fired {len(fired)} times, or its output is not '
                'what the head returns. Wanted a head whose forward ends in one call of cls_seg.')
        self._tap = fired[0]
        return logits

    def predict(self, *inputs_metas_and_cfg) -> Tensor:
        """Logits at the input's size, as ``BaseDecodeHead.predict`` and ``BaseCascadeDecodeHead.predict``.

        Takes what they take: the inputs of ``forward``, then ``batch_img_metas`` and ``test_cfg``.
        """
        *inputs, batch_img_metas, _ = inputs_metas_and_cfg
        return self.head.predict_by_feat(self.forward(*inputs), batch_img_metas)

    def pop_tap(self) -> Tap:
        """The tap of the last forward pass; it is handed out once, so that it does not hold memory."""
        if self._tap is None:
            raise RuntimeError('OpenGANHead.pop_tap: no forward pass since the last tap was taken')
        tap, self._tap = self._tap, None
        return tap

    def give_tap(self, tap: Tap) -> None:
        """Lay down a tap that was taken earlier, as if a forward pass had just left it."""
        self._tap = tap

    @staticmethod
    def _save_published_names(module, state_dict, prefix, local_metadata):
        _rename(state_dict, prefix + _INNER, prefix)

    @staticmethod
    def _load_published_names(state_dict, prefix, *args):
        if not any(key.startswith(prefix + _INNER) for key in state_dict):
            _rename(state_dict, prefix, prefix + _INNER)


def tapped(decode_head):
    """The config of a decode head, or of a cascade's, with the (last) head in an OpenGANHead unless it is in one."""
    if isinstance(decode_head, (list, tuple)):
        return [*decode_head[:-1], tapped(decode_head[-1])]
    return decode_head if decode_head.get('type') == 'OpenGANHead' else dict(type='OpenGANHead', head=decode_head)


def _rename(state_dict, old: str, new: str) -> None:
    """Replace the prefix ``old`` by ``new`` in place, keeping the order of the keys."""
    for key in list(state_dict):
        value = state_dict.pop(key)
        state_dict[new + key[len(old):] if key.startswith(old) else key] = value
