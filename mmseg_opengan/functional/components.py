"""Component-level metrics of SegmentMeIfYouCan: is each open object found, whatever its size?

Pixel metrics are ruled by large objects; here each 8-connected component of open pixels counts once
(Chan et al., NeurIPS 2021 Datasets and Benchmarks; the benchmark's ``SegEval-AnomalyTrack`` and
``SegEval-ObstacleTrack``):

- adjusted IoU of a ground-truth component k with the predicted components that touch it, P(k).
  Pixels of P(k) that lie on other ground-truth components are left out of the union, so that one
  prediction may cover two neighbouring objects: sIoU(k) = |k and P(k)| / |(k or P(k)) without the
  other ground-truth components|
- PPV of a predicted component p: the fraction of p that is open.
- at each t of ``SIOU_THRESHOLDS``: TP = ground-truth components with sIoU >= t, FN = the others, FP
  = predicted ones with PPV < t, and F1 = 2 TP / (2 TP + FN + FP). The headline is the mean of these
  F1.

As in the benchmark's code: void cuts predictions before they are connected; predicted components
below the track's size are dropped; ground-truth components below it become void, together with the
predicted pixels on them. The benchmark calls a pixel open at the threshold of the best pixel F1 of
the same data set (``detection.best_f1``): that takes a first pass over the data, and is chosen on
test data. A threshold from open validation needs neither; say which it was.
scipy labels the components: this file alone of ``functional`` needs more than torch and numpy.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from ..contracts import CLOSED, VOID

#: The benchmark's own floats; the eighth is the float above .6, so an sIoU of exactly 3/5 does not
#: reach it.
SIOU_THRESHOLDS = np.linspace(0.25, 0.75, 11)
# Sums of fractions are kept as integers, so that the order of adding cannot change them.
_FIXED_POINT = 2**32


class MinSizes(NamedTuple):
    """Smallest components that count, in pixels of the image (on a grid of stride 4, divide by
    16).
    """

    predicted: int
    ground_truth: int


#: By track of the benchmark.
TRACKS = dict(
    anomaly=MinSizes(predicted=500, ground_truth=100),
    obstacle=MinSizes(predicted=50, ground_truth=10),
)


class ComponentCounts:
    """Components found, missed and invented: 26 integers that add over images and ranks.

    Args:
        threshold: a pixel is called open where ``score >= threshold``.
        min_sizes: e.g. ``TRACKS['obstacle']``.

    Attributes:
        tensor: all counts, int64 (26,). Sums of it are counts of the images together: all-reduce it
            in place.

    Example:
        >>> counts = ComponentCounts(.5, min_sizes=MinSizes(predicted=1, ground_truth=1))
        >>> counts.update(torch.tensor([[.6, .5, .1, .2]]), torch.tensor([[0, 1, 1, 1]]))
        >>> counts.compute()['sIoU'], counts.compute()['PPV']
        (0.25, 0.5)
    """

    def __init__(self, threshold: float, *, min_sizes: MinSizes = TRACKS['anomaly']):
        self.threshold = threshold
        self.min_sizes = min_sizes
        self.tensor = torch.zeros(4 + 2 * len(SIOU_THRESHOLDS), dtype=torch.int64)

    def update(self, scores: torch.Tensor, open_map: torch.Tensor) -> None:
        """Count the components of one image.

        Args:
            scores: (H, W) floating point, larger = more open; NaN is not called open.
            open_map: (H, W) labels as in ``contracts``. Open classes are not told apart: components
                of two classes that touch are one, as are the objects of one class.

        """
        labels = open_map.cpu().numpy()
        called = scores.detach().float().cpu().numpy() >= np.float32(self.threshold)
        siou, ppv = _compare(called, labels, self.min_sizes)
        counts = [
            [len(siou), len(ppv), _fixed_point(siou), _fixed_point(ppv)],
            (siou[:, None] >= SIOU_THRESHOLDS).sum(0),
            (ppv[:, None] < SIOU_THRESHOLDS).sum(0),
        ]
        self.tensor += torch.from_numpy(np.concatenate(counts))

    def compute(self) -> dict:
        """The numbers of all images counted so far.

        Returns:
            dict: sIoU, PPV (means over ground-truth and over predicted components), F1 (mean over
                ``SIOU_THRESHOLDS``), each in [0, 1]; num_ground_truth, num_predicted, the
                components counted; threshold, min_sizes. nan, with a warning, where there is no
                component to average.
        """
        num_open, num_predicted, siou, ppv, *rest = self.tensor.tolist()
        found, wrong = np.split(np.array(rest), 2)
        if not num_open or not num_predicted:
            warnings.warn(
                f'sIoU, PPV or F1 is undefined and given as nan: {num_open} ground-truth and '
                f'{num_predicted} predicted components were counted',
                stacklevel=2,
            )
        f1 = np.full(len(found), math.nan)
        if num_open + num_predicted:
            f1 = 2 * found / (found + num_open + wrong)
        return dict(
            sIoU=siou / _FIXED_POINT / num_open if num_open else math.nan,
            PPV=ppv / _FIXED_POINT / num_predicted if num_predicted else math.nan,
            F1=float(f1.mean()),
            num_ground_truth=num_open,
            num_predicted=num_predicted,
            threshold=self.threshold,
            min_sizes=self.min_sizes._asdict(),
        )


def _fixed_point(fractions):
    return int(np.rint(fractions * _FIXED_POINT).sum())


def _compare(called_open, labels, min_sizes):
    """sIoU of each ground-truth component and PPV of each predicted one, float64 (number of
    components,).
    """
    is_open = (labels != CLOSED) & (labels != VOID)
    called_open = called_open & (labels != VOID)
    pixels = np.flatnonzero(is_open | called_open)  # the few that matter
    truth, prediction = _components(is_open)[pixels], _components(called_open)[pixels]
    prediction = _keep(prediction, min_sizes.predicted)
    kept = _keep(truth, min_sizes.ground_truth)
    prediction[kept != truth] = 0  # on a ground-truth component too small to count: void
    size, predicted_size = np.bincount(kept, minlength=1), np.bincount(prediction, minlength=1)
    meet = (kept > 0) & (prediction > 0)
    pairs, shared = np.unique(
        kept[meet].astype(np.int64) * len(predicted_size) + prediction[meet], return_counts=True
    )
    first, second = pairs // len(predicted_size), pairs % len(predicted_size)
    on_open = np.bincount(second, shared, minlength=len(predicted_size))
    # Pixels of the prediction that lie on no ground-truth component.
    beside = (predicted_size - on_open)[second]
    covered = np.bincount(first, shared, minlength=len(size))
    outside = np.bincount(first, beside, minlength=len(size))
    # Labels whose component is gone have no pixel; label 0 is the background.
    counted, called = np.nonzero(size[1:])[0] + 1, np.nonzero(predicted_size[1:])[0] + 1
    return covered[counted] / (size + outside)[counted], on_open[called] / predicted_size[called]


def _components(mask):
    """(H * W,) int32: the 8-connected component of each pixel, from 1, and 0 outside the mask."""
    return ndimage.label(mask, structure=np.ones((3, 3), int))[0].ravel()


def _keep(components, min_size):
    """Components of fewer than ``min_size`` pixels become 0; the other labels stay."""
    return np.where((np.bincount(components, minlength=1) < min_size)[components], 0, components)
