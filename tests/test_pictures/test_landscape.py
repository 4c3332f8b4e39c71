"""The smoothed landscape against the weighted average written out cell by cell."""

import math

import numpy as np
import pytest

from mmseg_opengan.pictures.landscape import limits, smooth_landscape

UNIT = (0.0, 1.0, 0.0, 1.0)


def slow_landscape(points, scores, size, sigma):
    """Average and weight at the centres of the cells, for points that lie at such centres, up to 4
    sigma away.
    """
    average, weight = np.full((size, size), np.nan), np.zeros((size, size))
    reach = math.ceil(4 * sigma * size)
    for row in range(size):
        for col in range(size):
            total = 0.0
            for (x, y), score in zip(points, scores):
                down, across = y * size - 0.5 - row, x * size - 0.5 - col
                if max(abs(down), abs(across)) <= reach + 1e-9:
                    w = math.exp(-0.5 * (down**2 + across**2) / (sigma * size) ** 2)
                    weight[row, col] += w
                    total += w * score
            if weight[row, col]:
                average[row, col] = total / weight[row, col]
    return average, weight


def test_agrees_with_a_weighted_average_cell_by_cell():
    random = np.random.default_rng(0)
    size, sigma = 24, 0.06
    points = (random.integers(0, size, (30, 2)) + 0.5) / size
    scores = random.random(30)
    average, mass = smooth_landscape(points, scores, UNIT, size=size, sigma=sigma)
    expected, weight = slow_landscape(points, scores, size, sigma)
    near = weight > 1e-6
    assert average[near] == pytest.approx(expected[near])
    assert mass == pytest.approx(weight / weight.max(), abs=1e-9)


def test_rows_run_upwards_and_columns_to_the_right():
    average, mass = smooth_landscape(
        np.array([[0.1, 0.9], [0.9, 0.1]]), np.array([0.0, 1.0]), UNIT, size=10, sigma=0.05
    )
    assert average[9, 1] == pytest.approx(0)
    assert average[1, 9] == pytest.approx(1)
    assert mass[0, 0] < 0.01


def test_nothing_is_said_far_from_all_points_and_points_outside_do_not_count():
    average, mass = smooth_landscape(
        np.array([[0.1, 0.1], [5.0, 5.0]]), np.array([0.3, 1.0]), UNIT, size=50, sigma=0.02
    )
    assert np.isnan(average[40, 40])
    assert np.nanmax(average) == pytest.approx(0.3)
    assert mass.max() == 1


def test_no_point_inside_gives_an_empty_landscape():
    average, mass = smooth_landscape(np.array([[5.0, 5.0]]), np.array([1.0]), UNIT, size=10)
    assert np.isnan(average).all()
    assert not mass.any()


def test_limits_leave_far_points_out():
    points = np.random.default_rng(0).random((10000, 2))
    points[0] = 1000, -1000
    left, right, bottom, top = limits(points)
    assert -0.1 < left < 0 < 1 < right < 1.1
    assert -0.1 < bottom < 0 < 1 < top < 1.1


def test_limits_of_a_single_place_are_not_empty():
    left, right, bottom, top = limits(np.ones((3, 2)))
    assert left < right
    assert bottom < top
