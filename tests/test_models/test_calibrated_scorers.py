"""Scorers that run the segmentor or its classifier again, and OpenMax's fit."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import weibull_min
from scorer_world import World
from small_models import NUM_CLASSES, SLIDE, batch_of, pair, raw_image

from mmseg_opengan.contracts import OPEN_SCORES
from mmseg_opengan.functional import scores
from mmseg_opengan.functional.score_layout import ScoreLayout
from mmseg_opengan.models.scorers.base import SCORERS

MSPC = dict(odin=dict(type='MSPc', temperature=2.0, epsilon=0.05))


@pytest.fixture(scope='module')
def world():
    return World()


# ------------------------------------------------------------------ MSPc


def odin_written_out(plain, inputs, temperature, epsilon):
    """With mmseg's own model."""
    inputs = inputs.clone().requires_grad_()
    logits = plain._forward(inputs) / temperature
    winner = logits.argmax(1, keepdim=True)
    loss = -torch.log_softmax(logits, 1).gather(1, winner).sum()
    loss.backward()
    moved = inputs.detach() - epsilon * inputs.grad.sign()
    with torch.no_grad():
        odds = torch.logit(scores.msp(plain._forward(moved).double() / temperature))
        return (temperature * (odds - math.log(NUM_CLASSES - 1))).float()


@pytest.mark.parametrize('name', ['FCNHead', 'OCRHead', 'SegformerHead'])
def test_mspc_is_odin_on_the_plain_model(name):
    plain, wrapped = pair(
        name,
        scorers=MSPC,
        resolution='feature',
        discriminator=None,
    )
    data = batch_of(raw_image())
    inputs = plain.data_preprocessor(
        dict(inputs=list(data['inputs']), data_samples=data['data_samples'])
    )['inputs']
    with torch.no_grad():
        (found,) = wrapped.test_step(batch_of(raw_image()))
    torch.testing.assert_close(
        found.get(OPEN_SCORES).odin,
        odin_written_out(plain, inputs, 2.0, 0.05),
        rtol=1e-4,
        atol=1e-6,
    )
    assert not torch.equal(found.get(OPEN_SCORES).odin, odin_written_out(plain, inputs, 2.0, 0))


@pytest.mark.parametrize('name', ['FCNHead', 'OCRHead'])
@pytest.mark.parametrize('test_cfg', [None, SLIDE])
def test_closed_prediction_is_bit_identical_beside_a_scorer_that_reads_the_image(name, test_cfg):
    plain, wrapped = pair(name, scorers=MSPC, test_cfg=test_cfg)
    flags = [p.requires_grad for p in wrapped.parameters()]
    with torch.no_grad():
        ours, theirs = (
            model.test_step(batch_of(raw_image(80, 100), raw_image(80, 100, seed=1)))
            for model in (wrapped, plain)
        )
    for one, other in zip(ours, theirs):
        assert torch.equal(one.seg_logits.data, other.seg_logits.data)
        assert one.get(OPEN_SCORES).odin.shape == (1, 80, 100)
        assert not one.get(OPEN_SCORES).odin.requires_grad
    assert [p.requires_grad for p in wrapped.parameters()] == flags
    assert all(p.grad is None for p in wrapped.parameters())


@pytest.mark.parametrize('epsilon', [0.0, 0.05])
def test_gradients_are_taken_to_the_image_only(epsilon):
    """No weight gets a gradient."""
    _, wrapped = pair(scorers=dict(odin=dict(type='MSPc', epsilon=epsilon)), resolution='feature')
    followed = []
    own = wrapped.tap_of
    wrapped.tap_of = lambda inputs: followed.append(torch.is_grad_enabled()) or own(inputs)
    with torch.no_grad():
        wrapped.test_step(batch_of(raw_image()))
    assert followed == [True] * bool(epsilon) + [False]
    assert all(weight.grad is None for weight in wrapped.segmentor.parameters())


def test_without_a_step_mspc_is_msp_with_a_temperature(world):
    scorer = SCORERS.build(dict(type='MSPc', temperature=5.0, epsilon=0.0))
    found = world.score(scorer)
    wanted = scores.msp(world.logits / 5).flatten()
    assert (wanted[found.flatten().argsort()].diff() > -1e-6).all()
    assert wanted.std() > 0.01


@pytest.mark.parametrize('temperature', [1.0, 1000.0])
def test_msp_at_any_temperature_is_counted_as_finely(temperature):
    """At T = 1000 probabilities crowd within 1 % of each other, where float32 tells few of them
    apart.
    """
    logits = 4 * torch.randn(1, 11, 200, 200, generator=torch.Generator().manual_seed(0))
    found = scores.msp_log_odds(logits, temperature).flatten()
    exact = scores.msp(logits.double() / temperature).flatten()
    assert (exact[found.argsort()].diff() > -1e-6 / temperature).all()
    layout = ScoreLayout.of(found, torch.zeros(len(found)))
    assert len(layout.bins(found).unique()) > 10000
    assert found.max() < 1e-6


# ------------------------------------------------------------------ MC dropout


def test_more_samples_are_closer_to_each_other(world):
    """Two draws of masks differ less the more masks there are."""

    def gap(num_samples):
        first, second = (
            SCORERS.build(dict(type='MCDropout', num_samples=num_samples)).fit(
                world.data._replace(seed=seed)
            )
            for seed in (0, 1)
        )
        return (world.score(first) - world.score(second)).abs().mean()

    assert gap(500) < gap(5) / 3


def test_what_is_kept_is_scaled_up_for_what_is_dropped(world):
    """With no channel dropped, a score is that of the classifier with its weights scaled up."""
    scorer = SCORERS.build(
        dict(
            type='MCDropout',
            rate=0.4,
            num_samples=3,
        )
    ).fit(world.data)
    scorer.kept_[:] = True
    features = world.features
    logits = world.logits
    found = scorer.score(features, logits)
    scaled = torch.einsum('kc,nchw->nkhw', scorer.weight_ / 0.6, features)
    wanted = scores.entropy(scaled + scorer.bias_[:, None, None])
    torch.testing.assert_close(found, wanted)


def test_channels_are_dropped_at_the_given_rate(world):
    kept = (
        SCORERS.build(
            dict(
                type='MCDropout',
                rate=0.3,
                num_samples=5000,
            )
        )
        .fit(world.data)
        .kept_
    )
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(rate=0.0), r'rate: wanted a number in \(0, 1\), found 0.0'),
        (dict(rate=1.0), r'rate: wanted a number in \(0, 1\), found 1.0'),
        (dict(uncertainty='variance'), "uncertainty: wanted one of .*'entropy'.*found 'variance'"),
    ],
)
def test_wrong_options_of_mc_dropout(options, message):
    with pytest.raises(ValueError, match=message):
        SCORERS.build(dict(type='MCDropout', **options))


# ------------------------------------------------------------------ OpenMax


def test_tails_are_fitted_to_the_largest_distances_of_correct_pixels(world):
    logits = world.data.logits.clone()
    labels = world.data.labels
    logits[0, 1] = 100  # a pixel of class 0 that is predicted wrongly takes no part
    scorer = SCORERS.build(dict(type='OpenMax', tail_size=40)).fit(
        world.data._replace(logits=logits)
    )
    for k in range(3):
        own = logits[(labels == k) & (logits.argmax(1) == k)].double().numpy()
        distances = np.sort(np.linalg.norm(own - own.mean(0), axis=1))[-40:]
        shape, shift, scale = weibull_min.fit(distances, floc=distances[0] - 1)
        np.testing.assert_allclose(scorer.weibull_[:, k], [shape, scale, shift], rtol=1e-4)
        np.testing.assert_allclose(scorer.means_[k], own.mean(0), rtol=1e-5)


def test_a_class_never_predicted_correctly_is_never_revised(world):
    labels = world.data.labels.clone()
    labels[labels == 2] = 0
    scorer = SCORERS.build(dict(type='OpenMax')).fit(world.data._replace(labels=labels))
    assert scorer.weibull_[:, 2].tolist() == [1, 1, float('inf')]
    assert world.score(scorer).isfinite().all()


@pytest.mark.parametrize('options', [dict(alpha=0), dict(tail_size=2)])
def test_wrong_options_of_openmax(options):
    with pytest.raises(ValueError, match=f'{next(iter(options))}: wanted'):
        SCORERS.build(dict(type='OpenMax', **options))
