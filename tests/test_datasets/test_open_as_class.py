"""Open as one more class of an ordinary segmentor."""

import numpy as np
import pytest
from mmseg.registry import TRANSFORMS

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.contracts import CLOSED, GT_OPEN_MAP, IGNORE, VOID

CLASSES = np.array([[0, 1, 2], [IGNORE, IGNORE, IGNORE]], np.uint8)
OPEN = np.array([[CLOSED, CLOSED, CLOSED], [1, 7, VOID]], np.uint8)


def results():
    return dict(
        gt_seg_map=CLASSES,
        seg_fields=['gt_seg_map', GT_OPEN_MAP],
        seg_map_path='a.png',
        **{GT_OPEN_MAP: OPEN},
    )


def test_open_pixels_get_the_class_and_void_stays_ignored():
    found = TRANSFORMS.build(dict(type='OpenAsClass', class_id=3))(results())
    assert found['gt_seg_map'].tolist() == [[0, 1, 2], [3, 3, IGNORE]]
    assert found['gt_seg_map'].dtype == np.uint8
    assert found['seg_fields'] == ['gt_seg_map']
    assert GT_OPEN_MAP not in found
    assert CLASSES[1, 0] == IGNORE  # what was given is left alone


def test_a_class_id_that_is_closed_is_refused():
    with pytest.raises(ValueError, match=r"'a.png' has the closed id 2 and class_id is 2"):
        TRANSFORMS.build(dict(type='OpenAsClass', class_id=2))(results())


def test_labels_without_an_open_map_are_refused():
    with pytest.raises(KeyError, match=GT_OPEN_MAP):
        TRANSFORMS.build(dict(type='OpenAsClass', class_id=3))(dict(gt_seg_map=CLASSES))
