"""Regions above a threshold, against a slow second way, and the pictures and maps of a result."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from mmseg_opengan.inference.drawing import contact_sheet, overlay
from mmseg_opengan.inference.objects import find_objects, outline
from mmseg_opengan.inference.results import OpenSetResult
from mmseg_opengan.models.fusion import main_score

CLASSES = ('road', 'sky', 'car')


def inside(polygon, shape):
    """(H, W) bool: whether the centre of each pixel lies in a polygon of corners."""
    corners = polygon.astype(np.float32)[:, None]
    rows, columns = shape
    found = [
        cv2.pointPolygonTest(corners, (x + 0.5, y + 0.5), False) > 0
        for y in range(rows)
        for x in range(columns)
    ]
    return np.array(found).reshape(shape)


def a_result(score, labels, **panel):
    panel = dict(
        classes=CLASSES,
        palette=[(128, 64, 128), (70, 130, 180), (0, 0, 142)],
        **panel,
    )
    return OpenSetResult(
        name='x',
        image=np.full((*labels.shape, 3), 90, np.uint8),
        labels=labels.astype(np.uint8),
        scores=dict(energy=score.astype(np.float32)),
        logits=frozenset(),
        main='energy',
        panel=panel,
        scales={},
    )


def test_regions_are_those_of_scipy():
    random = np.random.default_rng(0)
    score = ndimage.gaussian_filter(random.normal(size=(40, 50)), 1.5).astype(np.float32)
    labels = random.integers(0, 3, score.shape)
    found = find_objects(score, 0.1, labels, CLASSES, min_area=4)
    regions, number = ndimage.label(score >= np.float32(0.1), np.ones((3, 3)))
    masks = [regions == i + 1 for i in range(number)]
    masks = sorted((mask for mask in masks if mask.sum() >= 4), key=lambda m: -score[m].max())
    assert len(found) == len(masks) > 5
    for one, mask in zip(found, masks):
        rows, columns = np.nonzero(mask)
        left, top, width, height = one.box
        assert (left, top) == (columns.min(), rows.min())
        assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
        assert one.area == mask.sum()
        assert one.mean_score == pytest.approx(score[mask].mean(), abs=1e-6)
        assert one.max_score == score[mask].max()
        assert one.class_name == CLASSES[np.bincount(labels[mask]).argmax()]
        assert (inside(one.polygon, mask.shape) == ndimage.binary_fill_holes(mask)).all()


def test_an_outline_has_the_corners_of_its_pixels():
    one_pixel = np.array([[1]])
    assert {*map(tuple, outline(one_pixel))} == {(0, 0), (1, 0), (1, 1), (0, 1)}
    three = np.array([[1, 0], [1, 1]])
    found = [*map(tuple, outline(three))]
    assert sorted(found) == [(0, 0), (0, 2), (1, 0), (1, 1), (2, 1), (2, 2)]


def test_a_score_of_the_feature_grid_is_brought_to_the_image():
    score = np.zeros((4, 4))
    score[1, 1] = 8
    (one,) = a_result(score, np.ones((16, 16))).objects(4.0)
    assert one.box == (4, 4, 4, 4)
    assert one.class_name == 'sky'


def test_unknown_pixels_replace_their_class():
    labels = np.array([[0, 1], [2, 0]])
    result = a_result(np.array([[0.0, 1.0], [2.0, 3.0]]), labels)
    assert result.labels_with_unknown(2.0).tolist() == [[0, 1], [255, 255]]
    assert result.labels_with_unknown(3.0, unknown_id=3).tolist() == [[0, 1], [2, 3]]
    assert result.labels_with_unknown(9.0, unknown_id=300).dtype == np.uint16
    for wrong in (2, 2**16):
        with pytest.raises(ValueError, match='unknown_id: wanted 3 to 65535'):
            result.labels_with_unknown(2.0, unknown_id=wrong)


def test_an_overlay_is_grey_where_nothing_is_open_and_outlined_where_it_is():
    image = np.full((40, 40, 3), (200, 100, 0), np.uint8)
    score = np.zeros((40, 40), np.float32)
    score[10:30, 10:30] = 5
    drawn = overlay(image, score, 0.0, 5.0, threshold=5.0)
    assert (drawn[0, 0] == 100).all()
    assert drawn[20, 20, 0] > 200 > drawn[20, 20, 2]  # yellow
    assert (drawn[10, 20] == 255).all()
    assert (overlay(image, score, 0.0, 5.0)[10, 20] == drawn[20, 20]).all()
    assert (overlay(image, score, 1.0, 1.0)[0, 0] == 100).all()  # a scale without a width


def test_a_sheet_has_a_row_for_every_four():
    tiles = [(str(i), np.full((60, 80, 3), 40 * i, np.uint8)) for i in range(5)]
    sheet = contact_sheet(tiles, width=40)
    assert sheet.shape == (2 * (30 + 18) + 6, 4 * 40 + 3 * 6, 3)
    assert (sheet[10, 50] == 40).all()


def test_the_score_that_is_meant():
    assert main_score(['gen', 'energy']) == 'gen'
    assert main_score(['msp', 'opengan']) == 'opengan'
    assert main_score(['hybrid', 'msp', 'opengan']) == 'hybrid'
    with pytest.raises(ValueError, match='wanted at least one score'):
        main_score([])
