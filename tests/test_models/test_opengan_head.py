"""OpenGANHead: it hears the tensor that enters conv_seg, whatever head computes it, and changes
nothing.
"""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from small_models import BN, FCN, HRNET, SEGMENTORS, build_open, build_plain, head_config, pair

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


class InnerHead(FCNHead):
    """Has a submodule called ``head``, as mmseg's DDRHead does."""

    def __init__(self, **options):
        super().__init__(**options)
        self.head = torch.nn.Conv2d(self.channels, self.channels, 1)

    def forward(self, inputs):
        return self.cls_seg(self.head(self._forward_feature(inputs)))


class FirstHead(FCNHead):
    """Returns a tuple and predicts from its first part, as DAHead does."""

    def forward(self, inputs):
        logits = super().forward(inputs)
        return logits, 2 * logits

    def predict(self, inputs, batch_img_metas, test_cfg):
        return self.predict_by_feat(self.forward(inputs)[0], batch_img_metas)


for _head in (TwiceHead, NeverHead, NotLastHead, InnerHead, FirstHead):
    MODELS.register_module(name=_head.__name__, module=_head, force=True)


def with_head(kind) -> tuple:
    """A network with a head of our own making, as a value of ``SEGMENTORS``."""
    return HRNET, dict(FCN, type=kind.__name__), 60


@pytest.mark.parametrize('name', SEGMENTORS)
@torch.no_grad()
def test_the_tap_is_what_enters_conv_seg(name):
    model = build_open(name)
    inputs = torch.randn(2, 3, 64, 96)
    tap = model.tap_of(inputs)
    assert type(model.head.head).__name__ == name
    assert tap.features.shape[:2] == (2, SEGMENTORS[name][2])
    assert tap.features.shape[1] == model.head.channels == model.head.head.conv_seg.in_channels
    assert tap.features.shape[2:] == tap.logits.shape[2:]
    assert torch.equal(model.head.head.conv_seg(tap.features), tap.logits)
    assert torch.equal(tap.inputs, inputs)
    weight, bias = model.head.adapter.classifier
    made = torch.einsum('kc,nchw->nkhw', weight, tap.features) + bias[:, None, None]
    torch.testing.assert_close(made, tap.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('config', 'channels'), [('opengan_fcn_hr48.py', 720), ('opengan_fcn_hr18s.py', 270)]
)
def test_hrnet_taps_of_the_paper(config, channels):
    model = MODELS.build(Config.fromfile(CONFIGS / config).model)
    assert model.head.channels == channels
    assert model.discriminator.in_channels == channels
    assert model.generator.layers[-2].out_features == channels


@torch.no_grad()
def test_taps_of_every_pass_and_none_afterwards():
    model = build_open()
    inputs = torch.randn(1, 3, 64, 64)
    metas = [dict(img_shape=(64, 64), pad_shape=(64, 64))]
    with model.head.listening() as taps:
        for _ in range(2):
            model.segmentor.encode_decode(inputs, metas)
    model.segmentor.encode_decode(inputs, metas)
    assert len(taps) == 2
    assert torch.equal(taps[0].features, taps[1].features)


@torch.no_grad()
def test_the_segmentor_alone_is_mmsegs_own():
    """Nobody listens: it computes and keeps what it always does, and a copy of the model listens to
    its own.
    """
    plain, model = pair()
    inputs = torch.randn(2, 3, 64, 64)
    assert torch.equal(
        model.segmentor.predict(inputs)[0].seg_logits.data, plain.predict(inputs)[0].seg_logits.data
    )
    copied = copy.deepcopy(model)
    copied.segmentor.decode_head.conv_seg.weight.zero_()
    assert not torch.equal(copied.tap_of(inputs).logits, model.tap_of(inputs).logits)
    assert torch.equal(
        model.segmentor.predict(inputs)[0].seg_logits.data, plain.predict(inputs)[0].seg_logits.data
    )


@torch.no_grad()
def test_the_segmentor_may_run_unheard_while_a_tap_is_scored():
    """MSPc runs it again in the middle of a pass."""
    model = build_open()
    inputs = torch.randn(2, 3, 64, 64)
    metas = [dict(img_shape=(64, 64), pad_shape=(64, 64))] * 2
    wanted = model.segmentor.encode_decode(inputs, metas)
    with model.head.listening(lambda tap: model.tap_of(tap.inputs + 1).logits) as found:
        heard = model.segmentor.encode_decode(inputs, metas)
    assert torch.equal(heard, wanted)
    assert len(found) == 1
    assert torch.equal(found[0], model.tap_of(inputs + 1).logits)


def test_listening_ends_with_an_error():
    model = build_open()
    with pytest.raises(TypeError), model.head.listening():
        model.segmentor.encode_decode(None, [])
    assert model.head._here.ear is None
    with model.head.listening() as taps:
        model.segmentor.encode_decode(torch.randn(1, 3, 64, 64), [dict(img_shape=(64, 64))])
    assert len(taps) == 1


@torch.no_grad()
def test_dropout_is_off_at_the_tap():
    """In eval mode dropout passes the very same values on."""
    model = build_open((HRNET, dict(FCN, dropout_ratio=0.9), 60))
    inputs = torch.randn(1, 3, 64, 64)
    wanted = model.head.head._forward_feature(model.segmentor.extract_feat(inputs))
    assert torch.equal(model.tap_of(inputs).features, wanted)


@pytest.mark.parametrize(('head', 'times'), [(TwiceHead, 2), (NeverHead, 0), (NotLastHead, 1)])
def test_a_head_that_does_not_end_in_one_cls_seg_is_refused(head, times):
    model = build_open(with_head(head))
    with pytest.raises(
        RuntimeError, match=rf'conv_seg of {head.__name__} fired {times} times.*one call of cls_seg'
    ):
        model.tap_of(torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize('head', [InnerHead, FirstHead])
@torch.no_grad()
def test_heads_of_unusual_make_keep_every_weight(head):
    """A submodule called ``head`` once left its weights random."""
    plain, ours = pair(with_head(head))
    inputs = torch.randn(1, 3, 64, 64)
    assert torch.equal(
        ours.predict(inputs)[0].seg_logits.data, plain.predict(inputs)[0].seg_logits.data
    )
    assert all(
        torch.equal(value, plain.state_dict()[key])
        for key, value in ours.segmentor.state_dict().items()
    )


def test_a_head_with_one_logit_for_two_classes_is_refused():
    head = dict(FCN, out_channels=1, threshold=0.3)
    with pytest.raises(
        TypeError, match='a logit for each class, found FCNHead with out_channels=1'
    ):
        build_open((HRNET, head, 60), num_classes=2)


def test_a_head_that_no_adapter_knows_is_refused():
    plain = build_plain()
    with pytest.raises(TypeError, match=r'wanted a head that classifies .* found HRNet'):
        MODELS.build(
            dict(
                type='OpenGANHead',
                head=plain.backbone,
                encoder=plain.backbone,
            )
        )


# ------------------------------------------------------------------ heads without a classifier of
# the feature

VIT = dict(
    type='VisionTransformer',
    img_size=(64, 64),
    patch_size=16,
    embed_dims=16,
    num_layers=1,
    num_heads=2,
    mlp_ratio=2,
    out_indices=(0,),
    final_norm=True,
    with_cls_token=True,
    interpolate_mode='bicubic',
)
SEGMENTER = dict(
    type='SegmenterMaskTransformerHead',
    in_channels=16,
    channels=16,
    num_layers=1,
    num_heads=2,
    embed_dims=16,
    num_classes=5,
)
KERNEL = dict(
    type='IterativeDecodeHead',
    num_stages=1,
    kernel_generate_head=dict(
        FCN,
        num_classes=5,
        norm_cfg=BN,
        align_corners=False,
    ),
    kernel_update_head=[
        dict(
            type='KernelUpdateHead',
            num_classes=5,
            num_ffn_fcs=2,
            num_heads=2,
            num_mask_fcs=1,
            feedforward_channels=16,
            in_channels=60,
            out_channels=60,
            dropout=0.0,
            conv_kernel_size=1,
            ffn_act_cfg=dict(type='ReLU', inplace=True),
            with_ffn=True,
            feat_transform_cfg=dict(conv_cfg=dict(type='Conv2d'), act_cfg=None),
            kernel_updator_cfg=dict(
                type='KernelUpdator',
                in_channels=60,
                feat_channels=60,
                out_channels=60,
                act_cfg=dict(type='ReLU', inplace=True),
                norm_cfg=dict(type='LN'),
            ),
        )
    ],
)


@pytest.mark.parametrize(
    ('backbone', 'head', 'channels'),
    [(VIT, SEGMENTER, 16), (HRNET, KERNEL, 60)],
    ids=['Segmenter', 'K-Net'],
)
@torch.no_grad()
def test_heads_with_masks_of_the_feature(backbone, head, channels):
    plain, ours = built(backbone, head)
    inputs = torch.randn(2, 3, 64, 64)
    sample = ours.predict(inputs)[0]
    assert torch.equal(sample.seg_logits.data, plain.predict(inputs)[0].seg_logits.data)
    tap = ours.tap_of(inputs)
    assert tap.features.shape[:2] == (2, channels)
    assert tap.features.shape[2:] == tap.logits.shape[2:]
    assert sample.get('open_scores').get('opengan').shape == (1, 64, 64)
    assert (tap.features < 0).any()


def built(backbone, head):
    """(plain, ours) of a head with its norms as they are."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    config = dict(
        type='EncoderDecoder', backbone=backbone, decode_head=head, test_cfg=dict(mode='whole')
    )
    ours = MODELS.build(
        dict(
            type='OpenGANSegmentor',
            segmentor=dict(config=dict(model=config)),
            resolution='image',
            discriminator=dict(type='FeatureDiscriminator', hidden=(8,)),
        )
    ).eval()
    plain = MODELS.build(ConfigDict(config)).eval()
    plain.load_state_dict(ours.segmentor.state_dict())
    return plain, ours


def test_a_cascade_is_tapped_at_its_last_head():
    model = build_open('OCRHead')
    assert model.head.head is model.segmentor.decode_head[-1]
    assert head_config(FCN)['num_classes'] == model.head.num_classes
