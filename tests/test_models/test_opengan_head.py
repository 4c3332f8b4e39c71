"""OpenGANHead: it hands out the tensor that enters conv_seg, whatever head computes it, and changes nothing else."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from small_models import FCN, SEGMENTORS, build_open, build_plain, head_config, pair
from torch import nn

from mmseg_opengan.models.opengan_head import OpenGANHead

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'models'


class TwiceHead(FCNHead):
    """Classifies twice, as heads with a second prediction do."""

    def forward(self, inputs):
        feats = self._forward_feature(inputs)
        return self.cls_seg(feats) + self.cls_seg(feats)


class NeverHead(FCNHead):
    """Classifies with something else."""

    def forward(self, inputs):
        return self._forward_feature(inputs)


class NotLastHead(FCNHead):
    """Changes the logits after conv_seg."""

    def forward(self, inputs):
        return 2 * super().forward(inputs)


class TupleHead(FCNHead):
    """Returns more than the logits."""

    def forward(self, inputs):
        return (super().forward(inputs),)


@pytest.fixture
def features():
    """What the small HRNet would hand to its head."""
    torch.manual_seed(0)
    return [torch.randn(2, c, 16 >> i, 16 >> i) for i, c in enumerate(FCN['in_channels'])]


def wrap(head) -> OpenGANHead:
    """OpenGANHead around a head of our own making."""
    name = head.__name__
    MODELS.register_module(name=name, module=head, force=True)
    return OpenGANHead(head_config(dict(FCN, type=name))).eval()


@pytest.mark.parametrize('name', SEGMENTORS)
@torch.no_grad()
def test_the_tap_is_what_enters_conv_seg(name):
    model = build_open(name)
    head = model.tap_head
    tap = model.extract_taps(torch.randn(2, 3, 64, 96))
    assert type(head.head).__name__ == name
    assert tap.features.shape[:2] == (2, SEGMENTORS[name][2])
    assert tap.features.shape[1] == head.feature_channels == head.head.conv_seg.in_channels
    assert tap.features.shape[2:] == tap.logits.shape[2:]
    assert torch.equal(head.head.conv_seg(tap.features), tap.logits)


@pytest.mark.parametrize('name', SEGMENTORS)
def test_the_wrapper_answers_for_the_head(name):
    plain, wrapped = pair(name)
    theirs = plain.decode_head[-1] if isinstance(plain.decode_head, nn.ModuleList) else plain.decode_head
    for attribute in ('align_corners', 'num_classes', 'out_channels', 'threshold', 'channels', 'ignore_index'):
        assert getattr(wrapped.tap_head, attribute) == getattr(theirs, attribute)
    with pytest.raises(AttributeError, match='nonsense'):
        _ = wrapped.tap_head.nonsense


@pytest.mark.parametrize('name', SEGMENTORS)
def test_state_dict_has_the_published_names_in_order(name):
    plain, wrapped = build_plain(name), build_open(name, discriminator=None)
    assert list(wrapped.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize('name', ['FCNHead', 'OCRHead'])
def test_our_own_state_dict_loads_strictly(name):
    first, second = build_open(name, seed=1), build_open(name, seed=2)
    second.load_state_dict(first.state_dict(), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))


@pytest.mark.parametrize(('config', 'channels'), [('opengan_fcn_hr48.py', 720), ('opengan_fcn_hr18s.py', 270)])
def test_hrnet_taps_of_the_paper(config, channels):
    model = MODELS.build(Config.fromfile(CONFIGS / config).model)
    assert model.tap_head.feature_channels == channels
    assert model.discriminator.in_channels == channels
    assert model.generator.layers[-2].out_features == channels


def test_the_tap_is_handed_out_once(features):
    head = OpenGANHead(head_config(FCN)).eval()
    with pytest.raises(RuntimeError, match='no forward pass'):
        head.pop_tap()
    logits = head(features)
    assert head.pop_tap().logits is logits
    with pytest.raises(RuntimeError, match='no forward pass'):
        head.pop_tap()


def test_listening_leaves_no_hook_behind(features):
    head = OpenGANHead(head_config(FCN)).eval()
    head(features)
    assert not head.head.conv_seg._forward_hooks
    with pytest.raises(IndexError):
        head([])
    assert not head.head.conv_seg._forward_hooks


def test_dropout_is_off_at_the_tap():
    """In eval mode dropout passes the very same values on."""
    head = OpenGANHead(head_config(dict(FCN, dropout_ratio=.9))).eval()
    inputs = [torch.randn(1, c, 16 >> i, 16 >> i) for i, c in enumerate(FCN['in_channels'])]
    head(inputs)
    assert torch.equal(head.pop_tap().features, head.head._forward_feature(inputs))


@pytest.mark.parametrize(('head', 'times'), [(TwiceHead, 2), (NeverHead, 0), (NotLastHead, 1), (TupleHead, 1)])
def test_a_head_that_does_not_end_in_one_cls_seg_is_refused(head, times, features):
    with pytest.raises(RuntimeError, match=rf'conv_seg of {head.__name__} fired {times} times.*one call of cls_seg'):
        wrap(head)(features)


@pytest.mark.parametrize('head', [
    dict(type='PointHead', in_channels=[4], in_index=[0], channels=8, num_fcs=1, coarse_pred_each_layer=True),
    dict(type='SegmenterMaskTransformerHead', in_channels=8, channels=8, num_layers=1, num_heads=2, embed_dims=8),
])
def test_a_head_without_conv_seg_is_refused(head):
    head = dict(head, num_classes=5)
    if head['type'] == 'PointHead':
        head['norm_cfg'] = dict(type='BN')
    with pytest.raises(TypeError, match=rf"{head['type']} has no conv_seg.*Wanted a BaseDecodeHead"):
        OpenGANHead(head)


def test_a_head_with_one_logit_for_two_classes_is_refused():
    with pytest.raises(TypeError, match='a logit for each class, found FCNHead with out_channels=1'):
        OpenGANHead(dict(head_config(FCN, num_classes=2), out_channels=1, threshold=.3))


def test_something_that_is_no_decode_head_is_refused():
    with pytest.raises(TypeError, match='ResNet has no conv_seg'):
        OpenGANHead(dict(type='ResNet', depth=18))
