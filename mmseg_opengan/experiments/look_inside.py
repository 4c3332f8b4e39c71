"""Look inside a trained OpenGAN: what G generates, beside the real features, and what D makes of
both.

    report = look_inside('config.py', 'checkpoint.pth', 'out')

Shape letters: n pixels, C channels, H, W image size.
"""

import ast
import inspect
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from mmseg.registry import DATASETS, MODELS
from torch import nn

from .. import register  # noqa: F401
from ..features.bank import FeatureBank
from ..features.sources import named
from ..files import write_json
from ..models.frozen_segmentor import noted_segmentor
from ..pictures.figures import save_figure
from ..provenance import made_from, require_same
from ..shipped import read_config_file
from .feature_comparison import CLOSED, FAKE, OPEN, Comparison, draw_groups
from .feature_figures import PROJECTIONS, Patch, map_figure, patch_figure

_FOOTNOTE = (
    'D: p(closed) of the real or generated feature;  '
    'L1: distance from the generated feature to this pixel'
)
_STRIDES = (32, 16, 8, 4, 2, 1)
_POINTS = 1000  # features of each group in the maps
_PATCHES, _PATCH_SIZE = 16, 64  # of each group; image pixels


def look_inside(
    config,
    checkpoint,
    out,
    *,
    device: str = 'cpu',
    cfg_options: dict | None = None,
) -> dict:
    """Write ``look_inside.json`` and the figures ``patches``, ``features_pca`` and
    ``features_tsne``, each as PNG and PDF.

    Args:
        config: training config of OpenGAN or OpenGAN-0 (a file); its feature bank must exist.
        checkpoint: what that training wrote, with D and G.
        out: folder, made if needed.
        device: where D, G and the search run.
        cfg_options: overrides of the config, keys with dots.

    Returns:
        dict: the content of ``look_inside.json``, see :meth:`Comparison.report`.

    Raises:
        FileNotFoundError: config, checkpoint, bank or a training image is missing.
        FeatureBankError: the bank was made from another segmentor than the checkpoint belongs to.
        ValueError: a checkpoint without generator, a bank without closed pixels, or images that are
            not the bank's.
    """
    cfg = read_config_file(config)
    cfg.merge_from_dict(dict(cfg_options or {}))
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    stored = CheckpointLoader.load_checkpoint(str(checkpoint), map_location='cpu')
    bank = open_bank(cfg, stored)
    discriminator, generator = load_networks(cfg, stored, bank.channels, checkpoint)
    images = StoredImages(cfg, bank)
    groups = draw_groups(
        bank,
        discriminator.to(device),
        generator.to(device),
        batch=cfg.train_dataloader.dataset.sampler.get('num_fake') or 2500,
    )
    comparison = Comparison(bank, groups)
    report = dict(
        config=str(cfg.filename),
        checkpoint=str(checkpoint),
        bank=str(bank.root),
        label_policy=bank.manifest['identity']['label_policy'],
        **comparison.report(),
    )

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    save_figure(patch_figure(patch_blocks(comparison, images), _FOOTNOTE), out / 'patches')
    shown = {name: group.head(_POINTS) for name, group in groups.items()}
    for name in PROJECTIONS:
        figure = feature_map(name, shown, comparison, images.palette)
        save_figure(figure, out / f'features_{name}')
    write_json(out / 'look_inside.json', report)
    return report


def open_bank(cfg: Config, checkpoint: dict) -> FeatureBank:
    """The bank of a training config, if the checkpoint belongs to the segmentor that it was made
    from.
    """
    segmentor = noted_segmentor(checkpoint.get('meta', {})).get('sha256')
    bank = FeatureBank(
        cfg.train_dataloader.dataset.root, {'segmentor_sha256': segmentor} if segmentor else None
    )
    if not bank.num_pixels(CLOSED):
        raise ValueError(
            f"The feature bank in '{bank.root}' holds no closed pixels: "
            'wanted one built by a StoreSource'
        )
    return bank


def load_networks(
    cfg: Config, checkpoint: dict, channels: int, path
) -> tuple[nn.Module, nn.Module]:
    """D in eval mode, as it scores images, and G in training mode, as D met it: batch norm of the
    batch itself.

    Raises:
        ValueError: one of them is missing, or was trained with other options than the config's. The
            weights of two generators look alike where one ends in a ReLU and the other does not;
            their features do not.
    """
    networks = []
    for name, width in (('discriminator', 'in_channels'), ('generator', 'out_channels')):
        prefix = f'{name}.'
        weights = {}
        for key, value in checkpoint['state_dict'].items():
            if key.startswith(prefix):
                weights[key.removeprefix(prefix)] = value
        wanted = cfg.model.get(name)
        if not weights or not wanted:
            raise ValueError(
                f"'{path}' or its config has no {name}: wanted a checkpoint of OpenGAN or OpenGAN-0"
            )
        trained = trained_options(checkpoint, name)
        if trained is not None:
            require_same(
                f"The {name} of '{path}'",
                made_from(**_with_defaults(wanted)),
                made_from(**_with_defaults(trained)),
                advice='Use the config that lies in the work directory of its training.',
            )
        network = MODELS.build({**wanted, width: channels})
        network.load_state_dict(weights)
        networks.append(network)
    return networks[0].eval(), networks[1].train()


def trained_options(checkpoint: dict, name: str) -> dict | None:
    """Config of a network in the config that a checkpoint carries as Python text, which is read and
    not run; None where it carries none.
    """
    try:
        text = checkpoint['meta']['cfg']
        model = next(line.value for line in ast.parse(text).body if line.targets[0].id == 'model')
        network = next(option.value for option in model.keywords if option.arg == name)
        return {option.arg: ast.literal_eval(option.value) for option in network.keywords}
    except (KeyError, TypeError, AttributeError, StopIteration, SyntaxError, ValueError):
        return None  # saved by other hands; nothing to compare with


def _with_defaults(options: dict) -> dict:
    parameters = inspect.signature(MODELS.get(options['type'])).parameters.values()
    return {**{parameter.name: parameter.default for parameter in parameters}, **options}


class StoredImages:
    """The training images behind a bank's pixels.

    Attributes:
        palette: RGB of each closed class.
        stride: image pixels per cell of the feature grid.
    """

    def __init__(self, cfg: Config, bank: FeatureBank):
        source = cfg.train_dataloader.dataset
        self.names = bank.manifest['images']
        self._places = {}
        for group in (OPEN, CLOSED):
            if source.get(group):
                dataset = DATASETS.build(source[group])
                self._places.update({name: place for name, *place in named(dataset)})
        self.palette = dataset.metainfo['palette']
        self.stride = self._stride(bank)

    def place(self, number: int) -> tuple[BaseDataset, int]:
        """The bank's image of that number, as a data set and an index."""
        name = self.names[number]
        if name not in self._places:
            raise FileNotFoundError(f"wanted the feature bank's image '{name}' in the data sets")
        return self._places[name]

    def _stride(self, bank) -> int:
        """The bank does not say: the largest stride at which the labels of an image are those of
        its stored pixels.
        """
        pixels = bank.pixels(CLOSED)
        number = int(np.bincount(pixels['image']).argmax())
        pixels = pixels[pixels['image'] == number]
        dataset, index = self.place(number)
        labels, _ = dataset.read_labels(index)
        for stride in _STRIDES:
            rows, cols = (stride * pixels[axis].astype(np.int64) for axis in ('row', 'col'))
            inside = rows.max() < labels.shape[0] and cols.max() < labels.shape[1]
            if inside and (labels[rows, cols] == pixels['label']).all():
                return stride
        raise ValueError(
            f"'{self.names[number]}': wanted the labels that the feature bank in '{bank.root}' was "
            'built from, found others: at no grid stride are they those of the stored pixels'
        )

    def patch(self, pixel) -> tuple[np.ndarray, tuple[int, int]]:
        """:func:`cut_patch` around a stored pixel."""
        dataset, index = self.place(int(pixel['image']))
        image = mmcv.imread(dataset.get_data_info(index)['img_path'], channel_order='rgb')
        row, col = (int(pixel[axis]) * self.stride for axis in ('row', 'col'))
        return cut_patch(image, row, col, _PATCH_SIZE)


def cut_patch(
    image: np.ndarray, row: int, col: int, size: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """(size, size, 3) part of an image (H, W, 3), and where in it the image's pixel (row, col)
    lies.

    The pixel is in the middle, or off it where the part would reach beyond the image; a smaller
    image comes whole.
    """
    top, left = (
        max(0, min(at - size // 2, length - size)) for at, length in zip((row, col), image.shape)
    )
    return image[top : top + size, left : left + size], (row - top, col - left)


def patch_blocks(comparison: Comparison, images: StoredImages) -> dict[str, list[Patch]]:
    """Titles with patches: random real pixels of each group, then the stored pixels nearest to
    fakes.
    """

    def patch(stored, pixel, note):
        return Patch(*images.patch(pixel), stored, comparison.class_of(stored, pixel), note)

    blocks = {}
    for stored in comparison.stored:
        some = comparison.groups[stored].head(_PATCHES)
        p_closed = some.logits.sigmoid().tolist()
        blocks[f'real {stored} pixels, random'] = [
            patch(stored, pixel, f'D {p:.2f}') for pixel, p in zip(some.pixels, p_closed)
        ]
    p_closed = comparison.groups[FAKE].logits.sigmoid().tolist()
    nearest = comparison.nearest_of_fakes()[:_PATCHES]
    blocks['generated: nearest real pixel of each'] = [
        patch(stored, pixel, f'D {p:.2f}, L1 {distance:.0f}')
        for (stored, pixel, distance), p in zip(nearest, p_closed)
    ]
    return blocks


def feature_map(projection: str, groups: dict, comparison: Comparison, palette):
    """Figure of groups of features, projected to a plane and coloured in four ways."""
    features = torch.cat([group.features for group in groups.values()]).cpu().numpy()
    p_open = torch.cat([(-group.logits).sigmoid() for group in groups.values()]).cpu().numpy()
    kinds = np.repeat(list(groups), [len(group.logits) for group in groups.values()])
    classes = []
    for name, group in groups.items():
        if group.pixels is None:
            classes += [FAKE] * len(group.logits)
        else:
            classes += [comparison.class_of(name, pixel) for pixel in group.pixels]
    points, title = PROJECTIONS[projection](features, kinds != FAKE)
    colours = dict(zip(comparison.bank.manifest['identity']['closed_classes'], palette))
    return map_figure(points, kinds, np.array(classes), p_open, colours, title)
