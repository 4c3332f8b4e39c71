"""Look inside a trained OpenGAN: what G generates, beside the real features, and what D makes of
both.

    report = look_inside('config.py', 'checkpoint.pth', 'out')

Shape letters: n pixels, C channels, H, W image size.
"""

from pathlib import Path

import mmcv
import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from torch import nn

from .. import register  # noqa: F401
from ..features.bank import GROUPS, FeatureBank
from ..features.sources import named
from ..files import write_json
from ..inference.config import config_in
from ..models.frozen_segmentor import noted_segmentor, read_checkpoint
from ..pictures.figures import save_figure
from ..shipped import read_config_file
from .feature_comparison import (
    FAKE,
    Group,
    class_of,
    draw_groups,
    find_nearest,
    nearest_of_fakes,
    report,
)
from .feature_figures import PROJECTIONS, Patch, map_figure, patch_figure

_FOOTNOTE = 'D: p(closed) of the generated feature;  L1: its distance to this pixel'
_STRIDES = (32, 16, 8, 4, 2, 1)
_POINTS = 1000  # features of each group in the maps
_PATCHES, _PATCH_SIZE = 16, 64  # how many; image pixels


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
        checkpoint: what that training wrote, with D and G. They are built as its own config says.
        out: folder, made if needed.
        device: where D, G and the search run.
        cfg_options: overrides of the config, keys with dots.

    Returns:
        dict: the content of ``look_inside.json``, see :func:`feature_comparison.report`.

    Raises:
        FileNotFoundError: config, checkpoint, bank or a training image is missing.
        FeatureBankError: the bank was made from another segmentor than the checkpoint belongs to.
        ValueError: a checkpoint without generator, a bank without closed pixels, or images that are
            not the bank's.
    """
    cfg = read_config_file(config)
    cfg.merge_from_dict(dict(cfg_options or {}))
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    state, meta = read_checkpoint(str(checkpoint))
    trained = config_in(str(checkpoint)).model
    source = cfg.train_dataloader.dataset
    bank = FeatureBank(source.root, dict(segmentor_sha256=noted_segmentor(meta)['sha256']))
    if not bank.num_pixels('closed'):
        raise ValueError(
            f"The feature bank in '{bank.root}' holds no closed pixels: "
            'wanted one built by a StoreSource'
        )
    discriminator, generator = load_networks(trained, state, bank.channels, checkpoint)
    images = StoredImages(cfg, bank)
    groups = draw_groups(
        bank,
        discriminator.to(device),
        generator.to(device),
        batch=source.sampler.get('num_fake') or 2500,
    )
    found = find_nearest(bank, groups)
    numbers = dict(
        config=str(cfg.filename),
        checkpoint=str(checkpoint),
        bank=str(bank.root),
        label_policy=bank.manifest['identity']['label_policy'],
        **report(groups, found),
    )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    nearest = zip(nearest_of_fakes(bank, found)[:_PATCHES], groups[FAKE].logits.sigmoid().tolist())
    patches = [images.patch(*pixel, p_closed) for pixel, p_closed in nearest]
    title = 'the stored pixels nearest to generated features'
    save_figure(patch_figure(patches, title, _FOOTNOTE), out / 'patches')
    shown = {name: group.head(_POINTS) for name, group in groups.items()}
    for name in PROJECTIONS:
        save_figure(feature_map(name, shown, images), out / f'features_{name}')
    write_json(out / 'look_inside.json', numbers)
    return numbers


def load_networks(
    trained: dict, state: dict[str, torch.Tensor], channels: int, path
) -> tuple[nn.Module, nn.Module]:
    """D in eval mode, as it scores images, and G in training mode, as D met it: batch norm of the
    batch itself.

    Args:
        trained: ``model`` of the config that the networks were trained with.

    Raises:
        ValueError: one of them is missing.
    """
    networks = []
    for name, width in (('discriminator', 'in_channels'), ('generator', 'out_channels')):
        options = trained.get(name)
        if not options:
            raise ValueError(f"'{path}' has no {name}: wanted a checkpoint of OpenGAN or OpenGAN-0")
        network = MODELS.build({**options, width: channels})
        prefix = f'{name}.'
        own = {key: value for key, value in state.items() if key.startswith(prefix)}
        network.load_state_dict({key.removeprefix(prefix): own[key] for key in own})
        networks.append(network)
    return networks[0].eval(), networks[1].train()


class StoredImages:
    """The training images behind a bank's pixels.

    Attributes:
        bank: the bank.
        palette: RGB of each closed class by name.
        stride: image pixels per cell of the feature grid.
    """

    def __init__(self, cfg: Config, bank: FeatureBank):
        self.bank = bank
        self._places = {}
        for group in GROUPS:
            images = cfg.train_dataloader.dataset.get(group)
            if images:
                dataset = DATASETS.build(images)
                self._places.update({name: place for name, *place in named(dataset)})
        classes = bank.manifest['identity']['closed_classes']
        self.palette = dict(zip(classes, dataset.metainfo['palette']))
        self.stride = self._stride()

    def place(self, number: int) -> tuple[BaseDataset, int]:
        """The bank's image of that number, as a data set and an index."""
        name = self.bank.manifest['images'][number]
        if name not in self._places:
            raise FileNotFoundError(f"wanted the feature bank's image '{name}' in the data sets")
        return self._places[name]

    def _stride(self) -> int:
        """The bank does not say: the largest stride at which the labels of an image are those of
        its stored pixels.
        """
        pixels = self.bank.pixels('closed')
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
            f"'{dataset.get_data_info(index)['img_path']}': wanted the labels that the feature "
            f"bank in '{self.bank.root}' was built from, found others: at no grid stride are they "
            'those of the stored pixels'
        )

    def patch(self, stored: str, pixel, distance: float, p_closed: float) -> Patch:
        """The part of the image around a stored pixel, beside the generated feature's numbers.

        The pixel is in the middle, or off it where the part would reach beyond the image; a smaller
        image comes whole.
        """
        dataset, index = self.place(int(pixel['image']))
        image = mmcv.imread(dataset.get_data_info(index)['img_path'], channel_order='rgb')
        row, col = (int(pixel[axis]) * self.stride for axis in ('row', 'col'))
        height, width, _ = image.shape
        top = max(0, min(row - _PATCH_SIZE // 2, height - _PATCH_SIZE))
        left = max(0, min(col - _PATCH_SIZE // 2, width - _PATCH_SIZE))
        part = image[top : top + _PATCH_SIZE, left : left + _PATCH_SIZE]
        title = class_of(self.bank, stored, pixel)
        note = f'D {p_closed:.2f}, L1 {distance:.0f}'
        return Patch(part, (row - top, col - left), stored, title, note)


def feature_map(projection: str, groups: dict[str, Group], images: StoredImages) -> Figure:
    """Figure of groups of features, projected to a plane."""
    features = torch.cat([group.features for group in groups.values()]).cpu().numpy()
    p_open = torch.cat([(-group.logits).sigmoid() for group in groups.values()]).cpu().numpy()
    kinds = np.repeat(list(groups), [len(group.logits) for group in groups.values()])
    classes = []
    for name, group in groups.items():
        if group.pixels is None:
            classes += ['generated'] * len(group.logits)
        else:
            classes += [class_of(images.bank, name, pixel) for pixel in group.pixels]
    points, title = PROJECTIONS[projection](features, kinds != FAKE)
    return map_figure(points, kinds, np.array(classes), p_open, images.palette, title)
