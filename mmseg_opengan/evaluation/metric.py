"""Pooled pixel AUROC, AP and FPR95 of every score map, with mIoU and more beside them, in fixed
memory.
"""

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS

from ..contracts import IGNORE, LABEL_POLICY, OPEN_SCORES, OPENGAN
from ..files import half_where_it_fits, replacing
from ..functional.components import TRACKS
from ..functional.decisions import FITS, STANDARD_RULES, Decisions, check_threshold, is_rule
from ..functional.pixels import open_map_of
from ..functional.score_counts import ScoreCounts
from .protocol import PROTOCOLS, Protocol, check_protocol
from .report import details, headline
from .scorer_counts import GroundTruth, ScorerCounts


@dataclass(frozen=True)
class Setting:
    """What the samples do not show of an evaluation; ``OpenSetEvaluationHook`` hands it over before
    each one.

    Attributes:
        stage: ``'val'`` decides thresholds and calibration, ``'test'`` uses them.
        resolution: ``'feature'`` or ``'image'``; None: as the shapes of the score maps look.
        mode: ``'whole'`` or ``'slide'``.
        smoothing: of the score maps, in pixels of the network's input; see ``model.smoothing``.
        open_logits: scorers whose score is an open logit.
        decisions: of open validation, by scorer.
        source: where they were made: step, label policy, images.
    """

    stage: str | None = None
    resolution: str | None = None
    mode: str | None = None
    smoothing: float = 0.0
    open_logits: frozenset = frozenset()
    decisions: Mapping[str, Decisions] = field(default_factory=dict)
    source: dict | None = None


@contextmanager
def _one_thread():
    """Counting is many short operations: on several threads of a busy machine they mostly wait for
    one another.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@METRICS.register_module()
class OpenSetMetric(BaseMetric):
    """Open-set segmentation, evaluated on all pixels of all images pooled.

    Every map found in ``open_scores`` is evaluated under its own name: ``opengan/AUROC``,
    ``opengan/AP``, ``opengan/FPR95``, ``msp/AUROC``, ... (fractions in [0, 1], open is the positive
    class). ``opengan/AUROC_kinds`` is the mean over open classes with 10 pixels or more, where the
    data has several classes. ``mIoU``, ``mAcc`` and ``aAcc`` are of the closed prediction (percent,
    mmseg's ``IoUMetric`` on the closed classes alone). ``report`` holds all numbers of
    docs/evaluation.md, ``curves`` what figures draw.

    Scores are counted in fixed-size tables that add over images and ranks, so memory does not grow
    with the data set.

    Args:
        closed: also compute mIoU and open-set recognition (off for data without closed class
            labels).
        threshold: an operating point: a raw score, the same for all scorers, or a rule that is
            resolved for each
            scorer on open validation: ``'fpr=0.05'``, ``'tpr=0.95'``, ``'f1'``, ``'macro_f1'``.
            What ``--threshold`` of the test tool sets.
        components: ``'anomaly'`` or ``'obstacle'``: also count components, of that track's sizes,
            at ``threshold``.
        calibration: what open validation fits, ``'platt'`` or ``'temperature'``.
        protocol: a name of ``evaluation.protocol``, an error where the run does not follow it.
        bootstrap_block: also give a 95 % block-bootstrap interval of every AUROC, over blocks of so
            many consecutive images (time segments of a video); 0 gives none. One process only, and
            some MB per block and scorer.
        output_dir: write ``{image}.png`` (closed class ids) and ``{image}.{scorer}.npy`` (raw
            scores, float16 where it holds them) there; what ``--out`` of the test tools sets.
        keep_results: set by ``--out``; has no meaning here, nothing is kept.

    Raises:
        ValueError: a wrong option, a sample without score maps, two images of one name to write, or
            an evaluation that saw another number of images than the dataset has (a loader that pads
            with duplicates or drops some).
    """

    default_prefix = ''

    def __init__(
        self,
        *,
        closed: bool = True,
        threshold: float | str | None = None,
        components: str | None = None,
        calibration: str = 'platt',
        protocol: str | None = None,
        bootstrap_block: int = 0,
        output_dir: str | None = None,
        keep_results: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ):
        super().__init__(collect_device=collect_device, prefix=prefix)
        check_threshold(threshold)
        for name, value, known in (
            ('components', components, TRACKS),
            ('calibration', calibration, FITS),
            ('protocol', protocol, PROTOCOLS),
        ):
            if value is not None and value not in known:
                raise ValueError(f'{name}: wanted one of {tuple(known)}, found {value!r}')
        if components is not None and threshold is None:
            raise ValueError(
                "components: wanted a threshold too, a number or a rule such as 'f1', found None"
            )
        self.closed = closed
        self.threshold, self.components, self.calibration = threshold, components, calibration
        self.protocol = protocol
        self.output_dir = None if output_dir is None else Path(output_dir)
        if self.output_dir is not None:
            self.output_dir.mkdir(parents=True, exist_ok=True)
        if bootstrap_block and get_world_size() > 1:
            raise ValueError(
                'bootstrap_block: wanted one process, whose images come in order, found '
                f'{get_world_size()}'
            )
        self.bootstrap_block = bootstrap_block
        self.setting = Setting()
        self.report: dict | None = None
        self.curves: dict[str, dict] = {}
        self._reset()

    def _reset(self):
        self.counts: dict[str, ScorerCounts] = {}
        self.areas = None
        self.num_images = 0
        self.resolution = None
        self._image = None  # scratch space of one image
        self._written = {}  # file stem -> image

    # ------------------------------------------------------------------ one image

    def process(self, data_batch, data_samples) -> None:
        for sample in data_samples:
            if OPEN_SCORES not in sample:
                raise ValueError(
                    f'{sample.get("img_path")}: the model gave no score maps. Use an '
                    f'OpenGANSegmentor '
                    'with a discriminator or scorers.'
                )
            with _one_thread():
                if self.closed:
                    self._count_classes(sample)
                self._count(sample)
            if self.output_dir is not None:
                self._write(sample)
            self.num_images += 1
            self.results.append(sample.get('img_path'))

    def _count(self, sample):
        open_map = open_map_of(sample)['data'].squeeze(0)
        maps = [open_map]
        if self.closed:
            maps += [sample[name]['data'].squeeze() for name in ('pred_sem_seg', 'gt_sem_seg')]
        on_grid = {}
        for name, scores in sample[OPEN_SCORES].items():
            scores = scores.squeeze(0)
            if scores.shape not in on_grid:
                looks = 'image' if scores.shape == open_map.shape else 'feature'
                self._note_resolution(self.setting.resolution or looks)
                on_grid[scores.shape] = GroundTruth.on_grid(
                    scores.shape,
                    *maps,
                    num_classes=len(self.dataset_meta['classes']),
                    device=scores.device,
                )
            if self._image is None:
                self._image = ScoreCounts(num_open_classes=1, device=scores.device)
            self._counts_of(name, scores.device).update(scores, on_grid[scores.shape], self._image)

    def _note_resolution(self, resolution):
        if self.resolution is None and self.protocol is not None:
            check_protocol(
                self.protocol,
                Protocol(self.dataset_meta.get(LABEL_POLICY), resolution, self.setting.mode),
            )
        self.resolution = resolution

    def _counts_of(self, name, device='cpu') -> ScorerCounts:
        if name not in self.counts:
            deciding = self.setting.stage == 'val'
            thresholds = {} if deciding else self._thresholds_of(name)
            self.counts[name] = ScorerCounts(
                num_open_classes=len(self.dataset_meta['open_classes']),
                num_classes=len(self.dataset_meta['classes']) if self.closed else None,
                thresholds=thresholds,
                component_rule=str(self.threshold),
                track=None if deciding else self.components,
                bootstrap_block=self.bootstrap_block,
                device=device,
            )
        return self.counts[name]

    def _thresholds_of(self, name):
        """Thresholds of a scorer, by rule; the one that was asked for first."""
        decided = self.setting.decisions.get(name, Decisions({})).thresholds
        if self.threshold is None:
            return decided
        rule = str(self.threshold)
        if not is_rule(self.threshold):
            return {rule: float(self.threshold), **decided}
        if rule not in decided:
            raise ValueError(
                f"threshold '{rule}': wanted what open validation gives for '{name}', found only "
                f'{list(decided)}. OpenSetEvaluationHook runs it before a test; where it ran, the '
                f'rule is '
                'undefined there: closed or open pixels are missing.'
            )
        return {rule: decided[rule], **decided}

    def threshold_of(self, name: str) -> float:
        """``threshold`` in the units of a scorer's scores; see :class:`Setting` for the decisions
        it may need.
        """
        return self._thresholds_of(name)[str(self.threshold)]

    def _count_classes(self, sample):
        """Add the four areas of mseg's IoUMetric (both, either, predicted, labelled), from one
        table of pairs.
        """
        num_classes = len(self.dataset_meta['classes'])
        prediction = sample['pred_sem_seg']['data'].squeeze()
        label = sample['gt_sem_seg']['data'].squeeze().to(prediction)
        highest = int(prediction.max())
        if highest >= num_classes:
            raise ValueError(
                f'{sample.get("img_path")}: wanted predictions of the {num_classes} classes of '
                f'the data, '
                f'found class {highest}. A class for open pixels takes the scorer OpenClass.'
            )
        pairs = (
            label.masked_fill(label == IGNORE, num_classes)
            .mul_(num_classes)
            .add_(prediction)
            .flatten()
        )
        pairs = torch.bincount(pairs, minlength=(num_classes + 1) * num_classes)
        pairs = pairs.cpu().view(-1, num_classes)[:num_classes].double()  # IoUMetric takes numpy
        predicted, labelled, both = pairs.sum(0), pairs.sum(1), pairs.diag()
        areas = torch.stack([both, predicted + labelled - both, predicted, labelled])
        self.areas = areas if self.areas is None else self.areas + areas

    def _write(self, sample):
        assert self.output_dir is not None
        stem = self.output_dir / Path(sample['img_path']).stem
        self._note_written(self._written, stem.name, sample['img_path'])
        prediction = sample['pred_sem_seg']['data'].squeeze().cpu().numpy().astype(np.uint8)
        with replacing(f'{stem}.png') as file:
            file.write(cv2.imencode('.png', prediction)[1].tobytes())
        for name, scores in sample[OPEN_SCORES].items():
            with replacing(f'{stem}.{name}.npy') as file:
                np.save(file, half_where_it_fits(scores.squeeze(0).cpu().numpy()))

    @staticmethod
    def _note_written(written, name, image):
        first = written.setdefault(name, image)
        if first != image:
            raise ValueError(
                f"output_dir: files are named after images, and '{first}' and '{image}' have "
                f'the same '
                'name'
            )

    def _require_own_names(self):
        """No two ranks have written images of one name."""
        together: dict[str, str] = {}
        for written in all_gather_object(self._written):
            for name, image in written.items():
                self._note_written(together, name, image)

    # ------------------------------------------------------------------ all images

    def evaluate(self, size: int) -> dict:
        """Add the tables of all ranks, then compute; see :class:`BaseMetric`."""
        seen = torch.tensor(self.num_images)
        all_reduce(seen)
        if int(seen) != size:
            self.results.clear()
            self._reset()
            raise ValueError(
                f'OpenSetMetric: the dataset has {size} images, {int(seen)} were evaluated. Use '
                "sampler=dict(type='DefaultSampler', shuffle=False, round_up=False)"
            )
        self._require_own_names()
        self.num_images = size
        # More ranks than images: a rank that saw none must take part all the same, with zeros.
        names = {name for found in all_gather_object(list(self.counts)) for name in found}
        # Samples name their maps in no order; reports and figures have the methods by name, OpenGAN
        # last.
        self.counts = {
            name: self._counts_of(name)
            for name in sorted(names, key=lambda name: (name == OPENGAN, name))
        }
        for counts in self.counts.values():
            for table in counts.tables:
                all_reduce(table.tensor)
        if self.closed:
            if self.areas is None:
                self.areas = torch.zeros(4, len(self.dataset_meta['classes']), dtype=torch.float64)
            all_reduce(self.areas)
        metrics = super().evaluate(size)
        self._reset()
        return metrics

    def compute_metrics(self, results: list) -> dict:
        decisions = self._decide() if self.setting.stage == 'val' else self.setting.decisions
        found = {
            name: counts.compute(
                classes=self.dataset_meta['classes'],
                open_classes=self.dataset_meta['open_classes'],
                open_logit=name in self.setting.open_logits,
                calibration=decisions[name].calibration if name in decisions else None,
            )
            for name, counts in self.counts.items()
        }
        summaries = {name: summary for name, (summary, _) in found.items()}
        metrics = {
            f'{name}/{key}': summary[key]
            for name, summary in summaries.items()
            for key in ('AUROC', 'AP', 'FPR95')
        }
        if len(self.dataset_meta['open_classes']) > 1:
            for name, summary in summaries.items():
                if not np.isnan(summary['AUROC_kinds']):  # no kind has pixels enough
                    metrics[f'{name}/AUROC_kinds'] = summary['AUROC_kinds']
        if self.areas is not None:
            closed = IoUMetric.total_area_to_metrics(*self.areas.float(), ['mIoU'])
            metrics.update(
                mIoU=100 * float(np.nanmean(closed['IoU'])),
                mAcc=100 * float(np.nanmean(closed['Acc'])),
                aAcc=100 * float(closed['aAcc']),
            )
        self.report = dict(
            label_policy=self.dataset_meta.get(LABEL_POLICY),
            resolution=self.resolution,
            mode=self.setting.mode,
            smoothing=self.setting.smoothing,
            protocol=self.protocol,
            pooling='all pixels',
            num_images=self.num_images,
            scorers=summaries,
            open_validation=dict(
                self.setting.source or {},
                scorers={
                    name: one.to_json() for name, one in decisions.items() if name in summaries
                },
            ),
            **{key: metrics[key] for key in ('mIoU', 'mAcc', 'aAcc') if key in metrics},
        )
        self.curves = {
            name: dict(
                {key: summary[key] for key in ('AUROC', 'AP', 'FPR95', 'per_class')}, **curves
            )
            for name, (summary, curves) in found.items()
        }
        text = headline(self.report) + (
            '\n\n' + details(self.report) if self.setting.stage != 'val' else ''
        )
        MMLogger.get_current_instance().info('\n' + text)
        return metrics

    def _decide(self):
        rules = dict.fromkeys(
            [*STANDARD_RULES, *([str(self.threshold)] if is_rule(self.threshold) else [])]
        )
        return {
            name: counts.decide(rules=list(rules), calibration=self.calibration)
            for name, counts in self.counts.items()
        }
