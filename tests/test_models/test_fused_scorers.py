"""ReAct and the hybrid: their formulas, and that a file holds them whole."""

import math

import pytest
import torch
from scorer_world import CHANNELS, World

from mmseg_opengan.functional import scores
from mmseg_opengan.models.scorers.base import SCORERS
from mmseg_opengan.models.scorers.fused_scorers import Hybrid, ReAct

D = dict(type='DiscriminatorScorer', discriminator=dict(type='FeatureDiscriminator', hidden=(8,)))


@pytest.fixture(scope='module')
def world():
    return World()


@pytest.fixture
def trained(world, tmp_path):
    """A scorer of D from a checkpoint of its training."""
    torch.manual_seed(0)
    config = dict(D, discriminator=dict(D['discriminator'], in_channels=CHANNELS))
    scorer = SCORERS.build(config)
    state = {
        f'discriminator.{key}': value for key, value in scorer.discriminator.state_dict().items()
    }
    torch.save(dict(state_dict=state), tmp_path / 'd.pth')
    return dict(D, checkpoint=str(tmp_path / 'd.pth'))


def slow_clip(values, quantile):
    """The smallest value that at least this share of them does not exceed."""
    ordered = sorted(values)
    for value in ordered:
        if sum(one <= value for one in ordered) >= quantile * len(ordered) - 1e-9:
            return value
    return ordered[-1]


@pytest.mark.parametrize(
    ('per', 'quantile', 'uncertainty'),
    [
        ('all', 0.1, 'gen'),
        ('all', 0.95, 'energy'),
        ('channel', 0.5, 'gen'),
        ('channel', 1.0, 'gen'),
    ],
)
def test_react_is_the_written_out_one(per, quantile, uncertainty, world):
    scorer = ReAct(
        quantile=quantile,
        per=per,
        uncertainty=uncertainty,
    ).fit(world.data)
    rows = world.data.features
    if per == 'all':
        wanted = [slow_clip(rows.flatten().tolist(), quantile)] * CHANNELS
    else:
        wanted = [slow_clip(column.tolist(), quantile) for column in rows.T]
    assert scorer.clip_.tolist() == pytest.approx(wanted)
    pixel = world.features[0, :, 1, 4]
    clipped = [min(value, top) for value, top in zip(pixel.tolist(), wanted, strict=True)]
    logits = torch.tensor(
        [
            math.fsum(w * f for w, f in zip(row.tolist(), clipped, strict=True)) + bias
            for row, bias in zip(world.data.weight, world.data.bias.tolist(), strict=True)
        ]
    )
    number = getattr(scores, uncertainty)(logits[None, :, None, None]).item()
    assert scorer(world.features, world.logits)[0, 1, 4].item() == pytest.approx(number, abs=1e-5)


def test_react_without_clipping_is_the_score_of_the_logits(world):
    features = world.features.clamp(max=world.data.features.amin(dim=1).min().item())
    logits = torch.einsum('kc,nchw->nkhw', world.data.weight, features)
    logits = logits + world.data.bias[:, None, None]
    found = ReAct(quantile=1.0, per='all').fit(world.data)(features, logits)
    torch.testing.assert_close(found, scores.gen(logits), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(quantile=0), r'quantile: wanted a number in \(0, 1\], found 0'),
        (dict(quantile=1.5), r'quantile: wanted a number in \(0, 1\], found 1.5'),
        (dict(per='pixel'), r"per: wanted one of \('all', 'channel'\), found 'pixel'"),
        (dict(uncertainty='msp'), "uncertainty: wanted one of .*'gen', 'energy'.*found 'msp'"),
    ],
)
def test_wrong_options_of_react(options, message):
    with pytest.raises(ValueError, match=message):
        ReAct(**options)


@pytest.mark.parametrize(
    ('weight', 'free'), [(0.25, dict(type='GEN')), (0.5, dict(type='ReAct', quantile=0.5))]
)
def test_the_hybrid_is_the_free_score_raised_by_the_trained_one(weight, free, world, trained):
    hybrid = Hybrid(trained=trained, free=free, weight=weight).fit(world.data)
    alone = SCORERS.build(dict(free))
    if free['type'] == 'ReAct':
        alone.fit(world.data)
    of_pixels = world.data.features.T[None, :, None], world.data.logits.T[None, :, None]
    standardised = []
    for scorer in (SCORERS.build(dict(trained)).eval(), alone):
        closed = scorer(*of_pixels).double()
        values = scorer(world.features, world.logits).double()
        standardised.append((values - closed.mean()) / closed.std(correction=0))
    of_d, of_free = standardised
    assert (of_d < 0).any()
    assert (of_d > 0).any()
    total = (1 - weight) * torch.where(of_d > 0, of_d, 0) + weight * of_free
    found = hybrid(world.features, world.logits)
    torch.testing.assert_close(found.double(), total, rtol=1e-4, atol=1e-4)


def test_a_file_holds_both_scores_whole(world, trained, tmp_path):
    free = dict(type='ReAct', quantile=0.5)
    hybrid = Hybrid(trained=trained, free=free, weight=0.75).fit(world.data)
    hybrid.save_file(tmp_path / 'hybrid.pth')
    (tmp_path / 'd.pth').unlink()
    loaded = Hybrid(checkpoint=str(tmp_path / 'hybrid.pth'))
    assert loaded.weight == 0.75
    wanted = hybrid(world.features, world.logits)
    assert torch.equal(loaded(world.features, world.logits), wanted)
    assert not any(value.requires_grad for value in loaded.parameters())


def test_a_free_score_from_a_file_stays_as_it_is_and_goes_on_with_the_hybrid(
    world, trained, tmp_path
):
    less = world.data._replace(features=world.data.features / 2)
    react = ReAct(quantile=0.5, per='channel').fit(less)
    react.save_file(tmp_path / 'react.pth')
    free = dict(type='ReAct', checkpoint=str(tmp_path / 'react.pth'))
    hybrid = Hybrid(trained=trained, free=free).fit(world.data)
    assert torch.equal(hybrid.free_scorer.clip_, react.clip_)
    hybrid.save_file(tmp_path / 'hybrid.pth')
    (tmp_path / 'react.pth').unlink()
    loaded = Hybrid(checkpoint=str(tmp_path / 'hybrid.pth'))
    assert loaded.free == dict(type='ReAct', quantile=0.5, per='channel', uncertainty='gen')
    found = loaded(world.features, world.logits)
    assert torch.equal(found, hybrid(world.features, world.logits))


def test_a_hybrid_of_another_segmentor_is_refused(world, trained, tmp_path):
    """What D's checkpoint says of its segmentor goes on with it."""
    state = torch.load(trained['checkpoint'], weights_only=True)
    state['meta'] = dict(opengan=dict(segmentor=dict(sha256='a' * 64)))
    torch.save(state, trained['checkpoint'])
    assert Hybrid(trained=trained).segmentor_sha256 == 'a' * 64


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(), 'trained: wanted the config of a scorer'),
        (dict(trained=dict(type='GEN'), weight=2), r'weight: wanted a number in \[0, 1\], found 2'),
        (dict(trained=dict(type='MSPc')), 'trained: wanted a scorer of features or logits'),
        (dict(trained=dict(type='MSP'), free=dict(type='EAM')), 'free: wanted a scorer of feat'),
    ],
)
def test_wrong_options_of_the_hybrid(options, message):
    with pytest.raises(ValueError, match=message):
        Hybrid(**options)


def test_a_score_that_is_constant_has_no_z_score(world):
    constant = world.data._replace(logits=torch.ones_like(world.data.logits))
    with pytest.raises(ValueError, match='wanted scores that differ between closed pixels'):
        Hybrid(trained=dict(type='MSP'), free=dict(type='GEN')).fit(constant)
