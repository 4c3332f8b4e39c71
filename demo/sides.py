"""What lines and closes a demo street: houses with shops, walls, fences, hedges, a guard rail, a
bridge, a tunnel.

A side ``s`` is -1 (left) or 1 (right) and stands at ``x`` metres from ``z0`` to ``z1``; see
``canvas.py``.
"""

import numpy as np

from demo import roadside, things
from demo.canvas import Canvas
from demo.things import pick

_PLASTER = (
    (214, 198, 168),
    (196, 170, 132),
    (178, 176, 170),
    (150, 86, 68),
    (226, 222, 212),
    (170, 184, 190),
    (204, 160, 120),
    (128, 116, 106),
    (188, 196, 168),
)
_SHOPS = ((172, 36, 40), (30, 80, 130), (34, 100, 70), (210, 160, 40), (50, 50, 54), (120, 50, 110))


def frontage(c: Canvas, rng, x0, x1, height, z):
    """A house across the end of the street."""
    colour = pick(rng, _PLASTER)
    c.front(x0, x1, 0, height, z, colour, 'building')
    starts = [
        (x, y) for x in np.arange(x0 + 1, x1 - 2, 2.6) for y in np.arange(1.2, height - 2, 3.1)
    ]
    c.polygons(
        [[(x, y, z), (x + 1.2, y, z), (x + 1.2, y + 1.7, z), (x, y + 1.7, z)] for x, y in starts],
        (70, 76, 86),
    )


def house(c: Canvas, rng, s, x, z0, z1):
    """A house: gable towards the camera, front with floors of windows, shop or door below, cornice
    above.
    """
    floors = int(rng.integers(2, 6))
    top = 3.6 + 3.1 * floors
    plaster = pick(rng, _PLASTER)
    lit = plaster * (1.06 if c.sun == -s else 0.78 if c.sun else 0.92)
    c.front(*sorted((x, x + s * 14)), 0, top, z0, plaster * 0.8, 'building')

    def panels(corners, colour, label=None, glow=False):
        """Rectangles (z, y, length, height) on the front."""
        c.polygons(
            [
                [(x, y, a), (x, y, a + w), (x, y + h, a + w), (x, y + h, a)]
                for a, y, w, h in corners
            ],
            colour,
            label,
            glow,
        )

    panels([(z0, 0, z1 - z0, top)], lit, 'building')
    panels([(z0, top - 0.45, z1 - z0, 0.45)], lit * 1.12, 'building')
    panels([(z0, 3.35, z1 - z0, 0.2)], lit * 0.84)
    count = max(int((z1 - z0 - 0.6) / rng.uniform(2.1, 2.9)), 1)
    step = (z1 - z0) / count
    wide, high = step * rng.uniform(0.38, 0.52), rng.uniform(1.5, 1.9)
    holes = [
        (z0 + step * (j + 0.5) - wide / 2, 4.2 + 3.1 * i, wide, high)
        for i in range(floors)
        for j in range(count)
    ]
    if z0 < 60:
        panels([(a - 0.12, y - 0.14, w + 0.24, h + 0.26) for a, y, w, h in holes], lit * 1.16 + 8)
    bright = rng.random(len(holes)) < (0.35 if c.light.night else 0)
    glass = pick(rng, ((58, 68, 80), (72, 84, 98), (48, 52, 58)), 6)
    panels([hole for hole, on in zip(holes, bright) if not on] or holes[:1], glass)
    if bright.any():
        panels([hole for hole, on in zip(holes, bright) if on], (246, 206, 122), glow=True)
    if z0 < 45:
        panels(
            [
                (a + w * 0.06, y + h * 0.52, w * 0.88, h * 0.4)
                for (a, y, w, h), on in zip(holes, bright)
                if not on
            ]
            or holes[:1],
            glass * 1.45,
        )
        panels([(a + w * 0.47, y, w * 0.06, h) for a, y, w, h in holes], lit * 1.1)
    if rng.random() < 0.55:
        _shop(c, rng, s, x, z0, z1, panels)
    else:
        panels([(a, 1.0, w, 1.6) for a, y, w, h in holes[:count]], glass)
        panels(
            [(z0 + (z1 - z0) * 0.45, 0, 1.3, 2.4)],
            pick(rng, ((84, 54, 38), (40, 60, 54), (60, 60, 66))),
        )


def _shop(c: Canvas, rng, s, x, z0, z1, panels):
    brand = pick(rng, _SHOPS)
    panels([(z0 + 0.3, 0.1, z1 - z0 - 0.6, 3.0)], brand * 0.45 + 20)
    count = max(int((z1 - z0) / 2.6), 1)
    step = (z1 - z0 - 0.8) / count
    for j in range(count):
        at = z0 + 0.4 + j * step
        panels(
            [(at + 0.08, 0.35, step - 0.16, 2.1)],
            (206, 178, 120) if c.light.night else (84, 92, 98),
            glow=c.light.night,
        )
        for k in range(3):
            panels(
                [(at + 0.2 + k * step * 0.28, 0.4, step * 0.2, rng.uniform(0.5, 1.3))],
                pick(rng, things.CLOTHES, 30),
            )
    panels([(z0 + 0.3, 2.6, z1 - z0 - 0.6, 0.62)], brand)
    panels(
        [(a, 2.76, 0.34, 0.3) for a in np.arange(z0 + 1, z0 + 1 + 0.5 * (z1 - z0), 0.55)],
        (240, 238, 230),
    )
    if rng.random() < 0.6:
        for i, at in enumerate(np.arange(z0 + 0.4, z1 - 0.6, 0.5)):
            c.polygon(
                [
                    (x, 2.6, at),
                    (x, 2.6, at + 0.5),
                    (x - s * 1.1, 2.15, at + 0.5),
                    (x - s * 1.1, 2.15, at),
                ],
                brand * 1.1 if i % 2 else (234, 230, 220),
                'building',
            )


def gap(c: Canvas, rng, s, x, z0, z1):
    """No house here: trees behind a wall, a fence or a hedge."""
    for at in np.arange(z1, z0 + 1, -4.0):
        roadside.tree(c, rng, x + s * rng.uniform(4, 9), at, height=rng.uniform(5, 9))
    kind = rng.choice(('wall', 'fence', 'hedge'))
    if kind == 'hedge':
        for at in np.arange(z1, z0, -1.0):
            roadside.bush(c, rng, x, at)
        return
    top = rng.uniform(1.5, 2.4)
    face = [(x, 0, z0), (x, 0, z1), (x, top, z1), (x, top, z0)]
    if kind == 'wall':
        stone = pick(rng, ((150, 140, 128), (142, 92, 74), (168, 166, 160)))
        c.front(*sorted((x, x + s * 0.4)), 0, top, z0, stone * 0.8, 'wall')
        c.polygon(face, stone, 'wall')
        for y in np.arange(0.3, top, 0.3):
            c.polygon([(x, y, z0), (x, y, z1), (x, y + 0.04, z1), (x, y + 0.04, z0)], stone * 0.82)
        c.polygon(
            [(x, top - 0.12, z0), (x, top - 0.12, z1), (x, top, z1), (x, top, z0)], stone * 1.12
        )
    else:
        metal = pick(rng, ((70, 84, 74), (52, 54, 58), (150, 122, 90)), 8)
        c.polygon(face, pick(rng, ((88, 104, 66), (104, 104, 90)), 6), 'fence')
        bars = np.arange(z0, z1, 0.28)
        c.polygons(
            [[(x, 0, z), (x, 0, z + 0.1), (x, top, z + 0.1), (x, top, z)] for z in bars], metal
        )
        for y in (0.25, top - 0.15):
            c.polygon([(x, y, z0), (x, y, z1), (x, y + 0.09, z1), (x, y + 0.09, z0)], metal * 0.9)


def guard_rail(c: Canvas, rng, s, x, z0, z1):
    """A steel barrier between the street and a green slope."""
    for at in np.arange(z1, z0, -2.2):
        roadside.bush(c, rng, x + s * 1.5, at, width=2.4)
    for at in np.arange(z1, z0, -2.0):
        c.limb((x, 0, at), (x, 0.72, at), 0.14, (120, 122, 122), 'guard rail')
    c.polygon(
        [(x, 0.42, z0), (x, 0.42, z1), (x, 0.92, z1), (x, 0.92, z0)], (172, 176, 178), 'guard rail'
    )
    c.polygon([(x, 0.62, z0), (x, 0.62, z1), (x, 0.72, z1), (x, 0.72, z0)], (118, 122, 124))


def bridge(c: Canvas, rng, left, right, z):
    """A bridge over the street; ``left`` and ``right`` are where its supports begin."""
    stone, low, high = pick(rng, ((150, 144, 136), (128, 120, 114), (110, 124, 132))), 5.0, 6.5
    for x in (left - 6, right):
        c.front(x, x + 6, 0, low, z, stone * 0.8, 'bridge')
    c.flat(-60, 60, z, z + 7, stone * 0.38, 'bridge', y=low)
    c.front(-60, 60, low, high, z, stone, 'bridge')
    c.front(-60, 60, low, low + 0.18, z, stone * 0.7)
    c.front(-60, 60, high, high + 0.12, z, stone * 1.15, 'bridge')
    for x in np.arange(-40, 40, 1.5):
        c.limb((x, high, z), (x, high + 1, z), 0.1, (70, 78, 84), 'bridge')
    c.limb((-60, high + 1, z), (60, high + 1, z), 0.12, (70, 78, 84), 'bridge')


def tunnel(c: Canvas, rng, left, right, z):
    """The street ends in a tunnel's mouth below a hill."""
    stone = pick(rng, ((140, 132, 122), (120, 116, 112)))
    c.front(-70, 70, 0, 9.5, z, stone, 'tunnel')
    for y in np.arange(0.7, 9.5, 0.7):
        c.front(-70, 70, y, y + 0.07, z, stone * 0.85)
    slope = np.linspace(-60, 60, 25)
    crest = 9.5 + 3.5 * np.exp(-((slope / 16) ** 2))
    c.polygon(
        [(-60, 9, z + 1), *zip(slope, crest, np.full(25, z + 1)), (60, 9, z + 1)],
        (74, 98, 52),
        'vegetation',
    )
    leaves = rng.uniform((-40, 9.2, z), (40, 12, z), (420, 3))
    leaves[:, 1] *= np.interp(leaves[:, 0], slope, crest) / 12
    leaves = leaves[np.argsort(-leaves[:, 1])]
    c.blobs(
        leaves,
        rng.uniform(0.4, 1.1, 420),
        np.outer(rng.uniform(0.7, 1.2, 420), (82, 108, 56)),
        'vegetation',
        z,
    )
    turn = np.linspace(0, np.pi, 16)
    for grow, colour in ((0.5, stone * 1.2), (0, (26, 26, 30))):
        half = (right - left) / 2 + grow
        arch = [
            ((left + right) / 2 - half * np.cos(t), 3 + (3.2 + grow) * np.sin(t), z - 0.01)
            for t in turn
        ]
        c.polygon([(arch[0][0], 0, z - 0.01), *arch, (arch[-1][0], 0, z - 0.01)], colour, 'tunnel')
    c.limb(
        ((left + right) / 2 - 2, 5.4, z - 0.02),
        ((left + right) / 2 + 2, 5.4, z - 0.02),
        0.2,
        (246, 220, 150),
        glow=True,
    )
