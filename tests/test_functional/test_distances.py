"""Distances against scikit-learn, SciPy and written-out loops."""

import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestCentroid, NearestNeighbors

from mmseg_opengan.functional import distances


def maps(shape=(2, 6, 3, 4), seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rows(features):
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def test_class_means_are_those_of_scikit_learn():
    features, labels = rows(maps((1, 6, 10, 10))), torch.arange(100) % 4
    means, classes = distances.class_means(features, labels, 4)
    torch.testing.assert_close(
        means, torch.from_numpy(NearestCentroid().fit(features.double(), labels).centroids_)
    )
    assert classes.tolist() == [0, 1, 2, 3]


def test_a_class_without_pixels_has_no_mean():
    means, classes = distances.class_means(
        torch.tensor([[1.0, 2], [3, 4], [5, 6]]), torch.tensor([0, 2, 2]), 4
    )
    assert means.tolist() == [[1, 2], [4, 5]]
    assert classes.tolist() == [0, 2]


def test_covariance_and_whitening_are_those_of_scikit_learn():
    features, labels = rows(maps((1, 6, 10, 10))), torch.arange(100) % 4
    means, _ = distances.class_means(features, labels, 4)
    reference = EmpiricalCovariance(assume_centered=True).fit(
        (features.double() - means[labels]).numpy()
    )
    covariance = distances.pooled_covariance(features, labels, 4)
    torch.testing.assert_close(covariance, torch.from_numpy(reference.covariance_))
    weight = distances.whitening(covariance)
    torch.testing.assert_close(weight.T @ weight, torch.from_numpy(reference.precision_))


def test_a_channel_that_never_varies_is_left_out_of_the_inverse():
    covariance = torch.diag(torch.tensor([4.0, 0, 9], dtype=torch.float64))
    weight = distances.whitening(covariance)
    assert weight.shape == (2, 3)
    torch.testing.assert_close(weight.T @ weight, torch.linalg.pinv(covariance))


@pytest.mark.parametrize('unit', [False, True])
def test_projection_is_a_product_at_every_pixel(unit):
    features, weight, offset = maps(), rows(maps((1, 6, 1, 5), seed=1)), torch.arange(5.0)
    one = rows(features)
    wanted = (one / one.norm(dim=1, keepdim=True) if unit else one) @ weight.T - offset
    torch.testing.assert_close(distances.project(one.T, weight, offset, unit=unit).T, wanted)


@pytest.mark.parametrize('unit', [False, True])
def test_nearest_centre_is_the_least_distance(unit):
    features, centres = maps(), rows(maps((1, 6, 1, 5), seed=1))
    one = distances.unit_length(rows(features)) if unit else rows(features)
    wanted = torch.from_numpy(cdist(one, centres).min(1)).float()
    torch.testing.assert_close(
        distances.nearest_centre(rows(features).T, centres, unit=unit), wanted
    )


@pytest.mark.parametrize('scale', [1e-3, 1e4])
def test_nearest_centre_on_a_centre_is_almost_nothing(scale):
    centres = scale * rows(maps())
    found = distances.nearest_centre(centres.T, centres)
    assert found.max() < 2e-3 * scale


@pytest.mark.parametrize(('k', 'unit'), [(1, True), (3, False), (40, True)])
def test_kth_neighbour_is_that_of_scikit_learn(k, unit):
    features, references = maps(), rows(maps((1, 6, 5, 8), seed=1))
    one = distances.unit_length(rows(features)) if unit else rows(features)
    wanted = (
        NearestNeighbors(n_neighbors=k, algorithm='brute').fit(references).kneighbors(one)[0][:, -1]
    )
    found = distances.kth_neighbour(rows(features).T, references, k, unit=unit)
    torch.testing.assert_close(found, torch.from_numpy(wanted).float(), rtol=1e-4, atol=1e-5)


def test_a_zero_feature_has_unit_distances_all_the_same():
    zero = torch.zeros(3, 2)
    centres = torch.tensor([[3.0, 4, 0]])
    assert distances.nearest_centre(zero, centres, unit=True).tolist() == [5, 5]
    assert distances.kth_neighbour(zero, centres, 1, unit=True).tolist() == [5, 5]
    assert distances.project(zero, centres, torch.ones(1), unit=True).tolist() == [[-1, -1]]


@pytest.mark.parametrize('chunk', [None, 5])
def test_a_function_of_points_goes_over_maps(chunk):
    features = maps()
    found = distances.by_columns(lambda points: points.sum(0), features, chunk=chunk)
    torch.testing.assert_close(found, features.sum(1))


def test_unit_length():
    found = distances.unit_length(torch.tensor([[3.0, 4], [0, 0]]))
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0, 0]]))
