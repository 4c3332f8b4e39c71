"""One config of every family of MMSegmentation's model zoo through the open-set model, on random
weights.

    OMP_NUM_THREADS=1 python benchmarks/zoo.py --out work_dirs/zoo

Each model is mmseg's own, and the one that holds it. Compared bit by bit: the closed output of a
whole image, of a batch of two that is resized, and of sliding windows. Looked at: score maps, two
steps of D and G, the segmentor's weights before and after. Results go to OUT/zoo.json as they come:
the same command goes on where it stopped.

MaskFormer and Mask2Former need mmdet, ConvNeXt and PoolFormer mmpretrain: ``pip install mmdet
mmpretrain``. PSANet's compiled operator has a stand-in here, in torch, where mmcv has none.
"""

import argparse
import copy
import importlib.util
import json
import re
import time
import traceback
from pathlib import Path

import mmseg
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.nn.modules.batchnorm import _BatchNorm

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.contracts import OPEN_SCORES
from mmseg_opengan.features.pixel_sampler import PixelSampler
from mmseg_opengan.files import write_json
from mmseg_opengan.functional.pixels import pixels_first
from mmseg_opengan.models.frozen_segmentor import FrozenSegmentor, digest_of, read_config

CONFIGS = Path(mmseg.__file__).parent / '.mim' / 'configs'
SIZE = (128, 256)
LARGER = dict(mobilenet_v3=(416, 416))  # the least that its pooling takes
WINDOWS = dict(mode='slide', crop_size=(96, 128), stride=(64, 85))
FIXED_SIZE = ('beit', 'mae')  # their backbones are built for one size of input
LARGE = re.compile(r'r101|x101|s101|-l_|vit-l|swin-l|swin-b|-b5|-base|-large|levir')
PREFERRED = dict(
    segmenter='segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py'
)  # the others of it are FCNs
D, G = dict(type='FeatureDiscriminator'), dict(type='FeatureGenerator', out_act='auto')


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', default='work_dirs/zoo', help='folder for zoo.json')
    parser.add_argument('--only', nargs='+', help='families (default: all)')
    parser.add_argument('--again', action='store_true', help='repeat what zoo.json has')
    return parser.parse_args()


def chosen(only) -> list[Path]:
    """One config of each family: on Cityscapes if there is one, of a small network."""
    found = []
    for folder in sorted(path for path in CONFIGS.iterdir() if path.name != '_base_'):
        files = sorted(folder.glob('*.py'))
        if files and (not only or folder.name in only):
            preferred = folder / PREFERRED.get(folder.name, '')
            found.append(preferred if preferred in files else min(files, key=_rank))
    return found


def _rank(path: Path) -> tuple:
    return 'cityscapes' not in path.name, bool(LARGE.search(path.name)), len(path.name), path.name


class TorchPSAMask(torch.nn.Module):
    """What mmcv's compiled ``PSAMask`` computes, for PSANet where it is missing.

    A pixel's (mask_h, mask_w) channels say how it attends to its surroundings. They become a map of
    the whole image: (N, mask_h * mask_w, H, W) -> (N, H * W, H, W), from the image to the pixel
    ('collect') or back ('distribute').
    """

    def __init__(self, psa_type: str, mask_size):
        super().__init__()
        self.psa_type, self.mask_size = psa_type, mask_size

    def forward(self, masks):
        number, _, height, width = masks.shape
        offsets = []
        for length, extent in zip((height, width), self.mask_size):
            places = torch.arange(length)
            offsets.append(places[:, None] - places[None] + (extent - 1) // 2)  # (other, own)
        rows = (
            offsets[0][:, None, :, None]
            .expand(height, width, height, width)
            .reshape(height * width, -1)
        )
        cols = (
            offsets[1][None, :, None, :]
            .expand(height, width, height, width)
            .reshape(height * width, -1)
        )
        inside = (rows >= 0) & (rows < self.mask_size[0]) & (cols >= 0) & (cols < self.mask_size[1])
        channels = (rows * self.mask_size[1] + cols).where(inside, 0)
        found = (
            masks.flatten(2)[:, channels, torch.arange(height * width)] * inside
        )  # (N, other, own)
        if self.psa_type == 'distribute':
            found = found.transpose(1, 2)
        return found.reshape(number, height * width, height, width)


def plain_model(config: dict):
    """mmseg's own model, with random weights that leave the softmax something to say."""
    config['model']['test_cfg'] = dict(config['model'].get('test_cfg') or {}, mode='whole')
    torch.manual_seed(0)
    model = FrozenSegmentor(config).network
    for norm in (module for module in model.modules() if isinstance(module, _BatchNorm)):
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
        if norm.affine:
            torch.nn.init.normal_(norm.bias, 0, 0.1)
    for name, weight in model.named_parameters():
        uninitialised = 'positional' in name or name.endswith(
            ('_embed', '_embedding', '_projection')
        )
        if uninitialised or name.endswith('conv_seg.weight') or not weight.isfinite().all():
            torch.nn.init.normal_(weight, 0, 0.1)
    return model


def image_of(size, seed: int, original=None) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    rows, cols = original or size
    sample = SegDataSample(
        metainfo=dict(
            img_path=f'{seed}.png',
            ori_shape=(rows, cols),
            img_shape=size,
            pad_shape=size,
            scale_factor=(size[1] / cols, size[0] / rows),
            flip=False,
            flip_direction=None,
        )
    )
    return image, sample


@torch.no_grad()
def predict(model, *items):
    images, samples = zip(*items)
    torch.manual_seed(5)
    return model.test_step(dict(inputs=list(images), data_samples=copy.deepcopy(list(samples))))


def compare(ours, plain, *items) -> str:
    """'identical', or what differs in closed output or score maps."""
    faults = []
    for mine, theirs in zip(predict(ours, *items), predict(plain, *items), strict=True):
        for field in ('seg_logits', 'pred_sem_seg'):
            if not torch.equal(mine.get(field).data, theirs.get(field).data):
                faults.append(f'{field} differs')
        for name, scores in mine.get(OPEN_SCORES).items():
            wanted = tuple(mine.metainfo['ori_shape'])
            if ours.resolution == 'image' and tuple(scores.shape[1:]) != wanted:
                faults.append(f'{name} has size {tuple(scores.shape[1:])}')
            if not scores.isfinite().all() or scores.std() == 0:
                faults.append(f'{name} is not finite or constant')
    return '; '.join(sorted(set(faults))) or 'identical'


def train(ours, item) -> str:
    """Two steps of D and G on the pixels of an image, left half closed, right half open."""
    features = ours.extract_image(*item)
    half = features.shape[2] // 2
    closed, open_ = (
        pixels_first(part[None])[:64] for part in (features[..., :half], features[..., half:])
    )
    networks = {name: getattr(ours, name) for name in ('discriminator', 'generator')}
    optimizers = OptimWrapperDict(
        **{
            name: OptimWrapper(torch.optim.Adam(network.parameters(), lr=1e-3))
            for name, network in networks.items()
        }
    )
    sampler = PixelSampler(num_closed=64, num_open=64, num_fake=32)
    ours.train()
    for step in range(2):
        log = ours.train_step(dict(draw=sampler.at(0, step), closed=closed, open=open_), optimizers)
        if not all(torch.isfinite(value).all() for value in log.values()):
            return 'loss is not finite'
    ours.eval()
    return 'ok'


def run(path: Path) -> dict:
    config = read_config(str(path))
    fixed = path.parent.name in FIXED_SIZE
    if fixed:
        config['model']['backbone']['img_size'] = SIZE
    found = examine(config, LARGER.get(path.parent.name, SIZE), with_windows=not fixed)
    return dict(config=f'{path.parent.name}/{path.name}', **found)


def examine(config: dict, size, *, with_windows: bool = True) -> dict:
    """A row of the table for one segmentor.

    Args:
        config: of :func:`read_config`.
        size: (height, width) of the images.
        with_windows: try sliding windows too, if the config slides.
    """
    row = {}
    other = (size[0] + 37, size[1] - 20)
    slides = (config['model'].get('test_cfg') or {}).get('mode') == 'slide'
    plain = plain_model(config)
    heads = (
        plain.decode_head
        if isinstance(plain.decode_head, torch.nn.ModuleList)
        else [plain.decode_head]
    )
    row['head'] = type(heads[-1]).__name__
    torch.manual_seed(1)
    scorers = dict(msp=dict(type='MSP'))
    ours = MODELS.build(
        dict(
            type='OpenGANSegmentor',
            segmentor=dict(config=config),
            discriminator=D,
            generator=G,
            scorers=scorers,
            resolution='feature',
        )
    ).eval()
    ours.load_segmentor(plain.state_dict())
    row['channels'] = ours.head.channels
    row['whole'] = compare(ours, plain, image_of(size, 0))
    ours.resolution = 'image'
    row['resized batch'] = compare(ours, plain, image_of(size, 1, other), image_of(size, 2, other))
    if slides and with_windows:
        for one in (plain, ours.segmentor):
            one.test_cfg = ConfigDict(WINDOWS)
        row['slide'] = compare(ours, plain, image_of(size, 3))
        for one in (plain, ours.segmentor):
            one.test_cfg = ConfigDict(plain.test_cfg, mode='whole')
    row['steps'] = train(ours, image_of(size, 4))
    untouched = digest_of(ours.segmentor.state_dict()) == digest_of(plain.state_dict())
    row['segmentor'] = 'untouched' if untouched else 'CHANGED'
    return row


def table(rows: dict[str, dict]) -> str:
    columns = (
        'config',
        'head',
        'channels',
        'whole',
        'resized batch',
        'slide',
        'steps',
        'segmentor',
    )
    lines = ['| family | ' + ' | '.join(columns) + ' |', '|' + '---|' * (len(columns) + 1)]
    for family, row in sorted(rows.items()):
        cells = [str(row.get(column, '')) for column in columns]
        if 'error' in row:
            cells = [row['config'], row['error'], *[''] * (len(columns) - 2)]
        lines.append(f'| {family} | ' + ' | '.join(cells) + ' |')
    whole = sum(passes(row) for row in rows.values())
    return '\n'.join([*lines, '', f'{whole} of {len(rows)} families'])


def passes(row: dict) -> bool:
    """All is well with a family."""
    outputs = [row[key] for key in ('whole', 'resized batch', 'slide') if key in row]
    return (
        'error' not in row
        and set(outputs) == {'identical'}
        and row['steps'] == 'ok'
        and row['segmentor'] == 'untouched'
    )


def main():
    args = parse_args()
    MMLogger.get_instance('mmengine', log_level='ERROR')
    init_default_scope('mmseg')
    if importlib.util.find_spec('mmcv._ext') is None:
        from mmseg.models.decode_heads import psa_head

        psa_head.PSAMask = TorchPSAMask
    file = Path(args.out, 'zoo.json')
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = json.loads(file.read_text()) if file.exists() else {}
    for path in chosen(args.only):
        family = path.parent.name
        if family in rows and not args.again:
            continue
        start = time.monotonic()
        try:
            row = run(path)
        except Exception as error:
            text = ' '.join(f'{type(error).__name__}: {error}'.split())
            row = dict(
                config=f'{family}/{path.name}',
                error=text[:200].replace('|', '/'),
                where=traceback.format_exc()[-1500:],
            )
        row['seconds'] = round(time.monotonic() - start, 1)
        rows[family] = row
        write_json(file, rows)
        print(family, 'ok' if passes(row) else row, flush=True)
    print(
        table({family: row for family, row in rows.items() if not args.only or family in args.only})
    )


if __name__ == '__main__':
    main()
