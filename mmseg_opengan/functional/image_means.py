"""Means of per-image numbers: what several published tables show, beside the pooled numbers that
are the headline.

Every image that has closed and open pixels gives an AUROC, an AP and an FPR95 of its own; the mean
weighs the images equally. An image that lacks one of the two has none of these numbers and is left
out here, while the pooled numbers count its pixels. The two kinds of number answer different
questions: never compare one with the other.
"""

import math

import torch

from .detection import ScoreBins, auroc, average_precision, fpr_at_tpr

_NUMBERS = dict(AUROC=auroc, AP=average_precision, FPR95=fpr_at_tpr)
_FIXED_POINT = 2**40  # sums are kept as integers, so that the order of adding cannot change them


class ImageMeans:
    """Sums of per-image AUROC, AP and FPR95.

    Attributes:
        tensor: int64 (4,), the number of images and the three sums. Sums of it are sums over the
            images together: all-reduce it in place.

    Example:
        >>> from mmseg_opengan.functional.detection import exact_bins
        >>> means = ImageMeans()
        >>> means.update(exact_bins(torch.tensor([.1, .8, .3]), torch.tensor([0, 1, 0])))
        >>> means.update(exact_bins(torch.tensor([.1, .8, .3]), torch.tensor([1, 0, 0])))
        >>> means.compute()['AUROC'], means.compute()['num_images']
        (0.5, 2)
    """

    def __init__(self) -> None:
        self.tensor = torch.zeros(1 + len(_NUMBERS), dtype=torch.int64)

    def update(self, bins: ScoreBins) -> None:
        """Add one image, if it has closed and open pixels."""
        if bins.closed.any() and bins.open.any():
            values = [1, *(round(number(bins) * _FIXED_POINT) for number in _NUMBERS.values())]
            self.tensor += torch.tensor(values)

    def compute(self) -> dict:
        """AUROC, AP, FPR95, each in [0, 1] or nan where no image has both kinds of pixels;
        num_images that have.
        """
        number, *sums = self.tensor.tolist()
        means = {
            name: total / _FIXED_POINT / number if number else math.nan
            for name, total in zip(_NUMBERS, sums, strict=True)
        }
        return dict(means, num_images=number)
