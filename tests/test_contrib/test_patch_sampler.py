"""The sampler of images, crops, pixels and noise: counts, ranges, and a pure function of (seed,
step).
"""

import numpy as np
import pytest
import torch
from mmseg.registry import TASK_UTILS

from mmseg_opengan.contrib.patch_sampler import PatchSampler

SIZES = [(40, 60), (32, 32)]
HOLD = [np.array([[0, 0], [39, 59], [20, 31]]), ()]


def everything(draw):
    crops = [
        (rows.start, rows.stop, cols.start, cols.stop) for rows, cols in draw.crops(SIZES, HOLD)
    ]
    return [
        draw.images(7).tolist(),
        draw.open_images(5).tolist(),
        crops,
        draw.closed(90).tolist(),
        draw.open(9).tolist(),
        *(one.tolist() for one in (*draw.noise(2), *draw.fake(500))),
    ]


@pytest.fixture
def sampler():
    return TASK_UTILS.build(
        dict(
            type='PatchSampler',
            num_closed=8,
            num_open=4,
            num_fake=6,
            open_images_per_batch=2,
            crop_size=(16, 24),
            fake_images=3,
            fake_grid=(1, 2),
        )
    )


def test_defaults_are_the_papers():
    sampler = PatchSampler()
    assert (sampler.num_closed, sampler.num_open, sampler.num_fake) == (5000, 2500, 2500)
    assert (sampler.closed_images_per_batch, sampler.fake_images, sampler.crop_size) == (1, 1, None)


def test_pure_function_of_seed_and_step(sampler):
    steps = {step: everything(sampler.at(1, step)) for step in range(4)}
    assert all(everything(sampler.at(1, step)) == steps[step] for step in (3, 0, 3))
    for seed, step in ((1, 1), (2, 0)):
        different = zip(
            everything(sampler.at(seed, step))[2:], steps[0][2:]
        )  # of few images the same may be drawn
        assert all(one != other for one, other in different)


def test_counts_are_honoured(sampler):
    draw = sampler.at(0, 0)
    assert len(set(draw.open_images(5).tolist())) == 2
    assert len(draw.open_images(1)) == 1  # no image twice
    assert [tuple(z.shape) for z in draw.noise(5)] == [(3, 5, 1, 2)] * 2
    assert [len(rows) for rows in draw.fake(500)] == [6, 6]
    assert not torch.equal(*draw.noise(5))
    assert not np.array_equal(*draw.fake(500))


def test_crops_lie_inside_and_hold_a_pixel_asked_for(sampler):
    sampler.crop_size = (16, 24)
    held = set()
    corners = set()
    for step in range(300):
        (rows, cols), (inner_rows, inner_cols) = sampler.at(0, step).crops(
            [(40, 60), (30, 26)], HOLD
        )
        assert (rows.stop - rows.start, cols.stop - cols.start) == (16, 24)
        assert 0 <= rows.start <= 40 - 16
        assert 0 <= cols.start <= 60 - 24
        inside = [
            i
            for i, (row, col) in enumerate(HOLD[0].tolist())
            if rows.start <= row < rows.stop and cols.start <= col < cols.stop
        ]
        assert inside
        held.update(inside)
        corners.add((inner_rows.start, inner_cols.start))
    assert held == {0, 1, 2}
    assert corners == {
        (row, col) for row in range(15) for col in range(3)
    }  # every place of the free crop


def test_without_a_crop_size_whole_images_are_taken():
    assert PatchSampler().at(0, 0).crops(SIZES, HOLD) == [(slice(None), slice(None))] * 2


def test_what_cannot_be_drawn_is_refused(sampler):
    with pytest.raises(
        ValueError, match=r'crop_size: wanted at most the size of an image, 8x60, found \(16, 24\)'
    ):
        sampler.at(0, 0).crops([(8, 60)], [()])
    with pytest.raises(
        ValueError, match="closed_images_per_batch='all': wanted a number of images"
    ):
        PatchSampler(closed_images_per_batch='all')


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('fake_images', 0),
        ('fake_grid', (0, 1)),
        ('fake_grid', 13),
        ('crop_size', (64,)),
        ('crop_size', 64),
        ('open_images_per_batch', -1),
        ('open_images_per_batch', 0.5),
    ],
)
def test_options_that_draw_nothing_are_refused(option, value):
    """G, for one, would be given no noise, in its first step."""
    with pytest.raises(ValueError, match=rf'^{option}.*: wanted .*, found '):
        PatchSampler(**{option: value})
