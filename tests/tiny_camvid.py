"""A CamVid-like data set of random images, and a small random OpenGAN for it: config file and
checkpoints.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_opengan import register  # noqa: F401

SIZES = {'a': (64, 96), 'b': (48, 80), 'c': (64, 96), 'd': (50, 70)}  # (H, W) of the test frames
BN = dict(type='BN', requires_grad=True)
PLAIN = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[120.0] * 3,
        std=[60.0] * 3,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        num_stages=1,
        base_channels=8,
        stem_channels=8,
        strides=(1,),
        dilations=(1,),
        out_indices=(0,),
        norm_cfg=BN,
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=8,
        in_index=0,
        channels=12,
        num_convs=1,
        concat_input=False,
        num_classes=11,
        norm_cfg=BN,
        align_corners=False,
    ),
    test_cfg=dict(mode='whole'),
)
MODEL = dict(
    type='OpenGANSegmentor',
    segmentor=dict(config=dict(model=PLAIN), checkpoint=None),
    discriminator=dict(type='FeatureDiscriminator'),
    generator=dict(type='FeatureGenerator'),
    scorers=dict(msp=dict(type='MSP'), entropy=dict(type='Entropy')),
    resolution='feature',
)


def write_images(root: Path) -> Path:
    """Frames, labels with all 32 ids, and splits 'test' (all four frames) and 'open_val' (the
    first).
    """
    random = np.random.default_rng(0)
    for folder in ('val', 'val_labels32', 'splits', 'train'):
        (root / folder).mkdir(parents=True)
    for name, size in SIZES.items():
        rough = random.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        cv2.imwrite(
            str(root / f'val/{name}.jpg'),
            cv2.resize(rough, size[::-1], interpolation=cv2.INTER_CUBIC),
        )
        ids = cv2.resize(
            random.integers(0, 32, (8, 8)).astype(np.uint8),
            size[::-1],
            interpolation=cv2.INTER_NEAREST,
        )
        cv2.imwrite(str(root / f'val_labels32/{name}.png'), ids)
    (root / 'splits/test.txt').write_text('\n'.join(SIZES))
    (root / 'splits/open_val.txt').write_text('a')
    return root


def write_config(root: Path, data_root: Path) -> Path:
    """A leaf config on this checkout's runtime base."""

    def loader(split):
        steps = [
            dict(type='LoadImageFromFile'),
            dict(type='LoadOpenSetAnnotations'),
            dict(type='PackOpenSetInputs'),
        ]
        return dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
            dataset=dict(
                type='CamVidOpenSet', data_root=str(data_root), split=split, pipeline=steps
            ),
        )

    base = Path(__file__).resolve().parents[1] / 'configs/_base_/default_runtime.py'
    parts = dict(
        model=MODEL,
        val_dataloader=loader('open_val'),
        test_dataloader=loader('test'),
    )
    text = '\n'.join(f'{name} = {value!r}' for name, value in parts.items())
    (root / 'tiny.py').write_text(f'_base_ = [{str(base)!r}]\n{text}\n')
    return root / 'tiny.py'


def write_checkpoints(root: Path, config: Path, seed: int = 0) -> tuple[Path, Path]:
    """(of D and G, of the segmentor), as training writes them; D's logits spread over the paper's
    thresholds.
    """
    init_default_scope('mmseg')
    torch.manual_seed(seed)
    model = MODELS.build(Config.fromfile(config).model)
    for module in [*model.segmentor.modules(), *model.modules()]:
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
    for weight in model.discriminator.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, 0, 2 / weight.shape[1] ** 0.5)
    segmentor, trained = root / f'segmentor{seed}.pth', root / f'opengan{seed}.pth'
    torch.save(dict(state_dict=model.segmentor.state_dict()), segmentor)
    model.load_segmentor(model.segmentor.state_dict(), str(segmentor))
    checkpoint = dict(
        state_dict=model.state_dict(), meta=dict(cfg=Config.fromfile(config).pretty_text)
    )
    model.lean_checkpoint(checkpoint)
    torch.save(checkpoint, trained)
    return trained, segmentor
