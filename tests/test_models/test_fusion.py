"""``model.fuse``: D's score and a free one, standardised on closed pixels at every validation."""

import pytest
import torch
from small_models import batch_of, build_open, raw_image

from mmseg_opengan.contracts import HYBRID, OPEN_SCORES, OPENGAN
from mmseg_opengan.models.networks import discriminate
from mmseg_opengan.models.scorers.base import SCORERS

GEN = dict(free=dict(type='GEN'), weight=0.25)


def fused_model(fuse=GEN, **options):
    return build_open(fuse=fuse, **options)


def closed_pixels(model, number=500):
    return torch.randn(number, model.head.channels, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_the_map_is_the_free_score_raised_by_d():
    model = fused_model(resolution='feature')
    tap = model.extract_tap(*raw_image())
    rows = tap.features[0].flatten(1).T
    model.measure_fusion(rows)
    (sample,) = model.test_step(batch_of(raw_image()))
    weight, bias = model.head.adapter.classifier
    logits = rows @ weight.T + bias
    free = SCORERS.build(dict(type='GEN'))
    standardised = []
    for of_rows, of_map in (
        (
            -discriminate(model.discriminator, rows.T[None, :, None]),
            -discriminate(model.discriminator, tap.features),
        ),
        (free(None, logits.T[None, :, None]), free(None, tap.logits)),
    ):
        of_rows = of_rows.flatten().double()
        standardised.append((of_map[0].double() - of_rows.mean()) / of_rows.std(correction=0))
    of_d, of_free = standardised
    assert (of_d < 0).any()
    assert (of_d > 0).any()
    total = 0.75 * torch.where(of_d > 0, of_d, 0) + 0.25 * of_free
    maps = sample.get(OPEN_SCORES)
    torch.testing.assert_close(maps.get(HYBRID)[0].double(), total, rtol=1e-3, atol=1e-3)
    assert set(maps.keys()) == {OPENGAN, HYBRID}
    assert model.score_names == {OPENGAN: True, HYBRID: False}


def test_measuring_leaves_d_as_it_is():
    model = fused_model().train()
    before = {key: value.clone() for key, value in model.discriminator.state_dict().items()}
    model.measure_fusion(closed_pixels(model))
    assert model.discriminator.training
    after = model.discriminator.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize('free', [dict(type='GEN'), dict(type='ReAct', quantile=0.5)])
@torch.no_grad()
def test_a_checkpoint_brings_the_statistics_along(free):
    model = fused_model(dict(free=free))
    model.load_segmentor(model.segmentor.state_dict())
    model.measure_fusion(closed_pixels(model))
    checkpoint = dict(state_dict=model.state_dict())
    model.lean_checkpoint(checkpoint)
    other = fused_model(dict(free=free), seed=1)
    other.load_segmentor(model.segmentor.state_dict())
    other.load_state_dict(checkpoint['state_dict'], strict=False)
    wanted, found = (one.test_step(batch_of(raw_image()))[0] for one in (model, other))
    for name in (HYBRID, OPENGAN):
        assert torch.equal(found.get(OPEN_SCORES).get(name), wanted.get(OPEN_SCORES).get(name))


REACT = dict(type='ReAct', quantile=0.5)


@pytest.mark.parametrize(
    ('trained', 'tested'),
    [
        (dict(free=dict(type='GEN')), dict(free=dict(type='Energy'))),
        (dict(free=dict(type='GEN')), dict(free=dict(type='GEN', gamma=0.5))),
        (dict(free=REACT), dict(free=dict(REACT, uncertainty='energy'))),
        (dict(weight=0.25), dict(weight=0.5)),
    ],
)
def test_other_options_than_those_of_the_training_are_refused(trained, tested):
    model = fused_model(trained)
    model.load_segmentor(model.segmentor.state_dict())
    model.measure_fusion(closed_pixels(model))
    other = fused_model(tested)
    other.load_segmentor(model.segmentor.state_dict())
    with pytest.raises(RuntimeError, match=r'model\.fuse: wanted the options of the'):
        other.load_state_dict(model.state_dict(), strict=False)


@torch.no_grad()
def test_a_checkpoint_without_statistics_is_told():
    with pytest.raises(RuntimeError, match=r'model\.fuse: wanted a checkpoint that was trained wi'):
        fused_model().test_step(batch_of(raw_image()))


@pytest.mark.parametrize(
    ('fuse', 'options', 'message'),
    [
        (dict(weight=2), {}, r'fuse\.weight: wanted a number in \[0, 1\], found 2'),
        (dict(free=dict(type='MSPc')), {}, r'fuse\.free: wanted a scorer of features or logits'),
        (dict(), dict(discriminator=None), 'fuse: wanted a discriminator too, found None'),
    ],
)
def test_wrong_options(fuse, options, message):
    with pytest.raises(ValueError, match=message):
        fused_model(fuse, **options)
