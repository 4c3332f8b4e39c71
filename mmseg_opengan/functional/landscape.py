"""A score as a landscape: scattered points on a plane, smoothed to a picture (paper Figure 3 e)."""

import numpy as np


def limits(
    points: np.ndarray, *, tail: float = 0.002, margin: float = 0.06
) -> tuple[float, float, float, float]:
    """(left, right, bottom, top) of all but a few far points, with a margin.

    Args:
        points: (n, 2).
        tail: share of the points left out at each side.
        margin: of the width and of the height, added at each side.
    """
    low, high = np.quantile(points, (tail, 1 - tail), axis=0)
    room = np.maximum((high - low) * margin, 1e-6)
    (left, bottom), (right, top) = low - room, high + room
    return float(left), float(right), float(bottom), float(top)


def smooth_landscape(
    points: np.ndarray, scores: np.ndarray, extent: tuple, *, size: int = 200, sigma: float = 0.02
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of scattered points averaged with Gaussian weights (Nadaraya-Watson), on a grid.

    Args:
        points: (n, 2); those outside ``extent`` are left out.
        scores: (n,).
        extent: (left, right, bottom, top) that the grid covers.
        size: cells along each axis.
        sigma: standard deviation of the Gaussian, as a share of the extent.

    Returns:
        tuple: (size, size) average score, row 0 at the bottom, nan where no point is near; and
            (size, size) mass, how
        many points a cell has around it, as a share of the largest mass.
    """
    left, right, bottom, top = extent
    edges = np.linspace(bottom, top, size + 1), np.linspace(left, right, size + 1)
    mass, total = (
        _blur(np.histogram2d(points[:, 1], points[:, 0], edges, weights=weights)[0], sigma * size)
        for weights in (np.ones(len(points)), np.asarray(scores, np.float64))
    )
    near = mass > 1e-12
    average = np.divide(total, mass, out=np.full_like(total, np.nan), where=near)
    return average, mass / max(mass.max(), 1e-300)


def _blur(grid: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian filter, one axis after the other; nothing lies beyond the edges."""
    reach = max(1, int(np.ceil(4 * sigma)))
    at = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (at / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        grid = np.apply_along_axis(lambda line: np.convolve(line, kernel)[reach:-reach], axis, grid)
    return grid
