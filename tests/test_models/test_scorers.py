"""One contract for every registered scorer: shape, direction, dtype, no change of what it is given."""

import pytest
import torch
from small_models import batch_of, build_open, raw_image

from mmseg_opengan.contracts import OPEN_SCORES, OPENGAN
from mmseg_opengan.functional import scores
from mmseg_opengan.models.scorers.base import SCORERS, Scorer

LOGIT_SCORERS = {'MSP': scores.msp, 'Entropy': scores.entropy, 'MaxLogit': scores.max_logit, 'Energy': scores.energy}
SMALL = dict(type='FeatureDiscriminator', hidden=(16, 8))


def build(name):
    return SCORERS.build(dict(type=name)).eval()


def test_registered_scorers_are_all_tested_here():
    own = {name for name, cls in SCORERS.module_dict.items() if cls.__module__.startswith('mmseg_opengan')}
    fitted_elsewhere = {name for name in own if 'fit' in vars(SCORERS.get(name))}
    assert own - fitted_elsewhere == {*LOGIT_SCORERS, 'DiscriminatorScorer'}


@pytest.mark.parametrize('name', LOGIT_SCORERS)
def test_logit_scorers_are_the_functions_of_the_core(name):
    scorer = build(name)
    logits = 3 * torch.randn(2, 5, 3, 4)
    assert isinstance(scorer, Scorer)
    assert scorer.from_logits
    assert torch.equal(scorer(None, logits), LOGIT_SCORERS[name](logits))
    assert not list(scorer.state_dict())


@pytest.mark.parametrize('name', LOGIT_SCORERS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_scored_in_float32(name, dtype):
    logits = 3 * torch.randn(1, 5, 3, 4).to(dtype)
    found = build(name)(None, logits)
    assert found.dtype == torch.float32
    assert torch.equal(found, LOGIT_SCORERS[name](logits.float()))


@pytest.mark.parametrize('name', LOGIT_SCORERS)
def test_scorers_leave_their_input_alone(name):
    logits = torch.randn(1, 5, 3, 4)
    before = logits.clone()
    build(name)(None, logits)
    assert torch.equal(logits, before)


def test_a_scorer_without_score_cannot_be_built():
    class Nothing(Scorer):
        pass
    with pytest.raises(TypeError, match='abstract'):
        Nothing()


# ------------------------------------------------------------------ a discriminator as a scorer


@pytest.fixture
def trained(tmp_path):
    """(model with a D, path of the checkpoint of D alone)."""
    model = build_open()
    path = tmp_path / 'd.pth'
    torch.save(dict(state_dict={k: v for k, v in model.state_dict().items() if k.startswith('discriminator.')}), path)
    return model, str(path)


@pytest.mark.parametrize('resolution', ['feature', 'image'])
@torch.no_grad()
def test_a_checkpoints_discriminator_scores_as_in_its_own_model(trained, resolution):
    first, path = trained
    second = build_open(weights=first.segmentor_state(), discriminator=None, resolution=resolution, scorers=dict(
        cls=dict(type='DiscriminatorScorer', discriminator=dict(SMALL, in_channels=60), checkpoint=path)))
    first.resolution = resolution
    ours, theirs = (model.test_step(batch_of(raw_image()))[0].get(OPEN_SCORES) for model in (first, second))
    assert torch.equal(ours.get(OPENGAN), theirs.cls)
    assert not any(p.requires_grad for p in second.parameters())


@pytest.mark.parametrize('hidden', [(16, 4), (16,), (16, 8, 4)])
def test_a_checkpoint_of_another_discriminator_is_refused(trained, hidden):
    with pytest.raises(RuntimeError, match=r"'.*d\.pth' does not hold this discriminator's weights"):
        SCORERS.build(dict(type='DiscriminatorScorer', checkpoint=trained[1],
                           discriminator=dict(type='FeatureDiscriminator', hidden=hidden, in_channels=60)))


def test_a_checkpoint_without_discriminator_is_refused(tmp_path):
    torch.save(dict(state_dict={'backbone.weight': torch.zeros(1)}), tmp_path / 'plain.pth')
    with pytest.raises(RuntimeError, match=r"plain\.pth' does not hold this discriminator's weights"):
        SCORERS.build(dict(type='DiscriminatorScorer', checkpoint=str(tmp_path / 'plain.pth'),
                           discriminator=dict(SMALL, in_channels=60)))


def test_larger_is_more_open():
    """The raw logit of closed, turned round."""
    scorer = SCORERS.build(dict(type='DiscriminatorScorer', discriminator=dict(SMALL, in_channels=6))).eval()
    features = torch.randn(1, 6, 4, 4)
    found = scorer(features, None)
    closed_logit = scorer.discriminator(features.permute(0, 2, 3, 1).reshape(-1, 6)).view(1, 4, 4)
    torch.testing.assert_close(found, -closed_logit)
    assert scorer(features.half(), None).dtype == torch.float32
