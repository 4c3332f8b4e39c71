"""One contract for every registered scorer, in the manner of scikit-learn's estimator checks."""

import pytest
import torch
from scorer_world import SCORER_OPTIONS, World, build
from small_models import batch_of, build_open, raw_image

from mmseg_opengan.contracts import OPEN_SCORES, OPENGAN
from mmseg_opengan.functional import scores
from mmseg_opengan.models.scorers.base import SCORERS, FittedScorer, NotFittedError, Scorer

LOGIT_SCORERS = {
    'MSP': scores.msp,
    'Entropy': scores.entropy,
    'GEN': scores.gen,
    'MaxLogit': scores.max_logit,
    'Energy': scores.energy,
}
SMALL = dict(type='FeatureDiscriminator', hidden=(16, 8))
OWN = sorted(
    name
    for name, cls in SCORERS.module_dict.items()
    if cls.__module__.startswith('mmseg_opengan') and not cls.__module__.endswith('mask_scorers')
)  # those read no logits
FITTED = [name for name in OWN if issubclass(SCORERS.get(name), FittedScorer)]
FROM_FILES = [name for name in OWN if name in FITTED or SCORERS.get(name).candidates]
#: Random here, or nearly: their direction is tested where they are trained.
UNDIRECTED = {'DiscriminatorScorer', 'PixelDiscriminatorScorer', 'BiGAN', 'OpenClass'}
#: The padding of their convolutions shows in a constant image, too.
CONVOLUTIONAL = {'PixelDiscriminatorScorer'}


@pytest.fixture(scope='module')
def world():
    return World()


# ------------------------------------------------------------------ the contract


def test_every_registered_scorer_is_tested_here():
    assert set(OWN) == set(SCORER_OPTIONS)


@pytest.mark.parametrize('name', OWN)
def test_scores_are_finite_float32_maps(name, world):
    found = world.score(world.fitted(name))
    assert found.shape == world.open_map.shape
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert not found.requires_grad
    assert not any(parameter.requires_grad for parameter in world.fitted(name).parameters())


@pytest.mark.parametrize('name', sorted(set(OWN) - UNDIRECTED))
def test_larger_is_more_open(name, world):
    found = world.score(world.fitted(name))
    closed = found[~world.open_map]
    opened = found[world.open_map]
    assert (opened[:, None] > closed[None]).float().mean() > 0.95


@pytest.mark.parametrize('name', OWN)
def test_half_precision_is_scored_in_float32(name, world):
    scorer = world.fitted(name)
    half = World(maps=[value.half() for value in (world.inputs, world.features, world.logits)])
    full = World(maps=[value.float() for value in (half.inputs, half.features, half.logits)])
    found = half.score(scorer)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, full.score(scorer))


@pytest.mark.parametrize('name', OWN)
def test_a_pixel_scores_alike_alone_and_in_a_batch(name, world):
    """And the input is left alone."""
    scorer = world.fitted(name)
    given = [world.inputs, world.features, world.logits]
    before = [value.clone() for value in given]
    alone = World(maps=[value[1:] for value in (world.inputs, world.features, world.logits)])
    torch.testing.assert_close(alone.score(scorer)[0], world.score(scorer)[1], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, old) for value, old in zip(given, before))


@pytest.mark.parametrize('name', OWN)
@pytest.mark.parametrize('value', [0.0, 3e4])
def test_constant_and_saturated_input_gives_finite_scores(name, value, world):
    found = World(
        maps=[torch.full_like(one, value) for one in (world.inputs, world.features, world.logits)]
    ).score(world.fitted(name))
    assert found.isfinite().all()
    if name not in CONVOLUTIONAL:
        assert (found - found.flatten()[0]).abs().max() <= 1e-4 * (1 + found.abs().max())


@pytest.mark.parametrize('name', OWN)
def test_state_moves_to_a_fresh_object(name, world):
    first = world.fitted(name)
    fresh = build(name)
    fresh.load_state_dict(first.state_dict())
    assert torch.equal(world.score(fresh), world.score(first))


def test_gen_takes_an_exponent_and_a_number_of_classes(world):
    found = SCORERS.build(dict(type='GEN', gamma=0.5, top=2))(None, world.logits)
    assert torch.equal(found, scores.gen(world.logits, 0.5, 2))
    for option, value in (('gamma', 0), ('top', 0)):
        with pytest.raises(ValueError, match=f'{option}: wanted a .*number .*, found 0'):
            SCORERS.build(dict(type='GEN', **{option: value}))


@pytest.mark.parametrize('name', ['DiscriminatorScorer', 'ReAct', 'Hybrid'])
def test_a_score_rises_along_its_gradient_as_much_as_that_says(name, world):
    """What attacks follow."""
    scorer = world.fitted(name)
    given = [value.clone().requires_grad_() for value in (world.features, world.logits)]
    before = scorer(*given).double().sum()
    gradients = torch.autograd.grad(before, given, allow_unused=True, materialize_grads=True)
    length = float(sum(gradient.square().sum() for gradient in gradients).sqrt())
    with torch.no_grad():
        moved = [value + 0.01 / length * way for value, way in zip(given, gradients)]
        found = float(scorer(*moved).double().sum() - before)
    assert length > 0
    assert found == pytest.approx(0.01 * length, rel=0.1)


# ------------------------------------------------------------------ scorers that learn


@pytest.mark.parametrize('name', FITTED)
def test_scores_before_fit_are_refused(name, world):
    with pytest.raises(NotFittedError, match=f'{name} has learned nothing yet: call fit'):
        world.score(build(name))


@pytest.mark.parametrize('name', FITTED)
def test_fit_depends_on_data_and_seed_alone(name, world):
    """What was learned before is forgotten."""
    data = world.data
    few = data._replace(
        features=data.features[:200] * 2, logits=data.logits[:200] * 2, labels=data.labels[:200]
    )
    first = world.fitted(name)
    second = build(name).fit(few).fit(data)
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize('name', FROM_FILES)
def test_a_file_restores_state_and_options(name, world, tmp_path):
    first = world.fitted(name)
    first.save_file(tmp_path / 'scorer.pth', segmentor_sha256='abc')
    second = SCORERS.build(dict(type=name, checkpoint=str(tmp_path / 'scorer.pth')))
    assert second.options() == first.options()
    assert second.segmentor_sha256 == 'abc'
    assert torch.equal(world.score(second), world.score(first))


@pytest.mark.parametrize(
    ('file', 'message'),
    [
        ('Other', 'wanted a file of the scorer GDM, found Other'),
        ('GDM', r"scorer.pth' does not hold the state of a fitted GDM"),
    ],
)
def test_a_file_of_another_scorer_or_without_the_state_is_refused(file, message, tmp_path):
    path = tmp_path / 'scorer.pth'
    torch.save(dict(state_dict={}, meta=dict(scorer=file, options={})), path)
    with pytest.raises(RuntimeError, match=message):
        SCORERS.build(dict(type='GDM', checkpoint=str(path)))


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('features', torch.zeros(0, 6)),
        ('labels', torch.zeros(3, dtype=torch.int64)),
        ('weight', torch.zeros(3, 5)),
    ],
)
def test_data_that_does_not_agree_is_refused(field, value, world):
    with pytest.raises(ValueError, match='fit: wanted features'):
        build('GDM').fit(world.data._replace(**{field: value}))


@pytest.mark.parametrize('name', [name for name in OWN if SCORERS.get(name).candidates])
def test_candidates_are_options(name):
    cls = SCORERS.get(name)
    assert set(cls.candidates) <= set(build(name).options())
    for values in cls.candidates.values():
        assert len(values) == len({str(value) for value in values}) > 1


# ------------------------------------------------------------------ the base classes


def test_a_scorer_without_score_cannot_be_built():
    class Nothing(Scorer):
        pass

    with pytest.raises(TypeError, match='abstract'):
        Nothing()


# ------------------------------------------------------------------ functions of the logits


@pytest.mark.parametrize('name', LOGIT_SCORERS)
def test_logit_scorers_are_the_functions_of_the_core(name):
    scorer = build(name)
    logits = 3 * torch.randn(2, 5, 3, 4)
    assert isinstance(scorer, Scorer)
    assert scorer.reads == 'logits'
    assert torch.equal(scorer(None, logits), LOGIT_SCORERS[name](logits))
    assert not list(scorer.state_dict())


# ------------------------------------------------------------------ a discriminator as a scorer


@pytest.fixture
def trained(tmp_path):
    """(model with a D, path of the checkpoint of D alone)."""
    model = build_open()
    path = tmp_path / 'd.pth'
    torch.save(
        dict(
            state_dict={
                k: v for k, v in model.state_dict().items() if k.startswith('discriminator.')
            }
        ),
        path,
    )
    return model, str(path)


@pytest.mark.parametrize('resolution', ['feature', 'image'])
@torch.no_grad()
def test_a_checkpoints_discriminator_scores_as_in_its_own_model(trained, resolution):
    first, path = trained
    second = build_open(
        weights=first.segmentor.state_dict(),
        discriminator=None,
        resolution=resolution,
        scorers=dict(
            cls=dict(
                type='DiscriminatorScorer',
                discriminator=dict(SMALL, in_channels=60),
                checkpoint=path,
            )
        ),
    )
    first.resolution = resolution
    ours, theirs = (
        model.test_step(batch_of(raw_image()))[0].get(OPEN_SCORES) for model in (first, second)
    )
    assert torch.equal(ours.get(OPENGAN), theirs.cls)
    assert not any(p.requires_grad for p in second.parameters())


def test_a_discriminator_of_another_segmentor_is_refused(trained, tmp_path):
    model, path = trained
    state = torch.load(path)
    torch.save(
        dict(state, meta=dict(opengan=dict(segmentor=dict(sha256='0' * 64)))),
        tmp_path / 'other.pth',
    )
    scorer = dict(
        type='DiscriminatorScorer', discriminator=SMALL, checkpoint=str(tmp_path / 'other.pth')
    )
    other = build_open(
        weights=model.segmentor.state_dict(), discriminator=None, scorers=dict(cls=scorer)
    )
    with pytest.raises(RuntimeError, match="The scorer 'cls' was fitted on another segmentor"):
        other.check_segmentor()


@pytest.mark.parametrize('hidden', [(16, 4), (16, 8, 4)])
def test_a_checkpoint_of_another_discriminator_is_refused(trained, hidden):
    with pytest.raises(RuntimeError, match=r"'.*d\.pth' does not fit the discriminator"):
        SCORERS.build(
            dict(
                type='DiscriminatorScorer',
                checkpoint=trained[1],
                discriminator=dict(
                    type='FeatureDiscriminator',
                    hidden=hidden,
                    in_channels=60,
                ),
            )
        )


def test_a_checkpoint_without_discriminator_is_refused(tmp_path):
    torch.save(dict(state_dict={'backbone.weight': torch.zeros(1)}), tmp_path / 'plain.pth')
    with pytest.raises(RuntimeError, match=r"plain\.pth' does not fit the discriminator"):
        SCORERS.build(
            dict(
                type='DiscriminatorScorer',
                checkpoint=str(tmp_path / 'plain.pth'),
                discriminator=dict(SMALL, in_channels=60),
            )
        )


def test_a_discriminators_score_is_its_logit_turned_round():
    scorer = SCORERS.build(
        dict(type='DiscriminatorScorer', discriminator=dict(SMALL, in_channels=6))
    ).eval()
    features = torch.randn(1, 6, 4, 4)
    found = scorer(features, None)
    closed_logit = scorer.discriminator(features.permute(0, 2, 3, 1).reshape(-1, 6)).view(1, 4, 4)
    torch.testing.assert_close(found, -closed_logit)
    assert scorer(features.half(), None).dtype == torch.float32


def test_a_scorer_without_options_is_saved_and_loaded(tmp_path):
    """nn.Module's own ``*args`` and ``**kwargs`` are no options."""
    scorer = SCORERS.build(dict(type='MSP'))
    assert scorer.options() == {}
    scorer.save_file(tmp_path / 'scorer.pth')
    scorer.load_file(tmp_path / 'scorer.pth')
