"""Labels on the feature grid, and the pixel draws of a step, against written-out loops."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from mmseg_opengan.functional import pixels
from mmseg_opengan.functional.pixels import (
    choose_closed,
    choose_image,
    choose_open,
    grid_stride,
    labels_on_grid,
    pixels_first,
    step_rng,
)


@pytest.mark.parametrize('size', [(1024, 2048), (65, 97)])
def test_stride_of_any_network_is_found(size):
    for stride in (1, 2, 4, 8, 16, 32):
        for rounding in (math.ceil, math.floor):
            grid = tuple(rounding(length / stride) for length in size)
            assert grid_stride(size, grid) == stride


def test_stride_that_is_no_power_of_two():
    assert grid_stride((518, 1036), (37, 74)) == 14  # a ViT's patches


@pytest.mark.parametrize(
    ('size', 'grid'),
    [
        ((1024, 2048), (128, 512)),  # two strides
        ((1024, 2048), (256, 513)),  # one cell too many
        ((64, 64), (128, 128)),  # larger than the image
        ((64, 64), (0, 0)),
    ],
)
def test_a_grid_that_fits_no_stride(size, grid):
    with pytest.raises(
        ValueError,
        match=rf'grid of {grid[0]}x{grid[1]} does not fit an image of {size[0]}x{size[1]}',
    ):
        grid_stride(size, grid)


@pytest.mark.parametrize(
    ('size', 'grid', 'stride', 'kind'),
    [
        ((16, 24), (4, 6), 4, torch.from_numpy),
        ((18, 25), (5, 7), 4, np.asarray),
        ((18, 25), (4, 6), 4, np.asarray),
    ],
)
def test_labels_on_the_grid_are_every_stride_th(size, grid, stride, kind):
    labels = np.random.default_rng(0).integers(0, 255, (2, *size), dtype=np.uint8)
    found = labels_on_grid(kind(labels), grid)
    assert tuple(found.shape) == (2, *grid)
    for row in range(grid[0]):
        for col in range(grid[1]):
            assert (np.asarray(found[:, row, col]) == labels[:, stride * row, stride * col]).all()


def test_pixels_first_keeps_image_row_column_order():
    features = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    rows = pixels_first(features)
    expected = [features[n, :, i, j] for n in range(2) for i in range(4) for j in range(5)]
    assert torch.equal(rows, torch.stack(expected))


# ------------------------------------------------------------------ draws


def test_step_rng_depends_on_every_argument():
    draws = {
        key: step_rng(*key).integers(1 << 62)
        for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    }
    assert len(set(draws.values())) == 4
    assert step_rng(1, 2, 3).integers(1 << 62) == step_rng(1, 2, 3).integers(1 << 62)


def test_step_rng_is_the_same_in_another_process():
    code = 'from mmseg_opengan.functional.pixels import step_rng; print(step_rng(3, 14, 1).integers(1 << 62))'
    there = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    ).stdout
    assert int(there) == step_rng(3, 14, 1).integers(1 << 62)


@pytest.mark.parametrize(('num_images', 'per_step'), [(7, 3), (2, 5)])
def test_every_image_once_an_epoch(num_images, per_step):
    steps = [choose_image(num_images, step, 0, per_step) for step in range(6 * num_images)]
    assert all(len(images) == per_step for images in steps)
    stream = np.concatenate(steps)
    epochs = [
        tuple(stream[start : start + num_images])
        for start in range(0, len(stream) - num_images + 1, num_images)
    ]
    assert all(sorted(epoch) == list(range(num_images)) for epoch in epochs)
    if num_images == 7:
        assert len(set(epochs)) == len(epochs)  # shuffled anew


def test_images_are_a_pure_function_of_seed_and_step():
    forward = [choose_image(50, step, 1)[0] for step in range(100)]
    backward = [choose_image(50, step, 1)[0] for step in reversed(range(100))]
    assert forward == backward[::-1]
    assert forward != [choose_image(50, step, 2)[0] for step in range(100)]


def test_an_epoch_is_shuffled_once(monkeypatch):
    """Shuffling a million images at every step would be a tenth of it."""
    shuffles = []
    monkeypatch.setattr(pixels, 'step_rng', lambda *args: shuffles.append(args) or step_rng(*args))
    for step in range(103):
        choose_image(103, step, 9)
    assert len(shuffles) == 1


def test_no_image_to_draw_from():
    with pytest.raises(ValueError, match='at least one image'):
        choose_image(0, 0, 0)


@pytest.mark.parametrize(('choose', 'available'), [(choose_closed, 30), (choose_open, 100)])
def test_without_replacement_while_pixels_last(choose, available):
    drawn = choose(available, 30, step_rng(0, 0, 1))
    assert len(drawn) == len(set(drawn)) == 30
    assert drawn.min() >= 0
    assert drawn.max() < available


def test_too_few_closed_pixels_are_all_taken_then_repeated():
    drawn = choose_closed(30, 100, step_rng(0, 0, 1))
    assert len(drawn) == 100
    assert sorted(drawn[:30]) == list(range(30))
    assert set(drawn[30:]) <= set(range(30))


def test_too_few_open_pixels_are_drawn_with_replacement():
    drawn = choose_open(30, 100, step_rng(0, 0, 1))
    assert len(drawn) == 100
    assert set(drawn) <= set(range(30))


@pytest.mark.parametrize('choose', [choose_closed, choose_open])
def test_nothing_to_draw(choose):
    for available, wanted in ((0, 10), (10, 0), (0, 0)):
        drawn = choose(available, wanted, step_rng(0, 0, 1))
        assert drawn.shape == (0,)
        assert drawn.dtype == np.int64


@pytest.mark.parametrize(
    ('choose', 'available', 'wanted'), [(choose_closed, 4, 10), (choose_open, 20, 5)]
)
def test_every_pixel_is_drawn_equally_often(choose, available, wanted):
    counts = np.zeros(available)
    for step in range(2000):
        counts += np.bincount(choose(available, wanted, step_rng(0, step, 1)), minlength=available)
    expected = 2000 * wanted / available
    assert np.abs(counts - expected).max() < 5 * math.sqrt(expected)
