"""Open-set recognition: macro-F1 over the K closed classes and the open one, at every threshold at
once.

At a threshold t a pixel is called open where ``score >= t``; elsewhere the closed prediction
stands. With TP, FP and FN of a class over all scored pixels, its F1 is 2 TP / (2 TP + FP + FN), and
macro-F1 is the plain mean over classes (the paper's section 4, "Evaluation Metric"). All open
classes are one class here; void is never counted.

The mean is over the classes that the ground truth holds, open included, at every t the same ones:
scikit-learn's ``f1_score(average='macro', labels=those)``. A class that is predicted but never
occurs has no F1 of its own; its false positives cost recall where they fall. (scikit-learn's
default would add it as a 0, but only at thresholds where it is still predicted, which makes the
curve jump.) Where the ground truth holds all K + 1, the two agree.

One pass over the scores fills a fixed-size table of rows of score cells: two for each closed
prediction, right and wrong, and one for each true class, of the pixels that the closed prediction
misses. The cells are runs of 128 bins of a :class:`ScoreLayout`, so counts add over images and
ranks, and thresholds lie close together where scores crowd. Extra thresholds are counted exactly.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch

from ..contracts import CLOSED, VOID
from .score_layout import ScoreLayout, chunks

_SHIFT = 7  # 2^7 score bins to a cell


class Outcomes(NamedTuple):
    """What the closed prediction makes of each pixel, whatever its score: one for all score maps of
    an image.

    Attributes:
        called: (n,) int32, 2 c where the pixel is predicted as class c and is of it, 2 c + 1 where
            it is not.
        missed: (m,) int64, the pixels that are not of the class predicted.
        truth: (m,) int32, their true closed class, or K for an open pixel.
        scored: (n,) int64, 0 for a void pixel, otherwise 1. Void pixels are not among ``missed``.
    """

    called: torch.Tensor
    missed: torch.Tensor
    truth: torch.Tensor
    scored: torch.Tensor


def outcomes(
    closed_prediction: torch.Tensor,
    gt_sem_seg: torch.Tensor,
    open_map: torch.Tensor,
    *,
    num_classes: int,
    device: torch.device | str = 'cpu',
) -> Outcomes:
    """Compare a closed prediction with the ground truth.

    Args:
        closed_prediction: integers in [0, K), any shape: the closed path's map, whatever the score.
        gt_sem_seg: integers of that shape: the closed class where ``open_map`` is 0, ignored
            elsewhere.
        open_map: bool or integers of that shape as in ``contracts``: 0 closed, 255 void, anything
            else open.
        num_classes: K.
        device: where the result shall be.

    Raises:
        ValueError: a class is out of range.
    """
    maps = (closed_prediction, gt_sem_seg, open_map)
    predicted, truth, label = (one.to(device, torch.int32).reshape(-1) for one in maps)
    void = label == VOID
    truth = torch.where(label == CLOSED, truth, num_classes)
    predicted = predicted.masked_fill(void, 0)
    closed_truth = truth.masked_fill(label != CLOSED, 0)
    for name, one, where in (
        ('closed_prediction', predicted, 'scored'),
        ('gt_sem_seg', closed_truth, 'closed'),
    ):
        bad = one[(one < 0) | (one >= num_classes)]
        if len(bad):
            raise ValueError(
                f'{name}: wanted classes in [0, {num_classes - 1}] at {where} pixels, found '
                f'{int(bad.max())} ({len(bad)} pixels out of range)'
            )
    wrong = predicted != truth
    missed = torch.nonzero(wrong & ~void)[:, 0]
    return Outcomes(predicted.mul_(2).add_(wrong), missed, truth[missed], (~void).long())


class RecognitionCounts:
    """Counts from which macro-F1 follows at every threshold of a grid; 4.2 MB for 19 classes.

    Args:
        num_classes: K, the number of closed classes, at least 1.
        layout: of the scores.
        thresholds: added to the grid, e.g. one chosen on open validation. Rounded to float32, as
            scores are.
        device: where the counts live and updates are computed; best where the scores are.

    Attributes:
        thresholds: (T,) float32 on the CPU, ascending, from "everything is open" to inf, "nothing
            is".
        tensor: all counts, int64 (cells,). Sums of it are counts of the pixels together: all-reduce
            it in place.

    Example:
        >>> scores, open_map = torch.tensor([.1, .2, .9]), torch.tensor([0, 0, 1])
        >>> prediction, truth = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 255])
        >>> layout = ScoreLayout.of(scores, open_map)
        >>> counts = RecognitionCounts(2, layout, thresholds=[.5])
        >>> counts.add(
        ...     layout.bins(scores), scores, outcomes(prediction, truth, open_map, num_classes=2)
        ... )
        >>> counts.macro_f1_at(.5), round(counts.macro_f1_at(math.inf), 3)
        (1.0, 0.556)
    """

    def __init__(
        self,
        num_classes: int,
        layout: ScoreLayout,
        *,
        thresholds: Sequence[float] = (),
        device: torch.device | str = 'cpu',
    ):
        self.num_classes = num_classes
        extra = torch.tensor(list(thresholds), dtype=torch.float32)
        grid, _ = layout.edges(torch.arange(0, layout.num_bins, 1 << _SHIFT))
        extra = extra[~torch.isin(extra, grid)].unique()
        self._extra = extra.to(device)
        self.thresholds = torch.cat([grid, extra, torch.tensor([math.inf])]).sort().values
        self._cells = len(self.thresholds) - 1
        self.tensor = torch.zeros(
            (3 * num_classes + 1) * self._cells, dtype=torch.int64, device=device
        )

    def add(self, bins: torch.Tensor, scores: torch.Tensor, found: Outcomes) -> None:
        """Count pixels.

        Args:
            bins: (n,) of the scores in the layout.
            scores: any shape; place the pixels among the added thresholds.
            found: what the closed prediction makes of them.
        """
        cell = bins >> _SHIFT
        if len(self._extra):
            scores = scores.detach().to(cell.device, torch.float32).reshape(-1)
            for threshold in self._extra:
                cell += scores >= threshold
        missed = (found.truth + 2 * self.num_classes).mul_(self._cells).add_(cell[found.missed])
        self.tensor.scatter_add_(0, missed.long(), torch.ones_like(found.missed))
        for some, called, scored in chunks(cell, found.called, found.scored):
            some += called * self._cells
            self.tensor.scatter_add_(0, some.long(), scored)

    def f1_curves(self) -> torch.Tensor:
        """(T, K + 1) float64: F1 of each class at each of ``thresholds``, the open class last; nan
        where the ground truth does not hold the class."""
        called, correct, missed = self._tables()
        truth = missed.sum(-1, keepdim=True)
        truth[:-1] += correct.sum(-1, keepdim=True)
        # Of the scores below each threshold.
        called, correct, missed = (
            torch.nn.functional.pad(one.cumsum(-1), (1, 0)) for one in (called, correct, missed)
        )
        called_open = truth.sum() - called.sum(0)
        correct = torch.cat([correct, (truth[-1] - missed[-1])[None]])
        called = torch.cat([called, called_open[None]])
        f1 = 2 * correct.double() / (called + truth).double()
        return torch.where(truth > 0, f1, math.nan).T

    def _tables(self):
        """On the CPU, int64 pixels per score cell: called each class (K, cells), rightly so (K,
        cells), and those that are of each class or, last, open but not called so (K + 1, cells)."""
        table = self.tensor.cpu().view(-1, self._cells)
        called = table[: 2 * self.num_classes].view(self.num_classes, 2, self._cells)
        return called.sum(1), called[:, 0], table[2 * self.num_classes :]

    @property
    def num_closed(self) -> int:
        """Closed pixels counted so far."""
        _, correct, missed = self._tables()
        return int(correct.sum() + missed[:-1].sum())

    def called_open(self, threshold: float) -> tuple[float, torch.Tensor, torch.Tensor]:
        """How many pixels of each closed class are called open.

        Args:
            threshold: any; what is counted is the largest of ``thresholds`` not above it.

        Returns:
            That threshold, and (K,) int64 counts: pixels called open, and all pixels.
        """
        _, correct, missed = self._tables()
        pixels = correct + missed[:-1]
        index = int((self.thresholds <= torch.tensor(threshold, dtype=torch.float32)).sum()) - 1
        return float(self.thresholds[index]), pixels[:, index:].sum(-1), pixels.sum(-1)

    def macro_f1_curve(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Thresholds (T,) float32 and macro-F1 there (T,) float64; the last, at inf, is that of the
        closed prediction.

        nan, with a warning, where no closed or no open pixel was counted.
        """
        f1 = self.f1_curves()
        if f1[:, -1].isnan().any() or f1[:, :-1].isnan().all():
            warnings.warn(
                'Macro-F1 is undefined and given as nan: no closed or no open pixel was counted',
                stacklevel=2,
            )
            return self.thresholds, torch.full_like(f1[:, 0], math.nan)
        return self.thresholds, f1.nanmean(1)

    def macro_f1_at(self, threshold: float) -> float:
        """Macro-F1 at one of ``thresholds``, exactly.

        Raises:
            ValueError: the threshold is not one of them; name it when the table is made.
        """
        return float(self.macro_f1_curve()[1][self._index(threshold)])

    def f1_at(self, threshold: float) -> list[float]:
        """F1 of each closed class and, last, of the open one; see :meth:`macro_f1_at`."""
        return self.f1_curves()[self._index(threshold)].tolist()

    def best_macro_f1(self) -> tuple[float, float]:
        """The largest macro-F1 over ``thresholds``, and the (largest such) threshold: choose on
        open validation. Both are nan where macro-F1 is.
        """
        thresholds, f1 = self.macro_f1_curve()
        if f1[0].isnan():
            return math.nan, math.nan
        best = len(f1) - 1 - int(f1.flip(0).argmax())
        return float(f1[best]), float(thresholds[best])

    def _index(self, threshold):
        found = (self.thresholds == torch.tensor(threshold, dtype=torch.float32)).nonzero()
        if not len(found):
            raise ValueError(
                f'threshold: wanted one of the {len(self.thresholds)} that were counted, found '
                f'{threshold}; name it in thresholds before counting'
            )
        return int(found[0, 0])
