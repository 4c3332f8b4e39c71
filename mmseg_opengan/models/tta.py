"""Test-time augmentation: score maps, and the closed prediction, averaged over versions of an
image.
"""

from collections.abc import Sequence

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from ..contracts import GT_OPEN_MAP, OPEN_SCORES


@MODELS.register_module()
class OpenSetTTAModel(BaseTTAModel):
    """What ``--tta`` of the test tools puts around an open-set model.

    Every version of an image is resized and flipped back by the model; then each score map is the
    mean over versions. The closed prediction is that of the mean class probabilities, as in mmseg.
    It needs ``resolution='image'``.

    Raises:
        ValueError: labels that differ between versions, because a pipeline loads them before it
            resizes or flips.
    """

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[SegDataSample]]
    ) -> list[SegDataSample]:
        """One sample for each image, of a sequence of its versions each."""
        return [self._merged(versions) for versions in data_samples_list]

    def _merged(self, versions: Sequence[SegDataSample]) -> SegDataSample:
        _require_same_labels(versions)
        merged = versions[0]
        probabilities = _mean([version.seg_logits.data.softmax(dim=0) for version in versions])
        if self.module.has_open_class:
            probabilities = probabilities[:-1]
        closed = probabilities.argmax(dim=0, keepdim=True)
        merged.set_data(dict(pred_sem_seg=PixelData(data=closed)))
        maps = {}
        for name in self.module.score_names:
            maps[name] = _mean([version.get(OPEN_SCORES).get(name) for version in versions])
        merged.set_data({OPEN_SCORES: PixelData(**maps)})
        return merged


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(dim=0)


def _require_same_labels(versions: Sequence[SegDataSample]) -> None:
    if GT_OPEN_MAP not in versions[0]:
        return
    first = versions[0].get(GT_OPEN_MAP).data
    for version in versions[1:]:
        if not torch.equal(version.get(GT_OPEN_MAP).data, first):
            raise ValueError(
                "tta_pipeline: wanted 'LoadOpenSetAnnotations' behind resizing and flipping, "
                'as labels '
                f'stay as they are; found other labels in another version of '
                f"'{versions[0].img_path}'"
            )
