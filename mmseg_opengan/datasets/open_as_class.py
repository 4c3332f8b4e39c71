"""Open pixels as class K + 1 of an ordinary segmentor."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from ..contracts import CLOSED, GT_OPEN_MAP, IGNORE, VOID


@TRANSFORMS.register_module()
class OpenAsClass(BaseTransform):
    """Give open pixels a class id of their own in ``gt_seg_map``; void stays ignored. For mmseg's
    ``PackSegInputs``.

    Stands after ``LoadOpenSetAnnotations`` in the pipeline of a (K+1)-way segmentor's training. The
    open map is dropped, as the two no longer fit, and mmseg's packing does not know it.

    Args:
        class_id: the id of open, K for K closed classes.

    Raises:
        KeyError: no open map.
        ValueError: a closed pixel of that id.
    """

    def __init__(self, *, class_id: int):
        self.class_id = class_id

    def transform(self, results: dict) -> dict:
        open_map, labels = results.pop(GT_OPEN_MAP), results['gt_seg_map']
        if ((labels >= self.class_id) & (labels != IGNORE)).any():
            raise ValueError(
                'class_id must be the number of closed classes, but '
                f"'{results.get('seg_map_path')}' has the closed id "
                f'{labels[labels != IGNORE].max()} and class_id is {self.class_id}.'
            )
        is_open = (open_map != CLOSED) & (open_map != VOID)
        results['gt_seg_map'] = np.where(is_open, np.uint8(self.class_id), labels)
        results['seg_fields'] = [field for field in results['seg_fields'] if field != GT_OPEN_MAP]
        return results
