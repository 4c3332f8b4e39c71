"""One procedural street scene: how the street runs, what lines it, what stands and drives in it.

Far things are painted first. Metres and axes are those of ``demo_canvas.py``.
"""

import cv2
import numpy as np
from cityscapesscripts.helpers.labels import name2label

from . import demo_things as things
from .demo_canvas import LIGHTS, Canvas
from .demo_open_things import COMMON, OPEN_KINDS
from .demo_things import pick

_PLASTER = ((214, 198, 168), (196, 170, 132), (178, 176, 170), (150, 86, 68), (226, 222, 212), (170, 184, 190),
            (204, 160, 120), (128, 116, 106), (188, 196, 168))
_SHOPS = ((172, 36, 40), (30, 80, 130), (34, 100, 70), (210, 160, 40), (50, 50, 54), (120, 50, 110))
_END = 150.  # metres to the end of the street


def render_scene(rng: np.random.Generator, *, kinds=COMMON[:4], size=(256, 512)) -> tuple[np.ndarray, np.ndarray]:
    """Paint one street.

    Args:
        rng: Source of every random choice; the same state gives the same bytes.
        kinds: Open kinds to place, keys of ``OPEN_KINDS``. A kind may end up hidden behind a nearer thing.
        size: (H, W) in pixels.

    Returns:
        (H, W, 3) uint8 BGR image; (H, W) uint8 Cityscapes label ids.

    Raises:
        ValueError: an unknown kind.
    """
    strange = [kind for kind in kinds if kind not in OPEN_KINDS]
    if strange:
        raise ValueError(f'kinds must come from {tuple(OPEN_KINDS)}, but got {strange}.')
    canvas = Canvas(rng, size, LIGHTS[rng.choice(len(LIGHTS), p=(.35, .25, .25, .15))])
    street = _Street(canvas, rng, kinds)
    _sky(canvas, rng)
    street.backdrop()
    street.ground()
    for _, paint in sorted(street.jobs(), key=lambda job: -job[0]):
        paint()
    _camera_artifacts(canvas, rng)
    return canvas.finish()


def _sky(c: Canvas, rng):
    """Gradient, clouds, everything labelled sky until something stands before it."""
    size = c.height // 4, c.width // 2  # the lower half is never seen
    rows = np.linspace(0, .5 * c.height / c.horizon, size[0], dtype=np.float32).clip(0, 1)[:, None, None]
    zenith, horizon, cloud = (np.array(v, np.float32) for v in (c.light.zenith, c.light.horizon, c.light.cloud))
    lumps = c.smooth_noise(5, 11, size) + .5 * c.smooth_noise(11, 24, size) + .25 * c.smooth_noise(26, 50, size)
    lumps = lumps[..., None] + 2.2 * c.light.clouds
    cover = ((lumps - 1.3) / 1.6).clip(0, 1) * (1.15 - .7 * rows).clip(0, 1)
    shade = 1 - .12 * ((lumps - 2.4) / 1.5).clip(0, 1)
    sky = (zenith * (1 - rows) + horizon * rows) * (1 - cover) + cloud * shade * cover
    c.image[:c.height // 2] = cv2.resize(sky, (c.width, c.height // 2)).clip(0, 255)
    c.labels[:] = name2label['sky'].id


def _camera_artifacts(c: Canvas, rng):
    """Void: the bonnet below, the rectification border at the sides, the strip that is out of the region of interest."""
    across = np.linspace(0, c.width, 40)
    top = c.height * (rng.uniform(.90, .935) + .05 * (2 * across / c.width - 1)**2)
    paint = pick(rng, ((58, 62, 70), (150, 154, 160), (30, 34, 44)), 6)
    number, gain = name2label['ego vehicle'].id, np.array(c.light.gain)
    for lower, tone in ((0, paint * .55), (.008, paint * 1.25 + 20), (.02, paint), (.05, paint * .82)):
        edge = np.stack([across, top + lower * c.height], 1)
        outline = np.concatenate([edge, [(c.width, c.height), (0, c.height)]]).round().astype(np.int32)
        cv2.fillPoly(c.image, [outline], tuple(float(v) for v in (tone * gain).clip(0, 255)))
        if lower == 0:
            cv2.fillPoly(c.labels, [outline], number)
    bend = (.004 + .006 * np.linspace(-1, 1, c.height)**2) * c.width
    columns = np.arange(c.width)
    border = (columns < bend[:, None]) | (columns >= c.width - .6 * bend[:, None])
    c.image[border], c.labels[border] = 0, name2label['rectification border'].id
    strip = 2 * max(1, round(5 * c.size[0] / 1024))  # Cityscapes: 5 pixels of 1024
    outside = np.ones(c.labels.shape, bool)
    outside[strip:-strip, strip:-strip] = False
    c.labels[outside] = name2label['out of roi'].id


class _Street:
    """The plan of one street. Sides are -1 (left) and 1 (right); ``edge[side]`` is the kerb."""

    def __init__(self, c: Canvas, rng, kinds):
        self.c, self.rng, self.kinds = c, rng, tuple(kinds)
        self.lane = rng.uniform(3.3, 3.9)
        self.parked = {side: rng.random() < .55 for side in (-1, 1)}
        self.strip = int(rng.choice((-1, 1))) if 'parking strip' in kinds else 0
        if self.strip:
            self.parked[self.strip] = True
        lanes = {-1: rng.choice((1.5, 2.5), p=(.75, .25)), 1: .5}
        self.edge = {s: s * (lanes[s] * self.lane + .3 + 2.2 * self.parked[s]) for s in (-1, 1)}
        self.walk = {s: rng.uniform(2.2, 3.8) for s in (-1, 1)}
        self.green = {s: rng.choice((0, rng.uniform(1.5, 4)), p=(.6, .4)) for s in (-1, 1)}
        self.house = {s: self.edge[s] + s * (self.walk[s] + self.green[s]) for s in (-1, 1)}
        self.end = min(_END, 46.) if 'tunnel' in kinds else _END
        self.taken = {(s, zone): [] for s in (-1, 1) for zone in ('walk', 'kerb')}

    def slot(self, side, zone, room, nearest=7., farthest=45.):
        """A distance along the kerb or sidewalk that is still free, or None; ``room`` metres long."""
        for _ in range(12):
            z = nearest * (farthest / nearest) ** self.rng.random()
            if all(z + room < a or z > b for a, b in self.taken[side, zone]):
                self.taken[side, zone].append((z, z + room))
                return z
        return None

    def backdrop(self):
        """What closes the view: hazy hills, then trees or houses across the end of the street."""
        c, rng = self.c, self.rng
        if 'skyline' in self.kinds:  # towers and cranes too far to name
            haze = pick(rng, ((120, 130, 150), (150, 140, 140)))
            for x in rng.uniform(-150, 150, 16):
                c.front(x, x + rng.uniform(12, 30), 0, rng.uniform(40, 85), 330, haze * rng.uniform(.85, 1.1), 'unlabeled')
        hills = np.stack([np.linspace(-260, 260, 24), 14 + 5 * rng.standard_normal(24), np.full(24, 320.)], 1)
        c.polygon([(-260, 0, 320), *hills, (260, 0, 320)], (78, 104, 66), 'vegetation')
        for x in np.sort(rng.uniform(-70, 70, 9)):
            if rng.random() < .5:
                self._frontage(x, x + rng.uniform(12, 22), rng.uniform(8, 19), _END + 10)
            else:
                things.tree(c, rng, x, _END + 5, height=rng.uniform(8, 15))

    def _frontage(self, x0, x1, height, z):
        colour = pick(self.rng, _PLASTER)
        self.c.front(x0, x1, 0, height, z, colour, 'building')
        starts = [(x, y) for x in np.arange(x0 + 1, x1 - 2, 2.6) for y in np.arange(1.2, height - 2, 3.1)]
        self.c.polygons([[(x, y, z), (x + 1.2, y, z), (x + 1.2, y + 1.7, z), (x, y + 1.7, z)] for x, y in starts],
                        (70, 76, 86))

    def ground(self):
        """Terrain, road with its markings, parking strip, rails, sidewalks; broad shadows on all of it."""
        c, rng, near, far = self.c, self.rng, 1.5, 400.
        c.flat(-400, 400, near, far, pick(rng, ((112, 124, 70), (128, 122, 84)), 8), 'terrain')
        asphalt = pick(rng, ((88, 88, 91), (100, 98, 97), (76, 77, 81)), 4)
        c.flat(self.edge[-1], self.edge[1], near, far, asphalt, 'road')
        for _ in range(rng.integers(4)):
            x, z = rng.uniform(self.edge[-1], self.edge[1] - 1.5), rng.uniform(4, 30)
            c.flat(x, x + rng.uniform(.6, 1.5), z, z + rng.uniform(1, 7), asphalt * rng.uniform(.88, 1.07))
        for lane in (0, -self.lane):
            for dx in (-.75, .75):
                c.flat(lane + dx - .22, lane + dx + .22, near, far, asphalt * .94)
        if self.strip:
            s = self.strip
            inner = self.edge[s] - s * 2.15
            c.flat(*sorted((inner, self.edge[s])), near, far, pick(rng, ((134, 120, 112), (120, 116, 116)), 6), 'parking')
            for z in np.arange(rng.uniform(2, 7), 70, 5.6):
                c.flat(*sorted((inner, self.edge[s])), z, z + .12, (222, 222, 218))
        white = (224, 224, 220)
        for z in np.arange(rng.uniform(1.5, 6), 120, 6.5):
            c.flat(-self.lane / 2 - .08, -self.lane / 2 + .08, z, z + 3.2, white)
        for s in (-1, 1):
            line = self.edge[s] - s * (2.25 if self.parked[s] else .25)
            c.flat(line - .06, line + .06, near, far, white)
        if 'rail track' in self.kinds:
            self._rails()
        for s in (-1, 1):
            self._sidewalk(s)
        self.crossing = rng.uniform(11, 24) if rng.random() < .45 else None
        if self.crossing:
            for x in np.arange(self.edge[-1] + .3, self.edge[1] - .4, 1.05):
                c.flat(x, x + .55, self.crossing, self.crossing + 3, white)
        if c.sun:  # the houses' shadow covers the sidewalk and part of the road
            reach = self.house[c.sun] - c.sun * rng.uniform(2, 7)
            c.shadow([(self.house[c.sun], 0, near), (reach, 0, near), (reach, 0, 140), (self.house[c.sun], 0, 140)])

    def _rails(self):
        c = self.c
        x = -self.lane
        c.flat(x - 1.25, x + 1.25, 1.5, 400, pick(self.rng, ((118, 106, 98), (104, 98, 96)), 4), 'rail track')
        for z in np.arange(1.6, 50, .75):
            c.flat(x - 1.15, x + 1.15, z, z + .24, (92, 84, 78))
        for dx in (-.72, .72):
            c.flat(x + dx - .05, x + dx + .05, 1.5, 400, (176, 178, 180))

    def _sidewalk(self, s):
        c, rng = self.c, self.rng
        inner, outer = self.edge[s], self.edge[s] + s * self.walk[s]
        stone = pick(rng, ((160, 156, 150), (172, 162, 152), (146, 148, 150)), 5)
        label = 'sidewalk'
        if 'plaza' in self.kinds and s == -1:  # shared ground for feet and wheels: neither road nor sidewalk
            label, stone = 'ground', pick(rng, ((178, 140, 118), (166, 158, 138)), 6)
        c.flat(*sorted((inner, outer)), 1.5, 400, stone, label)
        for x in np.arange(inner, outer, s * .62):
            c.flat(x - .015, x + .015, 1.5, 45, stone * .88)
        for z in np.arange(1.6, 40, .95):
            c.flat(*sorted((inner, outer)), z, z + .035, stone * .88)
        c.flat(*sorted((inner - s * .02, inner + s * .2)), 1.5, 400, stone * 1.14, label)
        c.flat(*sorted((inner - s * .12, inner - s * .02)), 1.5, 400, (70, 70, 72))

    def jobs(self):
        """(depth, paint) of everything that stands; painted far to near."""
        yield from self._lined()
        yield from self._structures()
        yield from self._open_things()
        yield from self._furniture()
        yield from self._traffic()
        yield from self._people()

    def _lined(self):
        """Both sides of the street: houses, and gaps with a wall, a fence, a hedge or trees."""
        rng = self.rng
        rail_at = int(rng.integers(1, 3)) if 'guard rail' in self.kinds else None
        for s in (-1, 1):
            z, i = rng.uniform(1.6, 6), 0
            while z < self.end:
                length = rng.uniform(7, 17)
                z1 = min(z + length, self.end)
                if rail_at == i and s == 1:
                    yield z1, lambda s=s, z=z, z1=z1: self._guard_rail(s, z, z1)
                elif rng.random() < .68:
                    yield z1, lambda s=s, z=z, z1=z1: self._house(s, z, z1)
                else:
                    yield z1, lambda s=s, z=z, z1=z1: self._gap(s, z, z1)
                z, i = z1 + rng.choice((0, rng.uniform(1, 4)), p=(.75, .25)), i + 1
            if self.green[s]:
                for at in np.arange(rng.uniform(9, 16), 90, rng.uniform(8, 14)):
                    x = self.house[s] - s * self.green[s] * .5
                    yield at, lambda x=x, at=at: things.tree(self.c, rng, x, at)

    def _house(self, s, z0, z1):
        """A house: gable towards the camera, front with floors of windows, shop or door below, cornice above."""
        c, rng, x = self.c, self.rng, self.house[s]
        floors = int(rng.integers(2, 6))
        top = 3.6 + 3.1 * floors
        plaster = pick(rng, _PLASTER)
        lit = plaster * (1.06 if c.sun == -s else .78 if c.sun else .92)
        c.front(*sorted((x, x + s * 14)), 0, top, z0, plaster * .8, 'building')

        def panels(corners, colour, label=None, glow=False):
            """Rectangles (z, y, length, height) on the front."""
            c.polygons([[(x, y, a), (x, y, a + w), (x, y + h, a + w), (x, y + h, a)] for a, y, w, h in corners], colour,
                       label, glow)

        panels([(z0, 0, z1 - z0, top)], lit, 'building')
        panels([(z0, top - .45, z1 - z0, .45)], lit * 1.12, 'building')
        panels([(z0, 3.35, z1 - z0, .2)], lit * .84)
        count = max(int((z1 - z0 - .6) / rng.uniform(2.1, 2.9)), 1)
        step = (z1 - z0) / count
        wide, high = step * rng.uniform(.38, .52), rng.uniform(1.5, 1.9)
        holes = [(z0 + step * (j + .5) - wide / 2, 4.2 + 3.1 * i, wide, high) for i in range(floors) for j in range(count)]
        if z0 < 60:
            panels([(a - .12, y - .14, w + .24, h + .26) for a, y, w, h in holes], lit * 1.16 + 8)
        bright = rng.random(len(holes)) < (.35 if c.light.night else 0)
        glass = pick(rng, ((58, 68, 80), (72, 84, 98), (48, 52, 58)), 6)
        panels([hole for hole, on in zip(holes, bright) if not on] or holes[:1], glass)
        if bright.any():
            panels([hole for hole, on in zip(holes, bright) if on], (246, 206, 122), glow=True)
        if z0 < 45:
            panels([(a + w * .06, y + h * .52, w * .88, h * .4) for (a, y, w, h), on in zip(holes, bright) if not on]
                   or holes[:1], glass * 1.45)
            panels([(a + w * .47, y, w * .06, h) for a, y, w, h in holes], lit * 1.1)
        if rng.random() < .55:
            self._shop(s, z0, z1, panels)
        else:
            panels([(a, 1.0, w, 1.6) for a, y, w, h in holes[:count]], glass)
            panels([(z0 + (z1 - z0) * .45, 0, 1.3, 2.4)], pick(rng, ((84, 54, 38), (40, 60, 54), (60, 60, 66))))

    def _shop(self, s, z0, z1, panels):
        c, rng, x = self.c, self.rng, self.house[s]
        brand = pick(rng, _SHOPS)
        panels([(z0 + .3, .1, z1 - z0 - .6, 3.0)], brand * .45 + 20)
        count = max(int((z1 - z0) / 2.6), 1)
        step = (z1 - z0 - .8) / count
        for j in range(count):
            at = z0 + .4 + j * step
            panels([(at + .08, .35, step - .16, 2.1)], (206, 178, 120) if c.light.night else (84, 92, 98),
                   glow=c.light.night)
            for k in range(3):
                panels([(at + .2 + k * step * .28, .4, step * .2, rng.uniform(.5, 1.3))], pick(rng, things.CLOTHES, 30))
        panels([(z0 + .3, 2.6, z1 - z0 - .6, .62)], brand)
        panels([(a, 2.76, .34, .3) for a in np.arange(z0 + 1, z0 + 1 + .5 * (z1 - z0), .55)], (240, 238, 230))
        if rng.random() < .6:
            for i, at in enumerate(np.arange(z0 + .4, z1 - .6, .5)):
                c.polygon([(x, 2.6, at), (x, 2.6, at + .5), (x - s * 1.1, 2.15, at + .5), (x - s * 1.1, 2.15, at)],
                          brand * 1.1 if i % 2 else (234, 230, 220), 'building')

    def _gap(self, s, z0, z1):
        """No house here: trees behind a wall, a fence or a hedge."""
        c, rng, x = self.c, self.rng, self.house[s]
        for at in np.arange(z1, z0 + 1, -4.):
            things.tree(c, rng, x + s * rng.uniform(4, 9), at, height=rng.uniform(5, 9))
        kind = rng.choice(('wall', 'fence', 'hedge'))
        if kind == 'hedge':
            for at in np.arange(z1, z0, -1.):
                things.bush(c, rng, x, at)
            return
        top = rng.uniform(1.5, 2.4)
        face = [(x, 0, z0), (x, 0, z1), (x, top, z1), (x, top, z0)]
        if kind == 'wall':
            stone = pick(rng, ((150, 140, 128), (142, 92, 74), (168, 166, 160)))
            c.front(*sorted((x, x + s * .4)), 0, top, z0, stone * .8, 'wall')
            c.polygon(face, stone, 'wall')
            for y in np.arange(.3, top, .3):
                c.polygon([(x, y, z0), (x, y, z1), (x, y + .04, z1), (x, y + .04, z0)], stone * .82)
            c.polygon([(x, top - .12, z0), (x, top - .12, z1), (x, top, z1), (x, top, z0)], stone * 1.12)
        else:
            metal = pick(rng, ((70, 84, 74), (52, 54, 58), (150, 122, 90)), 8)
            c.polygon(face, pick(rng, ((88, 104, 66), (104, 104, 90)), 6), 'fence')
            bars = np.arange(z0, z1, .28)
            c.polygons([[(x, 0, z), (x, 0, z + .1), (x, top, z + .1), (x, top, z)] for z in bars], metal)
            for y in (.25, top - .15):
                c.polygon([(x, y, z0), (x, y, z1), (x, y + .09, z1), (x, y + .09, z0)], metal * .9)

    def _guard_rail(self, s, z0, z1):
        """A steel barrier between the street and a green slope."""
        c, rng, x = self.c, self.rng, self.house[s]
        for at in np.arange(z1, z0, -2.2):
            things.bush(c, rng, x + s * 1.5, at, width=2.4)
        for at in np.arange(z1, z0, -2.):
            c.limb((x, 0, at), (x, .72, at), .14, (120, 122, 122), 'guard rail')
        c.polygon([(x, .42, z0), (x, .42, z1), (x, .92, z1), (x, .92, z0)], (172, 176, 178), 'guard rail')
        c.polygon([(x, .62, z0), (x, .62, z1), (x, .72, z1), (x, .72, z0)], (118, 122, 124))

    def _structures(self):
        c, rng = self.c, self.rng
        if 'bridge' in self.kinds:
            z = rng.uniform(24, 42)
            yield z, lambda: self._bridge(z)
        if 'tunnel' in self.kinds:
            yield self.end + 1, self._tunnel

    def _bridge(self, z):
        c, rng = self.c, self.rng
        stone, low, high = pick(rng, ((150, 144, 136), (128, 120, 114), (110, 124, 132))), 5.0, 6.5
        left, right = self.house[-1], self.house[1]
        for x in (left - 6, right):
            c.front(x, x + 6, 0, low, z, stone * .8, 'bridge')
        c.flat(-60, 60, z, z + 7, stone * .38, 'bridge', y=low)
        c.front(-60, 60, low, high, z, stone, 'bridge')
        c.front(-60, 60, low, low + .18, z, stone * .7)
        c.front(-60, 60, high, high + .12, z, stone * 1.15, 'bridge')
        for x in np.arange(-40, 40, 1.5):
            c.limb((x, high, z), (x, high + 1, z), .1, (70, 78, 84), 'bridge')
        c.limb((-60, high + 1, z), (60, high + 1, z), .12, (70, 78, 84), 'bridge')

    def _tunnel(self):
        """The street ends in a tunnel's mouth below a hill."""
        c, rng, z = self.c, self.rng, self.end + 1
        stone = pick(rng, ((140, 132, 122), (120, 116, 112)))
        c.front(-70, 70, 0, 9.5, z, stone, 'tunnel')
        for y in np.arange(.7, 9.5, .7):
            c.front(-70, 70, y, y + .07, z, stone * .85)
        leaves = rng.uniform((-40, 9.2, z), (40, 12, z), (420, 3))
        leaves[:, 1] += 2.5 * np.exp(-(leaves[:, 0] / 14)**2)
        leaves = leaves[np.argsort(-leaves[:, 1])]
        c.blobs(leaves, rng.uniform(.4, 1.1, 420), np.outer(rng.uniform(.7, 1.2, 420), (82, 108, 56)), 'vegetation', z)
        left, right = self.edge[-1] - .8, self.edge[1] + .8
        turn = np.linspace(0, np.pi, 16)
        for grow, colour in ((.5, stone * 1.2), (0, (26, 26, 30))):
            half = (right - left) / 2 + grow
            arch = [((left + right) / 2 - half * np.cos(t), 3 + (3.2 + grow) * np.sin(t), z - .01) for t in turn]
            c.polygon([(arch[0][0], 0, z - .01), *arch, (arch[-1][0], 0, z - .01)], colour, 'tunnel')
        c.limb(((left + right) / 2 - 2, 5.4, z - .02), ((left + right) / 2 + 2, 5.4, z - .02), .2, (246, 220, 150),
               glow=True)

    def _open_things(self):
        c, rng = self.c, self.rng
        for name in self.kinds:
            kind = OPEN_KINDS[name]
            if kind.paint is None:
                continue
            s = int(rng.choice((-1, 1), p=(.3, .7)))  # mostly on the near side
            zone = 'walk' if kind.place == 'sidewalk' else 'kerb'
            z = self.slot(s, zone, 4., nearest=6.5, farthest=18.) or rng.uniform(7, 18)
            if kind.place == 'sidewalk':
                x = self.edge[s] + s * rng.uniform(.9, max(self.walk[s] - .7, 1.))
            elif kind.place == 'kerb':
                x = self.edge[s] - s * 1.15
            else:
                x = rng.choice((self.lane / 2 - .3, -self.lane / 2))
            yield z, lambda kind=kind, x=x, z=z: kind.paint(c, rng, x, z)

    def _furniture(self):
        """Lamps, signs, lights, street trees, parked two-wheelers."""
        c, rng = self.c, self.rng
        for s in (-1, 1):
            kerb = self.edge[s] + s * .45
            gap = rng.uniform(16, 26)
            for z in np.arange(rng.uniform(8, 20), 110, gap):
                yield z, lambda x=kerb, z=z: things.lamp(c, rng, x, z)
            for _ in range(rng.integers(1, 4)):
                z = rng.uniform(8, 50)
                yield z, lambda x=kerb, z=z: things.sign(c, rng, x, z)
            if rng.random() < .4 and not self.green[s]:
                for z in np.arange(rng.uniform(9, 18), 80, rng.uniform(9, 15)):
                    yield z, lambda x=kerb + s * .4, z=z: things.tree(c, rng, x, z, height=rng.uniform(4.5, 6.5))
            if self.crossing or rng.random() < .3:
                z = (self.crossing or rng.uniform(16, 32)) + .2
                yield z, lambda x=kerb, z=z: things.traffic_light(c, rng, x, z)
            for paint, chance in ((things.bicycle, .5), (things.motorcycle, .3)):
                z = self.slot(s, 'walk', 1.5) if rng.random() < chance else None
                if z:
                    yield z, lambda paint=paint, x=kerb + s * .7, z=z: paint(c, rng, x, z)

    def _traffic(self):
        c, rng = self.c, self.rng
        for s in (-1, 1):
            z = rng.uniform(6, 12)
            while self.parked[s] and z < 80:
                if rng.random() < .7 and all(z + 5 < a or z > b for a, b in self.taken[s, 'kerb']):
                    paint = things.truck if rng.random() < .06 else things.car
                    yield z, lambda paint=paint, x=self.edge[s] - s * 1.1, z=z, away=s > 0: paint(c, rng, x, z, away=away)
                z += rng.uniform(5.4, 6.4)
        if 'rail track' in self.kinds and rng.random() < .7:
            z = rng.uniform(16, 45)
            yield z, lambda z=z: things.bus(c, rng, -self.lane, z, away=False, label='train', length=24.)
            oncoming = ()
        else:
            oncoming = np.cumsum(rng.uniform(9, 28, 5))
        for x, away, places in ((0., True, np.cumsum(rng.uniform(11, 30, 4))), (-self.lane, False, oncoming)):
            for z in places:
                paint = rng.choice((things.car, things.truck, things.bus, things.motorcycle, things.bicycle, None),
                                   p=(.55, .08, .08, .06, .05, .18))
                if paint is None:
                    continue
                extra = {'ridden': True} if paint in (things.motorcycle, things.bicycle) else {'away': away}
                yield z, lambda paint=paint, x=x + rng.normal(0, .2), z=z, extra=extra: paint(c, rng, x, z, **extra)

    def _people(self):
        c, rng = self.c, self.rng
        for _ in range(rng.integers(2, 9)):
            s = int(rng.choice((-1, 1)))
            z = self.slot(s, 'walk', .7, farthest=40.)
            if z:
                x = self.edge[s] + s * rng.uniform(.5, self.walk[s] - .4)
                yield z, lambda x=x, z=z: things.person(c, rng, x, z)
        if self.crossing and rng.random() < .6:
            x, z = rng.uniform(self.edge[-1], self.edge[1]), self.crossing + 1.5
            yield z, lambda: things.person(c, rng, x, z)
        if rng.random() < .45:
            s = int(rng.choice((-1, 1)))
            x, z = self.edge[s] - s * (3. if self.parked[s] else .8), rng.uniform(8, 20)
            yield z, lambda: things.bicycle(c, rng, x, z, ridden=True)
