"""One label file into the two ground-truth maps, by the ids that stand in it at any bit depth."""

import io

import mmengine.fileio as fileio
import numpy as np
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from .label_map import LabelMap

#: First bytes of a file -> what reads it. Other formats change ids (JPEG) or scale them (PGM).
_READERS = {
    b'\x89PN': PngImageFile,
    b'II': TiffImageFile,
    b'MM': TiffImageFile,
    b'BM': BmpImageFile,
}
MAX_PIXELS = 1 << 30  # OpenCV's own limit for images
ORIENTATION = 274  # the tag of EXIF and TIFF
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # of TIFF


def read_label_file(
    path: str, labels: LabelMap, backend_args: dict | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read one label file into ``gt_sem_seg`` and the open map, both (H, W) uint8 (see
    ``contracts.py``).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no complete PNG, TIFF or BMP of at most 8 bits a channel, or holds
            an id or colour that ``labels`` does not know.
    """
    try:
        content = fileio.get(path, backend_args=backend_args)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Label file '{path}' does not exist.") from error
    try:
        raw = _ids_or_colours(content, labels)
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise ValueError(
            f"Label file '{path}' cannot be decoded: wanted a complete PNG, TIFF or BMP file of at "
            f'most 8 bits a channel, found {len(content)} bytes ({error}).'
        ) from error
    return labels.split(raw, path)


def _ids_or_colours(content: bytes, labels: LabelMap) -> np.ndarray:
    reader = next((_READERS[start] for start in _READERS if content.startswith(start)), None)
    if reader is None:
        raise ValueError(f'it begins with {content[:8]!r}')
    with reader(io.BytesIO(content)) as image:  # not Image.open, which refuses large ones
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f'{image.width} x {image.height} pixels, the limit is {MAX_PIXELS}')
        return _pixels(image, _bits(image, content), labels)


def _bits(image: ImageFile, content: bytes) -> int:
    """Bits of a channel."""
    if isinstance(image, PngImageFile):
        return content[24]
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(_BITS, (1,)))
    return 8


def _pixels(image: ImageFile, bits: int, labels: LabelMap) -> np.ndarray:
    """The numbers that stand in the file, (H, W), or its colours, (H, W, 3)."""
    if bits > 8:
        raise ValueError(f'{bits} bits a channel')
    if 'jpeg' in str(image.info.get('compression')):
        raise ValueError('compression by JPEG, which changes ids')
    pixels = np.asarray(image)  # turned by its orientation, if it is a TIFF
    if image.getexif().get(ORIENTATION, 1) != 1:
        raise ValueError('it is to be turned, by its EXIF orientation. Store it upright')
    if image.mode == '1':
        pixels = pixels.astype(np.uint8)
    if image.mode == 'L':
        pixels = pixels // (255 // (2**bits - 1))  # Pillow stretches fewer bits to 0 ... 255
    if isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        pixels = np.uint8(2**bits - 1) - pixels
    if image.mode == 'P' and _shows_colours(image, pixels, labels):
        return np.asarray(image.convert('RGB'))
    return pixels


def _shows_colours(image: ImageFile, ids: np.ndarray, labels: LabelMap) -> bool:
    """A palette has the labels' colours at other places than their ids. Otherwise ids are meant."""
    if labels.colours is None:
        return False
    used = np.unique(ids)
    palette = np.reshape(image.getpalette('RGB'), (-1, 3))
    if used.max(initial=0) >= len(palette):
        return False
    shown = palette[used].tolist()
    colours = labels.colours.tolist()
    if not all(colour in colours for colour in shown):
        return False
    return shown != [colours[i] for i in used if i < len(colours)]
