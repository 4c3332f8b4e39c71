"""The statistical scorers as a whole against the library that they are written after."""

import numpy as np
import pytest
import torch
from scorer_world import World
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestCentroid, NearestNeighbors

from mmseg_opengan.functional.pixels import pixels_first
from mmseg_opengan.models.scorers import mixture_scorer
from mmseg_opengan.models.scorers.base import SCORERS


@pytest.fixture(scope='module')
def world():
    return World()


def check(world, wanted, name, **options):
    scorer = SCORERS.build(dict(type=name, **options)).fit(world.data)
    torch.testing.assert_close(
        world.score(scorer).flatten().double(),
        torch.from_numpy(np.float64(wanted)),
        rtol=2e-3,
        atol=1e-4,
    )


def unit(features, normalize=True):
    features = features.double().numpy()
    return features / np.linalg.norm(features, axis=1, keepdims=True) if normalize else features


@pytest.mark.parametrize('normalize', [True, False])
def test_centroid(world, normalize):
    train, test = (unit(f, normalize) for f in (world.data.features, pixels_first(world.features)))
    centres = NearestCentroid().fit(train, world.data.labels).centroids_
    wanted = np.linalg.norm(test[:, None] - centres, axis=2).min(1)
    check(world, wanted, 'ClassCentroid', normalize=normalize)


@pytest.mark.parametrize('normalize', [True, False])
def test_gdm(world, normalize):
    train, test = (unit(f, normalize) for f in (world.data.features, pixels_first(world.features)))
    centres = NearestCentroid().fit(train, world.data.labels).centroids_
    model = EmpiricalCovariance(assume_centered=True).fit(train - centres[world.data.labels])
    wanted = np.min([model.mahalanobis(test - centre) for centre in centres], axis=0) ** 0.5
    check(world, wanted, 'GDM', normalize=normalize)


@pytest.mark.parametrize('k', [1, 4])
def test_nearest_neighbour(world, k):
    train = unit(world.data.features)
    test = unit(pixels_first(world.features))
    wanted = NearestNeighbors(n_neighbors=k).fit(train).kneighbors(test)[0][:, -1]
    check(world, wanted, 'NearestNeighbour', k=k)


def test_references_are_a_sample_of_the_training_pixels(world):
    first, second = (
        SCORERS.build(dict(type='NearestNeighbour', num_references=50)).fit(
            world.data._replace(seed=seed)
        )
        for seed in (0, 1)
    )
    for scorer in (first, second):
        distance = torch.cdist(
            scorer.references_, torch.from_numpy(unit(world.data.features)).float()
        ).amin(1)
        assert len(scorer.references_) == 50
        assert distance.max() < 1e-3
    assert not torch.equal(first.references_, second.references_)


@pytest.mark.parametrize('k', [0, 21])
def test_a_neighbour_that_cannot_be_is_refused(k):
    with pytest.raises(ValueError, match='k: wanted'):
        SCORERS.build(dict(type='NearestNeighbour', k=k, num_references=20))


def test_too_few_pixels_for_k_are_refused(world):
    few = world.data._replace(
        features=world.data.features[:3], logits=world.data.logits[:3], labels=world.data.labels[:3]
    )
    with pytest.raises(ValueError, match='wanted at least k = 5 pixels, found 3'):
        SCORERS.build(dict(type='NearestNeighbour', k=5)).fit(few)


@pytest.mark.parametrize('covariance', ['full', 'tied', 'diag', 'spherical'])
def test_gmm(world, covariance, monkeypatch):
    monkeypatch.setattr(mixture_scorer, 'CHANNELS', 4)
    train = unit(world.data.features)
    test = unit(pixels_first(world.features))
    pca = PCA(4).fit(train)
    order = torch.randperm(
        len(train), generator=torch.Generator().manual_seed(world.data.seed)
    ).numpy()
    mixture = GaussianMixture(3, covariance_type=covariance, random_state=world.data.seed).fit(
        pca.transform(train[order])
    )
    wanted = -mixture.score_samples(pca.transform(test))
    check(world, wanted, 'GMM', num_components=3, covariance=covariance)


def test_gmm_refuses_an_unknown_covariance():
    with pytest.raises(ValueError, match=r"covariance: wanted one of .* found 'banded'"):
        SCORERS.build(dict(type='GMM', covariance='banded'))
