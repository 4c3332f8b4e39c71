"""Which closed pixels of an image are stored."""

import numpy as np
import pytest

from mmseg_opengan.contracts import CLOSED, FIRST_OPEN, VOID
from mmseg_opengan.features.pixel_choice import PixelChoice

BALANCED = PixelChoice(60, 'balanced')


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


@pytest.mark.parametrize(
    ('counts', 'wanted'),
    [
        ({0: 200, 3: 100, 5: 150}, {0: 20, 3: 20, 5: 20}),
        ({0: 200, 3: 4, 5: 150}, {0: 28, 3: 4, 5: 28}),
        ({0: 200, 3: 4, 5: 10}, {0: 46, 3: 4, 5: 10}),
        ({4: 300}, {4: 60}),
        ({0: 30, 3: 4}, {0: 30, 3: 4}),
    ],
)  # fewer than asked: all of them
def test_balanced_choice_gives_every_class_as_many(counts, wanted):
    open_map, classes = maps(counts)
    where = BALANCED.pixels(open_map, classes, 'closed', 'image')
    assert {label: int((where[:, 2] == label).sum()) for label in counts} == wanted
    assert len({tuple(p) for p in where[:, :2].tolist()}) == len(where)
    assert (classes[where[:, 0], where[:, 1]] == where[:, 2]).all()
    assert (np.diff(where[:, 0] * 30 + where[:, 1]) > 0).all()  # raster order


def test_what_does_not_divide_is_filled_up():
    where = PixelChoice(10, 'balanced').pixels(*maps({0: 100, 1: 100, 2: 100}), 'closed', 'image')
    assert len(where) == 10
    assert np.bincount(where[:, 2]).min() == 3


def test_balanced_choice_within_a_class_is_spread_evenly():
    open_map, classes = maps({0: 12, 1: 200})
    picks = np.zeros((20, 30))
    for i in range(400):
        where = PixelChoice(12, 'balanced').pixels(open_map, classes, 'closed', f'image {i}')
        picks[where[:, 0], where[:, 1]] += 1
    of_small = picks[classes == 0]  # 6 of 12 each time: 200, standard deviation 10
    assert of_small.sum() == 400 * 6
    assert 150 < of_small.min() < of_small.max() < 250


@pytest.mark.parametrize('how', ['uniform', 'balanced'])
def test_choice_depends_on_seed_and_name_only(how):
    made = maps({0: 200, 1: 100})
    first = PixelChoice(50, how).pixels(*made, 'closed', 'a')
    assert np.array_equal(first, PixelChoice(50, how).pixels(*made, 'closed', 'a'))
    assert not np.array_equal(first, PixelChoice(50, how).pixels(*made, 'closed', 'b'))
    assert not np.array_equal(first, PixelChoice(50, how, seed=1).pixels(*made, 'closed', 'a'))


@pytest.mark.parametrize(
    'choice', [PixelChoice(60), BALANCED, PixelChoice(None), PixelChoice(10_000, 'balanced')]
)
@pytest.mark.parametrize('group', ['closed', 'open'])
def test_count_is_what_is_chosen(choice, group):
    for counts in ({0: 200, 3: 4}, {0: 20}, {}):
        made = maps(counts)
        assert choice.count(made[0], group) == len(choice.pixels(*made, group, 'image'))


def test_all_open_pixels_are_taken():
    where = PixelChoice(3, 'balanced').pixels(*maps({0: 50}), 'open', 'image')
    assert where[:, 2].tolist() == [2] * 7


def test_unknown_choice_is_named():
    with pytest.raises(
        ValueError,
        match=r"closed_choice: wanted one of \('uniform', 'balanced'\), found 'reservoir'",
    ):
        PixelChoice(5, 'reservoir')
