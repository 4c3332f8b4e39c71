"""Which closed pixels of an image are stored."""

import itertools

import numpy as np
import pytest

from mmseg_opengan.contracts import CLOSED, FIRST_OPEN, VOID
from mmseg_opengan.features.pixel_choice import PixelChoice


def maps(counts: dict, size=(20, 30), num_open=7):
    """An open map and a class map with so many closed pixels of each class, some open ones, and
    void elsewhere.
    """
    open_map, classes = (
        np.full(size, VOID, np.uint8).flatten(),
        np.full(size, 255, np.uint8).flatten(),
    )
    places = iter(np.random.default_rng(0).permutation(open_map.size))
    for label, count in counts.items():
        for _, place in zip(range(count), places):
            open_map[place], classes[place] = CLOSED, label
    for _, place in zip(range(num_open), places):
        open_map[place] = FIRST_OPEN + 2
    return open_map.reshape(size), classes.reshape(size)


def test_uniform_choice_is_spread_evenly():
    closed = np.full((10, 10), CLOSED)
    closed[0] = VOID
    picks = np.zeros((10, 10))
    for i in range(500):
        where = PixelChoice(9).pixels(closed, closed, 'closed', f'image {i}')
        assert len({tuple(p) for p in where.tolist()}) == 9
        picks[where[:, 0], where[:, 1]] += 1
    assert picks[0].sum() == 0
    assert (
        20 < picks[1:].min() < 50 < picks[1:].max() < 80
    )  # 500 * 9 / 90 = 50, standard deviation 6.7


def test_choice_depends_on_seed_and_name_only():
    made = maps({0: 200, 1: 100})
    first = PixelChoice(50).pixels(*made, 'closed', 'a')
    assert np.array_equal(first, PixelChoice(50).pixels(*made, 'closed', 'a'))
    assert not np.array_equal(first, PixelChoice(50).pixels(*made, 'closed', 'b'))
    assert not np.array_equal(first, PixelChoice(50, seed=1).pixels(*made, 'closed', 'a'))
    assert (np.diff(first[:, 0] * 30 + first[:, 1]) > 0).all()  # raster order
    assert (made[1][first[:, 0], first[:, 1]] == first[:, 2]).all()


@pytest.mark.parametrize('choice', [PixelChoice(60), PixelChoice(None)])
def test_count_is_what_is_chosen(choice):
    for counts, group in itertools.product(({0: 200, 3: 4}, {0: 20}, {}), ('closed', 'open')):
        made = maps(counts)
        assert choice.count(made[0], group) == len(choice.pixels(*made, group, 'image'))


def test_all_open_pixels_are_taken():
    where = PixelChoice(3).pixels(*maps({0: 50}), 'open', 'image')
    assert where[:, 2].tolist() == [2] * 7


@pytest.mark.parametrize(
    ('options', 'name'),
    [
        (dict(limit=0), 'closed_per_image'),
        (dict(seed=-1), 'bank_seed'),
    ],
)
def test_wrong_options(options, name):
    with pytest.raises(ValueError, match=rf'{name}: wanted'):
        PixelChoice(**options)
