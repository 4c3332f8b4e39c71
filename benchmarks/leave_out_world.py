"""What ``leave_out_search.py`` trains on: stored and validation pixels, and the generators."""

from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from torch import Tensor, nn

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.contracts import GT_OPEN_MAP
from mmseg_opengan.contrib.attenuating_generator import AttenuatingGenerator
from mmseg_opengan.experiments.leave_out import closed_pixels, kinds_of
from mmseg_opengan.experiments.scorer_fitting import FitSettings, fit_data, load_segmentor
from mmseg_opengan.functional import scores
from mmseg_opengan.functional.detection import LEAST_PIXELS
from mmseg_opengan.functional.pixels import labels_on_grid, pixels_first
from mmseg_opengan.models.fusion import scores_of_pixels
from mmseg_opengan.models.networks import FeatureGenerator
from mmseg_opengan.models.scorers.base import SCORERS

CONFIG = Path(__file__).resolve().parents[1] / 'configs/opengan/opengan_hr18s_camvid.py'
FREE = dict(type='ReAct', quantile=0.9, per='channel')


class Scored(NamedTuple):
    """Pixels with a free score."""

    features: Tensor  # (n, C)
    free: Tensor  # (n,)

    def some(self, number: int) -> 'Scored':
        """About so many of them, evenly spread."""
        step = max(1, len(self.features) // number)
        return Scored(self.features[::step], self.free[::step])


class World:
    """Stored training pixels, the classifier, and the pixels of open validation."""

    def __init__(self, bank: str | None):
        init_default_scope('mmseg')
        config = Config.fromfile(CONFIG)
        if bank is not None:
            config.train_dataloader.dataset.root = bank
        model = load_segmentor(config)
        self.source = DATASETS.build(config.train_dataloader.dataset)
        self.source.prepare(model.extract_image, model.segmentor_identity())
        validation = DATASETS.build(config.val_dataloader.dataset)
        self.kinds = kinds_of(self.source)
        self.data = fit_data(self.source, model, FitSettings())
        self.free = SCORERS.build(dict(FREE)).eval().fit(self.data)
        self.clip = torch.quantile(self.data.features[:20_000], 0.9, dim=0)
        self.stored = self.scored(self.data.features[:20_000])
        self.closed = self.scored(closed_pixels(model, validation)[0])
        self.validation = {
            name: self.scored(rows) for name, rows in open_pixels(model, validation).items()
        }
        self.opened = {}
        for kind, rows in self.kinds.items():
            features = self.source.bank.gather('open', rows).float()
            self.opened[kind] = self.scored(features)
        _, _, axes = torch.linalg.svd(self.data.weight.float())
        self.null_space = axes[len(self.data.weight) :]  # (C - K, C), directions that move no logit

    def inputs(self, kind: str, features: Tensor) -> Tensor:
        """What D reads of features (n, C)."""
        if kind == 'features':
            return features
        clipped = torch.minimum(features, self.clip)
        if kind == 'clipped':
            return clipped
        found = [self._of_logits(features)]
        if kind == 'all':
            found = [features, clipped, *found, self._of_logits(clipped)]
        return torch.cat(found, dim=1)

    def scored(self, features: Tensor) -> Scored:
        """Pixels (n, C) with their free score."""
        return Scored(features, scores_of_pixels(self.free, features, self._logits(features)))

    def _logits(self, features: Tensor) -> Tensor:
        return torch.addmm(self.data.bias.float(), features, self.data.weight.float().T)

    def _of_logits(self, features: Tensor) -> Tensor:
        logits = self._logits(features)
        maps = logits[:, :, None, None]
        extra = [function(maps).flatten() for function in (scores.energy, scores.gen)]
        return torch.cat([logits, torch.stack(extra, dim=1)], dim=1)


@torch.no_grad()
def open_pixels(model, dataset) -> dict[str, Tensor]:
    """Features (n, C) of the open pixels of a data set's images, by kind."""
    names = dataset.metainfo['open_classes']
    found: dict[str, list] = {name: [] for name in names}
    for number in range(len(dataset)):
        item = dataset[number]
        tap = model.extract_tap(item['inputs'], item['data_samples'])
        labels = labels_on_grid(item['data_samples'].get(GT_OPEN_MAP).data[0], tap.logits.shape[2:])
        rows = pixels_first(tap.features).float()
        for index, name in enumerate(names):
            found[name].append(rows[(labels == 1 + index).flatten()])
    joined = {name: torch.cat(parts) for name, parts in found.items()}
    return {name: rows for name, rows in joined.items() if len(rows) >= LEAST_PIXELS}


class ScaledGenerator(FeatureGenerator):
    """G whose output has the closed pixels' mean and deviation per channel, then ReLU."""

    def __init__(self, channels: int, closed: Tensor):
        super().__init__(channels)
        self.layers = self.layers[:-1]
        self.norm = nn.BatchNorm1d(channels)
        self.norm.weight.data.copy_(closed.std(dim=0))
        self.norm.bias.data.copy_(closed.mean(dim=0))

    def forward(self, noise: Tensor) -> Tensor:
        return self.norm(self.layers(noise)).relu()


class NullSpaceGenerator(FeatureGenerator):
    """A closed pixel of the step, moved in directions that change no logit (FEVER-OOD's idea)."""

    def __init__(self, channels: int, axes: Tensor, length: float):
        super().__init__(len(axes))
        self.register_buffer('axes', axes)
        self.length = length

    def observe(self, closed: Tensor) -> None:
        self.closed = closed

    def forward(self, noise: Tensor) -> Tensor:
        coordinates = self.layers[:-1](noise)
        moved = torch.nn.functional.normalize(coordinates, dim=1) * self.length
        rows = torch.arange(len(noise)) % len(self.closed)
        return self.closed[rows] + moved @ self.axes


def build_generator(kind: str, world: World) -> FeatureGenerator:
    closed = world.stored.features
    channels = closed.shape[1]
    if kind == 'usual':
        return FeatureGenerator(channels, out_act='auto')
    if kind == 'attenuating':
        return AttenuatingGenerator(channels)
    if kind == 'scaled':
        return ScaledGenerator(channels, closed)
    inside = (closed - closed.mean(dim=0)) @ world.null_space.T
    return NullSpaceGenerator(channels, world.null_space, float(inside.norm(dim=1).median()))
