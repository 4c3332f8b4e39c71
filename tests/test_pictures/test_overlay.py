import math

import numpy as np
import pytest

from mmseg_opengan.contracts import IGNORE, VOID
from mmseg_opengan.pictures.overlay import (
    SCORE_COLOURS,
    LogitThreshold,
    colorize,
    open_pixels_white,
    robust_range,
    score_to_color,
    stack_panels,
    threshold_map,
)

PALETTE = [(10, 20, 30), (40, 50, 60), (70, 80, 90)]


def _luminance(rgb):
    linear = np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def test_colorize_against_a_loop():
    labels = np.random.default_rng(0).choice([0, 1, 2, IGNORE], (7, 5)).astype(np.uint8)
    colours = colorize(labels, PALETTE)
    assert colours.dtype == np.uint8
    for y in range(7):
        for x in range(5):
            assert tuple(colours[y, x]) == (
                (0, 0, 0) if labels[y, x] == IGNORE else PALETTE[labels[y, x]]
            )


@pytest.mark.parametrize('strange', [3, -1])
def test_colorize_refuses_ids_without_colour(strange):
    with pytest.raises(ValueError, match=str(strange)):
        colorize(np.array([[0, strange]]), PALETTE)


def test_colorize_refuses_batches():
    with pytest.raises(ValueError, match='shape'):
        colorize(np.zeros((1, 4, 4), np.uint8), PALETTE)


def test_open_white_void_black_closed_untouched():
    picture = np.full((1, 4, 3), 77, np.uint8)
    drawn = open_pixels_white(picture, np.array([[0, 1, 9, VOID]]))
    assert drawn[0, :, 0].tolist() == [77, 255, 255, 0]
    assert (picture == 77).all()  # a copy


def test_score_colours_are_ordered_and_all_different():
    luminance = _luminance(SCORE_COLOURS.astype(float))
    assert (np.diff(luminance) > -2e-3).all()
    assert luminance[0] < 0.02
    assert luminance[-1] > 0.8
    assert (np.diff(luminance[::4]) > 0).all()
    assert len({tuple(colour) for colour in SCORE_COLOURS}) == 256


def test_score_to_color_clips_and_marks_nan():
    colours = score_to_color(np.array([[-9.0, 0, 1, 2, 3, np.inf, -np.inf, np.nan]]), 0, 2)[
        0
    ].tolist()
    low, high = SCORE_COLOURS[0].tolist(), SCORE_COLOURS[-1].tolist()
    assert colours == [
        low,
        low,
        SCORE_COLOURS[128].tolist(),
        high,
        high,
        high,
        low,
        [128, 128, 128],
    ]


def test_score_to_color_of_a_constant_score():
    assert (score_to_color(np.full((2, 2), 3.0), 3, 3) == SCORE_COLOURS[0]).all()


def test_robust_range_ignores_tails_and_non_finite():
    score = np.append(np.arange(1001.0), [1e9, np.inf, -np.inf, np.nan])
    lo, hi = robust_range(score)
    assert lo == pytest.approx(10, abs=1)
    assert hi == pytest.approx(991, abs=1)
    assert robust_range(np.array([np.nan])) == (0, 1)


def test_threshold_against_the_sigmoid():
    logits = np.random.default_rng(0).normal(0, 3, 500)
    for t in (0.05, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99):
        assert (threshold_map(logits, t) == (1 / (1 + np.exp(-logits)) > t)).all()


def test_threshold_is_strict_and_does_not_saturate():
    edge = math.log(0.9 / 0.1)
    assert threshold_map(
        np.array([edge, np.nextafter(edge, 9), -1e30, 1e30, np.nan]), 0.9
    ).tolist() == [False, True, False, True, False]
    # sigmoid(40) rounds to 1 in float32, where a threshold just below 1 could not tell it from 20
    near_one = 1 - 1e-12
    assert threshold_map(np.array([20, 40], np.float32), near_one).tolist() == [False, True]


def test_threshold_of_half_floats_is_not_rounded():
    edge = math.log(0.6 / 0.4)
    rounded = np.float16(edge)  # .4055 rounds up: above the threshold, yet equal to it in float16
    assert float(rounded) > edge
    assert threshold_map(np.array([rounded]), 0.6).tolist() == [True]


@pytest.mark.parametrize('t', [-40.0, 0.7, math.inf])
def test_threshold_on_logits_is_that_of_an_evaluation(t):
    logits = np.array(
        [np.nextafter(np.float32(t), np.float32(-np.inf)), t, np.float32(t) + 1, -np.inf],
        np.float32,
    )
    assert threshold_map(logits, LogitThreshold(t)).tolist() == [False, True, True, False]


@pytest.mark.parametrize('t', [0, 1, math.nan])
def test_threshold_must_be_a_probability(t):
    with pytest.raises(ValueError, match='threshold'):
        threshold_map(np.zeros(3), t)


def test_stack_panels_places_every_pixel():
    one, two, three = (
        np.full((h, w, 3), v, np.uint8) for h, w, v in ((2, 3, 1), (4, 2, 2), (1, 9, 3))
    )
    sheet = stack_panels([[one, two], [], [three]], gap=2, background=(7, 8, 9))
    assert sheet.shape == (4 + 2 + 1, 9, 3)
    assert (sheet[:2, :3] == 1).all()
    assert (sheet[:4, 5:7] == 2).all()
    assert (sheet[6] == 3).all()
    assert (sheet[2:4, :3] == (7, 8, 9)).all()
    assert (sheet[4:6] == (7, 8, 9)).all()
    assert (sheet[:4, 3:5] == (7, 8, 9)).all()


def test_stack_panels_refuses_nothing():
    with pytest.raises(ValueError, match='at least one'):
        stack_panels([[], []])
