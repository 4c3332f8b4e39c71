"""Scores of closed logits against one pixel at a time; larger = more open."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from mmseg_opengan.functional import scores

NAMES = ('msp', 'entropy', 'max_logit', 'energy')


def slow(name, logits):
    """One pixel's score from its K logits."""
    total = math.fsum(math.exp(x) for x in logits)
    p = [math.exp(x) / total for x in logits]
    return {
        'msp': 1 - max(p),
        'entropy': -math.fsum(x * math.log(x) for x in p),
        'max_logit': -max(logits),
        'energy': -math.log(total),
    }[name]


@pytest.mark.parametrize('name', NAMES)
def test_equals_the_slow_formula(name):
    torch.manual_seed(0)
    logits = 4 * torch.randn(2, 5, 3, 4, dtype=torch.float64)
    found = getattr(scores, name)(logits)
    assert found.shape == (2, 3, 4)
    for n in range(2):
        for i in range(3):
            for j in range(4):
                assert found[n, i, j].item() == pytest.approx(
                    slow(name, logits[n, :, i, j].tolist()), rel=1e-9
                )


def test_an_undecided_pixel_is_more_open_than_a_confident_one():
    logits = torch.zeros(1, 5, 1, 2)
    logits[0, 2, 0, 1] = 10
    for name in NAMES:
        undecided, confident = getattr(scores, name)(logits)[0, 0]
        assert undecided > confident


@pytest.mark.parametrize(('name', 'low', 'high'), [('msp', 0, 4 / 5), ('entropy', 0, math.log(5))])
def test_range(name, low, high):
    flat, sure = torch.zeros(1, 5, 1, 1), torch.zeros(1, 5, 1, 1)
    sure[0, 0] = 200
    assert getattr(scores, name)(flat).item() == pytest.approx(high)
    assert getattr(scores, name)(sure).item() == pytest.approx(low, abs=1e-30)


@pytest.mark.parametrize('name', ['msp', 'entropy'])
def test_adding_a_constant_to_all_logits_changes_nothing(name):
    logits = torch.randn(1, 5, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(getattr(scores, name)(logits + 50), getattr(scores, name)(logits))


def test_msp_of_a_tie():
    """Two classes share the lead: p = 1/2."""
    assert scores.msp(torch.tensor([7.0, 7.0, -200.0]).view(1, 3, 1, 1)).item() == 0.5


def test_msp_keeps_the_order_of_confident_pixels():
    """1 - p rounds to 0 for each of these in float32."""
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 0, 0] = torch.tensor([18.0, 20.0, 22.0, 24.0])
    assert (1 - logits.softmax(1).amax(1)).unique().numel() == 1
    assert (scores.msp(logits)[0, 0].diff() < 0).all()


def test_extreme_logits_stay_finite():
    logits = torch.tensor([200.0, -200.0, 0.0]).view(1, 3, 1, 1)
    assert all(torch.isfinite(getattr(scores, name)(logits)).all() for name in NAMES)


def test_max_logit_statistics_and_score_are_those_of_each_predicted_class():
    train, test = (
        3 * torch.randn(size, generator=torch.Generator().manual_seed(i))
        for i, size in enumerate([(400, 5), (2, 5, 3, 4)])
    )
    train[:, 4], train[0, 4], test[0, 4, 0, 0] = (
        -50,
        50,
        60,
    )  # a class that one pixel was predicted as
    mean, deviation = scores.max_logit_statistics(train)
    found = scores.standardized_max_logit(test, mean, deviation)
    for pixel, value in zip(test.permute(0, 2, 3, 1).reshape(-1, 5), found.flatten()):
        k = pixel.argmax()
        own = train[train.argmax(1) == k].amax(1).double() if k != 4 else train.amax(1).double()
        assert value.item() == pytest.approx(
            -(pixel[k].double() - own.mean()).item() / own.std(correction=0).item()
        )


@pytest.mark.parametrize('deviation', [(1.5, 1.5), (0.8, 2.0), (3.0, 0.0)])
def test_smoothing_is_scipys_gaussian_filter(deviation):
    maps = torch.randn(2, 11, 17, generator=torch.Generator().manual_seed(0))
    radius = [math.ceil(4 * one) for one in deviation]
    wanted = [
        gaussian_filter(one.double().numpy(), deviation, mode='nearest', radius=radius)
        for one in maps
    ]
    torch.testing.assert_close(
        scores.smoothed(maps, deviation), torch.tensor(np.array(wanted)).float()
    )
    assert torch.equal(scores.smoothed(maps, (0.0, 0.0)), maps)


def slow_gen(logits, gamma, top):
    """GEN of one pixel in float64; 1 - p is the sum of the other classes' probabilities."""
    values = np.sort(np.asarray(logits, dtype=np.float64))[::-1]
    powers = np.exp(values - values[0])
    total = 0.0
    for k in range(len(powers))[:top]:
        p = powers[k] / powers.sum()
        rest = np.delete(powers, k).sum() / powers.sum()
        total += p**gamma * rest**gamma
    return total


@pytest.mark.parametrize(
    ('scale', 'gamma', 'top'), [(1, 0.1, 9), (100, 0.1, 3), (100, 0.1, None), (10, 1.0, None)]
)
def test_gen_equals_the_slow_formula(scale, gamma, top):
    logits = scale * torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    found = scores.gen(logits, gamma, top)
    wanted = np.apply_along_axis(slow_gen, 1, logits.numpy(), gamma, top)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), wanted, rtol=3e-5, atol=1e-30)


@pytest.mark.parametrize(('lead', 'top'), [(0.0, None), (7.0, 1), (1e30, None)])
def test_gen_of_a_tie(lead, top):
    """Which of the tied classes counts as the winner changes nothing."""
    pixel = [lead, lead, -lead]
    found = scores.gen(torch.tensor(pixel).view(1, 3, 1, 1), 0.1, top)
    assert found.item() == pytest.approx(slow_gen(pixel, 0.1, top))


def test_gen_keeps_the_order_of_confident_pixels():
    """In float32 1 - p is 0 from a lead of 17 on."""
    logits = torch.zeros(1, 3, 1, 6)
    logits[0, 0, 0] = torch.tensor([5.0, 20.0, 40.0, 60.0, 80.0, 1e4])
    for top in (None, 1):
        found = scores.gen(logits, top=top)[0, 0]
        assert (found[:5].diff() < 0).all()
        assert found[5] == 0


def test_gen_grows_as_a_pixel_becomes_undecided():
    logits = torch.linspace(12, 0, 30) * torch.tensor([1.0, 0.0, 0.0, 0.0])[:, None]
    found = scores.gen(logits.view(1, 4, 1, 30))[0, 0]
    assert (found.diff() > 0).all()
    assert found[-1].item() == pytest.approx(4 * (3 / 16) ** 0.1)


def test_gen_of_half_precision_is_that_of_its_float32():
    logits = (5 * torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))).half()
    assert torch.equal(scores.gen(logits), scores.gen(logits.float()))


def test_gen_has_a_finite_gradient_where_one_class_leads():
    logits = torch.tensor([200.0, 0.0, -200.0]).view(1, 3, 1, 1).requires_grad_()
    scores.gen(logits).sum().backward()
    assert logits.grad.isfinite().all()
