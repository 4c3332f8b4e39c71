"""The pixel sampler: registered, counted, and a pure function of (seed, step)."""

import pickle

import numpy as np
import pytest
import torch
from mmseg.registry import TASK_UTILS

from mmseg_opengan.features.pixel_sampler import PixelSampler
from mmseg_opengan.functional.pixels import step_rng


@pytest.fixture
def sampler():
    return TASK_UTILS.build(
        dict(
            type='PixelSampler',
            num_closed=50,
            num_open=20,
            num_fake=10,
        )
    )


def everything(draw):
    """All random choices of one step as plain lists."""
    return [
        draw.images(7).tolist(),
        draw.closed(400).tolist(),
        draw.open(300).tolist(),
        *(z.tolist() for z in draw.noise(4)),
    ]


def test_defaults_are_the_papers():
    sampler = PixelSampler()
    assert (sampler.num_closed, sampler.num_open, sampler.num_fake) == (5000, 2500, 2500)
    assert sampler.closed_images_per_batch == 1


def test_counts_are_honoured(sampler):
    draw = sampler.at(0, 0)
    assert draw.closed(400).shape == (50,)
    assert draw.open(300).shape == (20,)
    assert [tuple(z.shape) for z in draw.noise(64)] == [(10, 64)] * 2
    assert draw.images(7).shape == (1,)


@pytest.mark.parametrize('available', [80, 30])
def test_draws_are_those_of_a_written_out_sampler(sampler, available):
    """One numpy generator for each (seed, step, stream): 1 closed, 2 open, 3 noise."""
    draw = sampler.at(5, 9)
    rng = np.random.default_rng([5, 9, 1])
    if available >= 50:
        closed = rng.choice(available, 50, replace=False)
    else:
        closed = np.concatenate(
            [rng.permutation(available), rng.integers(available, size=50 - available)]
        )
    assert draw.closed(available).tolist() == closed.tolist()
    rng = np.random.default_rng([5, 9, 2])
    assert draw.open(15).tolist() == rng.choice(15, 20, replace=True).tolist()
    noise = np.random.default_rng([5, 9, 3]).standard_normal((2, 10, 4), dtype=np.float32)
    assert np.array_equal(torch.stack(draw.noise(4)).numpy(), noise)


def test_pure_function_of_seed_and_step(sampler):
    steps = {step: everything(sampler.at(1, step)) for step in range(5)}
    for step in (3, 0, 4, 4):  # any order, any number of times, after any other draw
        draw = sampler.at(1, step)
        draw.noise(8)
        assert everything(draw) == steps[step]
    assert (
        everything(pickle.loads(pickle.dumps(sampler.at(1, 2)))) == steps[2]
    )  # as loader workers get it


def test_seeds_and_steps_differ(sampler):
    draws = [everything(sampler.at(*key))[1:] for key in ((0, 0), (0, 1), (1, 0))]
    for part in zip(*draws):
        assert len({str(values) for values in part}) == 3


def test_streams_of_a_step_differ():
    sampler = PixelSampler(num_closed=100, num_open=100, num_fake=100)
    draw = sampler.at(0, 0)
    assert draw.closed(5000).tolist() != draw.open(5000).tolist()
    assert not torch.equal(*draw.noise(4))  # D's and G's phases see different fakes
    assert draw.images(5000) == step_rng(0, 0, 0).permutation(5000)[0]


def test_noise_is_standard_normal():
    noise = PixelSampler(num_fake=2500).at(0, 0).noise(64)[0]
    assert noise.dtype == torch.float32
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)


def test_every_image_once_an_epoch():
    sampler = PixelSampler(closed_images_per_batch=2)
    for epoch in range(4):
        images = np.concatenate(
            [sampler.at(0, step).images(6) for step in range(3 * epoch, 3 * epoch + 3)]
        )
        assert sorted(images) == list(range(6))


def test_all_images_at_once():
    assert PixelSampler(closed_images_per_batch='all').at(0, 3).images(6).tolist() == list(range(6))


@pytest.mark.parametrize('count', ['num_closed', 'num_open', 'num_fake'])
def test_a_group_can_be_left_out(count):
    draw = PixelSampler(**{count: 0}).at(0, 0)
    sizes = dict(
        num_closed=len(draw.closed(9000)),
        num_open=len(draw.open(9000)),
        num_fake=len(draw.noise(4)[0]),
    )
    assert sizes == dict(
        num_closed=5000,
        num_open=2500,
        num_fake=2500,
        **{},
    ) | {count: 0}


@pytest.mark.parametrize(
    ('count', 'value'), [('num_closed', -1), ('num_open', 2.5), ('num_fake', '10')]
)
def test_wrong_counts(count, value):
    with pytest.raises(ValueError, match=f'{count}: wanted a whole number >= 0, found {value!r}'):
        PixelSampler(**{count: value})


@pytest.mark.parametrize('value', [0, 'every'])
def test_wrong_number_of_images(value):
    with pytest.raises(
        ValueError, match=f"closed_images_per_batch: wanted a number >= 1 or 'all', found {value!r}"
    ):
        PixelSampler(closed_images_per_batch=value)
