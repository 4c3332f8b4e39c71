"""The closed classes that stand in a demo street: vehicles, people, two-wheelers, trees, poles, signs, lights.

Each function paints one thing with its feet on the ground at (x, z), in metres; see ``canvas.py``.
"""

import numpy as np

from demo.canvas import Canvas

PAINTS = ((196, 200, 204), (40, 42, 46), (90, 94, 100), (228, 228, 226), (142, 30, 34), (34, 62, 122), (26, 84, 72),
          (170, 150, 120), (198, 84, 34), (92, 120, 150))
CLOTHES = ((40, 44, 56), (118, 40, 44), (52, 78, 120), (190, 186, 176), (70, 88, 64), (140, 112, 84), (206, 160, 60),
           (92, 66, 100), (160, 164, 172), (30, 32, 34))
SKINS = ((236, 196, 168), (206, 156, 122), (146, 100, 74), (96, 66, 50))
_GLASS = (52, 62, 74)
_SKY_IN_GLASS = (122, 140, 158)
_TYRE = (26, 26, 28)


def pick(rng: np.random.Generator, choices, jitter: float = 12.) -> np.ndarray:
    """One of the RGB colours, its brightness changed by about ``jitter`` and its hue by a third of that."""
    change = jitter * (rng.standard_normal() + rng.standard_normal(3) / 3)
    return np.clip(np.array(choices[rng.integers(len(choices))]) + change, 0, 255)


def box(c: Canvas, x, z, width, height, length, colour, label, *, base=0.):
    """A box, ``base`` metres above the ground: the side that is seen, the top if the eye is above it, the end."""
    left, right, top = x - width / 2, x + width / 2, base + height
    colour = np.asarray(colour, float)
    side = left if x > 0 else right
    c.polygon([(side, base, z), (side, base, z + length), (side, top, z + length), (side, top, z)],
              colour * (1.05 if c.sun and c.sun * x < 0 else .74), label)
    if top < c.eye:
        c.flat(left, right, z, z + length, colour * 1.15, label, y=top)
    c.front(left, right, base, top, z, colour, label)


def ground_shadow(c: Canvas, x, z, width, length):
    """The dark patch below a thing; in the sun it reaches away from it."""
    cast = -c.sun * .5 * width
    left, right = x - width / 2 + min(cast, 0), x + width / 2 + max(cast, 0)
    c.shadow([(left, 0, z - .25), (right, 0, z - .25), (right, 0, z + length), (left, 0, z + length)])


def car(c: Canvas, rng, x, z, *, away: bool = True):
    """A passenger car, seen from behind (``away``) or from the front."""
    paint = pick(rng, PAINTS)
    width, length, roof = rng.uniform(1.7, 1.88), rng.uniform(3.9, 4.7), rng.uniform(1.42, 1.62)
    belt, low, end = roof * .62, .24, z + length
    estate = rng.random() < .5
    near, far = (.12 if estate else .55, 1.1) if away else (1.1, .3)  # length of the decks before and behind the cabin
    left, right, s = x - width / 2, x + width / 2, -1 if x > 0 else 1
    side, inner = x + s * width / 2, x + s * (width / 2 - .17)
    lit = 1.02 if c.sun and c.sun * s > 0 else .72
    ground_shadow(c, x, z, width + .3, length)
    for at in (left + .02, right - .24):
        c.front(at, at + .22, 0, .4, z + .35, _TYRE, 'car')
    cabin = [(side, belt, z + near), (inner, roof, z + near + .45), (inner, roof, end - far - .6),
             (side, belt, end - far)]
    c.polygon(cabin, paint * lit, 'car')
    middle = np.mean(cabin, axis=0)
    c.polygon(middle + (np.array(cabin) - middle) * (1, .74, .86), _GLASS)
    c.polygon([(side, low, z), (side, belt * .97, z), (side, belt, z + near), (side, belt, end - far),
               (side, belt * .92, end), (side, low, end)], paint * lit, 'car')
    c.polygon([(side, low, z), (side, low + .1, z), (side, low + .1, end), (side, low, end)], paint * .35)
    for at in (z + .8, end - .85):
        c.wheel(side, .31, at, .34, _TYRE, 'car')
        c.wheel(side, .31, at, .2, (138, 140, 144))
    c.polygon([(left + .02, belt * .97, z), (right - .02, belt * .97, z), (right - .06, belt, z + near),
               (left + .06, belt, z + near)], np.minimum(paint * 1.18 + 12, 255), 'car')
    shield = np.array([(left + .05, belt, z + near), (right - .05, belt, z + near), (right - .2, roof, z + near + .5),
                       (left + .2, roof, z + near + .5)])
    c.polygon(shield, paint * .95, 'car')
    glass = shield.mean(0) + (shield - shield.mean(0)) * (.88, .78, .78)
    c.polygon(glass, _GLASS, 'car')
    c.polygon([glass[3], glass[2], glass[2] * .6 + glass[1] * .4, glass[3] * .75 + glass[0] * .25], _SKY_IN_GLASS)
    c.limb(shield[3], shield[2], .07, np.minimum(paint * 1.1 + 10, 255), 'car')
    c.polygon([(left + .06, low, z), (right - .06, low, z), (right, .5, z), (right - .03, belt * .97, z),
               (left + .03, belt * .97, z), (left, .5, z)], paint * .92, 'car')
    c.front(left + .05, right - .05, low, low + .17, z, paint * .4 + 8)
    lamp, glow = ((206, 24, 22), c.light.night or rng.random() < .25) if away else ((246, 244, 226), True)
    for at in (left + .07, right - .37):
        c.front(at, at + .3, belt * .68, belt * .86, z, lamp, glow=glow)
    if not away:
        c.front(x - .42, x + .42, belt * .58, belt * .8, z, (30, 32, 34))
    c.front(x - .26, x + .26, .44, .55, z, (226, 228, 222))


def bus(c: Canvas, rng, x, z, *, away: bool = True, label: str = 'bus', length: float = 11.):
    """A bus, or a tram with label 'train'."""
    paint = pick(rng, ((190, 32, 36), (232, 190, 40), (236, 236, 232), (30, 92, 150), (40, 120, 80)))
    width, height = 2.5, 3.1 if label == 'bus' else 3.5
    left, right, s = x - width / 2, x + width / 2, -1 if x > 0 else 1
    side = x + s * width / 2
    ground_shadow(c, x, z, width + .3, length)
    box(c, x, z, width, height - .25, length, paint, label, base=.25)
    starts = np.arange(z + .3, z + length - 1, 1.5)
    c.polygons([[(side, 1.35, a), (side, 1.35, a + 1.3), (side, 2.55, a + 1.3), (side, 2.55, a)] for a in starts],
               _GLASS)
    c.polygon([(side, .95, z), (side, .95, z + length), (side, 1.12, z + length), (side, 1.12, z)], (238, 238, 234))
    for at in (z + 2, z + length - 2):
        c.wheel(side, .45, at, .46, _TYRE, label)
    c.front(left + .12, right - .12, 1.3, 2.65, z, _GLASS)
    c.polygon([(left + .12, 2.65, z), (right - .12, 2.65, z), (right - .12, 2.2, z), (left + .12, 1.8, z)],
              _SKY_IN_GLASS)
    c.front(left + .5, right - .5, 2.75, 3.0, z, (20, 22, 20))
    c.front(x - .55, x + .55, 2.8, 2.95, z, (250, 176, 40), glow=True)
    c.front(left, right, .25, .5, z, paint * .35)
    for at in (left + .12, right - .42):
        c.front(at, at + .3, .62, .86, z, (206, 24, 22) if away else (246, 244, 226), glow=True)


def truck(c: Canvas, rng, x, z, *, away: bool = True):
    """A lorry: from behind its box with doors, from the front its cab before the box."""
    paint, cargo = pick(rng, PAINTS), pick(rng, ((226, 226, 222), (178, 186, 190), (40, 74, 130), (196, 120, 44)))
    width, height, length = 2.4, rng.uniform(3.0, 3.6), 6.
    left, right = x - width / 2, x + width / 2
    ground_shadow(c, x, z, width + .3, length + 1.5)
    for at in (left + .05, right - .5):
        c.front(at, at + .45, 0, .85, z + .6, _TYRE, 'truck')
    start = z if away else z + 1.7
    box(c, x, start, width, height - .85, length, cargo, 'truck', base=.85)
    side = left if x > 0 else right
    for at in (start + .9, start + length - 1):
        c.wheel(side, .48, at, .48, _TYRE, 'truck')
    if away:
        c.limb((x, .9, z), (x, height, z), .05, cargo * .5)
        c.front(left + .25, x - .3, height * .55, height * .68, z, cargo * .75)
        c.front(left, right, .62, .85, z, (52, 54, 56), 'truck')
        for at in (left + .05, right - .35):
            c.front(at, at + .3, .66, .8, z, (206, 24, 22))
    else:
        box(c, x, z, width - .1, 2.2, 1.6, paint, 'truck', base=.4)
        c.front(left + .18, right - .18, 1.5, 2.4, z, _GLASS)
        c.front(left + .3, right - .3, .8, 1.2, z, (34, 36, 38))
        for at in (left + .12, right - .42):
            c.front(at, at + .3, .55, .78, z, (246, 244, 226), glow=True)


def person(c: Canvas, rng, x, z, *, label: str = 'person', pose: str = 'walk', base: float = 0.):
    """A person. ``pose`` is 'walk'; 'ride', seated and seen from the side; or 'sit', astride and seen from behind."""
    k = rng.uniform(1.6, 1.88) / 1.75
    shirt, trousers, skin = pick(rng, CLOTHES), pick(rng, CLOTHES) * .7, pick(rng, SKINS, 5)
    hair = pick(rng, ((34, 26, 20), (92, 64, 40), (190, 160, 104), (150, 146, 142)), 6)
    stride, turn = rng.uniform(.05, .3), rng.uniform(-.06, .06)
    lean = .14 if pose == 'ride' else 0

    def at(dx, y):
        return x + dx * k, base + y * k, z

    if pose == 'walk':
        ground_shadow(c, x, z, .5 * k, .25)
    for s, dark in ((-1, .8), (1, 1.)):
        hip, hand, elbow = at(.07 * s, .9), at((.24 - stride) * s, .86), at((.26 - .5 * stride) * s, 1.1)
        knee, foot = at(s * stride * .5 + .05 * s, .48), at(s * stride * .8 + turn, .05)
        if pose == 'ride':
            hip, knee, foot = at(-.04, .86), at(.3 - .06 * s, .62 + .08 * s), at(.12 + .1 * s, .16 + .1 * s)
            elbow, hand = at(.32, 1.1), at(.52, .92)
        elif pose == 'sit':
            knee, foot, elbow, hand = at(.3 * s, .6), at(.26 * s, .2), at(.34 * s, 1.14), at(.38 * s, .98)
        c.limb(hip, knee, .17 * k, trousers * dark, label)
        c.limb(knee, foot, .13 * k, trousers * dark, label)
        c.limb(foot, (foot[0] + .12, foot[1] - .01, z), .1 * k, (30, 28, 28), label)
        c.limb(at(.2 * s * (1 - 4 * lean) + lean, 1.4), elbow, .11 * k, shirt * .82, label)
        c.limb(elbow, hand, .09 * k, shirt * .82, label)
        c.disc(*hand, .05 * k, skin, label)
    chest = [at(-.17, .84), at(.17, .84), at(.24 + lean, 1.38), at(.14 + lean, 1.48), at(-.14 + lean, 1.48),
             at(-.24 + lean, 1.38)]
    c.polygon(chest, shirt, label)
    c.polygon([at(.02, .84), *chest[1:4]], shirt * (1.15 if c.sun > 0 else .85))
    c.limb(at(lean, 1.46), at(lean, 1.56), .1 * k, skin * .9, label)
    c.disc(*at(turn + lean, 1.66), .115 * k, hair, label)
    if pose != 'sit':
        c.disc(*at(turn * 1.6 + lean * 1.25, 1.63), .09 * k, skin, label)


def bicycle(c: Canvas, rng, x, z, *, ridden: bool = False):
    """A bicycle seen from the side, with a rider if ``ridden``."""
    frame = pick(rng, PAINTS)
    ground_shadow(c, x, z, 1.5, .3)
    for at in (x - .52, x + .52):
        c.disc(at, .34, z, .36, (34, 34, 36), 'bicycle')
        c.disc(at, .34, z, .3, (128, 128, 124))
        for dx, dy in ((.3, 0), (0, .3), (.21, .21), (.21, -.21)):
            c.limb((at - dx, .34 - dy, z), (at + dx, .34 + dy, z), .02, (80, 82, 84))
    hub, saddle, bar = (x - .05, .32, z), (x - .2, .88, z), (x + .36, .86, z)
    for a, b in (((x - .52, .34, z), hub), (hub, saddle), ((x - .52, .34, z), saddle), (saddle, bar), (hub, bar),
                 (bar, (x + .52, .34, z)), (bar, (x + .38, 1.0, z))):
        c.limb(a, b, .055, frame, 'bicycle')
    c.limb((x - .32, .92, z), (x - .08, .92, z), .07, (24, 24, 26), 'bicycle')
    c.limb((x + .28, 1.0, z), (x + .46, 1.02, z), .05, (24, 24, 26), 'bicycle')
    if ridden:
        person(c, rng, x - .14, z - .01, label='rider', pose='ride', base=.12)


def motorcycle(c: Canvas, rng, x, z, *, ridden: bool = False):
    """A motorcycle or scooter seen from behind at an angle, with a rider if ``ridden``."""
    paint = pick(rng, PAINTS)
    ground_shadow(c, x, z, .9, 1.8)
    for at, dz in ((x + .2, 1.2), (x, 0)):
        c.disc(at, .32, z + dz, .33, _TYRE, 'motorcycle', squash=.45)
    c.polygon([(x - .2, .45, z), (x + .22, .42, z), (x + .36, .8, z + .8), (x + .3, 1.05, z + 1),
               (x - .05, .95, z + .6), (x - .22, .82, z)], paint, 'motorcycle')
    c.polygon([(x - .2, .8, z), (x + .16, .8, z), (x + .2, .9, z + .4), (x - .1, .92, z + .4)], (26, 26, 28),
              'motorcycle')
    c.front(x - .1, x + .1, .62, .72, z, (214, 26, 24), glow=True)
    c.limb((x - .22, 1.12, z + .9), (x + .56, 1.12, z + .9), .07, (38, 40, 42), 'motorcycle')
    if ridden:
        person(c, rng, x, z - .01, label='rider', pose='sit', base=.1)
        c.disc(x, 1.8, z - .02, .15, paint, 'rider')


def tree(c: Canvas, rng, x, z, *, height: float | None = None):
    """A broad-leaved tree; its crown is a heap of leaves, brighter towards the light."""
    height = height or rng.uniform(5, 9.5)
    leaf = pick(rng, ((72, 108, 48), (58, 92, 46), (96, 124, 58), (110, 118, 50), (146, 118, 48)), 8)
    ground_shadow(c, x, z, height * .3, .9)
    c.limb((x, 0, z), (x, height * .6, z), .13 + .018 * height, (76, 62, 50), 'vegetation')
    many = int(np.clip(16 * height * c.focal / c.width / z * 11, 16, 300))
    spread = rng.standard_normal((many, 3))
    spread *= rng.uniform(.25, 1, (many, 1)) ** .5 / np.linalg.norm(spread, axis=1, keepdims=True)
    spread = spread[np.argsort(spread[:, 1] - .3 * rng.random(many))]  # the lower, darker leaves first
    centres = (x, height * .68, z) + spread * (height * .27, height * .32, 0)
    lit = 1 + .30 * spread[:, 1] + .16 * c.sun * spread[:, 0] + rng.normal(0, .16, many)
    size = height * rng.uniform(.3, 1.1, many) / (5.5 + .6 * many**.5)
    c.blobs(centres, size, leaf * lit.clip(.4, 1.5)[:, None], 'vegetation', z)


def bush(c: Canvas, rng, x, z, *, width: float = 1.6):
    """A low bush or a piece of hedge."""
    leaf = pick(rng, ((64, 98, 46), (84, 112, 54), (54, 82, 48)), 8)
    spread = rng.uniform(-1, 1, (26, 3)) * (width / 2, .35, 0) + (x, .5, z)
    spread = spread[np.argsort(spread[:, 1])]
    c.blobs(spread, rng.uniform(.16, .34, 26), leaf * rng.uniform(.7, 1.25, (26, 1)), 'vegetation', z)


def lamp(c: Canvas, rng, x, z):
    """A street lamp whose arm reaches over the road."""
    height, reach = rng.uniform(5.5, 7.5), -np.sign(x) * rng.uniform(.9, 1.8)
    grey = pick(rng, ((94, 98, 100), (66, 74, 70), (128, 130, 128)), 6)
    c.limb((x, 0, z), (x, height, z), .15, grey, 'pole')
    c.limb((x, 0, z), (x, .9, z), .24, grey * .85, 'pole')
    c.limb((x, height, z), (x + reach, height + .3, z), .1, grey, 'pole')
    c.limb((x + reach * .9, height + .26, z), (x + reach * 1.3, height + .3, z), .2, grey * .8, 'pole')
    if c.light.night:
        c.limb((x + reach * .95, height + .2, z), (x + reach * 1.25, height + .24, z), .14, (255, 226, 150), glow=True)


def sign(c: Canvas, rng, x, z):
    """A traffic sign on its pole: warning, order, parking, or a direction board."""
    c.limb((x, 0, z), (x, 2.7, z), .08, (140, 142, 144), 'pole')
    shape, z = rng.integers(4), z - .02
    if shape == 0:
        c.polygon([(x - .42, 2.25, z), (x + .42, 2.25, z), (x, 2.98, z)], (200, 30, 32), 'traffic sign')
        c.polygon([(x - .26, 2.34, z), (x + .26, 2.34, z), (x, 2.8, z)], (240, 238, 230))
    elif shape == 1:
        c.disc(x, 2.55, z, .36, (200, 30, 32), 'traffic sign')
        c.disc(x, 2.55, z, .25, (242, 240, 234))
        c.front(x - .12, x + .12, 2.5, 2.6, z, (30, 30, 32))
    elif shape == 2:
        c.front(x - .33, x + .33, 2.2, 2.86, z, (30, 82, 164), 'traffic sign')
        c.front(x - .1, x - .02, 2.3, 2.76, z, (240, 240, 240))
        c.disc(x + .03, 2.62, z, .13, (240, 240, 240))
    else:
        c.front(x - .75, x + .75, 2.3, 2.85, z, (236, 190, 44) if rng.random() < .5 else (34, 96, 68), 'traffic sign')
        for y in (2.42, 2.62):
            c.front(x - .6, x + .35, y, y + .08, z, (34, 34, 34))


def traffic_light(c: Canvas, rng, x, z):
    """A traffic light on its pole."""
    c.limb((x, 0, z), (x, 3.3, z), .12, (88, 92, 90), 'pole')
    c.front(x - .22, x + .22, 2.45, 3.5, z - .02, (28, 30, 30), 'traffic light')
    on = rng.integers(3)
    for i, colour in enumerate(((240, 50, 40), (250, 186, 50), (60, 226, 120))):
        c.disc(x, 3.32 - .34 * i, z - .03, .13, colour if i == on else (58, 58, 56), glow=i == on)
