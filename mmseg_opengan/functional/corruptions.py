"""What a camera, a codec or the weather does to a photograph, in five severities."""

from typing import Any

import cv2
import numpy as np

#: Of each corruption at severities 1 to 5: standard deviation of Gaussian noise in grey levels and
#: of a Gaussian blur in pixels, quality of a JPEG file, what grey levels are multiplied by, and the
#: share of fog at the upper edge.
STRENGTHS: dict[str, tuple[float, ...]] = dict(
    noise=(5, 10, 20, 30, 40),
    blur=(0.5, 1, 2, 3, 4),
    jpeg=(60, 40, 25, 15, 8),
    darkness=(0.7, 0.5, 0.35, 0.25, 0.15),
    fog=(0.2, 0.35, 0.5, 0.65, 0.8),
)
_FOG = 220  # its grey level


def corrupted(image: np.ndarray, kind: str, severity: int, rng: np.random.Generator) -> np.ndarray:
    """An image (H, W, 3), uint8 BGR, after one of ``STRENGTHS``; severity 0 is the image itself."""
    if severity == 0:
        return image
    strength = STRENGTHS[kind][severity - 1]
    changed: Any
    if kind == 'noise':
        changed = image + strength * rng.standard_normal(image.shape, dtype=np.float32)
    elif kind == 'blur':
        changed = cv2.GaussianBlur(image, (0, 0), strength)
    elif kind == 'jpeg':
        _, code = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, int(strength)])
        changed = cv2.imdecode(code, cv2.IMREAD_COLOR)
    elif kind == 'darkness':
        changed = image * np.float32(strength)
    else:
        height, width = image.shape[:2]
        share = _fog(height, width, strength, rng)[..., None]
        changed = (1 - share) * image + share * _FOG
    return np.rint(changed).clip(0, 255).astype(np.uint8)


def _fog(height: int, width: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """The share of fog at each pixel (H, W): in patches, and less towards the lower edge, where
    things are near.
    """
    coarse = rng.uniform(0.75, 1.25, (6, 6)).astype(np.float32)
    patches = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    depth = np.linspace(1, 0.4, height, dtype=np.float32)[:, None]
    return (share * depth * patches).clip(0, 1)
