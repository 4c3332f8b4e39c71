"""Open-set recognition: macro-F1 over the K closed classes and the open one, at every threshold at once.

At a threshold t a pixel is called open where ``score >= t``; elsewhere the closed prediction stands. With TP, FP and FN
of a class over all scored pixels, its F1 is 2 TP / (2 TP + FP + FN), and macro-F1 is the plain mean over classes (the
paper's section 4, "Evaluation Metric"). All open classes are one class here; void is never counted.

The mean is over the classes that the ground truth holds, open included, at every t the same ones: scikit-learn's
``f1_score(average='macro', labels=those)``. A class that is predicted but never occurs has no F1 of its own; its false
positives cost recall where they fall. (scikit-learn's default would add it as a 0, but only at thresholds where it is
still predicted, which makes the curve jump.) Where the ground truth holds all K + 1, the two agree.

One pass over the scores fills a fixed-size table: a row of score cells for each closed prediction, split by what the
pixel is. The cells are runs of the bins of ``roc``, so their edges do not depend on data and counts add over images
and ranks: 1.6 % apart for probabilities, 0.4 % for logits from 1 to 16. Extra thresholds are counted exactly.
"""

import math
import warnings
from collections.abc import Sequence

import torch

from ..contracts import CLOSED, VOID
from .roc import NUM_BINS, lower_edges, score_bins

_SHIFT = 7  # 2^7 score bins to a cell
_CORRECT, _WRONG, _OPEN = range(3)  # a closed pixel with the right or the wrong closed prediction, an open pixel
_CHUNK = 2 ** 17  # pixels handled at once on a CPU, as in roc


class RecognitionCounts:
    """Counts from which macro-F1 follows at every threshold of a grid; 4.3 MB for 19 classes.

    Args:
        num_classes: K, the number of closed classes, at least 1.
        thresholds: added to the grid, e.g. one chosen on open validation. Rounded to float32, as scores are.
        device: where the counts live and updates are computed; best where the scores are.

    Attributes:
        thresholds: (T,) float32 on the CPU, ascending, from "everything is open" to inf, "nothing is".
        tensor: all counts, int64 (cells,). Sums of it are counts of the pixels together: all-reduce it in place.

    Example:
        >>> counts = RecognitionCounts(num_classes=2, thresholds=[.5])
        >>> counts.update(torch.tensor([.1, .2, .9]), torch.tensor([0, 1, 1]), torch.tensor([0, 1, 255]),
        ...               torch.tensor([0, 0, 1]))
        >>> counts.macro_f1_at(.5), round(counts.macro_f1_at(math.inf), 3)
        (1.0, 0.556)
    """

    def __init__(self, num_classes: int, *, thresholds: Sequence[float] = (), device: torch.device | str = 'cpu'):
        if num_classes < 1:
            raise ValueError(f'num_classes must be at least 1, got {num_classes}')
        self.num_classes = num_classes
        extra = torch.tensor(list(thresholds), dtype=torch.float32)
        if not extra.isfinite().all():
            raise ValueError(f'thresholds must be finite (inf is always there), got {list(thresholds)}')
        grid = lower_edges(torch.arange(0, NUM_BINS, 2 ** _SHIFT))
        self._extra = extra[~torch.isin(extra, grid)].unique().to(device)
        self.thresholds = torch.cat([grid, self._extra.cpu(), torch.tensor([math.inf])]).sort().values
        self._cells = len(self.thresholds) - 1
        self.tensor = torch.zeros(num_classes + 3 * num_classes * self._cells, dtype=torch.int64, device=device)

    def update(self, scores: torch.Tensor, closed_prediction: torch.Tensor, gt_sem_seg: torch.Tensor,
               open_map: torch.Tensor) -> None:
        """Count the pixels of one or more images; void pixels are dropped, whatever the other maps hold there.

        Args:
            scores: floating point, any shape and device, larger = more open.
            closed_prediction: integers of that shape in [0, K): the closed path's map, whatever the score.
            gt_sem_seg: integers of that shape: the closed class where ``open_map`` is 0, ignored elsewhere.
            open_map: bool or integers of that shape as in ``contracts``: 0 closed, 255 void, anything else open.

        Raises:
            TypeError: a map has the wrong kind of dtype.
            ValueError: the shapes differ, a class is out of range, or scored pixels are NaN or infinite. Nothing has
                been counted then.
        """
        maps = self._checked(scores, closed_prediction, gt_sem_seg, open_map)
        chunk = _CHUNK if self.tensor.device.type == 'cpu' else max(1, scores.numel())
        for some in zip(*(one.split(chunk) for one in maps), strict=True):
            self._add(*some)

    def _add(self, score, predicted, truth, label):
        is_open, scored = label != CLOSED, (label != VOID).long()
        cell = score_bins(score) >> _SHIFT
        for threshold in self._extra:
            cell += score >= threshold
        kind = torch.where(is_open, _OPEN, (predicted != truth).int())
        cell += self.num_classes + self._cells * (3 * predicted + kind)
        self.tensor.scatter_add_(0, cell.long(), scored)
        self.tensor.scatter_add_(0, truth.clamp(0, self.num_classes - 1).long(), (~is_open).long())

    def _checked(self, scores, closed_prediction, gt_sem_seg, open_map):
        """Flat maps on the device of the counts, float32 and int32, harmless where void; or an error."""
        device = self.tensor.device
        integers = dict(closed_prediction=closed_prediction, gt_sem_seg=gt_sem_seg, open_map=open_map)
        if not scores.is_floating_point():
            raise TypeError(f'scores must be floating point, got {scores.dtype}')
        for name, one in integers.items():
            if one.is_floating_point() or one.is_complex():
                raise TypeError(f'{name} must hold integers, got {one.dtype}')
            if one.shape != scores.shape:
                raise ValueError(f'{name} must have the shape of scores {tuple(scores.shape)}, got {tuple(one.shape)}')
        scores = scores.detach().to(device, torch.float32).reshape(-1)
        predicted, truth, label = (one.to(device, torch.int32).reshape(-1) for one in integers.values())
        scored, closed = label != VOID, label == CLOSED
        bad = int((scored & ~scores.isfinite()).sum())
        if bad:
            raise ValueError(f'scores must be finite in float32: {bad} of {int(scored.sum())} scored pixels are NaN or '
                             'infinite')
        for name, one, used in (('closed_prediction', predicted, scored), ('gt_sem_seg', truth, closed)):
            bad = one[used & ((one < 0) | (one >= self.num_classes))]
            if len(bad):
                raise ValueError(f'{name} must hold classes in [0, {self.num_classes - 1}] at '
                                 f"{'scored' if used is scored else 'closed'} pixels, got {int(bad.max())} "
                                 f'({len(bad)} pixels out of range)')
        void = ~scored
        return scores.masked_fill(void, 0), predicted.masked_fill(void, 0), truth, label

    def merge(self, other: 'RecognitionCounts') -> None:
        """Add the counts of ``other``, as if its pixels had been counted here."""
        if self.num_classes != other.num_classes or not torch.equal(self.thresholds, other.thresholds):
            raise ValueError(f'other must have {self.num_classes} classes and the same thresholds, got '
                             f'{other.num_classes} classes and {len(other.thresholds)} thresholds')
        self.tensor += other.tensor.to(self.tensor.device)

    def f1_curves(self) -> torch.Tensor:
        """(T, K + 1) float64: F1 of each class at each of ``thresholds``, the open class last; nan where the ground
        truth does not hold the class."""
        counts = self.tensor.cpu()
        closed = counts[:self.num_classes]
        table = counts[self.num_classes:].view(self.num_classes, 3, self._cells)
        below = torch.nn.functional.pad(table.cumsum(-1), (1, 0))  # (K, 3, T): pixels with score < threshold
        total = int(table.sum())
        num_open = table[:, _OPEN].sum()
        called_open = total - below.sum((0, 1))
        correct = torch.cat([below[:, _CORRECT], (num_open - below[:, _OPEN].sum(0))[None]])
        called = torch.cat([below.sum(1), called_open[None]])
        truth = torch.cat([closed, num_open[None]])[:, None]
        f1 = 2 * correct.double() / (called + truth).double()
        return torch.where(truth > 0, f1, math.nan).T

    def macro_f1_curve(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Thresholds (T,) float32 and macro-F1 there (T,) float64; the last, at inf, is that of the closed prediction.

        nan, with a warning, where no closed or no open pixel was counted.
        """
        f1 = self.f1_curves()
        if f1[:, -1].isnan().any() or f1[:, :-1].isnan().all():
            warnings.warn('Macro-F1 is undefined and given as nan: no closed or no open pixel was counted',
                          stacklevel=2)
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
        """The largest macro-F1 over ``thresholds``, and the (largest such) threshold: choose on open validation."""
        thresholds, f1 = self.macro_f1_curve()
        best = len(f1) - 1 - int(f1.flip(0).argmax())
        return float(f1[best]), float(thresholds[best])

    def _index(self, threshold):
        found = (self.thresholds == torch.tensor(threshold, dtype=torch.float32)).nonzero()
        if not len(found):
            raise ValueError(f'threshold must be one of the {len(self.thresholds)} that were counted, got {threshold}; '
                             'name it in thresholds before counting')
        return int(found[0, 0])
