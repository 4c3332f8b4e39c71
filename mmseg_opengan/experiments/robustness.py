"""How well scores hold on attacked images and on bad ones: noise, blur, JPEG, darkness, fog.

Thresholds and calibrations are those of open validation, whose images stay as they are. An attack
knows everything: it follows the gradient of the score that it is made against. What the folder
gets::

    {score}-{digest}/{kind}_{strength}.json   numbers of one score under one shift
    robustness.md                             tables: a row is a shift, a column a score
    robustness.png, .pdf                      AUROC against the strength of each kind of shift

Tables and figure have the mean over all scores of one name, one D a seed.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmseg.registry import DATASETS
from torch import Tensor
from tqdm import tqdm

from ..contracts import CLOSED, VOID
from ..evaluation.decided import conditions_of, digest_of_data, maker_of, state_of
from ..evaluation.metric import Setting
from ..features.stored_taps import images_of
from ..files import json_bytes, write_json
from ..functional.attacks import attacked
from ..functional.corruptions import STRENGTHS, corrupted
from ..functional.decisions import Decisions
from ..functional.pixels import labels_on_grid, open_map_of
from ..inference.config import load_model
from ..pictures.figures import save_figure
from ..pictures.methods import label_of, line_styles
from ..provenance import made_from, note, noted, require_same
from .jobs import ADVICE, claim, quiet
from .tables import markdown, mean, write_text

#: Either lowers the scores of open pixels (hide) or raises those of closed ones (alarm).
ATTACKS = ('fgsm_hide', 'pgd_hide', 'fgsm_alarm', 'pgd_alarm')
#: The threshold whose rates are told.
RULE = 'fpr=0.05'
#: Titles of the tables by number, and how the number is printed.
TABLES = dict(
    AUROC=('AUROC', '.3f'),
    FPR95=('FPR95', '.3f'),
    mIoU=('mIoU of the closed prediction, percent', '.1f'),
    FPR=(f'FPR at the threshold that clean open validation gives for {RULE}', '.3f'),
    TPR=('TPR at that threshold', '.3f'),
    ECE=('ECE of the p(open) that was calibrated on clean open validation', '.4f'),
)


class Shift(NamedTuple):
    """What is done to the images.

    Attributes:
        kind: one of ``ATTACKS``, a corruption of ``STRENGTHS``, or ``'clean'``.
        strength: epsilon of an attack in grey levels, severity of a corruption; 0 of clean images.
    """

    kind: str
    strength: int


CLEAN = Shift('clean', 0)


def robustness(
    config: str,
    checkpoint: str | None = None,
    *,
    out: str | Path,
    scorers: Sequence[str] | None = None,
    every: int = 1,
    epsilons: Sequence[int] = (1, 2, 4),
    severities: Sequence[int] = (1, 3, 5),
    steps: int = 5,
    options: dict | None = None,
) -> str:
    """Measure what the folder lacks, and write the report of all that it has.

    Args:
        config, checkpoint, scorers, options: as of ``inference.config.load_model``; the config has
            open validation.
        out: folder. Scores of several D, measured one after another, get means and deviations.
        every: test images 0, ``every``, 2 ``every``, ... are used.
        epsilons: of attacks, in grey levels.
        severities: of corruptions, 1 to 5.
        steps: of PGD, each of half of epsilon.

    Returns:
        str: the tables.

    Raises:
        ValueError: a wrong option, a scorer that reads the image, or ``out`` holds numbers of other
            images, another segmentor, other steps or a score of other options.
    """
    out = Path(out)
    shifts = [CLEAN]
    for kinds, strengths in ((ATTACKS, epsilons), (STRENGTHS, severities)):
        shifts += [Shift(kind, strength) for kind in kinds for strength in strengths]
    options = {**(options or {}), 'model.resolution': 'feature'}
    with quiet(out, threads=torch.get_num_threads(), bars=True):
        _, model, *_ = load_model(config, checkpoint, scorers=scorers, cfg_options=options)
        for name, scorer in model.scorers.items():
            if scorer.reads == 'image':
                raise ValueError(f"scorers: wanted none that reads the image, found '{name}'")
        for name in scorers or model.score_names:
            cfg, model, *_ = load_model(config, checkpoint, scorers=[name], cfg_options=options)
            trial = Trial(cfg, model, name, every, steps)
            claim(out, trial.record())
            state = state_of(trial.model)
            maker = dict(maker_of(trial.model, name), state=None)  # of every seed
            for other in out.glob('*-*'):
                if other.name.rpartition('-')[0] == name:
                    require_same(f"'{other}'", dict(maker=maker), noted(other), advice=ADVICE)
            folder = out / f'{name}-{hashlib.sha256(json_bytes(state)).hexdigest()[:8]}'
            note(folder, dict(state, maker=maker))
            for shift in tqdm(shifts, desc=name, unit='shift'):
                path = folder / f'{shift.kind}_{shift.strength}.json'
                if not path.exists():
                    write_json(path, trial.numbers(shift))
        return write_report(out, shifts)


class Trial:
    """A model with the score ``name``, test images and open validation; see :func:`robustness`."""

    def __init__(self, cfg: Config, model: Any, name: str, every: int, steps: int):
        self.cfg = cfg
        self.model = model.to(get_device()).eval()
        self.name = name
        self.every = every
        self.steps = steps

    def record(self) -> dict:
        """What all numbers of a folder have in common."""
        data = {
            what: self.cfg[f'{stage}_dataloader'].dataset
            for what, stage in (('images', 'test'), ('open_validation', 'val'))
        }
        return made_from(
            **conditions_of(self.model),
            segmentor=self.model.segmentor_identity(),
            **data,
            files={what: digest_of_data(images) for what, images in data.items()},
            every=self.every,
            steps=self.steps,
        )

    @cached_property
    def decisions(self) -> dict[str, Decisions]:
        """Threshold and calibration, of clean open validation."""
        stored = self.run('val', CLEAN, {})['open_validation']['scorers']
        return {name: Decisions.from_json(one) for name, one in stored.items()}

    def numbers(self, shift: Shift) -> dict:
        """What is kept of a test after a shift; ECE is None where validation fitted nothing."""
        report = self.run('test', shift, self.decisions)
        found = report['scorers'][self.name]
        point = found['operating_points'][RULE]
        error = found['calibration']['ECE_mass']['after'] if 'calibration' in found else None
        kept = {key: found[key] for key in ('AUROC', 'FPR95', 'num_closed', 'num_open')}
        kept.update(
            FPR=point['FPR'],
            TPR=point['TPR'],
            ECE=error,
            mIoU=report.get('mIoU'),
        )
        return dict(kept, num_images=report['num_images'])

    def run(self, stage: str, shift: Shift, decisions: dict) -> dict:
        """The report of the images of ``'val'`` or ``'test'`` after a shift."""
        model = self.model
        images = DATASETS.build(images_of(self.cfg[f'{stage}_dataloader'].dataset))
        evaluator = Evaluator(self.cfg[f'{stage}_evaluator'])
        evaluator.dataset_meta = images.metainfo
        [metric] = evaluator.metrics
        metric.setting = Setting(stage, decisions=decisions, **conditions_of(model))
        indices = range(0, len(images), self.every if stage == 'test' else 1)
        for index in indices:
            data = images[index]
            sample = data['data_samples']
            image = self.changed(data['inputs'], sample, shift, seed=index)
            evaluator.process(model.test_step(dict(inputs=[image], data_samples=[sample])))
        evaluator.evaluate(len(indices))
        return metric.report

    def changed(self, image: Tensor, sample: Any, shift: Shift, seed: int = 0) -> Tensor:
        """An image (3, H, W) after a shift."""
        kind, strength = shift
        if shift == CLEAN:
            return image
        if kind in STRENGTHS:
            array = np.ascontiguousarray(image.permute(1, 2, 0))
            array = corrupted(array, kind, strength, np.random.default_rng(seed))
            return torch.from_numpy(array).permute(2, 0, 1)
        labels = open_map_of(sample).data[0]
        hides = 'hide' in kind
        aimed_at = (labels != CLOSED) & (labels != VOID) if hides else labels == CLOSED
        model = self.model

        def objective(moved: Tensor) -> Tensor:
            batch = model.data_preprocessor(dict(inputs=[moved], data_samples=[sample]), False)
            scores = model.maps_of_pass(model.tap_of(batch['inputs']))[self.name]
            pixels = labels_on_grid(aimed_at, scores.shape[1:]).to(scores.device)
            total = scores[0][pixels].sum()
            return -total if hides else total

        image = image.to(get_device(), torch.float32)
        steps, size = (self.steps, strength / 2) if 'pgd' in kind else (1, strength)
        found = attacked(
            image,
            objective,
            epsilon=strength,
            steps=steps,
            step_size=size,
        )
        return found.round()  # which a file can hold, and no further from the image


# ---------------------------------------------------------------------- report


def write_report(out: Path, shifts: Sequence[Shift]) -> str:
    """Write the report of some shifts; return the tables."""
    cells: dict[tuple, list[dict]] = {}
    for path in sorted(out.glob('*-*/*_[0-9]*.json')):
        kind, _, strength = path.stem.rpartition('_')
        name, _, _ = path.parent.name.rpartition('-')
        cell = json.loads(path.read_text())
        cells.setdefault((name, kind, int(strength)), []).append(cell)
    names = sorted({name for name, *_ in cells})
    parts = [
        f'{cell["num_images"]} images, {cell["num_closed"]:,} closed and {cell["num_open"]:,} open '
        'pixels, feature resolution'
    ]
    for number, (title, form) in TABLES.items():
        lines = []
        for shift in shifts:
            found = [[cell[number] for cell in cells.get((name, *shift), [])] for name in names]
            lines.append([*shift, *(mean(values, form) for values in found)])
        parts += [title, markdown(['shift', 'strength', *map(label_of, names)], lines)]
    text = '\n\n'.join(parts) + '\n'
    write_text(out / 'robustness.md', text)
    save_figure(robustness_figure(cells, shifts), out / 'robustness')
    return text


def robustness_figure(cells: dict[tuple, list[dict]], shifts: Sequence[Shift]) -> Figure:
    """Mean AUROC against the strength, a panel for each kind of shift; strength 0 is clean.

    Args:
        cells: (score, kind, strength) -> numbers of each score of that name.
    """
    styles = line_styles(sorted({name for name, *_ in cells}))
    figure = Figure(figsize=(8.5, 8), layout='constrained')
    for place, kind in enumerate(dict.fromkeys(shift.kind for shift in shifts[1:])):
        axes = figure.add_subplot(3, 3, place + 1)
        axes.set(
            title=kind.replace('_', ', '),
            xlabel='strength',
            ylabel='AUROC',
            ylim=(0, 1),
        )
        for name, style in styles.items():
            points = {}
            for shift in shifts:
                found = [cell['AUROC'] for cell in cells.get((name, *shift), [])]
                if shift.kind in (kind, CLEAN.kind) and found:
                    points[shift.strength] = sum(found) / len(found)
            axes.plot(
                *zip(*points.items()),
                marker='.',
                label=label_of(name),
                **style,
            )
        if not figure.legends:
            figure.legend(loc='outside lower center', ncols=4, frameon=False)
    return figure
