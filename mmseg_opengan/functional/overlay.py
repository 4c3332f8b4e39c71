"""Drawing as arrays in, arrays out: label maps, score maps and thresholded open-pixel maps as RGB
pictures.

Shapes: H, W a map's size; every picture is (H, W, 3) uint8 RGB. Text lives in
``pictures/panel.py``.
"""

import math
from collections.abc import Sequence

import numpy as np

from ..contracts import CLOSED, IGNORE, VOID

OPEN_COLOUR = (255, 255, 255)
VOID_COLOUR = (0, 0, 0)

# Stops of the score map in OKLab: lightness rises evenly from dark (closed) to bright (open), hue
# from blue to yellow.
_STOPS = np.array(
    [
        (0.16, 0.01, -0.06),
        (0.32, 0.07, -0.13),
        (0.48, 0.15, -0.05),
        (0.64, 0.15, 0.09),
        (0.80, 0.05, 0.15),
        (0.96, -0.03, 0.13),
    ]
)


def _oklab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """(n, 3) OKLab to uint8 sRGB (Ottosson, 'A perceptual color space for image processing',
    2020).
    """
    cone = (
        lab
        @ np.array(
            [
                [1, 1, 1],
                [0.3963377774, -0.1055613458, -0.0894841775],
                [0.2158037573, -0.0638541728, -1.2914855480],
            ]
        )
    ) ** 3
    linear = (
        cone
        @ np.array(
            [
                [4.0767416621, -1.2684380046, -0.0041960863],
                [-3.3077115913, 2.6097574011, -0.7034186147],
                [0.2309699292, -0.3413193965, 1.7076147010],
            ]
        )
    ).clip(0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (255 * srgb).round().astype(np.uint8)


_AT = np.linspace(0, len(_STOPS) - 1, 256)
#: (256, 3) uint8 RGB; row 0 = least open, row 255 = most open.
SCORE_COLOURS = _oklab_to_rgb(
    np.stack([np.interp(_AT, np.arange(len(_STOPS)), stop) for stop in _STOPS.T], axis=1)
)
_NO_SCORE = (128, 128, 128)


def colorize(label_map: np.ndarray, palette: Sequence) -> np.ndarray:
    """Class colours of a label map; ``IGNORE`` is black where it is no class.

    Args:
        label_map: (H, W) integer class ids 0 .. K-1, or IGNORE.
        palette: K colours, RGB in 0 .. 255.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: not two-dimensional, or an id that the palette does not have.
    """
    label_map, colours = np.asarray(label_map), np.asarray(palette, np.uint8).reshape(-1, 3)
    if label_map.ndim != 2:
        raise ValueError(f'label_map must have shape (H, W), but got {label_map.shape}.')
    table = np.full((max(256, len(colours)), 3), VOID_COLOUR, np.uint8)
    table[: len(colours)] = colours
    strange = np.setdiff1d(label_map, [*range(len(colours)), IGNORE])
    if strange.size:
        raise ValueError(
            f'label_map must hold 0 .. {len(colours) - 1} (one per colour of the palette) or '
            f'{IGNORE}, '
            f'but got {strange.tolist()}.'
        )
    return table[label_map.astype(np.int64)]


def open_pixels_white(picture: np.ndarray, open_map: np.ndarray) -> np.ndarray:
    """A copy of a coloured label map with the open pixels white and the void pixels black.

    Args:
        picture: (H, W, 3) uint8.
        open_map: (H, W), values of ``contracts.py``: 0 closed, 255 void, anything between open.
    """
    picture, open_map = np.asarray(picture), np.asarray(open_map)
    if picture.shape[:2] != open_map.shape:
        raise ValueError(
            f'open_map must have the size {picture.shape[:2]} of the picture, but got '
            f'{open_map.shape}.'
        )
    drawn = picture.copy()
    drawn[(open_map != CLOSED) & (open_map != VOID)] = OPEN_COLOUR
    drawn[open_map == VOID] = VOID_COLOUR
    return drawn


def robust_range(score: np.ndarray, tail: float = 0.01) -> tuple[float, float]:
    """(lo, hi) between which all but a share ``tail`` of the finite scores at each end lie; (0, 1)
    if none is.
    """
    score = np.asarray(score, np.float64)
    finite = score[np.isfinite(score)]
    if not finite.size:
        return 0.0, 1.0
    lo, hi = np.quantile(finite, (tail, 1 - tail))
    return float(lo), float(hi)


def score_to_color(score: np.ndarray, lo: float, hi: float) -> np.ndarray:
    """Scores as colours whose lightness rises with the score: dark blue at ``lo`` and below, yellow
    at ``hi``.

    Args:
        score: (H, W); larger = more open. NaN is grey.
        lo: Score of the darkest colour.
        hi: Score of the brightest; equal to ``lo``, everything above it is brightest.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: ``lo`` > ``hi``, or one of them is not finite.
    """
    if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
        raise ValueError(f'lo and hi must be finite with lo <= hi, but got {lo} and {hi}.')
    score = np.asarray(score, np.float64)
    place = (score - lo) / (hi - lo) if hi > lo else np.where(np.isnan(score), np.nan, score > lo)
    colours = SCORE_COLOURS[
        (255 * np.nan_to_num(place, nan=0.0).clip(0, 1)).round().astype(np.int64)
    ]
    colours[np.isnan(place)] = _NO_SCORE
    return colours


class LogitThreshold(float):
    """A threshold on open logits themselves, where others are probabilities; any number, also one
    that is infinite.
    """


def threshold_map(open_logit: np.ndarray, threshold: float) -> np.ndarray:
    """Where sigmoid(open logit) > threshold, decided on the logit side, where large logits do not
    saturate.

    Args:
        open_logit: Raw open logits, any shape; larger = more open.
        threshold: A probability in (0, 1); the paper's figures use .6, .7, .8 and .9. Or a
            :class:`LogitThreshold` t: where open logit >= t, what an evaluation at t calls open.

    Returns:
        Booleans of the same shape. NaN is False.

    Example:
        >>> threshold_map(np.array([0., .4, 50.]), .6).tolist()
        [False, False, True]
    """
    if isinstance(threshold, LogitThreshold):
        return np.asarray(open_logit, np.float32) >= np.float32(threshold)
    if not 0 < threshold < 1:
        raise ValueError(f'threshold must lie strictly between 0 and 1, but got {threshold}.')
    return np.asarray(open_logit, np.float64) > math.log(threshold / (1 - threshold))


def stack_panels(
    grid: Sequence[Sequence[np.ndarray]], gap: int = 8, background: Sequence[int] = (255, 255, 255)
) -> np.ndarray:
    """Rows of pictures as one picture, ``gap`` pixels between neighbours; short rows are filled at
    their right.

    Args:
        grid: Rows of (h, w, 3) uint8 pictures; a row is as tall as its tallest picture.
        gap: Pixels between rows and between the pictures of a row.
        background: RGB of what no picture covers.

    Raises:
        ValueError: no picture, or one that is not (h, w, 3).
    """
    rows = [list(row) for row in grid if len(row)]
    if not rows:
        raise ValueError('grid must hold at least one picture, but got none.')
    for picture in (picture for row in rows for picture in row):
        if picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f'every picture must have shape (h, w, 3), but got {picture.shape}.')
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    width = max(sum(picture.shape[1] for picture in row) + gap * (len(row) - 1) for row in rows)
    sheet = np.empty((sum(heights) + gap * (len(rows) - 1), width, 3), np.uint8)
    sheet[:] = background
    y = 0
    for row, height in zip(rows, heights):
        x = 0
        for picture in row:
            sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
            x += picture.shape[1] + gap
        y += height + gap
    return sheet
