"""Everything that an evaluation counts of one scorer: a few fixed-size tables that add over images
and ranks.

Each table has a ``tensor`` of integers, and the tensors of all ranks together are their sum, so
that several processes give exactly the numbers of one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from ..contracts import CLOSED, IGNORE, VOID
from ..functional.bootstrap import block_table, interval, resampled_aurocs
from ..functional.calibration import Calibration, expected_calibration_error
from ..functional.components import TRACKS, ComponentCounts, MinSizes
from ..functional.curve_data import curve_data
from ..functional.decisions import MACRO_F1, Decisions, decide
from ..functional.detection import ScoreBins, fpr_at_tpr, rates, threshold_at_tpr
from ..functional.image_means import ImageMeans
from ..functional.pixels import grid_stride, labels_on_grid
from ..functional.recognition import Outcomes, RecognitionCounts, outcomes
from ..functional.score_counts import ScoreCounts, summarize
from ..functional.score_layout import ScoreLayout

# Pixels of an image up to which sorting them costs less than a whole table, on a CPU.
_FEW = 2**16


class GroundTruth(NamedTuple):
    """One image's labels on the grid of a score map; scorers of one grid share it.

    Attributes:
        open_map: (h, w) uint8, see ``contracts``.
        stride: image pixels per cell of the grid; 1 at image resolution.
        outcomes: what the closed prediction makes of the pixels; None where closed classes are not
            asked for.
    """

    open_map: torch.Tensor
    stride: int
    outcomes: Outcomes | None

    @classmethod
    def on_grid(
        cls, size, open_map, prediction=None, gt_sem_seg=None, *, num_classes: int = 0, device='cpu'
    ) -> 'GroundTruth':
        """The labels (H, W) of an image, on the grid (h, w) and the device of its score maps."""
        stride = grid_stride(open_map.shape, size)
        maps = [open_map, prediction, gt_sem_seg]
        open_map, prediction, gt_sem_seg = (
            None if one is None else labels_on_grid(one, size).to(device) for one in maps
        )
        found = None
        if prediction is not None:
            # Of a closed pixel whose class nobody knows (anomaly masks), nothing can be said about
            # classes.
            known = open_map.masked_fill((open_map == CLOSED) & (gt_sem_seg == IGNORE), VOID)
            found = outcomes(
                prediction,
                gt_sem_seg,
                known,
                num_classes=num_classes,
                device=device,
            )
        return cls(open_map, stride, found)


class CalledOpen:
    """Closed and open pixels with ``score >= threshold``, exactly: a bin may hold scores on both
    sides of a threshold.

    Attributes:
        tensor: (thresholds, 2) int64, closed and open.
    """

    def __init__(self, thresholds: Iterable[float], device='cpu'):
        self.thresholds = torch.tensor(
            list(thresholds), dtype=torch.float32, device=device
        )  # as scores are
        self.tensor = torch.zeros(len(self.thresholds), 2, dtype=torch.int64, device=device)

    def add(self, scores: torch.Tensor, labels: torch.Tensor) -> None:
        """Count pixels: scores of any shape, and their (n,) labels."""
        scores = scores.detach().to(self.tensor.device, torch.float32).reshape(-1)
        closed = labels == CLOSED
        opened = ~closed & (labels != VOID)
        for threshold, counts in zip(self.thresholds, self.tensor):
            called = scores >= threshold
            counts += torch.stack([(called & group).sum() for group in (closed, opened)])


class ScorerCounts:
    """The tables of one scorer.

    Args:
        layout: of its scores, the same on all ranks.
        num_open_classes: length of ``metainfo['open_classes']``.
        num_classes: K, or None where closed classes are not asked for.
        thresholds: of open validation or given, by rule: what the operating points and components
            are counted at.
        component_rule: key of ``thresholds`` at which components are counted.
        track: component sizes, ``'anomaly'`` or ``'obstacle'``; None counts no components.
        bootstrap_block: images in a block of the bootstrap; 0 keeps no blocks.
        device: where the tables live; best where the scores are.
    """

    def __init__(
        self,
        layout: ScoreLayout,
        *,
        num_open_classes: int,
        num_classes: int | None = None,
        thresholds: Mapping[str, float] | None = None,
        component_rule: str | None = None,
        track: str | None = None,
        bootstrap_block: int = 0,
        device='cpu',
    ):
        self.thresholds = dict(thresholds or {})
        self.scores = ScoreCounts(num_open_classes, layout=layout, device=device)
        self.called = CalledOpen(self.thresholds.values(), device)
        self.images = ImageMeans()
        self.recognition = None
        if num_classes is not None:
            finite = [value for value in self.thresholds.values() if math.isfinite(value)]
            self.recognition = RecognitionCounts(
                num_classes, layout, thresholds=finite, device=device
            )
        self.track, self.components = track, None
        if track is not None:
            assert component_rule is not None
            self.components = ComponentCounts(self.thresholds[component_rule])
        self.component_rule = component_rule
        self.bootstrap_block = bootstrap_block
        self._block = self._empty() if bootstrap_block else None
        self._in_block = 0
        self._blocks: list[ScoreBins] = []

    @property
    def tables(self) -> list:
        """What is added over ranks."""
        found = (self.scores, self.called, self.images, self.recognition, self.components)
        return [table for table in found if table is not None]

    def _empty(self):
        """A table of some of the images; their open classes are not told apart."""
        return ScoreCounts(1, layout=self.scores.layout, device=self.scores.tensor.device)

    def update(self, scores: torch.Tensor, truth: GroundTruth) -> None:
        """Count one image: scores (h, w), larger = more open, and the labels on that grid."""
        bins, labels = self.scores.binned(scores, truth.open_map)
        self.scores.add(bins, labels)
        if len(bins) <= _FEW and bins.device.type == 'cpu':
            self.images.update(self.scores.bins_of_few(bins, labels))
        else:
            image = self._empty()
            image.add(bins, labels)
            self.images.update(image.bins())
        self.called.add(scores, labels)
        if self.recognition is not None:
            assert truth.outcomes is not None
            self.recognition.add(bins, scores, truth.outcomes)
        if self.components is not None and self.track is not None:
            self.components.min_sizes = grid_sizes(self.track, truth.stride)
            self.components.update(scores.float(), truth.open_map)
        if self._block is not None:
            self._block.add(bins, labels)
            self._in_block += 1
            if self._in_block == self.bootstrap_block:
                self._finish_block(self._block)

    def _finish_block(self, block: ScoreCounts):
        self._blocks.append(block.bins())
        block.tensor.zero_()
        self._in_block = 0

    def decide(self, rules: Sequence[str]) -> Decisions:
        """Thresholds and calibration for these scores: for open validation only."""
        return decide(self.scores.bins(), self.recognition, rules=rules)

    def compute(
        self,
        *,
        classes: Sequence[str],
        open_classes: Sequence[str],
        open_logit: bool,
        calibration: Calibration | None,
    ) -> tuple[dict, dict]:
        """All numbers, and all curves (``functional.curve_data``), of the images counted.

        Returns:
            tuple: the summary of ``score_counts.summarize`` with ``per_image``,
                ``operating_points``, and where they were counted ``called_open``, ``recognition``,
                ``components``, ``calibration``, ``AUROC_interval`` and ``blocks``; see
                docs/evaluation.md. And the curves.
        """
        bins = self.scores.bins()
        recognition = self.recognition
        if recognition is not None and not recognition.num_closed:
            recognition = None  # no closed pixel has a known class
        found = summarize(self.scores, open_classes)
        found['per_image'] = self.images.compute()
        both = bool(found['num_closed'] and found['num_open'])
        points = {
            rule: dict(threshold=threshold, **rates(fp, tp, found['num_closed'], found['num_open']))
            for (rule, threshold), (fp, tp) in zip(
                self.thresholds.items(), self.called.tensor.tolist()
            )
        }
        if recognition is not None and both:
            found['called_open'] = called_open(bins, recognition, classes)
            found['recognition'] = _recognition(recognition, points, classes)
        found['operating_points'] = points
        if self.components is not None:
            found['components'] = dict(
                rule=self.component_rule, track=self.track, **self.components.compute()
            )
        if calibration is not None and both:
            found['calibration'] = _calibration(bins, calibration, open_logit)
        if self._block is not None:
            if self._in_block:
                self._finish_block(self._block)
            table = block_table(self._blocks)
            found.update(AUROC_interval=interval(resampled_aurocs([table])), blocks=table.to_json())
        return found, curve_data(bins)


def grid_sizes(track: str, stride: int) -> MinSizes:
    """Smallest components of a track on a grid: the sizes in image pixels divided by stride^2,
    rounded up.
    """
    return MinSizes(*(-(-size // stride**2) for size in TRACKS[track]))


def called_open(bins: ScoreBins, recognition: RecognitionCounts, classes: Sequence[str]) -> dict:
    """The closed classes most often called open where 95 % of the open pixels are found.

    Returns:
        dict: ``threshold``, the grid point of ``RecognitionCounts`` next below that of FPR95;
            ``FPR95``, the exact one; ``classes``: {name: num_pixels, called_open, fraction}, the
            largest fraction first, without classes that have no pixel.
    """
    threshold, called, pixels = recognition.called_open(threshold_at_tpr(bins))
    rows = [
        (
            name,
            dict(
                num_pixels=total,
                called_open=number,
                fraction=number / total,
            ),
        )
        for name, number, total in zip(classes, called.tolist(), pixels.tolist(), strict=True)
        if total
    ]
    rows.sort(key=lambda row: -row[1]['fraction'])
    return dict(
        threshold=threshold,
        FPR95=fpr_at_tpr(bins),
        classes=dict(rows),
    )


def _recognition(recognition, points, classes):
    """Macro-F1 without an open class called, at each operating point, and at best: what no
    threshold can exceed.
    """
    best, threshold = recognition.best_macro_f1()
    names = [*classes, 'open']
    found = dict(
        closed_only=recognition.macro_f1_at(math.inf),
        best_possible=dict(macro_F1=best, threshold=threshold),
    )
    for point in points.values():
        point['macro_F1'] = recognition.macro_f1_at(point['threshold'])
    rule = MACRO_F1 if MACRO_F1 in points else next(iter(points), None)
    if rule is not None:
        f1 = recognition.f1_at(points[rule]['threshold'])
        found.update(
            rule=rule,
            threshold=points[rule]['threshold'],
            macro_F1=points[rule]['macro_F1'],
            F1={
                name: value for name, value in zip(names, f1, strict=True) if not math.isnan(value)
            },
        )
    return found


def _calibration(bins, calibration, open_logit):
    """ECE before (the plain sigmoid, of an open logit only) and after, and what was fitted."""
    after = expected_calibration_error(bins, calibration)
    before = expected_calibration_error(bins) if open_logit else None
    return dict(calibration.to_json(), ECE_mass=dict(before=before, after=after))
