"""Streaming open-set evaluation: fixed-size counts of scores that add over images and ranks.

Scores are counted in the bins of a :class:`ScoreLayout`. All numbers are those of the scores
themselves, up to the order of pixels inside a bin, and ``detection`` bounds what that order can
change. A score map that is shifted or scaled, in any way that keeps its floats distinct, gives the
same numbers within these bounds.

A float64 score is rounded to float32 first; a warning says so where that makes most scores equal.
float16 and bfloat16 lose nothing.
"""

import warnings
from collections.abc import Sequence

import torch

from ..contracts import CLOSED, FIRST_OPEN, VOID
from .detection import ScoreBins, mean_over_kinds, numbers
from .score_layout import NUM_BINS, ScoreLayout, chunks

_MAX_CELLS = 17 * 2**18  # int64 cells of one accumulator, 34 MiB


class ScoreCounts:
    """Counts of closed and open pixels per score bin, for any number of images in 34 MiB at most.

    The one tensor holds a row of ``NUM_BINS`` for the closed pixels, one for all open pixels, and,
    where there are two or more open classes, one row for each. The more classes there are, the more
    neighbouring bins share a cell of those rows: that widens the error bounds of a class, not the
    pooled ones.

    Args:
        num_open_classes: length of ``metainfo['open_classes']``, 0 to 254.
        layout: None: made for the scores of the first map with a pixel that is not void.
        device: where the counts live and updates are computed; best where the scores are.

    Attributes:
        layout: None before the first map.
        tensor: all counts, int64 (cells,). Sums of it are counts of the pixels together, where the
            layouts are the same: all-reduce it in place.

    Example:
        >>> counts = ScoreCounts(num_open_classes=1)
        >>> counts.update(torch.tensor([.1, .8, .3, .9]), torch.tensor([0, 1, 0, 255]))
        >>> summarize(counts)['AUROC']
        1.0
    """

    def __init__(
        self,
        num_open_classes: int,
        *,
        layout: ScoreLayout | None = None,
        device: torch.device | str = 'cpu',
    ):
        self.num_open_classes = num_open_classes
        self.layout = layout
        rows = num_open_classes if num_open_classes > 1 else 0
        self._class_shift = 0
        while 2 * NUM_BINS + rows * self._row_length > _MAX_CELLS:
            self._class_shift += 1
        cells = 2 * NUM_BINS + rows * self._row_length
        self.tensor = torch.zeros(cells, dtype=torch.int64, device=device)

    @property
    def _row_length(self):
        """Cells of a class's row, in which 2^shift neighbouring bins share a cell."""
        return ((NUM_BINS - 1) >> self._class_shift) + 1

    def update(self, scores: torch.Tensor, open_map: torch.Tensor) -> None:
        """Count the pixels of one or more score maps; void pixels are dropped, whatever their
        score.

        Arguments and errors are those of :meth:`binned`; after an error nothing has been counted.
        """
        self.add(*self.binned(scores, open_map))

    def binned(
        self, scores: torch.Tensor, open_map: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Bins and labels of the pixels of score maps, checked: what each count begins with.

        Args:
            scores: floating point, any shape and device, larger = more open.
            open_map: bool or integer labels of that shape as in ``contracts``: 0 closed, 1 + i open
                class i, 255 void.

        Returns:
            (n,) int32 bins, of a void pixel any, and (n,) uint8 labels.

        Raises:
            TypeError: ``scores`` is not floating point, or ``open_map`` is.
            ValueError: the shapes differ, a label is out of range, or scored pixels are NaN or
                infinite.
        """
        scores, labels = checked(scores, open_map, self.num_open_classes, self.tensor.device)
        if self.layout is not None:
            return self.layout.bins(scores), labels
        layout = ScoreLayout.of(scores, labels)
        if (labels != VOID).any():
            self.layout = layout
        return layout.bins(scores), labels

    def add(self, bins: torch.Tensor, labels: torch.Tensor) -> None:
        """Count pixels given by :meth:`binned`."""
        for some, label in chunks(bins, labels):
            cell = (label != CLOSED).int().mul_(NUM_BINS).add_(some)
            self.tensor.scatter_add_(0, cell.long(), (label != VOID).long())  # a void pixel adds 0
        if self.num_open_classes > 1:
            at = torch.nonzero((labels != CLOSED) & (labels != VOID))[:, 0]
            cell = (labels[at].int() - FIRST_OPEN).mul_(self._row_length)
            cell.add_(bins[at] >> self._class_shift).add_(2 * NUM_BINS)
            self.tensor.scatter_add_(0, cell.long(), torch.ones_like(at))

    @property
    def num_closed(self) -> int:
        """Closed pixels counted so far."""
        return int(self.tensor[:NUM_BINS].sum())

    @property
    def num_open(self) -> int:
        """Open pixels counted so far, of all classes together."""
        return int(self.tensor[NUM_BINS : 2 * NUM_BINS].sum())

    def bins(self, open_class: int | None = None) -> ScoreBins:
        """The non-empty bins: all open pixels, or those of one open class (0-based), against all
        closed pixels.

        The edges are float32 scores: ``scores.float() >= threshold`` reproduces the counted TPR and
        FPR exactly.
        """
        closed, shift = self.tensor[:NUM_BINS], 0
        opened = self.tensor[NUM_BINS : 2 * NUM_BINS]
        if open_class is not None and self.num_open_classes > 1:
            opened = self.tensor[2 * NUM_BINS :].view(self.num_open_classes, -1)[open_class]
            shift = self._class_shift
            padding = (len(opened) << shift) - NUM_BINS
            closed = torch.nn.functional.pad(closed, (0, padding)).view(-1, 1 << shift).sum(1)
        filled = torch.nonzero((closed + opened) > 0)[:, 0]
        return self._score_bins(filled, closed[filled], opened[filled], shift)

    def bins_of_few(self, bins: torch.Tensor, labels: torch.Tensor) -> ScoreBins:
        """The non-empty bins of pixels from :meth:`binned` alone, by sorting: quicker than a table
        for fewer than 100,000 or so.
        """
        scored = labels != VOID
        filled, index = torch.unique(bins[scored], return_inverse=True)
        is_open = labels[scored] != CLOSED
        closed = torch.bincount(index[~is_open], minlength=len(filled))
        opened = torch.bincount(index[is_open], minlength=len(filled))
        return self._score_bins(filled, closed, opened, 0)

    def _score_bins(self, filled, closed, opened, shift):
        if self.layout is None:
            nothing = torch.zeros(0, dtype=torch.int64)
            return ScoreBins(nothing, nothing, nothing.double(), nothing.bool())
        lower, single = self.layout.edges(filled.long().cpu() << shift, 1 << shift)
        return ScoreBins(closed.cpu(), opened.cpu(), lower.double(), single)


def checked(
    scores: torch.Tensor, open_map: torch.Tensor, num_open_classes: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flat contiguous float32 scores and uint8 labels on ``device``, or an error; as for
    :meth:`ScoreCounts.binned`. Scores of void pixels that are not finite become 0.
    """
    if not scores.is_floating_point():
        raise TypeError(f'scores: wanted floating point, found {scores.dtype}')
    if open_map.is_floating_point():
        raise TypeError(f'open_map: wanted bool or integer labels, found {open_map.dtype}')
    if scores.shape != open_map.shape:
        raise ValueError(
            f'open_map: wanted the shape of scores, {tuple(scores.shape)}, found '
            f'{tuple(open_map.shape)}'
        )
    labels = _labels(open_map.detach().to(device).reshape(-1), num_open_classes)
    found = scores.detach().to(device).reshape(-1)
    scores = found.float().contiguous()
    # Nothing but a sum of finite numbers is finite, in one pass; float64 has room for all of them.
    if not scores.sum(dtype=torch.float64).isfinite():
        bad = ~scores.isfinite()
        scored = labels != VOID
        number = int((bad & scored).sum())
        if number:
            raise ValueError(
                f'scores: wanted numbers that are finite in float32, found NaN or infinity at '
                f'{number} of {int(scored.sum())} scored pixels'
            )
        scores = scores.masked_fill(bad, 0)
    if found.dtype == torch.float64:
        _warn_of_rounding(found, scores)
    return scores, labels


def _labels(labels, num_open_classes):
    """(n,) uint8 labels in range, or an error."""
    strange = (labels < CLOSED) | ((labels > num_open_classes) & (labels != VOID))
    if strange.any():
        raise ValueError(
            f'open_map: wanted labels in [0, {num_open_classes}] or {VOID}, found label '
            f'{int(labels[strange].max())} ({int(strange.sum())} pixels out of range)'
        )
    return labels.to(torch.uint8).contiguous()


def _warn_of_rounding(found, scores):
    finite = found.isfinite()
    distinct, kept = len(found[finite].unique()), len(scores[finite].unique())
    if kept < distinct / 2:
        warnings.warn(
            f'float32, in which scores are counted, keeps {kept} of {distinct} distinct float64 '
            'scores: the error bounds do not know of it. Subtract a constant first',
            stacklevel=4,
        )


def summarize(counts: ScoreCounts, open_classes: Sequence[str] | None = None) -> dict:
    """The pooled numbers and, under ``per_class``, those of each open class against all closed
    pixels.

    Args:
        counts: what was counted.
        open_classes: names, keys of ``per_class``; by default their indices as strings.

    Returns:
        dict: those of ``detection.numbers``; AUROC_kinds, see ``detection.mean_over_kinds``;
            per_class: {name: those of ``detection.numbers``}. A class without a pixel has nan and
            num_open 0. If nothing is open or closed, all are nan and a warning says so.
    """
    names = list(open_classes or map(str, range(counts.num_open_classes)))
    pooled = numbers(counts.bins())
    if not pooled['num_closed'] or not pooled['num_open']:
        warnings.warn(
            f'AUROC, AP and FPR95 are undefined and given as nan: {pooled["num_closed"]} closed '
            f'and {pooled["num_open"]} open pixels were counted',
            stacklevel=2,
        )
    per_class = {name: numbers(counts.bins(i)) for i, name in enumerate(names)}
    return dict(pooled, AUROC_kinds=mean_over_kinds(per_class), per_class=per_class)
