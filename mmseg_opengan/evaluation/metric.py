"""Pooled pixel AUROC, AP and FPR95 of every score map, with mIoU and more beside them, in fixed
memory.
"""

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from mmengine.dist import all_reduce, broadcast_object_list, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmseg.registry import METRICS

from ..contracts import LABEL_POLICY, OPEN_SCORES, OPENGAN
from ..functional.components import TRACKS
from ..functional.decisions import STANDARD_RULES, Decisions, is_rule, plain_rule
from ..functional.pixels import open_map_of
from ..functional.score_counts import checked
from ..functional.score_layout import ScoreLayout
from .closed_areas import ClosedAreas
from .map_files import MapFiles
from .protocol import PROTOCOLS, check_protocol
from .report import details, headline
from .scorer_counts import GroundTruth, ScorerCounts

#: What a log shows of each scorer, and what of data with several open classes.
NAMES, OVER_KINDS = ('AUROC', 'AP', 'FPR95'), 'AUROC_kinds'


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


@contextmanager
def _naming(image, score_map):
    """Errors say of which image and score map they are."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{image}, score map '{score_map}': {error}") from error


def _opengan_last(item):
    return item[0] == OPENGAN, item[0]


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
        protocol: str | None = None,
        bootstrap_block: int = 0,
        output_dir: str | None = None,
        keep_results: bool = False,
    ):
        super().__init__()
        for name, value, known in (
            ('components', components, TRACKS),
            ('protocol', protocol, PROTOCOLS),
        ):
            if value is not None and value not in tuple(known):
                raise ValueError(f'{name}: wanted one of {tuple(known)}, found {value!r}')
        if components is not None and threshold is None:
            raise ValueError(
                "components: wanted a threshold too, a number or a rule such as 'f1', found None"
            )
        if not isinstance(bootstrap_block, int) or bootstrap_block < 0:
            raise ValueError(
                f'bootstrap_block: wanted a whole number of images, found {bootstrap_block!r}'
            )
        self.closed = closed
        self.threshold = plain_rule(str(threshold)) if is_rule(threshold) else threshold
        self.components = components
        self.protocol = protocol
        self.files = None if output_dir is None else MapFiles(output_dir)
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
        self.counts: dict[str, ScorerCounts] | None = None
        self.areas: ClosedAreas | None = None
        self.num_images = 0
        self.resolution = None
        if self.files is not None:
            self.files.reset()

    # ------------------------------------------------------------------ one image

    def process(self, data_batch, data_samples) -> None:
        for sample in data_samples:
            name = sample.get('img_path')
            if OPEN_SCORES not in sample:
                raise ValueError(
                    f'{name}: the model gave no score maps. Use an OpenGANSegmentor with a '
                    'discriminator or scorers.'
                )
            with _one_thread():
                self._count(sample)
            if self.files is not None:
                self.files.write(sample)
            self.num_images += 1
            self.results.append(name)

    def _count(self, sample):
        image = sample.get('img_path')
        maps = [open_map_of(sample)['data'].squeeze(0)]
        if self.closed:
            maps += [sample[name]['data'].squeeze() for name in ('pred_sem_seg', 'gt_sem_seg')]
        scores = {name: one.squeeze(0) for name, one in sample[OPEN_SCORES].items()}
        truths, layouts = {}, {}
        for name, one in scores.items():
            with _naming(image, name):
                if one.shape not in truths:
                    truths[one.shape] = self._truth(one, maps)
                if self.counts is None:
                    number = len(self.dataset_meta['open_classes'])
                    labels = truths[one.shape].open_map
                    layouts[name] = ScoreLayout.of(*checked(one, labels, number, one.device))
        if self.counts is None:
            self._begin(layouts, next(iter(scores.values())).device)
        assert self.counts is not None
        for name, one in scores.items():
            with _naming(image, name):
                self.counts[name].update(one, truths[one.shape])
        if self.areas is not None:
            with _naming(image, 'pred_sem_seg'):
                self.areas.update(*maps[1:])

    def _truth(self, scores, maps):
        """The labels on the grid of a score map; the first image tells the resolution."""
        if self.resolution is None:
            looks = 'image' if scores.shape == maps[0].shape else 'feature'
            self.resolution = self.setting.resolution or looks
            if self.protocol is not None:
                check_protocol(
                    self.protocol,
                    label_policy=self.dataset_meta.get(LABEL_POLICY),
                    resolution=self.resolution,
                    mode=self.setting.mode,
                )
        num_classes = len(self.dataset_meta['classes'])
        how = dict(num_classes=num_classes, device=scores.device)
        return GroundTruth.on_grid(scores.shape, *maps, **how)

    def _begin(self, layouts: dict | None = None, device='cpu'):
        """Make the tables, in the layouts of the main process's first image.

        All ranks call it once an evaluation, before anything else that they do together: with their
        first image, or at the end where they have none.
        """
        shared = [layouts]
        broadcast_object_list(shared)
        deciding = self.setting.stage == 'val'
        classes = self.dataset_meta['classes']
        # Samples name their maps in no order; reports and figures have the methods by name, OpenGAN
        # last.
        self.counts = {
            name: ScorerCounts(
                layout,
                num_open_classes=len(self.dataset_meta['open_classes']),
                num_classes=len(classes) if self.closed else None,
                thresholds={} if deciding else self._thresholds_of(name),
                component_rule=str(self.threshold),
                track=None if deciding else self.components,
                bootstrap_block=self.bootstrap_block,
                device=device,
            )
            for name, layout in sorted((shared[0] or {}).items(), key=_opengan_last)
        }
        if self.closed:
            self.areas = ClosedAreas(len(classes))

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
                'rule is undefined there: closed or open pixels are missing.'
            )
        return {rule: decided[rule], **decided}

    def threshold_of(self, name: str) -> float:
        """``threshold`` in the units of a scorer's scores; see :class:`Setting` for the decisions
        it may need.
        """
        return self._thresholds_of(name)[str(self.threshold)]

    # ------------------------------------------------------------------ all images

    def evaluate(self, size: int) -> dict:
        """Add the tables of all ranks, then compute; see :class:`BaseMetric`."""
        if self.counts is None:
            self._begin()  # more ranks than images: one that saw none takes part with zeros
        assert self.counts is not None
        seen = torch.tensor(self.num_images)
        all_reduce(seen)
        try:
            if int(seen) != size:
                raise ValueError(
                    f'OpenSetMetric: the dataset has {size} images, {int(seen)} were evaluated. '
                    "Use sampler=dict(type='DefaultSampler', shuffle=False, round_up=False)"
                )
            if self.files is not None:
                self.files.require_own_names()
            tables = [table for counts in self.counts.values() for table in counts.tables]
            if self.areas is not None:
                tables.append(self.areas)
            for table in tables:
                all_reduce(table.tensor)
            self.num_images = size
            self._require_both_kinds()
            return super().evaluate(size)
        finally:
            self.results.clear()
            self._reset()

    def _require_both_kinds(self):
        """Open validation without one kind of pixels decides nothing, and keeps no checkpoint."""
        for counts in (self.counts or {}).values():
            closed, opened = counts.scores.num_closed, counts.scores.num_open
            if self.setting.stage == 'val' and not (closed and opened):
                raise ValueError(
                    f'open validation: wanted closed and open pixels, found {closed} closed and '
                    f'{opened} open ones in the {self.num_images} images of val_dataloader. Give '
                    'it images that show open classes'
                )

    def compute_metrics(self, results: list) -> dict:
        assert self.counts is not None
        deciding = self.setting.stage == 'val'
        decisions = self.setting.decisions
        if deciding:
            rules = dict.fromkeys(STANDARD_RULES)
            if is_rule(self.threshold):
                rules[str(self.threshold)] = None
            decisions = {name: counts.decide([*rules]) for name, counts in self.counts.items()}
        summaries, self.curves = {}, {}
        for name, counts in self.counts.items():
            summary, curves = counts.compute(
                classes=self.dataset_meta['classes'],
                open_classes=self.dataset_meta['open_classes'],
                open_logit=name in self.setting.open_logits,
                calibration=decisions[name].calibration if name in decisions else None,
            )
            summaries[name] = summary
            drawn = {key: summary[key] for key in (*NAMES, 'per_class')}
            self.curves[name] = dict(drawn, **curves)
        closed = {} if self.areas is None else self.areas.compute()
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
            **closed,
        )
        text = headline(self.report)
        if not deciding:
            text += '\n\n' + details(self.report)
        MMLogger.get_current_instance().info('\n' + text)
        return dict(self._metrics_of(summaries), **closed)

    def _metrics_of(self, summaries):
        metrics = {}
        for name, summary in summaries.items():
            for key in NAMES:
                metrics[f'{name}/{key}'] = summary[key]
            several = len(self.dataset_meta['open_classes']) > 1
            if several and not np.isnan(summary[OVER_KINDS]):  # no kind has pixels enough
                metrics[f'{name}/{OVER_KINDS}'] = summary[OVER_KINDS]
        return metrics
