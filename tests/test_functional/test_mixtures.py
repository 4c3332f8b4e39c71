"""Mixture likelihoods against scikit-learn's, for each kind of covariance."""

import pytest
import torch
from sklearn.mixture import GaussianMixture

from mmseg_opengan.functional import mixtures


@pytest.mark.parametrize('kind', ['full', 'tied', 'diag', 'spherical'])
def test_log_likelihood_is_that_of_scikit_learn(kind):
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(300, 4, generator=generator) * torch.tensor([1, 2, 0.5, 1])
    train[::2] += 3
    test = 3 * torch.randn(20, 4, generator=generator)
    mixture = GaussianMixture(3, covariance_type=kind, random_state=0).fit(train.numpy())
    weights, means, cholesky = (
        torch.from_numpy(value).double()
        for value in (mixture.weights_, mixture.means_, mixture.precisions_cholesky_)
    )
    whitening = mixtures.whitening_of_components(kind, cholesky, 3, 4)
    found = mixtures.log_likelihood(
        test.double().T,
        whitening,
        (whitening @ means[..., None])[..., 0],
        mixtures.log_constants(weights.log(), whitening),
    )
    wanted = torch.from_numpy(mixture.score_samples(test.numpy()))
    torch.testing.assert_close(found, wanted.double(), rtol=1e-5, atol=1e-5)
