"""A folder laid out like Cityscapes whose images tell where a pixel came from, and a segmentor that
is a look-up.

The blue channel of an image (the first: images are read as BGR) is its number, green the row and
red the column of the pixel, so a feature row names its pixel. Features are the image at every
fourth pixel.
"""

from pathlib import Path

import numpy as np
import torch
from mmengine.model import BaseModule
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.features.sources import OnlineSource, StoreSource

SIZE, STRIDE = (24, 32), 4
NO_OPEN, NO_CLOSED = 1, 2  # these images lack a group
SEGMENTOR = dict(
    name='Lookup',
    sha256='a' * 64,
    channels=3,
    preprocessor=dict(mean=None),
)
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadOpenSetAnnotations'),
    dict(type='PackOpenSetInputs'),
]
IDS = (
    0,
    1,
    2,
    3,
    4,
    6,
    7,
    8,
    11,
    23,
    26,
    30,
)  # open 0 4 6 30, void 1 2 3, the others closed (policy 'paper')


def write_images(root: Path, number: int = 7, size=SIZE, folder: str = 'train') -> Path:
    """Images 0 ... number - 1 of a folder, 'train' or 'val'. The last of 'train' is the open
    validation set.
    """
    rng = np.random.default_rng(0)
    for i in range(number):
        rows, cols = np.indices(size, np.uint8)
        image = np.stack([cols, rows, np.full(size, i, np.uint8)], axis=2)  # RGB
        ids = {NO_OPEN: IDS[1:4] + IDS[6:11], NO_CLOSED: IDS[:6]}.get(i, IDS)
        for kind, end, data in (
            ('leftImg8bit', '_leftImg8bit.png', image),
            ('gtFine', '_gtFine_labelIds.png', rng.choice(np.array(ids, np.uint8), size)),
        ):
            path = root / kind / folder / 'ulm' / f'{i:03d}{end}'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(data).save(path)
    return root


def label_ids(root: Path, number: int) -> np.ndarray:
    """Label ids of a training image on the feature grid."""
    return np.array(Image.open(root / f'gtFine/train/ulm/{number:03d}_gtFine_labelIds.png'))[
        ::STRIDE, ::STRIDE
    ]


def pixel_ids(root: Path, features) -> list[int]:
    """Label ids of the pixels that feature rows (n, 3) came from."""
    maps = {}
    rows = torch.as_tensor(features).long().tolist()
    return [
        maps.setdefault(i, label_ids(root, i))[row // STRIDE, col // STRIDE] for i, row, col in rows
    ]


# ----------------------------------------------------------------------------------------------
# sources


def images(root, held_out=1, **options) -> dict:
    """Config of a dataset: the training images without the last ``held_out``, unless ``options``
    say otherwise.
    """
    return dict(
        dict(
            type='CityscapesOpenSet',
            data_root=str(root),
            num_open_val=held_out,
            pipeline=PIPELINE,
            serialize_data=False,
        ),
        **options,
    )  # serializing collects garbage, a quarter of a second each time


def source_config(
    root,
    bank,
    *,
    kind='StoreSource',
    held_out=1,
    open_held_out=None,
    open_=True,
    sampler=None,
    **options,
) -> dict:
    """Config of a source over the training images, with a small sampler."""
    sampler = dict(
        type='PixelSampler',
        num_closed=12,
        num_open=6,
        num_fake=4,
    ) | (sampler or {})
    return dict(
        type=kind,
        root=str(bank),
        sampler=sampler,
        closed=images(root, held_out),
        open=images(root, open_held_out or held_out) if open_ else None,
        **options,
    )


def source(root, bank, **options):
    """A source whose bank is not built."""
    init_default_scope('mmseg')
    config = source_config(root, bank, **options)
    return dict(StoreSource=StoreSource, OnlineSource=OnlineSource)[config.pop('type')](**config)


def extract(image, sample):
    """The segmentor: (3, H, W) raw image -> (3, h, w) features."""
    return image[:, ::STRIDE, ::STRIDE].float()


def built(root, bank, **options):
    """A source with its bank built."""
    made = source(root, bank, **options)
    made.prepare(extract, SEGMENTOR)
    return made


def store(world, bank, **sampler):
    """A source of a bank with every closed pixel; ``sampler``: options of its sampler."""
    return built(world, bank, closed_per_image=None, sampler=sampler)


def same(one, other):
    """Two batches have the same tensors."""
    assert one.keys() == other.keys()
    return all(
        torch.equal(one[key], other[key]) for key in one if isinstance(one[key], torch.Tensor)
    )


def located(bank, group):
    """(image number, row, col, label) of all rows of a group."""
    numbers = [int(name.split('/')[-1][:3]) for name in bank.manifest['images']]
    return [
        (numbers[p['image']], int(p['row']), int(p['col']), int(p['label']))
        for p in bank.pixels(group)
    ]


def stored_images(bank, group):
    """Names of the images that gave (possibly zero) pixels to a group of a bank."""
    shards = bank.manifest['shards']
    return [name for shard in shards for name in shard['groups'][group]['images']]


def content(folder):
    """The bytes of every file of a bank, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# ----------------------------------------------------------------------------------------------
# model


@MODELS.register_module()
class EveryFourthPixel(BaseModule):
    """A backbone whose feature is the image at every fourth pixel."""

    def forward(self, image):
        return [image[:, :, ::STRIDE, ::STRIDE]]


@MODELS.register_module()
class PlainHead(MODELS.get('FCNHead')):
    """Classifies its input."""

    def forward(self, inputs):
        return self.cls_seg(inputs[0])


PLAIN = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(type='EveryFourthPixel'),
    decode_head=dict(
        type='PlainHead', in_channels=3, channels=3, num_convs=0, concat_input=False, num_classes=19
    ),
    test_cfg=dict(mode='whole'),
)
MODEL = dict(
    type='OpenGANSegmentor',
    segmentor=dict(config=dict(model=PLAIN), checkpoint=None),
    discriminator=dict(type='FeatureDiscriminator', hidden=(8,)),
    generator=dict(type='FeatureGenerator', hidden=(8,)),
    scorers=dict(msp=dict(type='MSP')),
    resolution='feature',
)


def write_segmentor(path: Path) -> Path:
    """A random segmentor of ``MODEL`` under mmseg's published names."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    plain = MODELS.build(dict(PLAIN))
    torch.nn.init.normal_(plain.decode_head.conv_seg.weight, std=0.02)
    torch.save(dict(state_dict=plain.state_dict(), meta=dict(CLASSES=('road',))), path)
    return path
