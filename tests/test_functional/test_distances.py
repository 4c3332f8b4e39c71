"""Distances against scikit-learn, SciPy and written-out loops."""

import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestCentroid

from mmseg_opengan.functional import distances


def maps(shape=(2, 6, 3, 4), seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rows(features):
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def test_class_means_are_those_of_scikit_learn():
    features, labels = rows(maps((1, 6, 10, 10))), torch.arange(100) % 4
    means, classes = distances.class_means(features, labels, 4)
    torch.testing.assert_close(means, torch.from_numpy(NearestCentroid().fit(features.double(), labels).centroids_))
    assert classes.tolist() == [0, 1, 2, 3]


def test_a_class_without_pixels_has_no_mean():
    means, classes = distances.class_means(torch.tensor([[1., 2], [3, 4], [5, 6]]), torch.tensor([0, 2, 2]), 4)
    assert means.tolist() == [[1, 2], [4, 5]]
    assert classes.tolist() == [0, 2]


def test_nearest_centre_is_the_least_distance():
    features, centres = maps(), rows(maps((1, 6, 1, 5), seed=1))
    wanted = torch.from_numpy(cdist(rows(features), centres).min(1)).view(2, 3, 4).float()
    torch.testing.assert_close(distances.nearest_centre(features, centres), wanted)


@pytest.mark.parametrize('scale', [1e-3, 1, 1e4])
def test_nearest_centre_on_a_centre_is_almost_nothing(scale):
    centres = scale * rows(maps())
    found = distances.nearest_centre(centres.T[None, :, None], centres)
    assert found.max() < 2e-3 * scale


def test_unit_length():
    found = distances.unit_length(torch.tensor([[3., 4], [0, 0]]))
    torch.testing.assert_close(found, torch.tensor([[.6, .8], [0, 0]]))
