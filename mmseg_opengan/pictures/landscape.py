"""A score as a landscape: scattered points on a plane, smoothed to a picture (paper Figure 3 e)."""

import numpy as np
from scipy.ndimage import gaussian_filter


def limits(points: np.ndarray) -> tuple[float, float, float, float]:
    """(left, right, bottom, top) of all but the .2 % of points (n, 2) furthest out at each side,
    with a margin of 6 %.
    """
    low, high = np.quantile(points, (0.002, 0.998), axis=0)
    room = np.maximum((high - low) * 0.06, 1e-6)
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
        gaussian_filter(
            np.histogram2d(points[:, 1], points[:, 0], edges, weights=weights)[0],
            sigma * size,
            mode='constant',
        )
        for weights in (np.ones(len(points)), np.asarray(scores, np.float64))
    )
    near = mass > 1e-12
    average = np.divide(total, mass, out=np.full_like(total, np.nan), where=near)
    return average, mass / max(mass.max(), 1e-300)
