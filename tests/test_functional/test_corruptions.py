"""What each corruption keeps, and what it does by hand-computed values."""

import cv2
import numpy as np
import pytest

from mmseg_opengan.functional.corruptions import STRENGTHS, corrupted


@pytest.fixture(scope='module')
def image():
    rough = np.random.default_rng(0).integers(0, 256, (8, 10, 3)).astype(np.uint8)
    return cv2.resize(rough, (100, 80), interpolation=cv2.INTER_CUBIC)


def change(image, kind, severity, seed=0):
    return corrupted(image, kind, severity, np.random.default_rng(seed))


@pytest.mark.parametrize('kind', STRENGTHS)
def test_each_severity_is_an_image_further_from_the_clean_one(kind, image):
    given = image.copy()
    distances = []
    for severity in range(6):
        found = change(image, kind, severity)
        assert found.dtype == np.uint8
        assert found.shape == image.shape
        assert np.array_equal(found, change(image, kind, severity))
        distances.append(np.abs(found.astype(float) - image).mean())
    assert distances[0] == 0
    assert (np.diff(distances) > 0.2).all()
    assert np.array_equal(image, given)


@pytest.mark.parametrize('kind', ['noise', 'fog'])
def test_random_corruptions_differ_between_seeds(kind, image):
    assert not np.array_equal(change(image, kind, 3), change(image, kind, 3, seed=1))


def test_values_of_a_grey_image():
    grey = np.full((80, 100, 3), 100, np.uint8)
    assert (change(grey, 'darkness', 2) == 50).all()
    assert (change(grey, 'blur', 5) == 100).all()
    noise = change(grey, 'noise', 2).astype(float) - 100
    assert noise.std() == pytest.approx(10, rel=0.03)
    assert noise.mean() == pytest.approx(0, abs=0.2)
    fog = change(grey, 'fog', 3).astype(float)
    assert fog[0].mean() == pytest.approx(100 + 0.5 * 120, abs=12)  # by half towards 220
    assert fog[-1].mean() == pytest.approx(100 + 0.2 * 120, abs=6)
