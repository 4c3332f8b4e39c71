"""A pinhole camera, and an image and a label map that are painted together.

World coordinates are metres: X to the right of the camera, Y up from the ground, Z ahead.
Everything is painted at twice the final size, far things first. Colours are RGB in [0, 255]; H, W
are the final size in pixels.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from cityscapesscripts.helpers.labels import name2label

_SCALE = 2  # painted pixels per final pixel
_SHIFT = 4  # fractional bits of OpenCV's coordinates
_NEAR = 1.5  # metres; nothing is painted nearer than this
_TURN = np.linspace(0, 2 * np.pi, 14, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN), np.cos(_TURN)], axis=1)

# Label -> strength of fine grain and of broad mottling, as a fraction of the colour.
_GRAIN = {
    'road': (0.045, 0.02),
    'sidewalk': (0.04, 0.025),
    'parking': (0.05, 0.025),
    'ground': (0.05, 0.03),
    'vegetation': (0.16, 0.06),
    'terrain': (0.09, 0.12),
    'building': (0.03, 0.03),
    'wall': (0.06, 0.06),
    'bridge': (0.04, 0.05),
    'tunnel': (0.04, 0.05),
    'rail track': (0.06, 0.05),
    'sky': (0.004, 0.0),
}


@dataclass(frozen=True)
class Light:
    """One kind of weather: colours of the sky, tint of everything below it, darkness of shadows."""

    zenith: tuple
    horizon: tuple
    gain: tuple
    shadow: float  # brightness left in a shadow, in (0, 1]
    clouds: float  # share of the sky, in [0, 1]
    cloud: tuple
    sunny: bool = False
    night: bool = False


LIGHTS = (
    Light(
        (70, 126, 205), (190, 214, 236), (1.04, 1.0, 0.94), 0.50, 0.35, (250, 250, 250), sunny=True
    ),
    Light(
        (108, 158, 218), (214, 226, 238), (1.0, 0.99, 0.96), 0.58, 0.65, (245, 246, 248), sunny=True
    ),
    Light((158, 168, 178), (216, 220, 222), (0.86, 0.88, 0.90), 0.72, 0.9, (228, 231, 234)),
    Light(
        (58, 70, 122), (248, 172, 112), (0.74, 0.65, 0.63), 0.72, 0.5, (232, 142, 110), night=True
    ),
)


class Canvas:
    """Image and labels of one scene while it is painted.

    Args:
        rng: Source of every random choice.
        size: (H, W) of the finished scene.
        light: One of ``LIGHTS``.

    Attributes:
        image: (2H, 2W, 3) uint8 RGB.
        labels: (2H, 2W) uint8 Cityscapes label ids.
        sun: -1 or 1, the side the sun stands on; 0 under clouds.
    """

    def __init__(self, rng: np.random.Generator, size, light: Light):
        self.rng, self.size, self.light = rng, tuple(size), light
        self.height, self.width = _SCALE * size[0], _SCALE * size[1]
        self.focal = 0.78 * self.width
        self.horizon = self.height * rng.uniform(0.40, 0.46)
        self.centre = self.width * rng.uniform(0.42, 0.58)
        self.eye = rng.uniform(1.35, 1.6)
        self.sun = int(rng.choice((-1, 1))) if light.sunny else 0
        self.image = np.zeros((self.height, self.width, 3), np.uint8)
        self.labels = np.zeros((self.height, self.width), np.uint8)

    def project(self, points) -> np.ndarray:
        """Painted pixels (..., 2), x then y, of world points (..., 3)."""
        points = np.asarray(points, np.float64)
        scale = self.focal / np.maximum(points[..., 2], _NEAR)
        pixels = np.empty((*points.shape[:-1], 2))
        pixels[..., 0] = self.centre + points[..., 0] * scale
        pixels[..., 1] = self.horizon + (self.eye - points[..., 1]) * scale
        return pixels

    def tone(self, colour, depth: float, glow: bool = False) -> tuple:
        """A colour under this light, at a depth in metres: distance fades it into the haze."""
        clear = math.exp(-depth / 260)
        gain = (1, 1, 1) if glow else self.light.gain
        return tuple(
            [
                min(max(float(v) * g * clear + h * (1 - clear), 0.0), 255.0)
                for v, g, h in zip(colour, gain, self.light.horizon)
            ]
        )

    def polygons(self, points, colour, label: str | None = None, glow: bool = False):
        """Fill M polygons (M, N, 3) of one colour. Label None keeps the labels below:
        decoration.
        """
        points = np.asarray(points, np.float64)
        pixels = np.rint(self.project(points) * (1 << _SHIFT)).astype(np.int32)
        depths = np.maximum(points[..., 2], _NEAR)
        tone = self.tone(
            colour, depths.size / np.add.reduce(1 / depths, axis=None), glow
        )  # as most pixels have it
        for polygon in pixels:  # one a call: in a shared call OpenCV leaves holes where two overlap
            cv2.fillPoly(self.image, [polygon], tone, shift=_SHIFT)
            if label is not None:
                cv2.fillPoly(self.labels, [polygon], name2label[label].id, shift=_SHIFT)

    def polygon(self, points, colour, label: str | None = None, glow: bool = False):
        """Fill one polygon (N, 3)."""
        self.polygons([points], colour, label, glow)

    def flat(self, x0, x1, z0, z1, colour, label=None, y=0.0):
        """Fill a rectangle that lies at height ``y``."""
        self.polygon([(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)], colour, label)

    def front(self, x0, x1, y0, y1, z, colour, label=None, glow=False):
        """Fill an upright rectangle that faces the camera."""
        self.polygon([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)], colour, label, glow)

    def limb(self, start, end, width: float, colour, label=None, glow=False):
        """A straight bar between two points, ``width`` metres thick as seen by the camera."""
        (x0, y0, z0), (x1, y1, z1) = start, end
        length = max(np.hypot(x1 - x0, y1 - y0), 1e-6)
        dx, dy = 0.5 * width * (y1 - y0) / length, 0.5 * width * (x0 - x1) / length
        self.polygon(
            [
                (x0 - dx, y0 - dy, z0),
                (x0 + dx, y0 + dy, z0),
                (x1 + dx, y1 + dy, z1),
                (x1 - dx, y1 - dy, z1),
            ],
            colour,
            label,
            glow,
        )

    def disc(self, x, y, z, radius, colour, label=None, glow=False, squash: float = 1.0):
        """An upright disc that faces the camera; ``squash`` scales its width."""
        self.polygon(np.array((x, y, z)) + radius * _CIRCLE * (squash, 1, 0), colour, label, glow)

    def wheel(self, x, y, z, radius, colour, label=None):
        """An upright disc that faces sideways, as a car's wheel seen from the kerb."""
        self.polygon(np.array((x, y, z)) + radius * _CIRCLE * (0, 1, 1), colour, label)

    def blobs(self, centres, radii, colours, label: str, depth: float):
        """Many discs of different colours: (M, 3) centres, (M,) radii in metres, (M, 3) colours."""
        pixels = (self.project(centres) * (1 << _SHIFT)).round().astype(int).tolist()
        sizes = (
            (np.asarray(radii) * self.focal / max(depth, _NEAR) * (1 << _SHIFT))
            .round()
            .astype(int)
            .tolist()
        )
        number = name2label[label].id
        for pixel, size, colour in zip(pixels, sizes, colours.tolist()):
            cv2.circle(self.image, pixel, size, self.tone(colour, depth), -1, shift=_SHIFT)
            cv2.circle(self.labels, pixel, size, number, -1, shift=_SHIFT)

    def shadow(self, points, soft: float = 0.2):
        """Darken a polygon (N, 3) of the ground; ``soft`` is the width of its edge in metres.
        Labels stay.
        """
        points = np.asarray(points, np.float64)
        pixels = self.project(points)
        edge = int(np.clip(soft * self.focal / max(points[:, 2].mean(), _NEAR), 1, 24))
        limit = (self.width, self.height)
        x0, y0 = np.clip(pixels.min(0) - 2 * edge, 0, limit).astype(int)
        x1, y1 = np.clip(pixels.max(0) + 2 * edge, 0, limit).astype(int)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(
            mask,
            [(np.clip(pixels - (x0, y0), -(2**14), 2**14) * 16).round().astype(np.int32)],
            255,
            shift=4,
        )
        mask = cv2.blur(mask, (2 * edge + 1, edge | 1))
        keep = 1 - (1 - self.light.shadow) / 255 * mask[..., None].astype(np.float32)
        self.image[y0:y1, x0:x1] = (self.image[y0:y1, x0:x1] * keep).astype(np.uint8)

    def smooth_noise(self, rows: int, cols: int, size) -> np.ndarray:
        """Float32 noise of about unit variance, of a size (height, width), with rows by cols
        lumps.
        """
        coarse = self.rng.standard_normal((rows, cols), np.float32)
        return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Surface grain, lens and sensor. Returns (H, W, 3) uint8 BGR and (H, W) uint8 label
        ids.
        """
        grain = np.full((256, 2), (0.02, 0.02), np.float32)
        for label, strength in _GRAIN.items():
            grain[name2label[label].id] = strength
        fine, broad = (table[self.labels] for table in grain.T.copy())
        texture = fine * self.rng.standard_normal(self.labels.shape, np.float32)
        texture += 1 + broad * self.smooth_noise(9, 24, self.labels.shape)
        image = cv2.resize(
            self.image * texture[..., None], self.size[::-1], interpolation=cv2.INTER_AREA
        )
        image = cv2.GaussianBlur(image, (0, 0), 0.45)
        rows, cols = (np.linspace(-1, 1, n, dtype=np.float32) for n in self.size)
        image *= (1.03 - 0.09 * (rows[:, None] ** 2 + cols**2))[..., None]
        image += 1.6 * self.rng.standard_normal(image.shape, np.float32)
        half = _SCALE // 2
        return image[..., ::-1].clip(0, 255).round().astype(np.uint8), self.labels[
            half::_SCALE, half::_SCALE
        ].copy()
