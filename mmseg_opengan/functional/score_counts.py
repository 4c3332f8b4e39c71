"""Streaming open-set evaluation: fixed-size counts of scores that add over images and ranks.

Bins are a monotone map of the bits of the float32 score, the same for all scorers and datasets, so
that counts can be added without having seen the scores before. Magnitudes of either sign share one
table; -0.0 equals +0.0:

=====================  ==================
================================================================= magnitude              bins per
octave     who lives there
=====================  ==================
================================================================= below 2^-120           one bin
        counts as zero 2^-120 .. 2^-24        512                 tails of a sigmoid
2^-24 .. 2^-14         512, twice          tails of 1 - MSP: in float32 they are multiples of 2^-24,
which have a
                                           bin each, and the floats between two of them another
2^-14 .. 1/2           8192                probabilities, entropies
1/2 .. 1               8192 an octave of   probabilities crowding at 1: by their distance from 1, so
that
                       1 - |s| + 2^-11     the last 8192 floats up to 1, and 1 itself, have a bin
                       each
1 .. 16                32768               logits, energies, entropies
16 .. 2^17             16384               energies, distances, log-likelihoods
2^17 .. 2^128          64                  whatever else is finite
=====================  ==================
=================================================================

Measured AUROC error bounds on real maps (CGNet on RoadAnomaly21, HRNet-W18-small on CamVid; 7 and
0.4 million pixels): logits of a briefly trained discriminator 7.9e-6, their sigmoids 5.9e-6, 1 -
MSP and -MSP 7.5e-6, entropy 5.0e-6, maximum logit 9.4e-6, energy 1.1e-5, Mahalanobis and Euclidean
distances 2.3e-5, cosine 2.1e-5. The actual errors were below 4e-7, because pairs inside a bin come
in both orders. A score map that uses few of the bins (all values within 1 % of each other, say) has
a larger bound, and reports it.

A float64 score is rounded to float32 first: scores closer than 6e-8 of their size may tie, a
magnitude beyond 3.4e38 is an error. float16 and bfloat16 lose nothing.
"""

import functools
import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch

from ..contracts import CLOSED, FIRST_OPEN, MAX_OPEN_CLASSES, VOID
from .detection import ScoreBins, mean_over_kinds, numbers

_LARGEST = 0x7F7FFFFF  # bits of the largest finite float32
_MAX_CELLS = (
    7 * 2**20
)  # int64 cells of one accumulator, 56 MiB: with the counts beside it, below 64
_CHUNK = 2**17  # pixels handled at once on a CPU: the intermediate results stay in its cache
_LAYOUT = 2  # counts add only within one layout; raise it when a number below changes


class _Piece(NamedTuple):
    """A stretch of magnitudes: the bin rises by one at the float32 bits origin + (1, 2, ..., count)
    << shift.
    """

    origin: int
    shift: int
    count: int  # type: ignore[assignment]


def _octaves(first: int, last: int, mantissa_bits: int, skip: int = 0) -> _Piece:
    """2^mantissa_bits bins in each octave of 2^first .. 2^last, each starting ``skip`` floats
    late.
    """
    shift = 23 - mantissa_bits
    return _Piece(
        ((first + 127) << 23) + skip - (1 << shift), shift, (last - first) << mantissa_bits
    )


# The second piece splits bins of the first: the float at the lower edge, and the rest. So does
# skip=1 for 1 itself.
_PIECES = (
    _octaves(-120, -14, 9),
    _octaves(-24, -14, 9, skip=1),
    _octaves(-14, -1, 13),
    _octaves(0, 4, 15, skip=1),
    _octaves(4, 17, 14),
    _octaves(17, 128, 6),
)
# 1/2 .. 1 goes by the bits of (1 + 2^-11) - |s|, which float32 holds exactly; they fall as |s|
# rises.
_NEAR_ONE_OFFSET, _NEAR_ONE_SHIFT = 1 + 2.0**-11, 10
_NEAR_ONE_HALF, _NEAR_ONE_ONE = (126 << 13) + 8, 116 << 13  # the shifted bits at |s| = 1/2 and at 1
_ZERO = sum(piece.count for piece in _PIECES) + _NEAR_ONE_HALF - _NEAR_ONE_ONE

#: Number of bins; bin ``NUM_BINS // 2`` is that of zero.
NUM_BINS = 2 * _ZERO + 1


def score_bins(scores: torch.Tensor) -> torch.Tensor:
    """Bin of each score: int32 in [0, NUM_BINS), rising with the score. ``scores``: contiguous
    finite float32.
    """
    if scores.is_cuda:
        return _searched(
            scores
        )  # one operation, where each of those below would wait to be launched
    bits = scores.view(torch.int32)
    magnitude = bits & 0x7FFFFFFF
    near_one = (_NEAR_ONE_OFFSET - scores.abs().clamp_(0.5, 1)).view(torch.int32)
    steps = near_one.bitwise_right_shift_(_NEAR_ONE_SHIFT).neg_().add_(_NEAR_ONE_HALF)
    scratch = torch.empty_like(magnitude)
    for piece in _PIECES:
        torch.sub(magnitude, piece.origin, out=scratch)
        steps += scratch.bitwise_right_shift_(piece.shift).clamp_(0, piece.count)
    sign = bits >> 31  # 0, or -1 for a negative score: (steps ^ -1) + 1 = -steps
    return steps.bitwise_xor_(sign).sub_(sign).add_(_ZERO)


def binned(
    scores: torch.Tensor,
    open_map: torch.Tensor,
    *,
    num_open_classes: int = MAX_OPEN_CLASSES,
    device: torch.device | str = 'cpu',
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bins and labels of the pixels of score maps, checked: what all counts of one map begin with.

    Args:
        scores: floating point, any shape and device, larger = more open.
        open_map: bool or integer labels of that shape as in ``contracts``: 0 closed, 1 + i open
            class i, 255 void.
        num_open_classes: labels beyond are refused.
        device: where both results shall be.

    Returns:
        (n,) int32 bins, of a void pixel any, and (n,) uint8 labels.

    Raises:
        TypeError: ``scores`` is not floating point, or ``open_map`` is.
        ValueError: the shapes differ, a label is out of range, or scored pixels are NaN or
            infinite.
    """
    scores, labels = _checked(scores, open_map, num_open_classes, torch.device(device))
    if scores.device.type != 'cpu' or scores.numel() <= _CHUNK:
        return score_bins(scores), labels
    bins = torch.empty_like(scores, dtype=torch.int32)
    for some, out in zip(scores.split(_CHUNK), bins.split(_CHUNK), strict=True):
        out.copy_(score_bins(some))
    return bins, labels


def _checked(scores, open_map, num_open_classes, device):
    """Flat contiguous float32 scores and uint8 labels on ``device``, or an error."""
    if not scores.is_floating_point():
        raise TypeError(f'scores must be floating point, got {scores.dtype}')
    if open_map.is_floating_point() or open_map.is_complex():
        raise TypeError(f'open_map must hold bool or integer labels, got {open_map.dtype}')
    if scores.shape != open_map.shape:
        raise ValueError(
            f'open_map must have the shape of scores {tuple(scores.shape)}, got '
            f'{tuple(open_map.shape)}'
        )
    labels = open_map.detach().to(device).reshape(-1).contiguous()
    scores = scores.detach().to(device, torch.float32).reshape(-1).contiguous()
    if not labels.numel():
        return scores, labels.to(torch.uint8)
    if labels.dtype not in (torch.uint8, torch.bool) and (
        int(labels.min()) < CLOSED or int(labels.max()) > VOID
    ):
        raise ValueError(
            f'open_map must hold labels in [0, {num_open_classes}] or {VOID}, got '
            f'{int(labels.min())} to '
            f'{int(labels.max())}'
        )
    labels = labels.to(torch.uint8)
    if int((labels + 1).amax()) > num_open_classes + 1:  # void, 255, wraps around to 0
        bad = labels[(labels > num_open_classes) & (labels != VOID)]
        raise ValueError(
            f'open_map must hold labels in [0, {num_open_classes}] or {VOID}, got label '
            f'{int(bad.max())} '
            f'({bad.numel()} pixels out of range)'
        )
    if not math.isfinite(float(scores.abs().amax())):
        bad = ~scores.isfinite()
        scored = labels != VOID
        found = int((bad & scored).sum())
        if found:
            raise ValueError(
                f'scores must be finite in float32: {found} of {int(scored.sum())} scored pixels '
                f'are NaN '
                'or infinite'
            )
        scores = scores.masked_fill(bad, 0)  # under void: never counted, but must have a bin
    return scores, labels


def lower_edges(bins: torch.Tensor) -> torch.Tensor:
    """Smallest float32 score in each bin, the inverse of :func:`score_bins`; beyond the last bin,
    the largest float.
    """
    return _edge_table('cpu')[bins.cpu().clamp(max=NUM_BINS)]


@functools.cache
def _edge_table(device: str) -> torch.Tensor:
    """Every bin's edge (4.8 MB), found once a process by bisecting the floats in their order."""
    if device != 'cpu':
        return _edge_table('cpu').to(device)
    bins = torch.arange(NUM_BINS + 1)
    low, high = torch.full_like(bins, -_LARGEST), torch.full_like(bins, _LARGEST)
    for _ in range(32):
        middle = (low + high) >> 1
        reached = score_bins(_float_of_rank(middle)) >= bins
        low, high = torch.where(reached, low, middle + 1), torch.where(reached, middle, high)
    return _float_of_rank(high)


def _searched(scores: torch.Tensor) -> torch.Tensor:
    return (
        torch.bucketize(
            scores, _edge_table(str(scores.device))[:NUM_BINS], right=True, out_int32=True
        )
        - 1
    )


def _float_of_rank(rank: torch.Tensor) -> torch.Tensor:
    """The float32 numbers in order: rank 0 is zero, 1 the smallest positive one, -1 its
    negative.
    """
    magnitude = rank.abs().int().view(torch.float32)
    return torch.where(rank < 0, -magnitude, magnitude)


def bins_at(
    index: torch.Tensor, closed: torch.Tensor, opened: torch.Tensor, shift: int = 0
) -> ScoreBins:
    """The bins ``index``, or the runs of 2^shift bins that begin there, with their counts."""
    index = index.cpu() << shift
    lower = lower_edges(index)
    single = lower_edges(index + (1 << shift)) == torch.nextafter(lower, torch.tensor(math.inf))
    if not shift:
        single |= index == _ZERO
    return ScoreBins(closed.cpu(), opened.cpu(), lower.double(), single)


class ScoreCounts:
    """Counts of closed and open pixels per score bin, for any number of images in at most 56 MiB.

    The one tensor holds a row of ``NUM_BINS`` for the closed pixels, one for all open pixels, and,
    where there are two or more open classes, one row for each. Rows of up to 4 open classes have
    all bins; with up to 8 (16) classes 2 (4) neighbouring bins share a cell, and so on: that widens
    the AUROC error bound of a class, not the pooled one.

    Args:
        num_open_classes: length of ``metainfo['open_classes']``, 0 to 254.
        device: where the counts live and updates are computed; best where the scores are.

    Attributes:
        tensor: all counts, int64 (cells,). Sums of it are counts of the pixels together: all-reduce
            it in place.

    Example:
        >>> counts = ScoreCounts(num_open_classes=1)
        >>> counts.update(torch.tensor([.1, .8, .3, .9]), torch.tensor([0, 1, 0, 255]))
        >>> summarize(counts)['AUROC']
        1.0
    """

    def __init__(self, num_open_classes: int, *, device: torch.device | str = 'cpu'):
        if not 0 <= num_open_classes <= MAX_OPEN_CLASSES:
            raise ValueError(
                f'num_open_classes must lie in [0, {MAX_OPEN_CLASSES}], got {num_open_classes}'
            )
        self.num_open_classes = num_open_classes
        rows = num_open_classes if num_open_classes > 1 else 0
        self._class_shift = next(
            shift for shift in range(24) if 2 * NUM_BINS + rows * _num_shared(shift) < _MAX_CELLS
        )
        cells = 2 * NUM_BINS + rows * _num_shared(self._class_shift)
        self.tensor = torch.zeros(cells, dtype=torch.int64, device=device)

    def update(self, scores: torch.Tensor, open_map: torch.Tensor) -> None:
        """Count the pixels of one or more score maps; void pixels are dropped, whatever their
        score.

        Arguments and errors are those of :func:`binned`; after an error nothing has been counted.
        """
        self.add(
            *binned(
                scores, open_map, num_open_classes=self.num_open_classes, device=self.tensor.device
            )
        )

    def add(self, bins: torch.Tensor, labels: torch.Tensor) -> None:
        """Count pixels given by :func:`binned`."""
        chunk = _CHUNK if bins.device.type == 'cpu' else max(1, bins.numel())
        for some, label in zip(bins.split(chunk), labels.split(chunk), strict=True):
            cell = (label != CLOSED).int().mul_(NUM_BINS).add_(some)
            self.tensor.scatter_add_(0, cell.long(), (label != VOID).long())  # a void pixel adds 0
        self.add_classes(bins, labels)

    def add_classes(self, bins: torch.Tensor, labels: torch.Tensor) -> None:
        """Count open pixels in the rows of their classes only, where the other two rows are added
        by themselves.
        """
        if self.num_open_classes > 1:
            at = torch.nonzero((labels != CLOSED) & (labels != VOID))[:, 0]
            cell = (labels[at].int() - FIRST_OPEN).mul_(_num_shared(self._class_shift))
            cell.add_(bins[at] >> self._class_shift).add_(2 * NUM_BINS)
            self.tensor.scatter_add_(0, cell.long(), torch.ones_like(at))

    def merge(self, other: 'ScoreCounts') -> None:
        """Add the counts of ``other``, as if its pixels had been counted here."""
        if self.num_open_classes != other.num_open_classes:
            raise ValueError(
                f'other must have {self.num_open_classes} open classes, got '
                f'{other.num_open_classes}'
            )
        self.tensor += other.tensor.to(self.tensor.device)

    def __add__(self, other: 'ScoreCounts') -> 'ScoreCounts':
        total = ScoreCounts(self.num_open_classes, device=self.tensor.device)
        total.merge(self)
        total.merge(other)
        return total

    @property
    def num_closed(self) -> int:
        """Closed pixels counted so far."""
        return int(self.tensor[:NUM_BINS].sum())

    @property
    def num_open(self) -> int:
        """Open pixels counted so far, of all classes together."""
        return int(self.tensor[NUM_BINS : 2 * NUM_BINS].sum())

    def num_open_of(self, open_class: int) -> int:
        """Pixels of one open class (0-based, label ``1 + open_class``) counted so far."""
        return int(self._class_row(open_class).sum())

    def bins(self, open_class: int | None = None) -> ScoreBins:
        """The non-empty bins: all open pixels, or those of one open class, against all closed
        pixels.

        The edges are float32 scores: ``scores.float() >= threshold`` reproduces the counted TPR and
        FPR exactly.
        """
        closed, shift = self.tensor[:NUM_BINS], 0
        opened = self.tensor[NUM_BINS : 2 * NUM_BINS]
        if open_class is not None:
            opened = self._class_row(open_class)
            if len(opened) < NUM_BINS:
                shift = self._class_shift
                padding = (len(opened) << shift) - NUM_BINS
                closed = torch.nn.functional.pad(closed, (0, padding)).view(-1, 1 << shift).sum(1)
        filled = torch.nonzero((closed + opened) > 0)[:, 0]
        return bins_at(filled, closed[filled], opened[filled], shift)

    def _class_row(self, open_class: int) -> torch.Tensor:
        if not 0 <= open_class < self.num_open_classes:
            raise ValueError(
                f'open_class must lie in [0, {self.num_open_classes - 1}], got {open_class}'
            )
        if self.num_open_classes == 1:
            return self.tensor[NUM_BINS : 2 * NUM_BINS]
        return self.tensor[2 * NUM_BINS :].view(self.num_open_classes, -1)[open_class]

    def state_dict(self) -> dict:
        """The non-zero cells only: a few MB, on the CPU. Pickling uses it too."""
        cells = torch.nonzero(self.tensor)[:, 0]
        return dict(
            layout=_LAYOUT,
            num_open_classes=self.num_open_classes,
            cells=cells.int().cpu(),
            counts=self.tensor[cells].cpu(),
        )

    def load_state_dict(self, state: dict) -> None:
        """Replace the counts by saved ones; the device stays."""
        wanted, found = (
            (_LAYOUT, self.num_open_classes),
            (state['layout'], state['num_open_classes']),
        )
        if wanted != found:
            raise ValueError(f'state must have (layout, num_open_classes) = {wanted}, got {found}')
        self.tensor.zero_()[state['cells'].long().to(self.tensor.device)] = state['counts'].to(
            self.tensor.device
        )

    def __getstate__(self) -> dict:
        return self.state_dict()

    def __setstate__(self, state: dict) -> None:
        ScoreCounts.__init__(self, state['num_open_classes'])
        self.load_state_dict(state)


def _num_shared(shift: int) -> int:
    """Length of a row in which 2^shift neighbouring bins share a cell."""
    return ((NUM_BINS - 1) >> shift) + 1


def summarize(counts: ScoreCounts, open_classes: Sequence[str] | None = None) -> dict:
    """The pooled numbers and, under ``per_class``, those of each open class against all closed
    pixels.

    Args:
        counts: what was counted.
        open_classes: names, keys of ``per_class``; by default their indices as strings.

    Returns:
        dict: AUROC, AP, FPR95 (each in [0, 1]), auroc_error_bound, num_closed, num_open;
            AUROC_kinds, see ``detection.mean_over_kinds``; per_class:
            {name: the same}. A class without a pixel has nan and num_open 0. If nothing is open or
            closed, all are nan and a warning says so.
    """
    names = (
        [str(i) for i in range(counts.num_open_classes)]
        if open_classes is None
        else list(open_classes)
    )
    if len(names) != counts.num_open_classes:
        raise ValueError(
            f'open_classes must name {counts.num_open_classes} classes, got {len(names)}: {names}'
        )
    pooled = numbers(counts.bins())
    if not pooled['num_closed'] or not pooled['num_open']:
        warnings.warn(
            f'AUROC, AP and FPR95 are undefined and given as nan: {pooled["num_closed"]} '
            f'closed and '
            f'{pooled["num_open"]} open pixels were counted',
            stacklevel=2,
        )
    per_class = {name: numbers(counts.bins(i)) for i, name in enumerate(names)}
    return dict(pooled, AUROC_kinds=mean_over_kinds(per_class), per_class=per_class)
