"""Small random segmentors, one for each decode head that must work, plain (mmseg's own) and
wrapped.
"""

import mmseg.models  # noqa: F401
import numpy as np
import torch
from mmengine import ConfigDict
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.nn.modules.batchnorm import _BatchNorm

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.contracts import GT_OPEN_MAP
from mmseg_opengan.features.pixel_sampler import PixelSampler

NUM_CLASSES = 5
BN = dict(type='BN', requires_grad=True)
RESNET = dict(
    type='ResNetV1c',
    depth=18,
    stem_channels=8,
    base_channels=8,
    norm_cfg=BN,
)
DILATED = dict(
    RESNET,
    strides=(1, 2, 1, 1),
    dilations=(1, 1, 2, 4),
    contract_dilation=True,
)
MIT = dict(
    type='MixVisionTransformer',
    embed_dims=8,
    num_stages=4,
    num_layers=[1, 1, 1, 1],
    num_heads=[1, 1, 2, 2],
    sr_ratios=[8, 4, 2, 1],
)
HRNET = dict(
    type='HRNet',
    norm_cfg=BN,
    extra=dict(
        stage1=dict(
            num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1,), num_channels=(8,)
        ),
        stage2=dict(
            num_modules=1, num_branches=2, block='BASIC', num_blocks=(1, 1), num_channels=(4, 8)
        ),
        stage3=dict(
            num_modules=1,
            num_branches=3,
            block='BASIC',
            num_blocks=(1, 1, 1),
            num_channels=(4, 8, 16),
        ),
        stage4=dict(
            num_modules=1,
            num_branches=4,
            block='BASIC',
            num_blocks=(1, 1, 1, 1),
            num_channels=(4, 8, 16, 32),
        ),
    ),
)
FCN = dict(
    type='FCNHead',
    in_channels=[4, 8, 16, 32],
    in_index=(0, 1, 2, 3),
    channels=60,
    kernel_size=1,
    num_convs=1,
    input_transform='resize_concat',
    concat_input=False,
    dropout_ratio=-1,
)
PYRAMID = dict(in_channels=[8, 16, 32, 64], in_index=[0, 1, 2, 3], channels=12)

#: name -> (backbone, decode head or heads, channels entering conv_seg)
SEGMENTORS = {
    'FCNHead': (HRNET, FCN, 60),
    'ASPPHead': (
        DILATED,
        dict(
            type='ASPPHead',
            in_channels=64,
            in_index=3,
            channels=16,
            dilations=(1, 2, 3),
        ),
        16,
    ),
    'DepthwiseSeparableASPPHead': (
        DILATED,
        dict(
            type='DepthwiseSeparableASPPHead',
            in_channels=64,
            in_index=3,
            channels=16,
            dilations=(1, 2, 3),
            c1_in_channels=8,
            c1_channels=4,
        ),
        16,
    ),
    'UPerHead': (
        RESNET,
        dict(
            type='UPerHead',
            pool_scales=(1, 2, 3, 6),
            **PYRAMID,
        ),
        12,
    ),
    'SegformerHead': (MIT, dict(PYRAMID, type='SegformerHead', in_channels=[8, 8, 16, 16]), 12),
    'OCRHead': (
        HRNET,
        [
            FCN,
            dict(
                type='OCRHead',
                in_channels=[4, 8, 16, 32],
                in_index=(0, 1, 2, 3),
                channels=14,
                ocr_channels=6,
                input_transform='resize_concat',
            ),
        ],
        14,
    ),
}
SLIDE = dict(mode='slide', crop_size=(48, 64), stride=(24, 40))


def head_config(head: dict, num_classes: int = NUM_CLASSES) -> dict:
    return dict(
        head,
        num_classes=num_classes,
        norm_cfg=BN,
        align_corners=False,
    )


def plain_config(
    name='FCNHead', *, test_cfg=None, num_classes: int = NUM_CLASSES, size_divisor=None
) -> dict:
    """Config of mmseg's own model; ``name`` is a key of ``SEGMENTORS`` or a triple like its
    values.
    """
    backbone, heads, _ = name if isinstance(name, tuple) else SEGMENTORS[name]
    cascade = isinstance(heads, list)
    decode_head = (
        [head_config(h, num_classes) for h in heads] if cascade else head_config(heads, num_classes)
    )
    preprocessor = dict(
        type='SegDataPreProcessor',
        mean=[120.0, 110.0, 100.0],
        std=[60.0, 50.0, 55.0],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    )
    if size_divisor is not None:
        preprocessor['test_cfg'] = dict(size_divisor=size_divisor)
    kind = (
        dict(type='CascadeEncoderDecoder', num_stages=len(heads))
        if cascade
        else dict(type='EncoderDecoder')
    )
    return ConfigDict(
        **kind,
        data_preprocessor=preprocessor,
        backbone=backbone,
        decode_head=decode_head,
        test_cfg=test_cfg or dict(mode='whole'),
    )


def build_plain(name='FCNHead', seed: int = 0, **options):
    """mmseg's own model in eval mode, random, with BN statistics and scales as of a trained one."""
    init_default_scope('mmseg')
    torch.manual_seed(seed)
    model = MODELS.build(plain_config(name, **options))
    for norm in (m for m in model.modules() if isinstance(m, _BatchNorm)):
        torch.nn.init.normal_(norm.running_mean, 0, 0.1)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0, 0.1)
    return model.eval()


def build_open(
    name='FCNHead',
    *,
    weights=None,
    seed: int = 1,
    resolution='image',
    discriminator='small',
    generator=None,
    scorers=None,
    lambda_fake: float = 0.2,
    segmentor_checkpoint=None,
    smoothing: float = 0.0,
    fuse=None,
    **options,
):
    """The open-set model in eval mode; ``weights`` is the segmentor's state dict, under mmseg's
    names.
    """
    init_default_scope('mmseg')
    torch.manual_seed(seed)
    held = dict(config=dict(model=plain_config(name, **options)), checkpoint=segmentor_checkpoint)
    if discriminator == 'small':
        discriminator = dict(type='FeatureDiscriminator', hidden=(16, 8))
    model = MODELS.build(
        dict(
            type='OpenGANSegmentor',
            segmentor=held,
            resolution=resolution,
            discriminator=discriminator,
            generator=generator,
            scorers=scorers or {},
            lambda_fake=lambda_fake,
            smoothing=smoothing,
            fuse=fuse,
        )
    )
    if weights is not None:
        model.load_segmentor(weights)
    return model.eval()


def pair(name='FCNHead', **options):
    """(plain, wrapped) with the same weights, passed under mmseg's published names."""
    shared = {
        key: value
        for key, value in options.items()
        if key in ('test_cfg', 'num_classes', 'size_divisor')
    }
    plain = build_plain(name, **shared)
    return plain, build_open(name, weights=plain.state_dict(), **options)


def raw_image(
    height: int = 64, width: int = 64, seed: int = 0, ori_shape=None, open_map=None, **meta
):
    """A uint8 image (3, H, W) and its data sample, as a test pipeline hands them out."""
    image = torch.from_numpy(
        np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8)
    )
    rows, cols = ori_shape or (height, width)
    sample = SegDataSample(
        metainfo=dict(
            img_path=f'{seed}.png',
            ori_shape=(rows, cols),
            scale_factor=(width / cols, height / rows),
            img_shape=(height, width),
            pad_shape=(height, width),
            **meta,
        )
    )
    if open_map is not None:
        sample.set_data({GT_OPEN_MAP: PixelData(data=open_map[None])})
    return image, sample


def batch_of(*items) -> dict:
    images, samples = zip(*items)
    return dict(inputs=list(images), data_samples=list(samples))


def adam(model, lr: float = 1e-3) -> OptimWrapperDict:
    """One Adam for each trained network, as the schedule config has it."""
    networks = {name: getattr(model, name) for name in ('discriminator', 'generator')}
    return OptimWrapperDict(
        **{
            name: OptimWrapper(torch.optim.Adam(net.parameters(), lr=lr, betas=(0.5, 0.999)))
            for name, net in networks.items()
            if net is not None
        }
    )


def store_batch(step: int, channels: int, *, sampler: PixelSampler, seed: int = 0) -> dict:
    """What a store yields: random closed features around 0, open ones around 2."""
    generator = torch.Generator().manual_seed(1000 * seed + step)
    return dict(
        draw=sampler.at(seed, step),
        closed=torch.randn(sampler.num_closed, channels, generator=generator),
        open=torch.randn(sampler.num_open, channels, generator=generator) + 2,
    )
