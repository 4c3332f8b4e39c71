"""Fit scorers on stored training pixels, and choose their options on the open-validation images.

What a scorer learns comes from closed training pixels of the feature bank (and open ones, for the
few that look at them). Every candidate of its options is fitted; the one with the best AUROC on the
open-validation images, on the feature grid, is kept. A single candidate is kept without them. No
test image is read.
"""

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
from ..contracts import IGNORE
from ..features.bank import GROUPS
from ..features.stored_taps import images_of
from ..files import write_json
from ..models.scorers.base import SCORERS, FitData, FittedScorer
from ..provenance import differences, digest_of_file, made_from, note, noted
from .jobs import quiet
from .testing import evaluate

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
    out.mkdir(parents=True, exist_ok=True)
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
    common = made_from(
        bank=source.identity,
        num_pixels=settings.num_pixels,
        seed=settings.seed,
        training={group: trained_on.get(group) for group in GROUPS},
    )
    tasks = []
    for name, cfg in (config.model.get('scorers') or {}).items():
        if not learns(cfg):
            continue
        candidates = candidates_of(cfg, settings.grids.get(name))
        choice = {}
        if len(candidates) > 1:
            images = (data.get('val_dataloader') or {}).get('dataset')
            choice = dict(choose_by=settings.choose_by, open_validation=images)
        tasks.append(_Task(name, candidates, out, dict(common, **choice)))
    todo = [task for task in tasks if not task.done()]
    several = [task for task in todo if len(task.candidates) > 1]
    if several and config.get('val_dataloader') is None:
        raise ValueError(_cannot_choose(several, 'no val_dataloader'))
    if todo:
        _fit_all(todo, fit_data(source, model, settings))
    for task in todo:
        if task not in several:
            task.keep([dict.fromkeys(CHOICES)], settings.choose_by)
    if several:
        _choose_all(several, config, settings.choose_by)
    summary = {task.name: task.summary() for task in tasks}
    before = json.loads((out / SUMMARY).read_text()) if (out / SUMMARY).exists() else {}
    write_json(out / SUMMARY, {**before, **summary})
    return summary


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

    def sample(group):
        pool = source.pool(group)
        rows = pool.sample(settings.num_pixels, [settings.seed, len(group)])
        return source.bank.gather(group, rows).float().to(weight.device), rows

    features, rows = sample('closed')
    labels = torch.from_numpy(source.bank.pixels('closed')[rows]['label'].astype(np.int64)).to(
        weight.device
    )
    opened = None if source.open_images is None else sample('open')[0]
    logits = torch.addmm(bias, features, weight.T)
    labels = torch.where(labels == IGNORE, logits.argmax(1), labels)
    return FitData(features, logits, labels, weight, bias, opened, settings.seed)


class _Task:
    """One scorer: its candidates, and the files that say how far it has come."""

    def __init__(self, name: str, candidates: list[dict], out: Path, common: dict):
        self.name = name
        self.record = made_from(
            **common, candidates=candidates, files=[_digests(each) for each in candidates]
        )
        self.candidates = self.record['candidates']
        self.path = out / f'{name}.pth'
        self.folder = out / 'candidates' / name

    def done(self) -> bool:
        return self.path.exists() and not differences(self.record, self._meta().get('settings', {}))

    def _meta(self) -> dict:
        stored = CheckpointLoader.load_checkpoint(
            str(self.path), map_location='cpu', logger='silent'
        )
        return stored['meta']

    def summary(self) -> dict:
        meta = self._meta()
        return dict(scorer=meta['scorer'], options=meta['options'], **meta['fitting'])

    def scorer(self, index: int) -> dict:
        """Config of a fitted candidate."""
        return dict(self.candidates[index], checkpoint=str(self.folder / f'{index}.pth'))

    def searched(self) -> list[str]:
        """Options in which the candidates differ."""
        first = self.candidates[0]
        different = []
        for name, value in first.items():
            if any(candidate[name] != value for candidate in self.candidates):
                different.append(name)
        return different

    def fit(self, index: int, data: FitData) -> None:
        """Fit one candidate into a file of its own, unless an interrupted run has left it there."""
        if differences(self.record, noted(self.folder)):
            shutil.rmtree(self.folder, ignore_errors=True)
            note(self.folder, self.record)
        path = Path(self.scorer(index)['checkpoint'])
        if path.exists():
            return
        scorer, start = SCORERS.build(dict(self.candidates[index])), time.monotonic()
        if isinstance(scorer, FittedScorer):
            scorer.fit(data)
        scorer.save_file(path, seconds=round(time.monotonic() - start, 2))

    def keep(self, found: list[dict], choose_by: str) -> None:
        """Write the best candidate, the earliest of equals, and forget the others."""
        best = max(range(len(found)), key=lambda index: found[index][choose_by])
        tried = []
        for candidate, numbers in zip(self.candidates, found):
            options = {key: value for key, value in candidate.items() if key != 'type'}
            tried.append(dict(options=options, **{key: numbers[key] for key in CHOICES}))
        SCORERS.build(self.scorer(best)).save_file(
            self.path,
            segmentor_sha256=self.record['bank']['segmentor_sha256'],
            settings=self.record,
            fitting=dict({key: found[best][key] for key in CHOICES}, candidates=tried),
        )
        shutil.rmtree(self.folder)


def _fit_all(tasks: list[_Task], data: FitData) -> None:
    jobs = [(task, index) for task in tasks for index in range(len(task.candidates))]
    with tqdm(jobs, desc='Fitting scorers', unit='fit') as bar:
        for task, index in bar:
            bar.set_postfix_str(task.name)
            task.fit(index, data)


def _choose_all(tasks: list[_Task], config: Config, choose_by: str) -> None:
    """Test all candidates in one pass over the open-validation images, and keep the best."""
    plain = Config(
        dict(
            default_scope='mmseg',
            model=config.model,
            test_dataloader=dict(
                batch_size=1,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
                dataset=images_of(config.val_dataloader.dataset),
            ),
            test_evaluator=dict(type='OpenSetMetric', closed=False),
            test_cfg=dict(type='TestLoop'),
            custom_hooks=[
                dict(type='OpenGANHook'),
                dict(type='OpenSetEvaluationHook', plot_test=False),
            ],
        )
    )
    scorers = {}
    for task in tasks:
        for index in range(len(task.candidates)):
            scorers[f'{task.name}-{index}'] = task.scorer(index)
    folder = tasks[0].path.with_name('open_validation')
    with quiet(folder, threads=torch.get_num_threads(), bars=True):
        report = evaluate(config=plain, jobs=[], resolution='feature', out=folder, scorers=scorers)
    first = next(iter(report['scorers'].values()))
    if not first['num_closed'] or not first['num_open']:
        found = f'{first["num_closed"]} closed and {first["num_open"]} open pixels'
        raise ValueError(_cannot_choose(tasks, found))
    for task in tasks:
        names = [f'{task.name}-{index}' for index in range(len(task.candidates))]
        task.keep([report['scorers'][name] for name in names], choose_by)


def _cannot_choose(tasks: list[_Task], found: str) -> str:
    options = [f'{task.name} ({", ".join(task.searched())})' for task in tasks]
    return (
        'val_dataloader: wanted images with closed and open pixels to choose options of '
        f'{"; ".join(options)}, found {found}. Set these options in model.scorers'
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
