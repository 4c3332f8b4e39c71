"""The closed classes that move in a demo street: vehicles, people, two-wheelers.

Each function paints one thing with its feet on the ground at (x, z), in metres; see ``canvas.py``.
"""

import numpy as np

from demo.canvas import Canvas

PAINTS = (
    (196, 200, 204),
    (40, 42, 46),
    (90, 94, 100),
    (228, 228, 226),
    (142, 30, 34),
    (34, 62, 122),
    (26, 84, 72),
    (170, 150, 120),
    (198, 84, 34),
    (92, 120, 150),
)
CLOTHES = (
    (40, 44, 56),
    (118, 40, 44),
    (52, 78, 120),
    (190, 186, 176),
    (70, 88, 64),
    (140, 112, 84),
    (206, 160, 60),
    (92, 66, 100),
    (160, 164, 172),
    (30, 32, 34),
)
SKINS = ((236, 196, 168), (206, 156, 122), (146, 100, 74), (96, 66, 50))
_GLASS = (52, 62, 74)
_SKY_IN_GLASS = (122, 140, 158)
_TYRE = (26, 26, 28)


def pick(rng: np.random.Generator, choices, jitter: float = 12.0) -> np.ndarray:
    """One of the RGB colours, its brightness changed by about ``jitter`` and its hue by a third of
    that.
    """
    change = jitter * (rng.standard_normal() + rng.standard_normal(3) / 3)
    return np.clip(np.array(choices[rng.integers(len(choices))]) + change, 0, 255)


def box(c: Canvas, x, z, width, height, length, colour, label, *, base=0.0):
    """A box, ``base`` metres above the ground: the side that is seen, the top if the eye is above
    it, the end.
    """
    left, right, top = x - width / 2, x + width / 2, base + height
    colour = np.asarray(colour, float)
    side = left if x > 0 else right
    c.polygon(
        [(side, base, z), (side, base, z + length), (side, top, z + length), (side, top, z)],
        colour * (1.05 if c.sun and c.sun * x < 0 else 0.74),
        label,
    )
    if top < c.eye:
        c.flat(left, right, z, z + length, colour * 1.15, label, y=top)
    c.front(left, right, base, top, z, colour, label)


def ground_shadow(c: Canvas, x, z, width, length):
    """The dark patch below a thing; in the sun it reaches away from it."""
    cast = -c.sun * 0.5 * width
    left, right = x - width / 2 + min(cast, 0), x + width / 2 + max(cast, 0)
    c.shadow(
        [(left, 0, z - 0.25), (right, 0, z - 0.25), (right, 0, z + length), (left, 0, z + length)]
    )


def car(c: Canvas, rng, x, z, *, away: bool = True):
    """A passenger car, seen from behind (``away``) or from the front."""
    paint = pick(rng, PAINTS)
    width, length, roof = rng.uniform(1.7, 1.88), rng.uniform(3.9, 4.7), rng.uniform(1.42, 1.62)
    belt, low, end = roof * 0.62, 0.24, z + length
    estate = rng.random() < 0.5
    near, far = (
        (0.12 if estate else 0.55, 1.1) if away else (1.1, 0.3)
    )  # length of the decks before and behind the cabin
    left, right, s = x - width / 2, x + width / 2, -1 if x > 0 else 1
    side, inner = x + s * width / 2, x + s * (width / 2 - 0.17)
    lit = 1.02 if c.sun and c.sun * s > 0 else 0.72
    ground_shadow(c, x, z, width + 0.3, length)
    for at in (left + 0.02, right - 0.24):
        c.front(at, at + 0.22, 0, 0.4, z + 0.35, _TYRE, 'car')
    cabin = [
        (side, belt, z + near),
        (inner, roof, z + near + 0.45),
        (inner, roof, end - far - 0.6),
        (side, belt, end - far),
    ]
    c.polygon(cabin, paint * lit, 'car')
    middle = np.mean(cabin, axis=0)
    c.polygon(middle + (np.array(cabin) - middle) * (1, 0.74, 0.86), _GLASS)
    c.polygon(
        [
            (side, low, z),
            (side, belt * 0.97, z),
            (side, belt, z + near),
            (side, belt, end - far),
            (side, belt * 0.92, end),
            (side, low, end),
        ],
        paint * lit,
        'car',
    )
    c.polygon(
        [(side, low, z), (side, low + 0.1, z), (side, low + 0.1, end), (side, low, end)],
        paint * 0.35,
    )
    for at in (z + 0.8, end - 0.85):
        c.wheel(side, 0.31, at, 0.34, _TYRE, 'car')
        c.wheel(side, 0.31, at, 0.2, (138, 140, 144))
    c.polygon(
        [
            (left + 0.02, belt * 0.97, z),
            (right - 0.02, belt * 0.97, z),
            (right - 0.06, belt, z + near),
            (left + 0.06, belt, z + near),
        ],
        np.minimum(paint * 1.18 + 12, 255),
        'car',
    )
    shield = np.array(
        [
            (left + 0.05, belt, z + near),
            (right - 0.05, belt, z + near),
            (right - 0.2, roof, z + near + 0.5),
            (left + 0.2, roof, z + near + 0.5),
        ]
    )
    c.polygon(shield, paint * 0.95, 'car')
    glass = shield.mean(0) + (shield - shield.mean(0)) * (0.88, 0.78, 0.78)
    c.polygon(glass, _GLASS, 'car')
    c.polygon(
        [glass[3], glass[2], glass[2] * 0.6 + glass[1] * 0.4, glass[3] * 0.75 + glass[0] * 0.25],
        _SKY_IN_GLASS,
    )
    c.limb(shield[3], shield[2], 0.07, np.minimum(paint * 1.1 + 10, 255), 'car')
    c.polygon(
        [
            (left + 0.06, low, z),
            (right - 0.06, low, z),
            (right, 0.5, z),
            (right - 0.03, belt * 0.97, z),
            (left + 0.03, belt * 0.97, z),
            (left, 0.5, z),
        ],
        paint * 0.92,
        'car',
    )
    c.front(left + 0.05, right - 0.05, low, low + 0.17, z, paint * 0.4 + 8)
    lamp, glow = (
        ((206, 24, 22), c.light.night or rng.random() < 0.25) if away else ((246, 244, 226), True)
    )
    for at in (left + 0.07, right - 0.37):
        c.front(at, at + 0.3, belt * 0.68, belt * 0.86, z, lamp, glow=glow)
    if not away:
        c.front(x - 0.42, x + 0.42, belt * 0.58, belt * 0.8, z, (30, 32, 34))
    c.front(x - 0.26, x + 0.26, 0.44, 0.55, z, (226, 228, 222))


def bus(c: Canvas, rng, x, z, *, away: bool = True, label: str = 'bus', length: float = 11.0):
    """A bus, or a tram with label 'train'."""
    paint = pick(
        rng, ((190, 32, 36), (232, 190, 40), (236, 236, 232), (30, 92, 150), (40, 120, 80))
    )
    width, height = 2.5, 3.1 if label == 'bus' else 3.5
    left, right, s = x - width / 2, x + width / 2, -1 if x > 0 else 1
    side = x + s * width / 2
    ground_shadow(c, x, z, width + 0.3, length)
    box(c, x, z, width, height - 0.25, length, paint, label, base=0.25)
    starts = np.arange(z + 0.3, z + length - 1, 1.5)
    c.polygons(
        [
            [(side, 1.35, a), (side, 1.35, a + 1.3), (side, 2.55, a + 1.3), (side, 2.55, a)]
            for a in starts
        ],
        _GLASS,
    )
    c.polygon(
        [(side, 0.95, z), (side, 0.95, z + length), (side, 1.12, z + length), (side, 1.12, z)],
        (238, 238, 234),
    )
    for at in (z + 2, z + length - 2):
        c.wheel(side, 0.45, at, 0.46, _TYRE, label)
    c.front(left + 0.12, right - 0.12, 1.3, 2.65, z, _GLASS)
    c.polygon(
        [
            (left + 0.12, 2.65, z),
            (right - 0.12, 2.65, z),
            (right - 0.12, 2.2, z),
            (left + 0.12, 1.8, z),
        ],
        _SKY_IN_GLASS,
    )
    c.front(left + 0.5, right - 0.5, 2.75, 3.0, z, (20, 22, 20))
    c.front(x - 0.55, x + 0.55, 2.8, 2.95, z, (250, 176, 40), glow=True)
    c.front(left, right, 0.25, 0.5, z, paint * 0.35)
    for at in (left + 0.12, right - 0.42):
        c.front(at, at + 0.3, 0.62, 0.86, z, (206, 24, 22) if away else (246, 244, 226), glow=True)


def truck(c: Canvas, rng, x, z, *, away: bool = True):
    """A lorry: from behind its box with doors, from the front its cab before the box."""
    paint, cargo = (
        pick(rng, PAINTS),
        pick(rng, ((226, 226, 222), (178, 186, 190), (40, 74, 130), (196, 120, 44))),
    )
    width, height, length = 2.4, rng.uniform(3.0, 3.6), 6.0
    left, right = x - width / 2, x + width / 2
    ground_shadow(c, x, z, width + 0.3, length + 1.5)
    for at in (left + 0.05, right - 0.5):
        c.front(at, at + 0.45, 0, 0.85, z + 0.6, _TYRE, 'truck')
    start = z if away else z + 1.7
    box(c, x, start, width, height - 0.85, length, cargo, 'truck', base=0.85)
    side = left if x > 0 else right
    for at in (start + 0.9, start + length - 1):
        c.wheel(side, 0.48, at, 0.48, _TYRE, 'truck')
    if away:
        c.limb((x, 0.9, z), (x, height, z), 0.05, cargo * 0.5)
        c.front(left + 0.25, x - 0.3, height * 0.55, height * 0.68, z, cargo * 0.75)
        c.front(left, right, 0.62, 0.85, z, (52, 54, 56), 'truck')
        for at in (left + 0.05, right - 0.35):
            c.front(at, at + 0.3, 0.66, 0.8, z, (206, 24, 22))
    else:
        box(c, x, z, width - 0.1, 2.2, 1.6, paint, 'truck', base=0.4)
        c.front(left + 0.18, right - 0.18, 1.5, 2.4, z, _GLASS)
        c.front(left + 0.3, right - 0.3, 0.8, 1.2, z, (34, 36, 38))
        for at in (left + 0.12, right - 0.42):
            c.front(at, at + 0.3, 0.55, 0.78, z, (246, 244, 226), glow=True)


def person(c: Canvas, rng, x, z, *, label: str = 'person', pose: str = 'walk', base: float = 0.0):
    """A person. ``pose`` is 'walk'; 'ride', seated and seen from the side; or 'sit', astride and
    seen from behind.
    """
    k = rng.uniform(1.6, 1.88) / 1.75
    shirt, trousers, skin = pick(rng, CLOTHES), pick(rng, CLOTHES) * 0.7, pick(rng, SKINS, 5)
    hair = pick(rng, ((34, 26, 20), (92, 64, 40), (190, 160, 104), (150, 146, 142)), 6)
    stride, turn = rng.uniform(0.05, 0.3), rng.uniform(-0.06, 0.06)
    lean = 0.14 if pose == 'ride' else 0

    def at(dx, y):
        return x + dx * k, base + y * k, z

    if pose == 'walk':
        ground_shadow(c, x, z, 0.5 * k, 0.25)
    for s, dark in ((-1, 0.8), (1, 1.0)):
        hip, hand, elbow = (
            at(0.07 * s, 0.9),
            at((0.24 - stride) * s, 0.86),
            at((0.26 - 0.5 * stride) * s, 1.1),
        )
        knee, foot = at(s * stride * 0.5 + 0.05 * s, 0.48), at(s * stride * 0.8 + turn, 0.05)
        if pose == 'ride':
            hip, knee, foot = (
                at(-0.04, 0.86),
                at(0.3 - 0.06 * s, 0.62 + 0.08 * s),
                at(0.12 + 0.1 * s, 0.16 + 0.1 * s),
            )
            elbow, hand = at(0.32, 1.1), at(0.52, 0.92)
        elif pose == 'sit':
            knee, foot, elbow, hand = (
                at(0.3 * s, 0.6),
                at(0.26 * s, 0.2),
                at(0.34 * s, 1.14),
                at(0.38 * s, 0.98),
            )
        c.limb(hip, knee, 0.17 * k, trousers * dark, label)
        c.limb(knee, foot, 0.13 * k, trousers * dark, label)
        c.limb(foot, (foot[0] + 0.12, foot[1] - 0.01, z), 0.1 * k, (30, 28, 28), label)
        c.limb(at(0.2 * s * (1 - 4 * lean) + lean, 1.4), elbow, 0.11 * k, shirt * 0.82, label)
        c.limb(elbow, hand, 0.09 * k, shirt * 0.82, label)
        c.disc(*hand, 0.05 * k, skin, label)
    chest = [
        at(-0.17, 0.84),
        at(0.17, 0.84),
        at(0.24 + lean, 1.38),
        at(0.14 + lean, 1.48),
        at(-0.14 + lean, 1.48),
        at(-0.24 + lean, 1.38),
    ]
    c.polygon(chest, shirt, label)
    c.polygon([at(0.02, 0.84), *chest[1:4]], shirt * (1.15 if c.sun > 0 else 0.85))
    c.limb(at(lean, 1.46), at(lean, 1.56), 0.1 * k, skin * 0.9, label)
    c.disc(*at(turn + lean, 1.66), 0.115 * k, hair, label)
    if pose != 'sit':
        c.disc(*at(turn * 1.6 + lean * 1.25, 1.63), 0.09 * k, skin, label)


def bicycle(c: Canvas, rng, x, z, *, ridden: bool = False):
    """A bicycle seen from the side, with a rider if ``ridden``."""
    frame = pick(rng, PAINTS)
    ground_shadow(c, x, z, 1.5, 0.3)
    for at in (x - 0.52, x + 0.52):
        c.disc(at, 0.34, z, 0.36, (34, 34, 36), 'bicycle')
        c.disc(at, 0.34, z, 0.3, (128, 128, 124))
        for dx, dy in ((0.3, 0), (0, 0.3), (0.21, 0.21), (0.21, -0.21)):
            c.limb((at - dx, 0.34 - dy, z), (at + dx, 0.34 + dy, z), 0.02, (80, 82, 84))
    hub, saddle, bar = (x - 0.05, 0.32, z), (x - 0.2, 0.88, z), (x + 0.36, 0.86, z)
    for a, b in (
        ((x - 0.52, 0.34, z), hub),
        (hub, saddle),
        ((x - 0.52, 0.34, z), saddle),
        (saddle, bar),
        (hub, bar),
        (bar, (x + 0.52, 0.34, z)),
        (bar, (x + 0.38, 1.0, z)),
    ):
        c.limb(a, b, 0.055, frame, 'bicycle')
    c.limb((x - 0.32, 0.92, z), (x - 0.08, 0.92, z), 0.07, (24, 24, 26), 'bicycle')
    c.limb((x + 0.28, 1.0, z), (x + 0.46, 1.02, z), 0.05, (24, 24, 26), 'bicycle')
    if ridden:
        person(c, rng, x - 0.14, z - 0.01, label='rider', pose='ride', base=0.12)


def motorcycle(c: Canvas, rng, x, z, *, ridden: bool = False):
    """A motorcycle or scooter seen from behind at an angle, with a rider if ``ridden``."""
    paint = pick(rng, PAINTS)
    ground_shadow(c, x, z, 0.9, 1.8)
    for at, dz in ((x + 0.2, 1.2), (x, 0)):
        c.disc(at, 0.32, z + dz, 0.33, _TYRE, 'motorcycle', squash=0.45)
    c.polygon(
        [
            (x - 0.2, 0.45, z),
            (x + 0.22, 0.42, z),
            (x + 0.36, 0.8, z + 0.8),
            (x + 0.3, 1.05, z + 1),
            (x - 0.05, 0.95, z + 0.6),
            (x - 0.22, 0.82, z),
        ],
        paint,
        'motorcycle',
    )
    c.polygon(
        [(x - 0.2, 0.8, z), (x + 0.16, 0.8, z), (x + 0.2, 0.9, z + 0.4), (x - 0.1, 0.92, z + 0.4)],
        (26, 26, 28),
        'motorcycle',
    )
    c.front(x - 0.1, x + 0.1, 0.62, 0.72, z, (214, 26, 24), glow=True)
    c.limb((x - 0.22, 1.12, z + 0.9), (x + 0.56, 1.12, z + 0.9), 0.07, (38, 40, 42), 'motorcycle')
    if ridden:
        person(c, rng, x, z - 0.01, label='rider', pose='sit', base=0.1)
        c.disc(x, 1.8, z - 0.02, 0.15, paint, 'rider')
