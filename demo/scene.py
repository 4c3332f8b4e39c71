"""One procedural street scene: how the street runs, what lines it, what stands and drives in it.

Far things are painted first. Metres and axes are those of ``canvas.py``.
"""

import cv2
import numpy as np
from cityscapesscripts.helpers.labels import name2label

from demo import roadside, sides, things
from demo.canvas import LIGHTS, Canvas
from demo.open_kinds import COMMON, OPEN_KINDS
from demo.things import pick

_END = 150.0  # metres to the end of the street


def render_scene(
    rng: np.random.Generator, *, kinds=COMMON[:4], size=(256, 512)
) -> tuple[np.ndarray, np.ndarray]:
    """Paint one street.

    Args:
        rng: Source of every random choice; the same state gives the same bytes.
        kinds: Open kinds to place, keys of ``OPEN_KINDS``. A kind may end up hidden behind a nearer
            thing.
        size: (H, W) in pixels.

    Returns:
        (H, W, 3) uint8 BGR image; (H, W) uint8 Cityscapes label ids.

    Raises:
        ValueError: an unknown kind.
    """
    strange = [kind for kind in kinds if kind not in OPEN_KINDS]
    if strange:
        raise ValueError(f'kinds must come from {tuple(OPEN_KINDS)}, but got {strange}.')
    canvas = Canvas(rng, size, LIGHTS[rng.choice(len(LIGHTS), p=(0.35, 0.25, 0.25, 0.15))])
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
    rows = np.linspace(0, 0.5 * c.height / c.horizon, size[0], dtype=np.float32).clip(0, 1)[
        :, None, None
    ]
    zenith, horizon, cloud = (
        np.array(v, np.float32) for v in (c.light.zenith, c.light.horizon, c.light.cloud)
    )
    lumps = (
        c.smooth_noise(5, 11, size)
        + 0.5 * c.smooth_noise(11, 24, size)
        + 0.25 * c.smooth_noise(26, 50, size)
    )
    lumps = lumps[..., None] + 2.2 * c.light.clouds
    cover = ((lumps - 1.3) / 1.6).clip(0, 1) * (1.15 - 0.7 * rows).clip(0, 1)
    shade = 1 - 0.12 * ((lumps - 2.4) / 1.5).clip(0, 1)
    sky = (zenith * (1 - rows) + horizon * rows) * (1 - cover) + cloud * shade * cover
    c.image[: c.height // 2] = cv2.resize(sky, (c.width, c.height // 2)).clip(0, 255)
    c.labels[:] = name2label['sky'].id


def _camera_artifacts(c: Canvas, rng):
    """Void: the bonnet below, the rectification border at the sides, and around all a strip out of
    the region of interest."""
    across = np.linspace(0, c.width, 40)
    top = c.height * (rng.uniform(0.90, 0.935) + 0.05 * (2 * across / c.width - 1) ** 2)
    paint = pick(rng, ((58, 62, 70), (150, 154, 160), (30, 34, 44)), 6)
    number, gain = name2label['ego vehicle'].id, np.array(c.light.gain)
    for lower, tone in (
        (0, paint * 0.55),
        (0.008, paint * 1.25 + 20),
        (0.02, paint),
        (0.05, paint * 0.82),
    ):
        edge = np.stack([across, top + lower * c.height], 1)
        outline = (
            np.concatenate([edge, [(c.width, c.height), (0, c.height)]]).round().astype(np.int32)
        )
        cv2.fillPoly(c.image, [outline], tuple(float(v) for v in (tone * gain).clip(0, 255)))
        if lower == 0:
            cv2.fillPoly(c.labels, [outline], number)
    bend = (0.004 + 0.006 * np.linspace(-1, 1, c.height) ** 2) * c.width
    columns = np.arange(c.width)
    border = (columns < bend[:, None]) | (columns >= c.width - 0.6 * bend[:, None])
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
        self.parked = {side: rng.random() < 0.55 for side in (-1, 1)}
        self.strip = int(rng.choice((-1, 1))) if 'parking strip' in kinds else 0
        if self.strip:
            self.parked[self.strip] = True
        lanes = {-1: rng.choice((1.5, 2.5), p=(0.75, 0.25)), 1: 0.5}
        self.edge = {s: s * (lanes[s] * self.lane + 0.3 + 2.2 * self.parked[s]) for s in (-1, 1)}
        self.walk = {s: rng.uniform(2.2, 3.8) for s in (-1, 1)}
        self.green = {s: rng.choice((0, rng.uniform(1.5, 4)), p=(0.6, 0.4)) for s in (-1, 1)}
        self.house = {s: self.edge[s] + s * (self.walk[s] + self.green[s]) for s in (-1, 1)}
        self.end = min(_END, 46.0) if 'tunnel' in kinds else _END
        self.taken = {(s, zone): [] for s in (-1, 1) for zone in ('walk', 'kerb')}

    def slot(self, side, zone, room, nearest=7.0, farthest=45.0):
        """A distance along the kerb or sidewalk that is still free, or None; ``room`` metres
        long.
        """
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
                c.front(
                    x,
                    x + rng.uniform(12, 30),
                    0,
                    rng.uniform(40, 85),
                    330,
                    haze * rng.uniform(0.85, 1.1),
                    'unlabeled',
                )
        hills = np.stack(
            [np.linspace(-260, 260, 24), 14 + 5 * rng.standard_normal(24), np.full(24, 320.0)], 1
        )
        c.polygon([(-260, 0, 320), *hills, (260, 0, 320)], (78, 104, 66), 'vegetation')
        for x in np.sort(rng.uniform(-70, 70, 9)):
            if rng.random() < 0.5:
                sides.frontage(c, rng, x, x + rng.uniform(12, 22), rng.uniform(8, 19), _END + 10)
            else:
                roadside.tree(c, rng, x, _END + 5, height=rng.uniform(8, 15))

    def ground(self):
        """Terrain, road with its markings, parking strip, rails, sidewalks; broad shadows on all of
        it.
        """
        c, rng, near, far = self.c, self.rng, 1.5, 400.0
        c.flat(-400, 400, near, far, pick(rng, ((112, 124, 70), (128, 122, 84)), 8), 'terrain')
        asphalt = pick(rng, ((104, 104, 107), (116, 114, 112), (92, 93, 97)), 5)
        c.flat(self.edge[-1], self.edge[1], near, far, asphalt, 'road')
        for _ in range(rng.integers(4)):
            x, z = rng.uniform(self.edge[-1], self.edge[1] - 1.5), rng.uniform(4, 30)
            c.flat(
                x,
                x + rng.uniform(0.6, 1.5),
                z,
                z + rng.uniform(1, 7),
                asphalt * rng.uniform(0.88, 1.07),
            )
        for lane in (0, -self.lane):
            for dx in (-0.75, 0.75):
                c.flat(lane + dx - 0.22, lane + dx + 0.22, near, far, asphalt * 0.94)
        if self.strip:
            s = self.strip
            inner = self.edge[s] - s * 2.15
            left, right = sorted((inner, self.edge[s]))
            c.flat(
                left, right, near, far, pick(rng, ((134, 120, 112), (120, 116, 116)), 6), 'parking'
            )
            for z in np.arange(rng.uniform(2, 7), 70, 5.6):
                c.flat(left, right, z, z + 0.12, (222, 222, 218))
        white = (224, 224, 220)
        for z in np.arange(rng.uniform(1.5, 6), 120, 6.5):
            c.flat(-self.lane / 2 - 0.08, -self.lane / 2 + 0.08, z, z + 3.2, white)
        for s in (-1, 1):
            line = self.edge[s] - s * (2.25 if self.parked[s] else 0.25)
            c.flat(line - 0.06, line + 0.06, near, far, white)
        if 'rail track' in self.kinds:
            self._rails()
        for s in (-1, 1):
            self._sidewalk(s)
        self.crossing = rng.uniform(11, 24) if rng.random() < 0.45 else None
        if self.crossing:
            for x in np.arange(self.edge[-1] + 0.3, self.edge[1] - 0.4, 1.05):
                c.flat(x, x + 0.55, self.crossing, self.crossing + 3, white)
        if c.sun:  # the houses' shadow covers the sidewalk and part of the road
            reach = self.house[c.sun] - c.sun * rng.uniform(2, 7)
            c.shadow(
                [
                    (self.house[c.sun], 0, near),
                    (reach, 0, near),
                    (reach, 0, 140),
                    (self.house[c.sun], 0, 140),
                ]
            )

    def _rails(self):
        c = self.c
        x = -self.lane
        c.flat(
            x - 1.25,
            x + 1.25,
            1.5,
            400,
            pick(self.rng, ((118, 106, 98), (104, 98, 96)), 4),
            'rail track',
        )
        for z in np.arange(1.6, 50, 0.75):
            c.flat(x - 1.15, x + 1.15, z, z + 0.24, (92, 84, 78))
        for dx in (-0.72, 0.72):
            c.flat(x + dx - 0.05, x + dx + 0.05, 1.5, 400, (176, 178, 180))

    def _sidewalk(self, s):
        c, rng = self.c, self.rng
        inner, outer = self.edge[s], self.edge[s] + s * self.walk[s]
        stone = pick(rng, ((160, 156, 150), (172, 162, 152), (146, 148, 150)), 5)
        label = 'sidewalk'
        if (
            'plaza' in self.kinds and s == -1
        ):  # shared ground for feet and wheels: neither road nor sidewalk
            label, stone = 'ground', pick(rng, ((178, 140, 118), (166, 158, 138)), 6)
        c.flat(*sorted((inner, outer)), 1.5, 400, stone, label)
        for x in np.arange(inner, outer, s * 0.62):
            c.flat(x - 0.015, x + 0.015, 1.5, 45, stone * 0.88)
        for z in np.arange(1.6, 40, 0.95):
            c.flat(*sorted((inner, outer)), z, z + 0.035, stone * 0.88)
        c.flat(*sorted((inner - s * 0.02, inner + s * 0.2)), 1.5, 400, stone * 1.14, label)
        c.flat(*sorted((inner - s * 0.12, inner - s * 0.02)), 1.5, 400, (70, 70, 72))

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
                    yield (
                        z1,
                        lambda s=s, z=z, z1=z1: sides.guard_rail(
                            self.c, rng, s, self.house[s], z, z1
                        ),
                    )
                elif rng.random() < 0.68:
                    yield (
                        z1,
                        lambda s=s, z=z, z1=z1: sides.house(self.c, rng, s, self.house[s], z, z1),
                    )
                else:
                    yield (
                        z1,
                        lambda s=s, z=z, z1=z1: sides.gap(self.c, rng, s, self.house[s], z, z1),
                    )
                z, i = z1 + rng.choice((0, rng.uniform(1, 4)), p=(0.75, 0.25)), i + 1
            if self.green[s]:
                for at in np.arange(rng.uniform(9, 16), 90, rng.uniform(8, 14)):
                    x = self.house[s] - s * self.green[s] * 0.5
                    yield at, lambda x=x, at=at: roadside.tree(self.c, rng, x, at)

    def _structures(self):
        rng = self.rng
        if 'bridge' in self.kinds:
            z = rng.uniform(24, 42)
            yield z, lambda: sides.bridge(self.c, rng, self.house[-1], self.house[1], z)
        if 'tunnel' in self.kinds:
            z_end = self.end + 1
            yield (
                z_end,
                lambda: sides.tunnel(self.c, rng, self.edge[-1] - 0.8, self.edge[1] + 0.8, z_end),
            )

    def _open_things(self):
        c, rng = self.c, self.rng
        for name in self.kinds:
            kind = OPEN_KINDS[name]
            if kind.paint is None:
                continue
            s = int(rng.choice((-1, 1), p=(0.3, 0.7)))  # mostly on the near side
            zone = 'walk' if kind.place == 'sidewalk' else 'kerb'
            z = self.slot(s, zone, 4.0, nearest=6.5, farthest=18.0) or rng.uniform(7, 18)
            if kind.place == 'sidewalk':
                x = self.edge[s] + s * rng.uniform(0.9, max(self.walk[s] - 0.7, 1.0))
            elif kind.place == 'kerb':
                x = self.edge[s] - s * 1.15
            else:
                x = rng.choice((self.lane / 2 - 0.3, -self.lane / 2))
            yield z, lambda kind=kind, x=x, z=z: kind.paint(c, rng, x, z)

    def _furniture(self):
        """Lamps, signs, lights, street trees, parked two-wheelers."""
        c, rng = self.c, self.rng
        for s in (-1, 1):
            kerb = self.edge[s] + s * 0.45
            gap = rng.uniform(16, 26)
            for z in np.arange(rng.uniform(8, 20), 110, gap):
                yield z, lambda x=kerb, z=z: roadside.lamp(c, rng, x, z)
            for _ in range(rng.integers(1, 4)):
                z = rng.uniform(8, 50)
                yield z, lambda x=kerb, z=z: roadside.sign(c, rng, x, z)
            if rng.random() < 0.4 and not self.green[s]:
                for z in np.arange(rng.uniform(9, 18), 80, rng.uniform(9, 15)):
                    yield (
                        z,
                        lambda x=kerb + s * 0.4, z=z: roadside.tree(
                            c, rng, x, z, height=rng.uniform(4.5, 6.5)
                        ),
                    )
            if self.crossing or rng.random() < 0.3:
                z = (self.crossing or rng.uniform(16, 32)) + 0.2
                yield z, lambda x=kerb, z=z: roadside.traffic_light(c, rng, x, z)
            for paint, chance in ((things.bicycle, 0.5), (things.motorcycle, 0.3)):
                z = self.slot(s, 'walk', 1.5) if rng.random() < chance else None
                if z:
                    yield z, lambda paint=paint, x=kerb + s * 0.7, z=z: paint(c, rng, x, z)

    def _traffic(self):
        c, rng = self.c, self.rng
        for s in (-1, 1):
            z = rng.uniform(6, 12)
            while self.parked[s] and z < 80:
                if rng.random() < 0.7 and all(z + 5 < a or z > b for a, b in self.taken[s, 'kerb']):
                    paint, x = (
                        (things.truck if rng.random() < 0.06 else things.car),
                        self.edge[s] - s * 1.1,
                    )
                    yield (
                        z,
                        lambda paint=paint, x=x, z=z, away=s > 0: paint(c, rng, x, z, away=away),
                    )
                z += rng.uniform(5.4, 6.4)
        if 'rail track' in self.kinds and rng.random() < 0.7:
            z = rng.uniform(16, 45)
            yield (
                z,
                lambda z=z: things.bus(
                    c, rng, -self.lane, z, away=False, label='train', length=24.0
                ),
            )
            oncoming = ()
        else:
            oncoming = np.cumsum(rng.uniform(9, 28, 5))
        for lane, away, places in (
            (0.0, True, np.cumsum(rng.uniform(11, 30, 4))),
            (-self.lane, False, oncoming),
        ):
            for z in places:
                paint = rng.choice(
                    (things.car, things.truck, things.bus, things.motorcycle, things.bicycle, None),
                    p=(0.55, 0.08, 0.08, 0.06, 0.05, 0.18),
                )
                if paint is None:
                    continue
                extra = (
                    {'ridden': True}
                    if paint in (things.motorcycle, things.bicycle)
                    else {'away': away}
                )
                x = lane + rng.normal(0, 0.2)
                yield z, lambda paint=paint, x=x, z=z, extra=extra: paint(c, rng, x, z, **extra)

    def _people(self):
        c, rng = self.c, self.rng
        for _ in range(rng.integers(2, 9)):
            s = int(rng.choice((-1, 1)))
            z = self.slot(s, 'walk', 0.7, farthest=40.0)
            if z:
                x = self.edge[s] + s * rng.uniform(0.5, self.walk[s] - 0.4)
                yield z, lambda x=x, z=z: things.person(c, rng, x, z)
        if self.crossing and rng.random() < 0.6:
            x, z = rng.uniform(self.edge[-1], self.edge[1]), self.crossing + 1.5
            yield z, lambda: things.person(c, rng, x, z)
        if rng.random() < 0.45:
            s = int(rng.choice((-1, 1)))
            x, z = self.edge[s] - s * (3.0 if self.parked[s] else 0.8), rng.uniform(8, 20)
            yield z, lambda: things.bicycle(c, rng, x, z, ridden=True)
