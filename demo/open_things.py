"""Painters of things that no closed class covers; ``open_kinds.py`` names them.

Functions take (canvas, rng, x, z) as in ``things.py``; ``scene.py`` decides where each stands.
"""

import numpy as np

from demo.canvas import Canvas
from demo.things import CLOTHES, PAINTS, box, ground_shadow, person, pick

_GREY = ((120, 122, 124), (90, 92, 96), (150, 148, 142))
_WOOD = ((132, 96, 62), (104, 74, 50), (156, 122, 84))
_CARD = ((176, 140, 96), (160, 124, 84))


def bin_(c: Canvas, rng, x, z):
    """A wheeled rubbish bin, or two."""
    for dx in (0, 0.7)[: rng.integers(1, 3)]:
        paint = pick(rng, ((52, 62, 58), (42, 72, 120), (120, 96, 40), (70, 70, 72)))
        ground_shadow(c, x + dx, z, 0.6, 0.6)
        box(c, x + dx, z, 0.55, 1.0, 0.6, paint, 'static', base=0.06)
        c.front(x + dx - 0.3, x + dx + 0.3, 1.0, 1.13, z - 0.02, paint * 0.75, 'static')


def bench(c: Canvas, rng, x, z):
    """A wooden bench."""
    wood = pick(rng, _WOOD)
    ground_shadow(c, x, z, 1.9, 0.6)
    for at in (x - 0.75, x + 0.75):
        c.limb((at, 0, z), (at, 0.95, z + 0.3), 0.1, (54, 56, 58), 'static')
    for y in (0.46, 0.66, 0.82):
        c.limb((x - 0.95, y, z), (x + 0.95, y, z), 0.12, wood, 'static')


def boxes(c: Canvas, rng, x, z):
    """Cardboard boxes left at the kerb."""
    ground_shadow(c, x, z, 1.3, 0.7)
    for dx, base in ((-0.32, 0), (0.34, 0), (0, 0.5)):
        card = pick(rng, _CARD)
        box(c, x + dx, z, rng.uniform(0.5, 0.64), 0.48, 0.5, card, 'static', base=base)
        c.limb((x + dx, base, z - 0.01), (x + dx, base + 0.48, z - 0.01), 0.06, card * 1.15)


def stroller(c: Canvas, rng, x, z):
    """A stroller with the person who pushes it."""
    cloth = pick(rng, CLOTHES)
    person(c, rng, x + 0.75, z + 0.1)
    ground_shadow(c, x, z, 1.1, 0.6)
    for at in (x - 0.36, x + 0.3):
        c.disc(at, 0.15, z, 0.16, (30, 30, 32), 'dynamic')
    c.limb((x - 0.36, 0.15, z), (x + 0.6, 1.05, z), 0.07, (70, 72, 76), 'dynamic')
    c.limb((x + 0.3, 0.15, z), (x - 0.2, 0.7, z), 0.07, (70, 72, 76), 'dynamic')
    c.polygon(
        [(x - 0.46, 0.45, z), (x + 0.2, 0.38, z), (x + 0.38, 0.72, z), (x - 0.5, 0.8, z)],
        cloth,
        'dynamic',
    )
    turn = np.linspace(0, np.pi * 0.8, 8)
    hood = [(x - 0.08 - 0.44 * np.cos(t), 0.76 + 0.36 * np.sin(t), z) for t in turn]
    c.polygon([*hood, (x - 0.08, 0.76, z)], cloth * 0.8, 'dynamic')


def dog(c: Canvas, rng, x, z):
    """A dog, seen from the side."""
    fur, s = (
        pick(rng, ((96, 68, 44), (40, 36, 34), (198, 172, 130), (210, 206, 198))),
        rng.choice((-1, 1)),
    )
    ground_shadow(c, x, z, 0.8, 0.25)
    for dx in (-0.3, -0.2, 0.2, 0.3):
        c.limb((x + dx, 0, z), (x + dx * 0.9, 0.4, z), 0.09, fur * 0.8, 'dynamic')
    c.polygon(
        [(x - 0.36, 0.34, z), (x + 0.36, 0.32, z), (x + 0.38, 0.6, z), (x - 0.36, 0.58, z)],
        fur,
        'dynamic',
    )
    c.limb((x + s * 0.32, 0.5, z), (x + s * 0.5, 0.76, z), 0.2, fur, 'dynamic')
    c.disc(x + s * 0.52, 0.76, z, 0.14, fur, 'dynamic')
    c.limb((x + s * 0.54, 0.72, z), (x + s * 0.72, 0.7, z), 0.12, fur * 0.9, 'dynamic')
    c.limb((x - s * 0.36, 0.55, z), (x - s * 0.56, 0.78, z), 0.06, fur, 'dynamic')


def shopping_cart(c: Canvas, rng, x, z):
    """A supermarket trolley with goods in it."""
    ground_shadow(c, x, z, 0.9, 0.5)
    basket = np.array(
        [(x - 0.42, 0.5, z), (x + 0.34, 0.58, z), (x + 0.44, 0.98, z), (x - 0.52, 0.92, z)]
    )
    c.polygon(basket, (134, 138, 140), 'dynamic')
    for dx in (-0.2, 0.1):
        c.disc(x + dx, 0.86, z - 0.01, 0.2, pick(rng, CLOTHES), 'dynamic')
    for k in np.linspace(0.1, 0.9, 6):
        c.limb(
            basket[0] * (1 - k) + basket[1] * k,
            basket[3] * (1 - k) + basket[2] * k,
            0.03,
            (196, 200, 204),
        )
    for at in (x - 0.3, x + 0.28):
        c.limb((at, 0.12, z), (at, 0.55, z), 0.05, (110, 114, 118), 'dynamic')
        c.disc(at, 0.09, z, 0.1, (40, 40, 42), 'dynamic')
    c.limb((x + 0.36, 0.7, z), (x + 0.62, 1.06, z), 0.06, (190, 40, 40), 'dynamic')


def rubble(c: Canvas, rng, x, z):
    """A heap of builder's rubble under a sheet; nobody labelled it."""
    turn = np.linspace(0, np.pi, 11)
    ground_shadow(c, x, z, 2.6, 0.6)
    profile = [(x - 1.3 * np.cos(t), 0.95 * np.sin(t) * rng.uniform(0.75, 1.15), z) for t in turn]
    colour = pick(rng, ((142, 128, 112), (120, 112, 104), (92, 120, 140)))
    c.polygon(profile, colour, 'unlabeled')
    for _ in range(26):
        t, k = rng.uniform(0.3, 2.84), rng.uniform(0.2, 0.75)
        c.disc(
            x - 1.2 * k * np.cos(t),
            0.75 * k * np.sin(t) + 0.03,
            z - 0.01,
            rng.uniform(0.06, 0.14),
            colour * rng.uniform(0.6, 1.25),
        )


def pole_group(c: Canvas, rng, x, z):
    """Poles that stand too close to be told apart."""
    for dx, height in zip((-0.16, 0, 0.17), rng.uniform(3.2, 6.4, 3)):
        c.limb((x + dx, 0, z), (x + dx, height, z), 0.12, pick(rng, _GREY, 8), 'polegroup')
    c.front(x - 0.3, x + 0.3, 0.6, 1.5, z - 0.01, pick(rng, _GREY, 8), 'polegroup')


def trailer(c: Canvas, rng, x, z):
    """A parked trailer, open or under a sheet."""
    paint, tall = (
        pick(rng, ((70, 84, 96), (46, 84, 66), (150, 152, 152), (120, 60, 48))),
        rng.random() < 0.6,
    )
    ground_shadow(c, x, z, 1.9, 2.8)
    for at in (x - 0.85, x + 0.6):
        c.front(at, at + 0.25, 0, 0.6, z + 0.8, (26, 26, 28), 'trailer')
    box(c, x, z, 1.7, 0.5, 2.8, (112, 116, 118), 'trailer', base=0.5)
    if tall:
        box(c, x, z, 1.7, 0.9, 2.8, paint, 'trailer', base=1.0)
    c.wheel(x - np.sign(x) * 0.86, 0.32, z + 1.4, 0.33, (26, 26, 28), 'trailer')
    for at in (x - 0.8, x + 0.55):
        c.front(at, at + 0.25, 0.56, 0.74, z - 0.01, (206, 30, 26))


def caravan(c: Canvas, rng, x, z):
    """A caravan, seen from behind."""
    ground_shadow(c, x, z, 2.5, 4.5)
    for at in (x - 1.0, x + 0.75):
        c.front(at, at + 0.25, 0, 0.5, z + 1.2, (26, 26, 28), 'caravan')
    box(c, x, z, 2.2, 2.1, 4.4, (226, 224, 214), 'caravan', base=0.4)
    stripe, side = pick(rng, PAINTS), x - np.sign(x) * 1.1
    c.front(x - 1.1, x + 1.1, 0.85, 1.1, z - 0.01, stripe)
    c.polygon(
        [(side, 0.85, z), (side, 0.85, z + 4.4), (side, 1.1, z + 4.4), (side, 1.1, z)], stripe * 0.8
    )
    c.polygon(
        [
            (side, 1.45, z + 0.8),
            (side, 1.45, z + 2.4),
            (side, 2.05, z + 2.4),
            (side, 2.05, z + 0.8),
        ],
        (60, 70, 80),
    )
    c.front(x - 0.75, x + 0.75, 1.4, 2.1, z - 0.01, (64, 76, 88))
    for at in (x - 1.0, x + 0.75):
        c.front(at, at + 0.25, 0.5, 0.72, z - 0.01, (206, 30, 26))


def market_stall(c: Canvas, rng, x, z):
    """A stall that sells clothes or fruit under a striped awning."""
    paint = pick(rng, ((196, 44, 44), (40, 110, 70), (40, 84, 160), (226, 150, 40)))
    ground_shadow(c, x, z, 3.4, 1.8)
    for at in (x - 1.5, x + 1.5):
        c.limb((at, 0, z + 1.4), (at, 2.4, z + 1.4), 0.08, (180, 180, 176), 'static')
    c.front(x - 1.5, x + 1.5, 0.75, 2.2, z + 1.4, (84, 72, 66), 'static')
    for at in np.linspace(x - 1.3, x + 1.3, 8):
        c.polygon(
            [
                (at - 0.16, 1.1, z + 1.3),
                (at + 0.16, 1.1, z + 1.3),
                (at + 0.12, 2.1, z + 1.3),
                (at - 0.12, 2.1, z + 1.3),
            ],
            pick(rng, CLOTHES, 25) * 1.15,
        )
    c.front(x - 1.6, x + 1.6, 0, 0.82, z, paint * 0.6 + 60, 'static')
    for at in np.linspace(x - 1.4, x + 1.4, 9):
        goods = pick(
            rng, ((210, 60, 50), (236, 170, 50), (120, 160, 60), (160, 80, 130), (230, 220, 200))
        )
        c.disc(at, 0.9, z, 0.19, goods, 'static')
        c.disc(at + 0.08, 0.98, z - 0.01, 0.12, goods * 1.1, 'static')
    for at in (x - 1.55, x + 1.55):
        c.limb((at, 0, z), (at, 2.3, z), 0.08, (190, 190, 186), 'static')
    for i, at in enumerate(np.linspace(x - 1.8, x + 1.8, 11)[:-1]):
        stripe = paint if i % 2 else (238, 234, 224)
        c.polygon(
            [
                (at, 2.1, z - 0.3),
                (at + 0.36, 2.1, z - 0.3),
                (at + 0.36, 2.75, z + 1.4),
                (at, 2.75, z + 1.4),
            ],
            stripe,
            'static',
        )


def statue(c: Canvas, rng, x, z):
    """A bronze figure on a stone base."""
    bronze = pick(rng, ((86, 110, 98), (104, 92, 70), (150, 148, 140)))
    ground_shadow(c, x, z, 1.8, 1.4)
    box(c, x, z, 1.5, 0.35, 1.4, (166, 160, 148), 'static')
    box(c, x, z + 0.2, 1.0, 1.3, 1.0, (176, 170, 158), 'static', base=0.35)
    c.polygon(
        [
            (x - 0.34, 1.65, z),
            (x + 0.34, 1.65, z),
            (x + 0.22, 2.6, z),
            (x + 0.34, 3.0, z),
            (x - 0.32, 3.0, z),
            (x - 0.2, 2.6, z),
        ],
        bronze,
        'static',
    )
    c.limb((x + 0.28, 2.95, z), (x + 0.66, 3.55, z), 0.13, bronze, 'static')
    c.limb((x - 0.28, 2.9, z), (x - 0.42, 2.2, z), 0.13, bronze * 0.85, 'static')
    c.polygon(
        [(x, 1.65, z), (x + 0.3, 1.65, z), (x + 0.3, 2.95, z), (x + 0.08, 2.95, z)], bronze * 0.8
    )
    c.disc(x, 3.22, z, 0.18, bronze, 'static')


def fountain(c: Canvas, rng, x, z):
    """A stone basin with jets of water."""
    ground_shadow(c, x, z, 2.8, 1.8)
    box(c, x, z, 2.6, 0.55, 1.8, (168, 162, 150), 'static')
    c.flat(x - 1.15, x + 1.15, z + 0.2, z + 1.6, (120, 168, 190), y=0.56)
    c.limb((x, 0.5, z + 0.9), (x, 1.5, z + 0.9), 0.3, (156, 150, 138), 'static')
    c.front(x - 0.6, x + 0.6, 1.3, 1.45, z + 0.9, (168, 162, 150), 'static')
    for s in (-1, 1):
        for a, b in (
            ((0, 2.1), (0.35, 2.0)),
            ((0.35, 2.0), (0.65, 1.5)),
            ((0.65, 1.5), (0.8, 0.6)),
        ):
            c.limb(
                (x + s * a[0], a[1], z + 0.85),
                (x + s * b[0], b[1], z + 0.85),
                0.16,
                (214, 228, 236),
                'static',
            )


def cones(c: Canvas, rng, x, z):
    """A row of traffic cones along the lane."""
    for i in reversed(range(4)):
        at, far = x + rng.uniform(-0.1, 0.1), z + 1.6 * i
        ground_shadow(c, at, far, 0.5, 0.4)
        c.front(at - 0.24, at + 0.24, 0, 0.06, far, (60, 50, 46), 'static')
        c.polygon(
            [
                (at - 0.18, 0.05, far),
                (at + 0.18, 0.05, far),
                (at + 0.04, 0.75, far),
                (at - 0.04, 0.75, far),
            ],
            (234, 92, 34),
            'static',
        )
        c.polygon(
            [
                (at - 0.14, 0.28, far),
                (at + 0.14, 0.28, far),
                (at + 0.1, 0.46, far),
                (at - 0.1, 0.46, far),
            ],
            (242, 240, 236),
        )


def tyres(c: Canvas, rng, x, z):
    """A stack of worn tyres."""
    ground_shadow(c, x, z, 1.6, 0.6)
    for at, many in ((x - 0.38, rng.integers(2, 5)), (x + 0.4, rng.integers(1, 4))):
        for i in range(many):
            c.front(at - 0.36, at + 0.36, 0.22 * i, 0.22 * i + 0.2, z, (44, 44, 46), 'static')
            c.front(at - 0.36, at + 0.36, 0.22 * i + 0.13, 0.22 * i + 0.2, z, (70, 70, 72))
    c.disc(x + 1.05, 0.36, z - 0.1, 0.37, (40, 40, 42), 'static')
    c.disc(x + 1.05, 0.36, z - 0.11, 0.2, (96, 94, 90))


def luggage(c: Canvas, rng, x, z):
    """Suitcases on the pavement, one with its handle pulled out."""
    ground_shadow(c, x, z, 1.2, 0.4)
    for dx, high in ((-0.3, 0.72), (0.24, 0.56)):
        shell = pick(rng, PAINTS)
        c.front(x + dx - 0.24, x + dx + 0.24, 0.06, high, z, shell, 'dynamic')
        for k in (-0.12, 0, 0.12):
            c.limb(
                (x + dx + k, 0.1, z - 0.01), (x + dx + k, high - 0.04, z - 0.01), 0.03, shell * 0.7
            )
    c.limb((x - 0.4, 0.7, z), (x - 0.4, 1.05, z), 0.04, (60, 60, 62), 'dynamic')
    c.limb((x - 0.2, 0.7, z), (x - 0.2, 1.05, z), 0.04, (60, 60, 62), 'dynamic')
    c.limb((x - 0.42, 1.05, z), (x - 0.18, 1.05, z), 0.05, (30, 30, 32), 'dynamic')


def wheelchair(c: Canvas, rng, x, z):
    """A wheelchair; its user is a person, the chair is not."""
    ground_shadow(c, x, z, 1.0, 0.6)
    person(c, rng, x - 0.02, z, pose='ride', base=-0.17)
    c.front(x - 0.36, x - 0.26, 0.5, 1.2, z - 0.02, (40, 42, 48), 'dynamic')
    c.limb((x - 0.34, 0.58, z - 0.02), (x + 0.3, 0.58, z - 0.02), 0.1, (44, 46, 52), 'dynamic')
    c.limb((x + 0.3, 0.58, z - 0.02), (x + 0.44, 0.06, z - 0.02), 0.06, (130, 134, 138), 'dynamic')
    c.disc(x - 0.12, 0.34, z - 0.03, 0.35, (40, 42, 44), 'dynamic')
    c.disc(x - 0.12, 0.34, z - 0.04, 0.29, (150, 152, 154))
    c.disc(x + 0.38, 0.1, z - 0.03, 0.11, (40, 42, 44), 'dynamic')


def hand_cart(c: Canvas, rng, x, z):
    """A loaded hand cart."""
    ground_shadow(c, x, z, 1.8, 1.0)
    for dx, base in ((-0.42, 0.75), (0.3, 0.75), (-0.05, 1.15)):
        box(
            c,
            x + dx,
            z + 0.1,
            rng.uniform(0.55, 0.72),
            0.42,
            0.8,
            pick(rng, (*_CARD, *CLOTHES)),
            'dynamic',
            base=base,
        )
    c.limb((x - 0.85, 0.68, z), (x + 1.35, 0.74, z), 0.13, pick(rng, _WOOD), 'dynamic')
    c.disc(x, 0.4, z - 0.02, 0.41, pick(rng, _WOOD) * 0.7, 'dynamic')
    c.disc(x, 0.4, z - 0.03, 0.3, (150, 140, 124))
    for turn in np.linspace(0, np.pi, 4, endpoint=False):
        c.limb(
            (x - 0.34 * np.cos(turn), 0.4 - 0.34 * np.sin(turn), z - 0.04),
            (x + 0.34 * np.cos(turn), 0.4 + 0.34 * np.sin(turn), z - 0.04),
            0.05,
            (90, 64, 44),
        )
