"""Where each kind of decode head keeps the per-pixel feature that D reads, and the class scores
beside it.

Shape letters: N images, C channels, K closed classes, Q queries, h and w the feature grid.
"""

from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.functional import normalize

from ..functional.mask_scores import class_scores


class Tap(NamedTuple):
    """What one pass of the segmentor leaves behind."""

    features: Tensor  # (N, C, h, w), what D reads
    logits: Tensor  # (N, K, h, w), or class scores where the adapter has ``gives_class_scores``
    inputs: Tensor | None = None  # (N, 3, H, W), as it entered the backbone
    queries: tuple[Tensor, Tensor] | None = (
        None  # mask heads: (N, Q, K + 1) class and (N, Q, h, w) mask logits
    )


class ConvSegAdapter:
    """Heads that classify a per-pixel feature by the 1x1 convolution ``conv_seg``, once, last.

    Args:
        heads: the decode head, or those of a cascade in their order; the last one predicts.

    Raises:
        TypeError: the head has no ``conv_seg``, or one logit for two classes.
    """

    #: The head's scores are sums over masks (see ``functional.mask_scores``), not logits.
    gives_class_scores = False
    #: The head hands its scores to ``predict_by_feat``; else its ``forward`` is listened to.
    ends_in_predict_by_feat = True

    #: The module whose inputs and output give the feature, and the feature's channels C.
    listens_to: Any
    channels: int

    def __init__(self, heads: list[nn.Module]):
        self.head: Any = heads[-1]
        self.classifying: Any = self._classifying(heads)
        name = type(self.head).__name__
        if not isinstance(getattr(self.classifying, 'conv_seg', None), nn.Conv2d):
            raise TypeError(
                f'OpenGANHead: wanted a head that classifies a per-pixel feature with conv_seg, or '
                f'one of {sorted(ADAPTERS)}, found {name}. See docs/models.md.'
            )
        if getattr(self.classifying, 'out_channels', None) == 1:
            raise TypeError(
                f'OpenGANHead: wanted a head with a logit for each class, found {name} with '
                'out_channels=1, the sigmoid of one class. Train it with '
                'out_channels=num_classes=2.'
            )
        self.listens_to = self.classifying.conv_seg
        self.channels = self.listens_to.in_channels

    def _classifying(self, heads: list[nn.Module]) -> nn.Module:
        return heads[-1]

    @property
    def classifier(self) -> tuple[Tensor, Tensor] | None:
        """(K, C) weight and (K,) bias with logits = weight @ feature + bias; None where there is
        none.
        """
        conv = self.listens_to
        weight = conv.weight.detach().flatten(1)
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach()
        return weight, bias

    def tap(self, passes: list[tuple[tuple, Any]], predicted: Any) -> Tap:
        """The tap of one pass.

        Args:
            passes: (inputs, output) of each call of ``listens_to``.
            predicted: what the head hands to ``predict_by_feat``, or what its ``forward`` returns.

        Raises:
            RuntimeError: the head does not work as this adapter says.
        """
        if len(passes) != 1 or not self._belongs(passes[0][1], predicted):
            raise RuntimeError(
                f'OpenGANHead: conv_seg of {type(self.head).__name__} fired {len(passes)} '
                f'times, or '
                'its output is not what the head predicts from. Wanted one call of cls_seg, last.'
            )
        (features,), logits = passes[0]
        return Tap(features, logits)

    def _belongs(self, logits: Tensor, predicted: Any) -> bool:
        return predicted is logits


class PointRendAdapter(ConvSegAdapter):
    """PointRend: the coarse head's feature and logits; the closed map is the refined one."""

    def _classifying(self, heads: list[nn.Module]) -> nn.Module:
        return heads[-2]

    def _belongs(self, logits: Tensor, predicted: Any) -> bool:
        return True  # the refined logits are others


class _OtherAdapter(ConvSegAdapter):
    """Heads without a classifier of the feature."""

    classifier = None

    def __init__(self, heads: list[nn.Module]):
        self.head = heads[-1]

    def tap(self, passes: list[tuple[tuple, Any]], predicted: Any) -> Tap:
        if not passes:
            raise RuntimeError(f'OpenGANHead: {type(self.head).__name__} did not make its feature')
        return self._tap(*passes[-1], predicted)

    def _tap(self, inputs: tuple, output: Any, predicted: Any) -> Tap:
        raise NotImplementedError


class SegmenterAdapter(_OtherAdapter):
    """Segmenter's mask transformer: the unit-length patch embeddings, and the masks."""

    def __init__(self, heads):
        super().__init__(heads)
        self.listens_to = self.head.patch_proj
        self.channels = self.listens_to.out_features

    def _tap(self, inputs, output, predicted):
        patches = normalize(output, dim=2, p=2)
        features = patches.transpose(1, 2).reshape(len(predicted), -1, *predicted.shape[2:])
        return Tap(features, predicted)


class KernelAdapter(_OtherAdapter):
    """K-Net: the feature that the last stage's kernels are convolved with, and its masks."""

    def __init__(self, heads):
        super().__init__(heads)
        last = self.head.kernel_update_head[-1]
        self.listens_to = last if last.feat_transform is None else last.feat_transform
        self.channels = last.in_channels

    def _tap(self, inputs, output, predicted):
        features = output if isinstance(output, Tensor) else inputs[0]
        return Tap(features, predicted)


class MaskAdapter(_OtherAdapter):
    """MaskFormer and Mask2Former: the pixel decoder's mask feature, and the scores of its masks."""

    gives_class_scores = True
    ends_in_predict_by_feat = False

    def __init__(self, heads):
        super().__init__(heads)
        self.listens_to = self.head.pixel_decoder
        self.channels = self.head.mask_embed[-1].out_features

    def _tap(self, inputs, output, predicted):
        classes, masks = (layers[-1] for layers in predicted)
        return Tap(
            output[0], class_scores(classes.float(), masks.float()), queries=(classes, masks)
        )


class SideAdapter(_OtherAdapter):
    """SAN: the side adapter's pixel feature, and the scores of its masks."""

    gives_class_scores = True

    def __init__(self, heads):
        super().__init__(heads)
        self.listens_to = self.head.side_adapter_network.mask_decoder.pix_mlp
        self.channels = self.listens_to.layers[-1].out_channels

    def _tap(self, inputs, output, predicted):
        masks, classes = predicted
        return Tap(output, class_scores(classes.float(), masks.float()), queries=(classes, masks))


#: Class name of a head -> its adapter; a subclass of the head takes the adapter of its base.
ADAPTERS: dict[str, type[ConvSegAdapter]] = dict(
    PointHead=PointRendAdapter,
    SegmenterMaskTransformerHead=SegmenterAdapter,
    IterativeDecodeHead=KernelAdapter,
    MaskFormerHead=MaskAdapter,
    Mask2FormerHead=MaskAdapter,
    SideAdapterCLIPHead=SideAdapter,
)


def adapter_of(heads: list[nn.Module]) -> ConvSegAdapter:
    """The adapter of a decode head, or of a cascade's heads."""
    for kind in type(heads[-1]).__mro__:
        if kind.__name__ in ADAPTERS:
            return ADAPTERS[kind.__name__](heads)
    return ConvSegAdapter(heads)
