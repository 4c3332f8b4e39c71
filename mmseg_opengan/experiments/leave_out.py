"""Leave one kind out: how well methods find an open kind that nobody has labelled.

For each open kind in turn, training and open validation know the other kinds only. Then the kind's
pixels in the training images, on which nothing was trained or chosen, are told from the closed
pixels of the open-validation images. No test image is read.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from torch import Tensor
from tqdm import tqdm

from .. import register  # noqa: F401
from ..contracts import CLOSED, GT_OPEN_MAP
from ..files import write_json
from ..functional.detection import LEAST_PIXELS, auroc, average_precision, exact_bins
from ..functional.pixels import labels_on_grid, pixels_first
from ..models.fusion import scores_of_pixels
from ..models.scorers.base import SCORERS, FitData, FittedScorer, Scorer
from ..shipped import read_config_file
from . import jobs
from .scorer_fitting import FitSettings, fit_data, load_segmentor

RESULT = 'leave_out.json'
MOST_CLOSED = 200_000


class Pixels(NamedTuple):
    """Pixels of the feature grid."""

    features: Tensor  # (n, C)
    logits: Tensor  # (n, K)


def run(
    configs: dict[str, str],
    seeds: list[int],
    out: str | Path,
    *,
    scorers: dict[str, dict] | None = None,
    options: dict | None = None,
    processes: int = 1,
) -> dict[str, dict]:
    """Train each method without each kind, and score the kind.

    Args:
        configs: training configs by method. Their sources store closed pixels (``StoreSource``).
        seeds: of the trainings.
        out: folder of all that is written; trainings that have finished there are kept.
        scorers: configs of scorers without training, by name.
        options: config overrides, as of ``--cfg-options``.
        processes: trainings at the same time.

    Returns:
        dict: by method and kind, one dict with ``AUROC`` and ``AP`` for each seed. A method with
        ``model.fuse`` has a second row, ``METHOD, D alone``.

    Raises:
        ValueError: no open kind has enough pixels in the training images.
    """
    init_default_scope('mmseg')
    base = read_config_file(next(iter(configs.values())))
    base.merge_from_dict(options or {})
    model = load_segmentor(base)
    source = DATASETS.build(base.train_dataloader.dataset)
    source.prepare(model.extract_image, model.segmentor_identity())
    kinds = kinds_of(source)
    if not kinds:
        raise ValueError(
            f'leave_out: wanted open kinds with at least {LEAST_PIXELS} pixels in the training '
            'images, found none'
        )
    planned = {kind: _plan(configs, seeds, Path(out) / kind, kind, options) for kind in kinds}
    jobs.train([job for group in planned.values() for job in group], processes=processes)
    data = fit_data(source, model, FitSettings())
    closed = closed_pixels(model, DATASETS.build(base.val_dataloader.dataset))
    found: dict[str, dict] = {}
    for kind, rows in kinds.items():
        opened = source.bank.gather('open', rows).float().to(closed.features.device)
        pixels = Pixels(opened, torch.addmm(data.bias, opened, data.weight.T))
        for name, config in (scorers or {}).items():
            numbers = _numbers(_fitted(config, data), closed, pixels)
            found.setdefault(name, {})[kind] = [numbers]
        for job in tqdm(planned[kind], desc=kind, unit='run'):
            for name, config in _scorers_of(job).items():
                numbers = _numbers(_fitted(config, data), closed, pixels)
                found.setdefault(name, {}).setdefault(kind, []).append(numbers)
    write_json(Path(out) / RESULT, found)
    return found


def kinds_of(source) -> dict[str, np.ndarray]:
    """Bank rows of each open kind with enough pixels in the training images, by name."""
    labels = source.bank.pixels('open')['label']
    names = source.open_images.metainfo['open_classes']
    rows = {name: np.flatnonzero(labels == i) for i, name in enumerate(names)}
    return {name: own for name, own in rows.items() if len(own) >= LEAST_PIXELS}


@torch.no_grad()
def closed_pixels(model, dataset) -> Pixels:
    """At most ``MOST_CLOSED`` closed pixels of a data set's images, drawn alike from all."""
    limit = -(-MOST_CLOSED // len(dataset))
    parts = []
    for number in tqdm(range(len(dataset)), desc='Closed pixels', unit='image'):
        item = dataset[number]
        tap = model.extract_tap(item['inputs'], item['data_samples'])
        labels = labels_on_grid(item['data_samples'].get(GT_OPEN_MAP).data[0], tap.logits.shape[2:])
        chosen = torch.from_numpy(np.flatnonzero((labels == CLOSED).flatten().cpu().numpy()))
        order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(number))
        chosen = chosen[order[:limit]].to(tap.logits.device)
        parts.append([pixels_first(maps)[chosen].float() for maps in (tap.features, tap.logits)])
    return Pixels(*(torch.cat(group) for group in zip(*parts)))


def table(found: dict[str, dict]) -> str:
    """Markdown: AUROC of each kind when it was left out, and the mean over kinds.

    Where there are several seeds, mean and standard deviation over them.
    """
    kinds = list(next(iter(found.values())))
    lines = ['| method | ' + ' | '.join(kinds) + ' | mean over kinds |']
    lines.append('|---' * (len(kinds) + 2) + '|')
    for name, by_kind in found.items():
        values = np.array([[one['AUROC'] for one in by_kind[kind]] for kind in kinds])
        cells = [_cell(row) for row in [*values, values.mean(axis=0)]]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def _cell(values: np.ndarray) -> str:
    mean = f'{values.mean():.4f}'
    return mean if len(values) == 1 else f'{mean} ± {values.std(ddof=1):.4f}'


def _plan(configs, seeds, out: Path, kind: str, options: dict | None) -> list[jobs.Job]:
    without = {
        'train_dataloader.dataset.leave_out': [kind],
        'val_dataloader.dataset.ignore_open': [kind],
    }
    return jobs.plan(configs, seeds, out, {**(options or {}), **without})


def _scorers_of(job: jobs.Job) -> dict[str, dict]:
    """What a finished training is scored by: D, or D with the free score that it was fused with."""
    model = job.load_config().model
    best = job.best()
    assert best is not None  # jobs.train has finished it
    trained = dict(
        type='DiscriminatorScorer',
        discriminator=model.discriminator,
        checkpoint=str(job.work_dir / best['checkpoint']),
    )
    fuse = model.get('fuse')
    if fuse is None:
        return {job.method: trained}
    return {
        f'{job.method}, D alone': trained,
        job.method: dict(type='Hybrid', trained=trained, **fuse),
    }


def _fitted(config: dict, data: FitData) -> Scorer:
    scorer = SCORERS.build(dict(config)).to(data.features.device).eval()
    return scorer.fit(data) if isinstance(scorer, FittedScorer) else scorer


def _numbers(scorer: Scorer, closed: Pixels, opened: Pixels) -> dict[str, float]:
    scores = [scores_of_pixels(scorer, *pixels) for pixels in (closed, opened)]
    labels = torch.cat([torch.full((len(one),), i > 0) for i, one in enumerate(scores)])
    bins = exact_bins(torch.cat(scores).cpu(), labels)
    return dict(AUROC=auroc(bins), AP=average_precision(bins))
