"""mIoU of the closed prediction from one small table that adds over images and ranks."""

import numpy as np
import torch
from mmseg.evaluation import IoUMetric

from ..contracts import IGNORE


class ClosedAreas:
    """The four areas of each class from which mmseg's ``IoUMetric`` computes its numbers.

    Attributes:
        tensor: (4, K) float64 pixels: both, either, predicted, labelled. Sums of it are areas of
            the images together: all-reduce it in place.
    """

    def __init__(self, num_classes: int):
        self.tensor = torch.zeros(4, num_classes, dtype=torch.float64)

    def update(self, prediction: torch.Tensor, label: torch.Tensor) -> None:
        """Count one image.

        Args:
            prediction: (H, W) closed class ids.
            label: (H, W) closed class ids, and IGNORE elsewhere.

        Raises:
            ValueError: a predicted class that the data does not have.
        """
        num_classes = self.tensor.shape[1]
        highest = int(prediction.max())
        if highest >= num_classes:
            raise ValueError(
                f'wanted predictions of the {num_classes} classes of the data, found class '
                f'{highest}. A class for open pixels takes the scorer OpenClass.'
            )
        prediction, label = prediction.long(), label.to(prediction.device).long()
        label = label.masked_fill(label == IGNORE, num_classes)  # a row of its own, left out below
        pairs = (label * num_classes + prediction).flatten()
        table = torch.bincount(pairs, minlength=(num_classes + 1) * num_classes)
        table = table.cpu().view(-1, num_classes)[:num_classes].double()
        predicted, labelled, both = table.sum(0), table.sum(1), table.diag()
        self.tensor += torch.stack([both, predicted + labelled - both, predicted, labelled])

    def compute(self) -> dict[str, float]:
        """mIoU, mAcc and aAcc in percent."""
        found = IoUMetric.total_area_to_metrics(*self.tensor.float(), ['mIoU'])
        return dict(
            mIoU=100 * float(np.nanmean(found['IoU'])),
            mAcc=100 * float(np.nanmean(found['Acc'])),
            aAcc=100 * float(found['aAcc']),
        )
