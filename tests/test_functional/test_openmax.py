"""OpenMax against a slow version of one pixel, and its Weibull distribution against SciPy's."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import weibull_min

from mmseg_opengan.functional import openmax

K = 4


def slow(v, means, weibull, alpha):
    """P(unknown) of one pixel, in the order of the authors' code."""
    weights = [1.0] * K
    for i, k in enumerate(sorted(range(K), key=lambda k: -v[k])[:alpha], start=1):
        shape, scale, shift = weibull[:, k]
        weights[k] = 1 - (alpha + 1 - i) / alpha * weibull_min.cdf(
            math.dist(v, means[k]), shape, shift, scale
        )
    revised = [w * value for w, value in zip(weights, v)]
    unknown = sum(v) - sum(revised)
    total = sum(math.exp(value) for value in (unknown, *revised))
    return math.exp(unknown) / total


@pytest.mark.parametrize('alpha', [1, 2])
def test_openmax_is_that_of_one_pixel_at_a_time(alpha):
    random = np.random.default_rng(0)
    logits, means = random.normal(size=(2, K, 3, 5)) * 3, random.normal(size=(K, K)) * 3
    weibull = np.stack(
        [random.uniform(0.5, 3, K), random.uniform(1, 4, K), random.uniform(0, 3, K)]
    )
    found = openmax.openmax(*(torch.from_numpy(value) for value in (logits, means, weibull)), alpha)
    wanted = [slow(v, means, weibull, alpha) for v in logits.transpose(0, 2, 3, 1).reshape(-1, K)]
    np.testing.assert_allclose(found.sigmoid().flatten(), wanted, rtol=1e-9)


def test_a_class_whose_distribution_never_begins_is_not_revised():
    logits = torch.randn(1, K, 2, 2)
    never = torch.tensor([[1.0], [1], [math.inf]]).expand(3, K)
    found = openmax.openmax(logits, torch.zeros(K, K), never, 2)
    torch.testing.assert_close(found, -torch.logsumexp(logits, 1))  # v_0 = 0


def test_weibull_distribution():
    x = torch.linspace(-1, 6, 50, dtype=torch.float64)
    found = openmax.weibull_cdf(
        x, *(torch.tensor(value, dtype=torch.float64) for value in (1.7, 2.0, 0.5))
    )
    np.testing.assert_allclose(found, weibull_min.cdf(x.numpy(), 1.7, 0.5, 2.0), rtol=1e-12)
