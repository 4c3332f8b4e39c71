"""Connected regions of a score map at and above a threshold, as what a labelling tool takes."""

from typing import NamedTuple

import cv2
import numpy as np


class OpenObject(NamedTuple):
    """One 8-connected region of pixels that are called open, in pixels of the image.

    Attributes:
        box: (left, top, width, height).
        polygon: (n, 2) int corners (x, y) of its outline, exact; holes are filled.
        area: number of its pixels.
        mean_score, max_score: of its pixels.
        class_name: the closed class that most of its pixels are predicted to be.
    """

    box: tuple[int, int, int, int]
    polygon: np.ndarray
    area: int
    mean_score: float
    max_score: float
    class_name: str


def find_objects(
    score: np.ndarray, threshold: float, labels: np.ndarray, classes, *, min_area: int = 1
) -> list[OpenObject]:
    """The regions with ``score >= threshold``, the largest score first.

    Args:
        score: (H, W); larger = more open.
        threshold: in the units of the score.
        labels: (H, W) predicted closed class ids.
        classes: names of the closed classes.
        min_area: smaller regions are left out.
    """
    mask = (score >= np.float32(threshold)).astype(np.uint8)
    number, regions, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    found = []
    for region in range(1, number):
        left, top, width, height, area = stats[region].tolist()
        if area < min_area:
            continue
        window = np.s_[top : top + height, left : left + width]
        inside = regions[window] == region
        values = score[window][inside]
        below = int(np.bincount(labels[window][inside]).argmax())
        found.append(
            OpenObject(
                box=(left, top, width, height),
                polygon=outline(inside) + np.array([left, top]),
                area=area,
                mean_score=float(values.mean(dtype=np.float64)),
                max_score=float(values.max()),
                class_name=classes[below],
            )
        )
    return sorted(found, key=lambda one: -one.max_score)


def outline(mask: np.ndarray) -> np.ndarray:
    """(n, 2) int corners (x, y) of the outer border of the one region in a mask (H, W).

    OpenCV's contours run through pixel centres. Those of the mask at twice its size, rounded to
    the pixels' corners, run along the border.
    """
    twice = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(twice, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    corners = (contours[0][:, 0] + 1) // 2
    before = np.roll(corners, 1, axis=0)
    corners = corners[(corners != before).any(axis=1)]
    step_in = corners - np.roll(corners, 1, axis=0)
    step_out = np.roll(corners, -1, axis=0) - corners
    turns = step_in[:, 0] * step_out[:, 1] != step_in[:, 1] * step_out[:, 0]
    back = (step_in * step_out).sum(axis=1) < 0
    return corners[turns | back]
