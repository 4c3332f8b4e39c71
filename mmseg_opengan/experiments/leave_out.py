"""Leave one kind out: how well methods find an open kind that nobody has labelled.

For each open kind in turn, training and open validation know the other kinds only. Then the kind's
pixels in the training images, on which nothing was trained or chosen, are told from the closed
pixels of the open-validation images. No test image is read.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from torch import Tensor
from tqdm import tqdm

from .. import register  # noqa: F401
from ..contracts import CLOSED, GT_OPEN_MAP
from ..features.sources import StoreSource
from ..features.stored_taps import images_of
from ..files import write_json
from ..functional.detection import LEAST_PIXELS, auroc, average_precision, exact_bins
from ..functional.pixels import labels_on_grid, pixels_first
from ..models.fusion import require_of_tap, scores_of_pixels
from ..models.scorers.base import SCORERS, FitData, FittedScorer, Scorer
from ..pictures.methods import label_of
from ..provenance import made_from
from ..shipped import read_config_file
from .benchmark import Plan, plan
from .jobs import Job, claim, train
from .scorer_fitting import FitSettings, fit_data, load_segmentor
from .tables import markdown, mean, write_text
from .testing import fuse_of, methods_of, scorer_of

RESULT = 'leave_out.json'
MOST_CLOSED = 200_000


def run(
    config: str,
    methods,
    seeds,
    out,
    *,
    scorers: str | None = None,
    options: dict | None = None,
    processes: int = 1,
) -> str:
    """Train each method without each kind, and score the kind.

    Args: as of :func:`benchmark.run`. Sources of the training configs store closed pixels
        (``StoreSource``). Scorers that learn are fitted with the options of their config.

    Returns:
        str: the table, as in ``leave_out.md``. ``leave_out.json`` has, by method and kind, one dict
        with ``AUROC`` and ``AP`` for each seed. A method with ``model.fuse`` has a second row,
        ``METHOD-alone``.

    Raises:
        ValueError: no config has open images, or no open kind enough pixels in them; a method reads
            the image, which stored pixels do not have, or comes with weights that open pixels have
            trained; see also :func:`benchmark.plan`.
    """
    init_default_scope('mmseg')
    out = Path(out)
    todo = plan(
        config,
        methods,
        seeds,
        out,
        scorers=scorers,
        options=options,
    )
    _require_stored_and_unseen(todo)
    claim(out, made_from(config=str(config), options=options or {}))
    base = _with_open_images(todo, options)
    model = load_segmentor(base)
    source = _source(base, model)
    kinds = kinds_of(source)
    if not kinds:
        raise ValueError(
            f'leave_out: wanted open kinds with at least {LEAST_PIXELS} pixels in the training '
            'images, found none'
        )
    jobs = {kind: [_without(job, kind, out) for job in todo.jobs] for kind in kinds}
    train([job for group in jobs.values() for job in group], processes=processes)
    closed = closed_pixels(model, DATASETS.build(images_of(base.val_dataloader.dataset)))
    scorers_of = _Scorers(todo, base, model, source)
    found: dict[str, dict] = {}
    for kind, rows in kinds.items():
        named = scorers_of.without(kind, jobs[kind])
        opened = scorers_of.pixels(source.bank.gather('open', rows))
        for name, scorer in tqdm(named, desc=kind, unit='score'):
            scorer = scorer.to(model.segmentor_digest.device).eval()
            scores = [scores_of_pixels(scorer, *some).cpu() for some in (closed, opened)]
            found.setdefault(name, {}).setdefault(kind, []).append(detection(*scores))
    write_json(out / RESULT, found)
    text = table(found)
    write_text(out / 'leave_out.md', text + '\n')
    return text


def detection(closed: Tensor, opened: Tensor) -> dict[str, float]:
    """AUROC and AP of the scores (n,) of closed and (m,) of open pixels."""
    is_open = torch.cat([torch.zeros_like(closed), torch.ones_like(opened)]).bool()
    bins = exact_bins(torch.cat([closed, opened]), is_open)
    return dict(AUROC=auroc(bins), AP=average_precision(bins))


def _with_open_images(todo: Plan, options: dict | None) -> Config:
    """The first config that trains on open images: OpenGAN-0's has none."""
    paths = dict.fromkeys([*(job.config for job in todo.jobs), todo.scorers])
    for path in paths:
        config = read_config_file(path)
        config.merge_from_dict(options or {})
        if config.train_dataloader.dataset.get('open') is not None:
            return config
    raise ValueError(
        f'leave_out: wanted a config with open images (train_dataloader.dataset.open), found none '
        f'in {[*paths]}. Name another method too, or a config of --scorers that has them.'
    )


class _Scorers:
    """The methods of a plan as scorers, none of which has seen the kind that is left out."""

    def __init__(self, todo: Plan, base: Config, model, source):
        self._todo, self._base, self._model = todo, base, model
        fitting = FitSettings(**read_config_file(todo.scorers).get('scorer_fitting', {}))
        self._settings = {seed: replace(fitting, seed=seed) for seed in {0, *todo.fits}}
        self._data = {seed: self._pixels_of(source, seed) for seed in self._settings}
        self._fits = []
        for seed, configs in todo.fits.items():
            for name, config in configs.items():
                scorer = SCORERS.build(_unfitted(config))
                if isinstance(scorer, FittedScorer) and scorer.open_pixels == 'unused':
                    scorer.fit(self._data[seed])
                self._fits.append((name, seed, scorer))

    def _pixels_of(self, source, seed: int) -> FitData:
        return fit_data(source, self._model, self._settings[seed])

    def pixels(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, C) of stored pixels, and their logits (n, K)."""
        data = self._data[0]
        features = features.float().to(data.weight.device)
        return features, torch.addmm(data.bias, features, data.weight.T)

    def without(self, kind: str, jobs: list[Job]) -> list[tuple[str, Scorer]]:
        """(name, scorer) of every method and seed, where trainings ``jobs`` left the kind out."""
        before = self._base.train_dataloader.dataset.get('leave_out') or ()
        source = _source(self._base, self._model, leave_out=[*before, kind])
        named = [(name, SCORERS.build(dict(one))) for name, one in self._todo.fixed.items()]
        for name, seed, scorer in self._fits:
            if scorer.open_pixels == 'fitted':
                scorer.fit(self._pixels_of(source, seed))
            named.append((name, scorer))
        for job in jobs:
            for name, config in _scorers_of(job).items():
                scorer = SCORERS.build(config)
                if isinstance(scorer, FittedScorer):
                    scorer.fit(self._data[0])
                named.append((name, scorer))
        return named


def _source(config: Config, model, **options):
    """The feature source of a training config, its bank in place."""
    source = DATASETS.build(dict(config.train_dataloader.dataset, **options))
    source.prepare(model.extract_image, model.segmentor_identity())
    return source


def _unfitted(config: dict) -> dict:
    return {key: value for key, value in config.items() if key != 'checkpoint'}


def _require_stored_and_unseen(todo: Plan) -> None:
    """Raise unless methods can be trained and scored on stored pixels, those of a kind that they
    have not seen among them.
    """
    for job in todo.jobs:
        source = DATASETS.get(job.load_config().train_dataloader.dataset.type)
        if not issubclass(source, StoreSource):
            raise ValueError(
                f'{job.method}: wanted a training from stored features (StoreSource), found one '
                f'from {source.__name__}'
            )
    fitted = {name: _unfitted(cfg) for own in todo.fits.values() for name, cfg in own.items()}
    for name, cfg in {**todo.fixed, **fitted}.items():
        scorer = SCORERS.build(dict(cfg))
        require_of_tap(name, scorer)
        if scorer.open_pixels == 'stored':
            raise ValueError(
                f'{name}: wanted a method that is trained anew without each kind, found weights '
                'that have seen open pixels. Name its training config.'
            )


def _without(job: Job, kind: str, out: Path) -> Job:
    """A job that does not know a kind, nor those that its config leaves out, in a folder of the
    kind's.
    """
    config = job.load_config()
    before = config.train_dataloader.dataset.get('leave_out') or ()
    validation = 'val_dataloader.dataset'
    if config.val_dataloader.dataset.type == 'StoredTaps':
        validation += '.images'
    ignored = images_of(config.val_dataloader.dataset).get('ignore_open') or ()
    changed = {
        'train_dataloader.dataset.leave_out': [*before, kind],
        f'{validation}.ignore_open': [*ignored, kind],
    }
    folder = out / kind / job.work_dir.name
    return replace(job, work_dir=folder, options={**job.options, **changed})


def kinds_of(source) -> dict[str, np.ndarray]:
    """Bank rows of each open kind with enough pixels in the training images, by name."""
    drawn = source.pool('open').rows(np.arange(len(source.pool('open'))))
    labels = source.bank.pixels('open')['label'][drawn]
    names = source.open_images.metainfo['open_classes']
    rows = {name: drawn[labels == i] for i, name in enumerate(names)}
    return {name: own for name, own in rows.items() if len(own) >= LEAST_PIXELS}


@torch.no_grad()
def closed_pixels(model, dataset) -> tuple[Tensor, ...]:
    """Features (n, C) and logits (n, K) of at most ``MOST_CLOSED`` closed pixels of a data set's
    images, drawn alike from all.
    """
    limit = -(-MOST_CLOSED // len(dataset))
    parts = []
    for number in tqdm(range(len(dataset)), desc='Closed pixels', unit='image'):
        item = dataset[number]
        tap = model.extract_tap(item['inputs'], item['data_samples'])
        labels = labels_on_grid(item['data_samples'].get(GT_OPEN_MAP).data[0], tap.logits.shape[2:])
        chosen = (labels.flatten() == CLOSED).nonzero()[:, 0].cpu()
        order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(number))
        chosen = chosen[order[:limit]].to(tap.logits.device)
        parts.append([pixels_first(maps)[chosen].float() for maps in (tap.features, tap.logits)])
    return tuple(torch.cat(group) for group in zip(*parts))


def table(found: dict[str, dict]) -> str:
    """Markdown: AUROC of each kind when it was left out, the mean over kinds, and that of AP.

    Where there are several seeds, mean and standard deviation over them.
    """
    kinds = list(next(iter(found.values())))
    rows = []
    for name, by_kind in found.items():
        cells = [label_of(name)]
        means = []
        for metric in ('AUROC', 'AP'):
            values = np.array([[one[metric] for one in by_kind[kind]] for kind in kinds])
            means.append(mean(values.mean(axis=0).tolist()))
            if metric == 'AUROC':
                cells += [mean(of_kind) for of_kind in values.tolist()]
        rows.append(cells + means)
    return markdown(['method', *kinds, 'mean AUROC', 'mean AP'], rows)


def _scorers_of(job: Job) -> dict[str, dict]:
    """What a finished training is scored by: D, or D with the free score that it was fused with."""
    trained, fuse = scorer_of(job), fuse_of(job)
    if fuse is None:
        return {job.method: trained}
    fused, alone = methods_of(job)
    return {alone: trained, fused: dict(type='Hybrid', trained=trained, **fuse)}
