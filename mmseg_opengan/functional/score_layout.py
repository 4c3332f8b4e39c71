"""Which float32 scores are counted together: finely where the scores of a first map lie.

The finite floats, in their order, are cut into cells of 2^16 floats, 1/128 of an octave each. A
cell has 2^b bins of equally many floats, b from 2 to 16; with b = 16 each float has its own. Half
of the bins are spread by the scores of a first map, in proportion: where they crowd, whatever their
magnitude, neighbouring floats are told apart. The other half are the same for all maps:

===================  ===================  =====================================================
magnitude            bins in an octave    who lives there
===================  ===================  =====================================================
below 2^-133         a bin each           exact zeros, whose ties are true ones
2^-14 .. 2^7         8192                 probabilities, logits, entropies, distances
the rest             512
===================  ===================  =====================================================

A score that many pixels of the first map share (of few levels, in half precision, saturated) is cut
out of its bin, so that its ties are known to be true ones. -0.0 equals +0.0.
"""

from collections.abc import Iterator, Sequence

import torch

from ..contracts import CLOSED, VOID

CHUNK = 2**17  # pixels handled at once on a CPU: the intermediate results stay in its cache
_LARGEST = 0x7F7FFFFF  # rank of the largest finite float32
_BELOW_ZERO = 0x7F80  # cells of negative scores; as many are not
_NUM_CELLS = 2 * _BELOW_ZERO
_SPREAD = 2**19  # bins that go where the scores of the first map are
# A score is cut out that two pixels of a sample share, and one in 16,384 or more, where such scores
# make up a hundredth of the sample: a few are equal by chance.
_SAMPLE, _SHARE = 2**17, 2**14


def _least_bits() -> torch.Tensor:
    """(cells,) log2 of the bins that a cell has whatever the scores."""
    octave = torch.arange(_BELOW_ZERO) // 128 - 127
    positive = torch.where((octave >= -14) & (octave < 7), 6, 2)
    bits = torch.cat([positive.flip(0), positive])
    bits[_BELOW_ZERO] = 16
    return bits


#: Upper limit of the number of bins of a layout, and the length of a row of counts.
NUM_BINS = int((1 << _least_bits()).sum()) + _SPREAD + 4 * _SHARE


class ScoreLayout:
    """A monotone map of float32 scores to bins.

    Counts add only within one layout. Processes that share an evaluation share it: make it on one,
    and send it to the others.

    Args:
        bits: (cells,) log2 of the number of bins of each cell; see :meth:`of`.
        cut: float32 scores that are cut out of their bins.

    Attributes:
        num_bins: at most ``NUM_BINS``.
    """

    def __init__(self, bits: torch.Tensor, cut: torch.Tensor):
        sizes = 1 << bits.long()
        starts = sizes.cumsum(0) - sizes
        shifts = 16 - bits.long()
        after = torch.nextafter(cut, torch.tensor(torch.inf))
        self._cuts = torch.cat([cut, after]).unique()
        self._table = (starts * 32 + shifts).int()  # of each cell: its first bin, and its step
        cells = torch.arange(_NUM_CELLS).repeat_interleave(sizes)
        within = torch.arange(len(cells)) - starts[cells]
        edges = ((cells - _BELOW_ZERO) << 16) + (within << shifts[cells])
        edges = torch.cat([edges.int(), _ranks(self._cuts)]).sort().values
        self._edges = edges.clamp_(-_LARGEST, _LARGEST)
        self.num_bins = len(edges)

    @classmethod
    def of(cls, scores: torch.Tensor, labels: torch.Tensor) -> 'ScoreLayout':
        """The layout for scores like these.

        Closed and open pixels weigh the same together, however few the open ones are. Void pixels
        do not count, unless there is nothing else.

        Args:
            scores: finite, any shape; larger = more open.
            labels: of that shape, as in ``contracts``.
        """
        scores = scores.detach().float().reshape(-1).cpu()
        labels = labels.reshape(-1).cpu()
        void, closed = labels == VOID, labels == CLOSED
        groups = [scores[closed], scores[~closed & ~void]]
        groups = [group for group in groups if len(group)] or [scores]
        share = torch.zeros(_NUM_CELLS, dtype=torch.float64)
        for group in groups:
            pixels = torch.bincount(_cells(_ranks(group)), minlength=_NUM_CELLS)
            share += pixels / (max(1, len(group)) * len(groups))
        wanted = (share * _SPREAD).log2().floor().clamp(0, 16)
        bits = torch.maximum(wanted.long(), _least_bits())
        cut = _shared(groups)
        return cls(bits, cut[bits[_cells(_ranks(cut)).long()] < 16])

    def bins(self, scores: torch.Tensor) -> torch.Tensor:
        """(n,) int32 in [0, num_bins), rising with the score, of contiguous finite float32 (n,)."""
        table, cuts = self._table.to(scores.device), self._cuts.to(scores.device)
        bins = torch.empty_like(scores, dtype=torch.int32)
        for some, out in chunks(scores, bins):
            ranks = _ranks(some)
            within = ranks & 0xFFFF
            entry = table.index_select(0, _cells(ranks))
            within.bitwise_right_shift_(entry & 31)
            torch.add(entry.bitwise_right_shift_(5), within, out=out)
            if len(cuts):
                out += torch.bucketize(some, cuts, right=True, out_int32=True)
        return bins

    def edges(self, bins: torch.Tensor, run: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """Of runs of bins: the smallest float32 score, and whether there is no other score in it.

        Args:
            bins: the first bin of each run.
            run: bins in a run.
        """
        beyond = torch.nn.functional.pad(self._edges, (0, run), value=_LARGEST)[bins + run]
        first = self._edges[bins]
        magnitude = first.abs().view(torch.float32)
        return torch.where(first < 0, -magnitude, magnitude), beyond - first == 1


def chunks(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Parts of tensors of one length that are handled at once; on a GPU it is all of them."""
    size = CHUNK if tensors[0].device.type == 'cpu' else max(1, len(tensors[0]))
    return zip(*(one.split(size) for one in tensors), strict=True)


def _shared(groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """Scores that many pixels of a group have."""
    found = []
    for group in groups:
        sample = group[:: max(1, -(-len(group) // _SAMPLE))]
        values, pixels = sample.unique(return_counts=True)
        often = pixels >= max(2, len(sample) / _SHARE)
        if pixels[often].sum() >= 0.01 * len(sample):
            found.append(values[often])
    return torch.cat(found).unique() if found else torch.zeros(0)


def _ranks(scores: torch.Tensor) -> torch.Tensor:
    """int32 places of float32 scores in their order: 0 is zero, 1 the smallest positive float."""
    bits = scores.view(torch.int32)
    sign = bits >> 31  # 0, or -1 for a negative score: (magnitude ^ -1) + 1 = -magnitude
    return (bits & 0x7FFFFFFF).bitwise_xor_(sign).sub_(sign)


def _cells(ranks: torch.Tensor) -> torch.Tensor:
    """int32 in [0, _NUM_CELLS)."""
    return (ranks >> 16).add_(_BELOW_ZERO)
