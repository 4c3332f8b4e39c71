"""Pictures of single results: a score over its image, and many of them on one sheet.

Every picture is (H, W, 3) uint8 RGB.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..pictures.overlay import score_to_color, stack_panels
from ..pictures.panel import warn_of_missing_letters, write_text

#: How much of a picture the colour of the most open score takes.
_STRENGTH = 0.75
_OUTLINE = (255, 255, 255)
#: Height of the line under a tile.
_LINE = 18


def overlay(
    image: np.ndarray, score: np.ndarray, lo: float, hi: float, threshold: float | None = None
) -> np.ndarray:
    """An image with its score on top: the more open, the more of the score's colour.

    Args:
        image: (H, W, 3) uint8 RGB.
        score: (H, W); larger = more open.
        lo, hi: scores of the darkest and of the brightest colour.
        threshold: regions at and above it are outlined in white.
    """
    place = (score.astype(np.float64) - lo) / (hi - lo) if hi > lo else score > lo
    share = _STRENGTH * np.clip(place, 0, 1)[..., None]
    grey = image.mean(axis=2, keepdims=True)
    drawn = (1 - share) * grey + share * score_to_color(score, lo, hi)
    drawn = drawn.round().astype(np.uint8)
    if threshold is not None:
        mask = (score >= np.float32(threshold)).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        thickness = max(1, round(image.shape[0] / 360))
        cv2.drawContours(drawn, contours, -1, _OUTLINE, thickness)
    return drawn


def contact_sheet(
    tiles: Sequence[tuple[str, np.ndarray]],
    *,
    columns: int = 4,
    width: int = 300,
    font: str | Path | None = None,
) -> np.ndarray:
    """Pictures with a line of text below each, ``columns`` in a row; ``font`` is a font file."""
    warn_of_missing_letters(font, ''.join(text for text, _ in tiles))
    drawn = []
    for text, picture in tiles:
        height = max(1, round(width * picture.shape[0] / picture.shape[1]))
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        line = np.full((_LINE, width, 3), 255, np.uint8)
        drawn.append(np.vstack([small, write_text(line, [(2, 1, text)], 12, font)]))
    rows = [drawn[i : i + columns] for i in range(0, len(drawn), columns)]
    return stack_panels(rows, gap=6)
