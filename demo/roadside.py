"""What stands beside a demo street: trees, bushes, lamps, signs, traffic lights.

Each function paints one thing with its feet on the ground at (x, z), in metres; see ``canvas.py``.
"""

import numpy as np

from demo.canvas import Canvas
from demo.things import ground_shadow, pick


def tree(c: Canvas, rng, x, z, *, height: float | None = None):
    """A broad-leaved tree; its crown is a heap of leaves, brighter towards the light."""
    height = height or rng.uniform(5, 9.5)
    leaf = pick(
        rng, ((72, 108, 48), (58, 92, 46), (96, 124, 58), (110, 118, 50), (146, 118, 48)), 8
    )
    ground_shadow(c, x, z, height * 0.3, 0.9)
    c.limb((x, 0, z), (x, height * 0.6, z), 0.13 + 0.018 * height, (76, 62, 50), 'vegetation')
    many = int(np.clip(16 * height * c.focal / c.width / z * 11, 16, 300))
    spread = rng.standard_normal((many, 3))
    spread *= rng.uniform(0.25, 1, (many, 1)) ** 0.5 / np.linalg.norm(spread, axis=1, keepdims=True)
    spread = spread[
        np.argsort(spread[:, 1] - 0.3 * rng.random(many))
    ]  # the lower, darker leaves first
    centres = (x, height * 0.68, z) + spread * (height * 0.27, height * 0.32, 0)
    lit = 1 + 0.30 * spread[:, 1] + 0.16 * c.sun * spread[:, 0] + rng.normal(0, 0.16, many)
    size = height * rng.uniform(0.3, 1.1, many) / (5.5 + 0.6 * many**0.5)
    c.blobs(centres, size, leaf * lit.clip(0.4, 1.5)[:, None], 'vegetation', z)


def bush(c: Canvas, rng, x, z, *, width: float = 1.6):
    """A low bush or a piece of hedge."""
    leaf = pick(rng, ((64, 98, 46), (84, 112, 54), (54, 82, 48)), 8)
    spread = rng.uniform(-1, 1, (26, 3)) * (width / 2, 0.35, 0) + (x, 0.5, z)
    spread = spread[np.argsort(spread[:, 1])]
    c.blobs(
        spread, rng.uniform(0.16, 0.34, 26), leaf * rng.uniform(0.7, 1.25, (26, 1)), 'vegetation', z
    )


def lamp(c: Canvas, rng, x, z):
    """A street lamp whose arm reaches over the road."""
    height, reach = rng.uniform(5.5, 7.5), -np.sign(x) * rng.uniform(0.9, 1.8)
    grey = pick(rng, ((94, 98, 100), (66, 74, 70), (128, 130, 128)), 6)
    c.limb((x, 0, z), (x, height, z), 0.15, grey, 'pole')
    c.limb((x, 0, z), (x, 0.9, z), 0.24, grey * 0.85, 'pole')
    c.limb((x, height, z), (x + reach, height + 0.3, z), 0.1, grey, 'pole')
    c.limb(
        (x + reach * 0.9, height + 0.26, z),
        (x + reach * 1.3, height + 0.3, z),
        0.2,
        grey * 0.8,
        'pole',
    )
    if c.light.night:
        c.limb(
            (x + reach * 0.95, height + 0.2, z),
            (x + reach * 1.25, height + 0.24, z),
            0.14,
            (255, 226, 150),
            glow=True,
        )


def sign(c: Canvas, rng, x, z):
    """A traffic sign on its pole: warning, order, parking, or a direction board."""
    c.limb((x, 0, z), (x, 2.7, z), 0.08, (140, 142, 144), 'pole')
    shape, z = rng.integers(4), z - 0.02
    if shape == 0:
        c.polygon(
            [(x - 0.42, 2.25, z), (x + 0.42, 2.25, z), (x, 2.98, z)], (200, 30, 32), 'traffic sign'
        )
        c.polygon([(x - 0.26, 2.34, z), (x + 0.26, 2.34, z), (x, 2.8, z)], (240, 238, 230))
    elif shape == 1:
        c.disc(x, 2.55, z, 0.36, (200, 30, 32), 'traffic sign')
        c.disc(x, 2.55, z, 0.25, (242, 240, 234))
        c.front(x - 0.12, x + 0.12, 2.5, 2.6, z, (30, 30, 32))
    elif shape == 2:
        c.front(x - 0.33, x + 0.33, 2.2, 2.86, z, (30, 82, 164), 'traffic sign')
        c.front(x - 0.1, x - 0.02, 2.3, 2.76, z, (240, 240, 240))
        c.disc(x + 0.03, 2.62, z, 0.13, (240, 240, 240))
    else:
        c.front(
            x - 0.75,
            x + 0.75,
            2.3,
            2.85,
            z,
            (236, 190, 44) if rng.random() < 0.5 else (34, 96, 68),
            'traffic sign',
        )
        for y in (2.42, 2.62):
            c.front(x - 0.6, x + 0.35, y, y + 0.08, z, (34, 34, 34))


def traffic_light(c: Canvas, rng, x, z):
    """A traffic light on its pole."""
    c.limb((x, 0, z), (x, 3.3, z), 0.12, (88, 92, 90), 'pole')
    c.front(x - 0.22, x + 0.22, 2.45, 3.5, z - 0.02, (28, 30, 30), 'traffic light')
    on = rng.integers(3)
    for i, colour in enumerate(((240, 50, 40), (250, 186, 50), (60, 226, 120))):
        c.disc(
            x, 3.32 - 0.34 * i, z - 0.03, 0.13, colour if i == on else (58, 58, 56), glow=i == on
        )
