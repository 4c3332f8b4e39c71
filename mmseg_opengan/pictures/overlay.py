"""Drawing as arrays in, arrays out: label maps, score maps and thresholded open-pixel maps as RGB
pictures.

Shapes: H, W a map's size; every picture is (H, W, 3) uint8 RGB. Text lives in
``pictures/panel.py``.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps

from ..contracts import CLOSED, IGNORE, VOID

OPEN_COLOUR = (255, 255, 255)
VOID_COLOUR = (0, 0, 0)

#: (256, 3) uint8 RGB, of evenly rising lightness; row 0 = least open, row 255 = most open.
SCORE_COLOURS = np.round(255 * np.array(colormaps['inferno'].colors)).astype(np.uint8)
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
    if label_map.ndim != 2:
        raise ValueError(f'label_map must have shape (H, W), but got {label_map.shape}.')
    strange = np.setdiff1d(label_map, [*range(len(palette)), IGNORE])
    if strange.size:
        raise ValueError(
            f'label_map must hold 0 .. {len(palette) - 1} (one per colour of the palette) or '
            f'{IGNORE}, but got {strange.tolist()}.'
        )
    table = np.full((max(256, len(palette)), 3), VOID_COLOUR, np.uint8)
    if len(palette):
        table[: len(palette)] = palette
    return table[label_map]


def open_pixels_white(picture: np.ndarray, open_map: np.ndarray) -> np.ndarray:
    """A copy of a coloured label map with the open pixels white and the void pixels black.

    Args:
        picture: (H, W, 3) uint8.
        open_map: (H, W), values of ``contracts.py``: 0 closed, 255 void, anything between open.
    """
    drawn = picture.copy()
    drawn[(open_map != CLOSED) & (open_map != VOID)] = OPEN_COLOUR
    drawn[open_map == VOID] = VOID_COLOUR
    return drawn


def robust_range(score: np.ndarray) -> tuple[float, float]:
    """(lo, hi), all but 1 % of the finite scores at each end lie between; (0, 1) if none is."""
    score = np.asarray(score, np.float64)
    finite = score[np.isfinite(score)]
    if not finite.size:
        return 0.0, 1.0
    lo, hi = np.quantile(finite, (0.01, 0.99))
    return float(lo), float(hi)


def score_to_color(score: np.ndarray, lo: float, hi: float) -> np.ndarray:
    """Scores as colours whose lightness rises with the score: black at ``lo`` and below, pale
    yellow at ``hi``.

    Args:
        score: (H, W); larger = more open. NaN is grey.
        lo: Finite score of the darkest colour.
        hi: Finite score of the brightest; equal to ``lo``, everything above it is brightest.

    Returns:
        (H, W, 3) uint8.
    """
    score = np.asarray(score, np.float64)
    place = (score - lo) / (hi - lo) if hi > lo else np.where(np.isnan(score), np.nan, score > lo)
    shades = np.round(255 * np.nan_to_num(place).clip(0, 1)).astype(np.uint8)
    colours = SCORE_COLOURS[shades]
    colours[np.isnan(place)] = _NO_SCORE
    return colours


class LogitThreshold(float):
    """A threshold on open logits themselves, where others are probabilities; any number, also one
    that is infinite.

    Attributes:
        probability: the calibrated p(open) that it stands for; None where it was no probability.
    """

    def __new__(cls, value: float, probability: float | None = None):
        made = super().__new__(cls, value)
        made.probability = probability
        return made


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
        ValueError: no picture.
    """
    rows = [row for row in grid if len(row)]
    if not rows:
        raise ValueError('grid must hold at least one picture, but got none.')
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
