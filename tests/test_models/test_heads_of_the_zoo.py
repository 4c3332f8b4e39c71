"""A small network of each kind of head whose adapter is one of its own, by the checks of
benchmarks/zoo.py.

Each is a config of mmseg's zoo, made small. MaskFormer and Mask2Former need mmdet: ``pip install
mmdet``.
"""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_opengan.models.frozen_segmentor import read_config
from mmseg_opengan.models.tap_adapters import ADAPTERS

ROOT = Path(__file__).resolve().parents[2]
needs_mmdet = pytest.mark.skipif(
    importlib.util.find_spec('mmdet') is None, reason='mmdet is not installed: pip install mmdet'
)
RESNET = dict(
    depth=50,
    base_channels=8,
    norm_cfg=dict(type='BN'),
    init_cfg=None,
)
PYRAMID = [32, 64, 128, 256]
ATTENTION = dict(embed_dims=32, num_heads=4)
LAYER = dict(
    self_attn_cfg=ATTENTION,
    cross_attn_cfg=ATTENTION,
    ffn_cfg=dict(embed_dims=32, feedforward_channels=32),
)
MASKS = dict(
    in_channels=PYRAMID,
    feat_channels=32,
    out_channels=32,
    num_queries=10,
    positional_encoding=dict(num_feats=16),
    transformer_decoder=dict(num_layers=1, layer_cfg=LAYER),
)
DEFORMABLE = dict(
    encoder=dict(
        num_layers=1,
        layer_cfg=dict(
            self_attn_cfg=ATTENTION, ffn_cfg=dict(embed_dims=32, feedforward_channels=32)
        ),
    ),
    positional_encoding=dict(num_feats=16),
)
UPDATE = dict(
    feedforward_channels=16,
    in_channels=16,
    out_channels=16,
    num_heads=2,
    kernel_updator_cfg=dict(in_channels=16, feat_channels=16, out_channels=16),
)
#: head -> (config of the zoo, what makes it small, channels of its feature)
SMALL = dict(
    PointHead=(
        'point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024.py',
        dict(
            backbone=dict(RESNET, stem_channels=8),
            neck=dict(in_channels=PYRAMID, out_channels=16),
            decode_head=[
                dict(in_channels=[16] * 4, channels=12),
                dict(in_channels=[16], channels=16),
            ],
        ),
        12,
    ),
    SegmenterMaskTransformerHead=(
        'segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py',
        dict(
            backbone=dict(embed_dims=24, num_layers=2, num_heads=3),
            decode_head=dict(
                in_channels=24,
                channels=24,
                embed_dims=24,
                num_layers=1,
                num_heads=3,
            ),
        ),
        24,
    ),
    IterativeDecodeHead=(
        'knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py',
        dict(
            backbone=dict(RESNET, stem_channels=8),
            decode_head=dict(
                kernel_generate_head=dict(in_channels=256, channels=16),
                kernel_update_head=[UPDATE] * 3,
            ),
        ),
        16,
    ),
    MaskFormerHead=(
        'maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py',
        dict(backbone=RESNET, decode_head=MASKS),
        32,
    ),
    Mask2FormerHead=(
        'mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py',
        dict(backbone=RESNET, decode_head=dict(MASKS, pixel_decoder=DEFORMABLE)),
        32,
    ),
    SideAdapterCLIPHead=(
        'san/san-vit-b16_voc12aug-640x640.py',
        dict(
            image_encoder=dict(embed_dims=48),
            text_encoder=dict(embed_dims=32, num_layers=1, output_dims=32),
            decode_head=dict(
                san_cfg=dict(
                    clip_channels=48,
                    embed_dims=24,
                    num_queries=10,
                    cfg_decoder=dict(embed_channels=16, mlp_channels=16),
                ),
                maskgen_cfg=dict(embed_dims=48, sos_token_num=10, out_dims=32),
            ),
        ),
        16,
    ),
)


@pytest.fixture(scope='module')
def zoo():
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location('zoo', ROOT / 'benchmarks' / 'zoo.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['zoo'] = module
    spec.loader.exec_module(module)
    return module


def made_small(config, small) -> dict:
    """The parts of a config, lists item by item."""
    if isinstance(small, list):
        return (
            [made_small(one, other) for one, other in zip(config, small, strict=True)]
            if isinstance(small[0], dict)
            else small
        )
    if not isinstance(small, dict):
        return small
    return {
        **config,
        **{key: made_small(config.get(key, {}), value) for key, value in small.items()},
    }


def test_every_adapter_has_a_head_here():
    assert set(SMALL) == set(ADAPTERS)


@pytest.mark.parametrize(
    'head', [pytest.param(name, marks=needs_mmdet if 'Former' in name else ()) for name in SMALL]
)
def test_a_small_network(zoo, head):
    file, small, channels = SMALL[head]
    config = read_config(str(zoo.CONFIGS / file))
    config['model'] = made_small(config['model'], small)
    row = zoo.examine(config, (64, 128))
    assert row.pop('head') == head
    assert row.pop('channels') == channels
    assert zoo.passes(row), row


def test_the_psa_mask_is_attention_at_its_place(zoo):
    """A pixel's channel (row, col) of a 3 x 5 mask is its attention to the pixel at (row - 1, col -
    2) from it.
    """
    masks = torch.rand(2, 15, 4, 6)
    found = {
        kind: zoo.TorchPSAMask(kind, (3, 5))(masks).view(2, 4, 6, 4, 6)
        for kind in ('collect', 'distribute')
    }
    wanted = torch.zeros(2, 4, 6, 4, 6)
    for row in range(4):
        for col in range(6):
            for down in range(-1, 2):
                for right in range(-2, 3):
                    if 0 <= row + down < 4 and 0 <= col + right < 6:
                        channel = (down + 1) * 5 + right + 2
                        wanted[:, row + down, col + right, row, col] = masks[:, channel, row, col]
    assert torch.equal(found['collect'], wanted)
    assert torch.equal(found['distribute'], wanted.permute(0, 3, 4, 1, 2))


def test_it_would_see_a_difference(zoo):
    """The checks themselves: other closed output, or a segmentor that training moves, does not
    pass.
    """
    assert zoo.passes({'whole': 'identical', 'steps': 'ok', 'segmentor': 'untouched'})
    for key, value in (
        ('whole', 'seg_logits differs'),
        ('steps', 'loss is not finite'),
        ('segmentor', 'CHANGED'),
    ):
        assert not zoo.passes(
            {'whole': 'identical', 'steps': 'ok', 'segmentor': 'untouched', key: value}
        )
    config = read_config(Config.fromfile(ROOT / 'configs/demo/hr_small.py').model.segmentor.config)
    plain = zoo.plain_model(config)
    ours = MODELS.build(
        dict(
            type='OpenGANSegmentor',
            segmentor=dict(config=config),
            scorers=dict(msp=dict(type='MSP')),
            resolution='feature',
        )
    ).eval()
    ours.load_segmentor(plain.state_dict())
    assert zoo.compare(ours, plain, zoo.image_of((64, 128), 0)) == 'identical'
    ours.segmentor.decode_head.conv_seg.bias.data[0] += 1
    assert 'seg_logits differs' in zoo.compare(ours, plain, zoo.image_of((64, 128), 0))
