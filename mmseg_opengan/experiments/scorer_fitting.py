"""Fit scorers on stored training pixels, and choose their options on the open-validation images.

What a scorer learns comes from closed training pixels of the feature bank (and open ones, for the
few that look at them). Every candidate of its options is fitted; the one with the best AUROC on the
open-validation images, on the feature grid, is kept. No test image is read.
"""

import hashlib
import itertools
import json
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
from ..contracts import GT_OPEN_MAP, IGNORE
from ..features.bank import GROUPS
from ..features.stored_taps import images_of
from ..files import sha256_of, write_json
from ..functional.pixels import labels_on_grid
from ..functional.score_counts import ScoreCounts, summarize
from ..models.scorers.base import SCORERS, FitData, FittedScorer, Scorer

SUMMARY = 'fitting.json'
#: What open validation may choose by.
CHOICES = ('AUROC', 'AUROC_kinds')


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """What is the same for all scorers; a config's ``scorer_fitting`` has the same names.

    Args:
        num_pixels: closed training pixels to fit on, drawn from all images' without replacement.
        num_open: the same for open pixels, where the training config has any.
        seed: of the draw, and of what is random in a scorer.
        choose_by: ``'AUROC'``, pooled, or ``'AUROC_kinds'``, the mean over open kinds.
        grids: candidates by scorer name, ``{option: values}``, in place of the class's own. An
            option that the scorer's config states is not searched.
    """

    num_pixels: int = 200000
    num_open: int = 200000
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
    grid = {
        key: list(values)
        for key, values in (cls.candidates if grid is None else grid).items()
        if key not in fixed
    }
    unknown = sorted(
        set(grid)
        - set(cls(**{key: value for key, value in fixed.items() if key != 'type'}).options())
    )
    if unknown:
        raise ValueError(f'grid of {scorer["type"]}: {unknown} are no options of it')
    return [dict(fixed, **dict(zip(grid, values))) for values in itertools.product(*grid.values())]


def fit_scorers(
    config: Config, *, out, names=None, settings: FitSettings | None = None
) -> dict[str, dict]:
    """Fit the scorers of a config that have something to fit, and write ``{out}/{name}.pth`` and
    ``fitting.json``.

    What was fitted before on the same images with the same settings is kept, candidates of an
    interrupted run included.

    Args:
        config: a training config: its segmentor, feature bank (built where missing) and
            open-validation images.
        out: folder.
        names: some of the names in ``model.scorers``; all by default.
        settings: those of the config's ``scorer_fitting`` by default.

    Returns:
        dict: by name, what ``fitting.json`` has: chosen options, their AUROC, those of all
            candidates.
    """
    init_default_scope('mmseg')
    settings = settings or FitSettings(**config.get('scorer_fitting', {}))
    scorers = _chosen(config.model.get('scorers') or {}, names)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    model = load_segmentor(config)
    source = DATASETS.build(config.train_dataloader.dataset)
    if not source.stores_closed:
        raise ValueError(
            "train_dataloader.dataset: wanted type='StoreSource', which stores closed pixels to "
            'fit on, '
            f'found {type(source).__name__}'
        )
    source.prepare(model.extract_image, model.segmentor_identity())
    common = dict(
        bank=source.identity,
        num_pixels=settings.num_pixels,
        num_open=settings.num_open,
        seed=settings.seed,
        choose_by=settings.choose_by,
        open_validation=_plain(config.val_dataloader.dataset),
        training={group: _plain(config.train_dataloader.dataset.get(group)) for group in GROUPS},
    )
    tasks = [
        _Task(name, cfg, candidates_of(cfg, settings.grids.get(name)), out, common)
        for name, cfg in scorers.items()
    ]
    todo = [task for task in tasks if not task.done()]
    if todo:
        _fit_all(todo, fit_data(source, model, settings))
        dataset = DATASETS.build(images_of(config.val_dataloader.dataset))
        _choose_all(todo, model, dataset, settings.choose_by)
    summary = {task.name: task.summary() for task in tasks}
    before = json.loads((out / SUMMARY).read_text()) if (out / SUMMARY).exists() else {}
    write_json(out / SUMMARY, {**before, **summary})
    return summary


def _chosen(scorers: dict, names) -> dict:
    unknown = sorted(set(names or ()) - set(scorers))
    if unknown:
        raise ValueError(f'scorers: the config has {sorted(scorers)}, not {unknown}')
    return {
        name: cfg for name, cfg in scorers.items() if learns(cfg) and (not names or name in names)
    }


def load_segmentor(config: Config) -> nn.Module:
    """The frozen segmentor of a config with its trained weights, scoring on the feature grid, and
    no scorers.
    """
    model = MODELS.build(
        dict(
            config.model,
            discriminator=None,
            generator=None,
            fuse=None,
            scorers=None,
            resolution='feature',
        )
    )
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

    def sample(group, number):
        pool = source.pool(group)
        rows = pool.sample(number, [settings.seed, len(group)])
        return source.bank.gather(group, rows).float().to(weight.device), rows

    features, rows = sample('closed', settings.num_pixels)
    labels = torch.from_numpy(source.bank.pixels('closed')[rows]['label'].astype(np.int64)).to(
        weight.device
    )
    opened = None if source.open_images is None else sample('open', settings.num_open)[0]
    logits = torch.addmm(bias, features, weight.T)
    labels = torch.where(labels == IGNORE, logits.argmax(1), labels)
    return FitData(features, logits, labels, weight, bias, opened, settings.seed)


class _Task:
    """One scorer: its candidates, and the files that say how far it has come."""

    def __init__(self, name: str, cfg: dict, candidates: list[dict], out: Path, common: dict):
        self.name = name
        self.candidates = [_plain(candidate) for candidate in candidates]
        self.path = out / f'{name}.pth'
        self.settings = _plain(
            dict(common, scorer=cfg['type'], candidates=self.candidates, files=_digests(cfg))
        )
        key = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = out / 'candidates' / f'{name}-{key}'
        self.segmentor = common['bank']['segmentor_sha256']

    def done(self) -> bool:
        if not self.path.exists():
            return False
        found = self._meta().get('settings') or {}
        return {
            'training': self.settings['training'],
            **found,
        } == self.settings  # older files do not say it

    def _meta(self) -> dict:
        return CheckpointLoader.load_checkpoint(
            str(self.path), map_location='cpu', logger='silent'
        ).get('meta', {})

    def summary(self) -> dict:
        meta = self._meta()
        return dict(scorer=meta['scorer'], options=meta['options'], **meta['fitting'])

    def fit(self, index: int, data: FitData) -> None:
        """Fit one candidate into a file of its own, unless it is there."""
        path = self.folder / f'{index}.pth'
        if path.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        scorer, start = SCORERS.build(dict(self.candidates[index])), time.monotonic()
        if isinstance(scorer, FittedScorer):
            scorer.fit(data)
        scorer.save_file(path, seconds=round(time.monotonic() - start, 2))

    def load(self, index: int) -> Scorer:
        return SCORERS.build(
            dict(self.candidates[index], checkpoint=str(self.folder / f'{index}.pth'))
        )

    def keep(self, found: list[dict], choose_by: str) -> None:
        """Write the best candidate, the earliest of equals, and forget the others."""
        best = max(range(len(found)), key=lambda index: found[index][choose_by])
        tried = []
        for candidate, numbers in zip(self.candidates, found):
            options = {key: value for key, value in candidate.items() if key != 'type'}
            tried.append(dict(options=options, **{key: numbers[key] for key in CHOICES}))
        self.load(best).save_file(
            self.path,
            segmentor_sha256=self.segmentor,
            settings=self.settings,
            fitting=dict({key: found[best][key] for key in CHOICES}, candidates=tried),
        )
        shutil.rmtree(self.folder)


def _fit_all(tasks: list[_Task], data: FitData) -> None:
    jobs = [(task, index) for task in tasks for index in range(len(task.candidates))]
    with tqdm(jobs, desc='Fitting scorers', unit='fit') as bar:
        for task, index in bar:
            bar.set_postfix_str(task.name)
            task.fit(index, data)


@torch.no_grad()
def _choose_all(tasks: list[_Task], model, dataset, choose_by: str) -> None:
    """Score the open-validation images with all candidates; each image goes through the segmentor
    once.
    """
    names = {
        f'{task.name}-{index}': (task, index)
        for task in tasks
        for index in range(len(task.candidates))
    }
    model.scorers = nn.ModuleDict(
        {name: task.load(index) for name, (task, index) in names.items()}
    ).to(get_device())
    kinds = dataset.metainfo['open_classes']
    counts = {name: ScoreCounts(num_open_classes=len(kinds)) for name in names}
    for number in tqdm(range(len(dataset)), desc='Open validation', unit='image'):
        item = dataset[number]
        batch = model.data_preprocessor(
            dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
        )
        tap = model.extract_taps(batch['inputs'])
        grid = tap.logits.shape[2:]
        labels = labels_on_grid(item['data_samples'].get(GT_OPEN_MAP).data[0], grid)
        for name, scores in {
            **model.score_features(tap),
            **model.score_inputs(batch['inputs'], grid),
        }.items():
            counts[name].update(scores[0], labels)
    first = next(iter(counts.values()))
    if not first.num_closed or not first.num_open:
        raise ValueError(
            f'val_dataloader: wanted images with closed and open pixels to choose on, found '
            f'{first.num_closed} closed and {first.num_open} open pixels'
        )
    for task in tasks:
        found = [summarize(counts[f'{task.name}-{i}'], kinds) for i in range(len(task.candidates))]
        task.keep(found, choose_by)


def _digests(cfg) -> dict[str, str]:
    """Digests of the checkpoints that a scorer is made of, by their paths; not of its own."""
    found = {}
    for value in cfg.values():
        if isinstance(value, dict):
            path = value.get('checkpoint')
            if path is not None:
                found[str(path)] = sha256_of(path)
            found.update(_digests(value))
    return found


def _plain(value):
    """A config as values that JSON and safe loading know."""
    return json.loads(json.dumps(value, default=str))
