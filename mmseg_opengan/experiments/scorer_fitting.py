"""Fit scorers on stored training pixels, and choose their options on the open-validation images.

What a scorer learns comes from closed training pixels of the feature bank (and open ones, for the
few that look at them). Every candidate of its options is fitted; the one with the best AUROC on the
open-validation images, on the feature grid, is kept. A single candidate is kept without them. No
test image is read.
"""

import itertools
import json
import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from mmseg.registry import DATASETS, MODELS
from torch import nn
from tqdm import tqdm

from .. import register  # noqa: F401
from ..contracts import GT_OPEN_MAP, IGNORE, OPEN_SCORES
from ..evaluation.decided import digest_of_data
from ..features.bank import GROUPS
from ..features.stored_taps import images_of
from ..files import write_json
from ..functional.pixels import labels_on_grid
from ..functional.score_counts import ScoreCounts, summarize
from ..models.scorers.base import SCORERS, FitData, FittedScorer
from ..provenance import differences, digest_of_file, made_from, note, noted

SUMMARY = 'fitting.json'
#: What open validation may choose by.
CHOICES = ('AUROC', 'AUROC_kinds')


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """What is the same for all scorers; a config's ``scorer_fitting`` has the same names.

    Args:
        num_pixels: closed training pixels to fit on, and as many open ones where the training
            config has any, drawn from all images' without replacement.
        seed: of the draw, and of what is random in a scorer.
        choose_by: ``'AUROC'``, pooled, or ``'AUROC_kinds'``, the mean over open kinds.
        grids: candidates by scorer name, ``{option: values}``, in place of the class's own. An
            option that the scorer's config states is not searched.
    """

    num_pixels: int = 200000
    seed: int = 0
    choose_by: str = 'AUROC'
    grids: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.choose_by not in CHOICES:
            raise ValueError(f'choose_by: wanted one of {CHOICES}, found {self.choose_by!r}')


def learns(scorer: dict) -> bool:
    """True for configs of scorers that have something to fit or to choose."""
    cls = SCORERS.get(scorer['type'])
    return issubclass(cls, FittedScorer) or bool(cls.candidates)


def candidates_of(scorer: dict, grid: dict | None = None) -> list[dict]:
    """Configs of all candidates: the scorer's own options with every combination of the grid's.

    Raises:
        ValueError: the grid names an option that the scorer does not have.
    """
    cls = SCORERS.get(scorer['type'])
    fixed = {key: value for key, value in scorer.items() if key != 'checkpoint'}
    open_grid = {}
    for name, values in (cls.candidates if grid is None else grid).items():
        if name not in fixed:
            open_grid[name] = list(values)
    unknown = sorted(open_grid.keys() - SCORERS.build(dict(fixed)).options().keys())
    if unknown:
        raise ValueError(f'grid of {scorer["type"]}: {unknown} are no options of it')
    combinations = itertools.product(*open_grid.values())
    return [dict(fixed, **dict(zip(open_grid, values))) for values in combinations]


def fit_scorers(config: Config, *, out, settings: FitSettings | None = None) -> dict[str, dict]:
    """Fit the scorers of a config that have something to fit, and write ``{out}/{name}.pth`` and
    ``fitting.json``.

    What was fitted before on the same images with the same settings is kept, candidates of an
    interrupted run included.

    Args:
        config: a training config: its segmentor, feature bank (built where missing) and, where
            a scorer has several candidates, open-validation images.
        out: folder.
        settings: those of the config's ``scorer_fitting`` by default.

    Returns:
        dict: by name, what ``fitting.json`` has: chosen options, their AUROC (None where there was
            nothing to choose), those of all candidates.

    Raises:
        ValueError: a scorer has several candidates, and the config has no open-validation images or
            they lack closed or open pixels; features are not stored; see also
            :func:`candidates_of`.
    """
    init_default_scope('mmseg')
    settings = settings or FitSettings(**config.get('scorer_fitting', {}))
    out = Path(out)
    model = load_segmentor(config)
    source = DATASETS.build(config.train_dataloader.dataset)
    if not source.stores_closed:
        raise ValueError(
            "train_dataloader.dataset: wanted type='StoreSource', which stores closed pixels to "
            f'fit on, found {type(source).__name__}'
        )
    source.prepare(model.extract_image, model.segmentor_identity())
    data = config.to_dict()
    trained_on = data['train_dataloader']['dataset']
    record = dict(
        bank=source.identity,
        num_pixels=settings.num_pixels,
        seed=settings.seed,
        training={group: trained_on.get(group) for group in GROUPS},
        leave_out=source.leave_out,
        training_files=source.files_sha256(),
    )
    images = (data.get('val_dataloader') or {}).get('dataset')
    files = images and digest_of_data(config.val_dataloader.dataset)
    tasks = []
    for name, cfg in (config.model.get('scorers') or {}).items():
        if not learns(cfg):
            continue
        candidates = candidates_of(cfg, settings.grids.get(name))
        choice = {}
        if len(candidates) > 1:
            choice = dict(choose_by=settings.choose_by, open_validation=images, files_of_it=files)
            if images is None:
                raise ValueError(_cannot_choose([name], 'no val_dataloader'))
        tasks.append(_Task(name, candidates, out, dict(record, **choice)))
    todo = [task for task in tasks if not task.done()]
    if todo:
        pixels = fit_data(source, model, settings)
        for task in tqdm(todo, desc='Fitting scorers', unit='scorer'):
            task.fit(pixels)
    several = [task for task in todo if len(task.candidates) > 1]
    numbers = _validated(several, config) if several else {}
    for task in todo:
        task.keep(numbers.get(task.name, [dict.fromkeys(CHOICES)]), settings.choose_by)
    summary = {task.name: task.summary() for task in tasks}
    before = json.loads((out / SUMMARY).read_text()) if (out / SUMMARY).exists() else {}
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / SUMMARY, {**before, **summary})
    return summary


def load_segmentor(config: Config, scorers: dict[str, dict] | None = None) -> nn.Module:
    """The frozen segmentor of a config with its trained weights and these scorers alone, scoring on
    the feature grid.
    """
    alone = dict(
        discriminator=None,
        generator=None,
        fuse=None,
        resolution='feature',
    )
    model = MODELS.build(dict(config.model, **alone, scorers=scorers))
    model.check_segmentor()
    return model.to(get_device()).eval()


def fit_data(source, model, settings: FitSettings) -> FitData:
    """Sampled training pixels of a feature source, and their logits by the segmentor's own
    classifier.

    Where the class of a closed pixel is not known (anomaly masks), the predicted one stands for it.
    """
    classifier = model.head.adapter.classifier
    if classifier is None:
        raise ValueError(
            'fit_scorers: wanted a head that classifies a feature with conv_seg, found '
            f'{type(model.head.head).__name__}'
        )
    weight, bias = classifier
    if weight.device.type == 'mps':  # fits are in float64, which Apple's GPUs do not have
        weight, bias = weight.cpu(), bias.cpu()

    def sample(group):
        pool = source.pool(group)
        rows = pool.sample(settings.num_pixels, [settings.seed, len(group)])
        return source.bank.gather(group, rows).float().to(weight.device), rows

    features, rows = sample('closed')
    stored = source.bank.pixels('closed')['label'][rows].astype(np.int64)
    opened = None if source.open_images is None else sample('open')[0]
    logits = torch.addmm(bias, features, weight.T)
    labels = torch.from_numpy(stored).to(weight.device)
    labels = torch.where(labels == IGNORE, logits.argmax(1), labels)
    return FitData(features, logits, labels, weight, bias, opened, settings.seed)


class _Task:
    """One scorer: its candidates, and the files that say how far it has come."""

    def __init__(self, name: str, candidates: list[dict], out: Path, record: dict):
        self.name = name
        self.record = made_from(
            **record, candidates=candidates, files=[_digests(each) for each in candidates]
        )
        self.candidates = self.record['candidates']
        self.path = out / f'{name}.pth'
        self.folder = out / 'candidates' / name

    def done(self) -> bool:
        return self.path.exists() and not differences(self.record, self._meta().get('settings', {}))

    def _meta(self) -> dict:
        return CheckpointLoader.load_checkpoint(str(self.path), 'cpu', logger='silent')['meta']

    def summary(self) -> dict:
        meta = self._meta()
        return dict(
            scorer=meta['scorer'],
            options=meta['options'],
            **meta['fitting'],
        )

    def fitted(self) -> list[dict]:
        """Configs of the fitted candidates."""
        configs = []
        for place, candidate in enumerate(self.candidates):
            configs.append(dict(candidate, checkpoint=str(self.folder / f'{place}.pth')))
        return configs

    def fit(self, data: FitData) -> None:
        """Fit candidates, each into a file of its own, but those that an interrupted run has left
        there.
        """
        if differences(self.record, noted(self.folder)):
            shutil.rmtree(self.folder, ignore_errors=True)
            note(self.folder, self.record)
        for candidate, fitted in zip(self.candidates, self.fitted()):
            path = Path(fitted['checkpoint'])
            if path.exists():
                continue
            scorer, start = SCORERS.build(dict(candidate)), time.monotonic()
            if isinstance(scorer, FittedScorer):
                scorer.fit(data)
            scorer.save_file(path, seconds=round(time.monotonic() - start, 2))

    def keep(self, found: list[dict], choose_by: str) -> None:
        """Write the best candidate, the earliest of equals, and forget the others."""
        if any(one[choose_by] is not None and math.isnan(one[choose_by]) for one in found):
            text = f'too few of each open kind for {choose_by}, which is undefined'
            raise ValueError(_cannot_choose([self.name], text))
        best = max(range(len(found)), key=lambda place: found[place][choose_by])
        tried = []
        for candidate, numbers in zip(self.candidates, found):
            options = {key: value for key, value in candidate.items() if key != 'type'}
            tried.append(dict(options=options, **numbers))
        SCORERS.build(self.fitted()[best]).save_file(
            self.path,
            segmentor_sha256=self.record['bank']['segmentor_sha256'],
            settings=self.record,
            fitting=dict(found[best], candidates=tried),
        )
        shutil.rmtree(self.folder)


@torch.no_grad()
def _validated(tasks: list[_Task], config: Config) -> dict[str, list[dict]]:
    """``CHOICES`` of every fitted candidate by scorer, in one pass over the open-validation
    images.
    """
    candidates = {}
    for task in tasks:
        for place, fitted in enumerate(task.fitted()):
            candidates[f'{task.name}-{place}'] = fitted
    model = load_segmentor(config, candidates)
    dataset = DATASETS.build(images_of(config.val_dataloader.dataset))
    classes = dataset.metainfo['open_classes']
    counts = {name: ScoreCounts(len(classes)) for name in candidates}
    for place in tqdm(range(len(dataset)), desc='Open validation', unit='image'):
        item = dataset[place]
        (sample,) = model.test_step({key: [value] for key, value in item.items()})
        open_map = sample.get(GT_OPEN_MAP).data[0]
        for name, maps in sample.get(OPEN_SCORES).items():
            counts[name].update(maps[0], labels_on_grid(open_map, maps.shape[1:]))
    first = next(iter(counts.values()))
    if not first.num_closed or not first.num_open:
        pixels = f'{first.num_closed} closed and {first.num_open} open pixels'
        raise ValueError(_cannot_choose([task.name for task in tasks], pixels))
    numbers = {}
    for name, one in counts.items():
        summary = summarize(one, classes)
        numbers.setdefault(name.rpartition('-')[0], []).append(
            {key: summary[key] for key in CHOICES}
        )
    return numbers


def _cannot_choose(names: list[str], found: str) -> str:
    return (
        'val_dataloader: wanted images with closed and open pixels to choose options of '
        f'{", ".join(names)}, found {found}. Set these options in model.scorers'
    )


def _digests(cfg) -> dict[str, str | None]:
    """Digests of the checkpoints of the scorers inside a scorer's config, by their paths."""
    found = {}
    for value in cfg.values():
        if isinstance(value, dict):
            path = value.get('checkpoint')
            if path is not None:
                found[str(path)] = digest_of_file(path)
            found.update(_digests(value))
    return found
