"""From a path or an array to what the network takes, and to the picture that is drawn."""

import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from mmengine.dataset import Compose
from mmseg.registry import TRANSFORMS

from ..datasets.transforms import require_whole_images
from ..models.frozen_segmentor import plain

#: An image of 16 bits whose brightest value lies below this, of 255, has data in its low bits.
_NEARLY_BLACK = 32
#: stderr is one for all threads: who listens to it has it alone.
_STDERR = threading.Lock()


class ImageReader:
    """The steps of a test pipeline, without its labels.

    Args:
        steps: configs of the pipeline.

    Raises:
        ValueError: the pipeline does not begin with ``LoadImageFromFile``, or moves images within
            their frame.
    """

    def __init__(self, steps: Sequence[dict]):
        steps = [plain(step) for step in steps]
        names = [step['type'].rsplit('.', 1)[-1] for step in steps]
        steps = [step for step, name in zip(steps, names) if 'Annotation' not in name]
        if not steps or names[0] != 'LoadImageFromFile':
            raise ValueError(
                "test_dataloader.dataset.pipeline: wanted 'LoadImageFromFile' as its first step, "
                f'found {names}'
            )
        self.steps = steps
        self._colour = steps[0].get('color_type', 'color')
        self._load = TRANSFORMS.build({**steps[0], 'type': 'InferencerLoader'})
        self._prepare = Compose(steps[1:])
        require_whole_images(self._prepare.transforms, 'test_dataloader.dataset.pipeline')
        self.transforms = [self._load, *self._prepare.transforms]

    def picture_of(self, path: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB of a file."""
        return as_picture(self._load_file(path)['img'])

    def read(self, name: str, source: str | np.ndarray) -> tuple[np.ndarray, dict]:
        """The picture (H, W, 3) uint8 RGB, and the network's input with its data sample.

        Raises:
            ValueError: a file that is no image, or an array that is not what the network takes.
        """
        if isinstance(source, str):
            loaded = self._load_file(source)
        else:
            loaded = self._load(self._with_channels(source))
        prepared = self._prepare({**loaded, 'img_path': loaded['img_path'] or name})
        return as_picture(loaded['img']), prepared

    def _with_channels(self, array: np.ndarray) -> np.ndarray:
        """An array as the file of the same picture would be loaded."""
        fits = array.ndim in (2, 3) and array.dtype in (np.uint8, np.uint16) and array.size > 0
        if fits and self._colour == 'color':
            bands = array if array.ndim == 3 else array[..., None]
            array = bands.repeat(3, axis=2) if bands.shape[2] == 1 else bands[..., :3]
            fits = array.shape[2] == 3 and array.dtype == np.uint8
        if not fits:
            raise ValueError(
                'inputs: wanted BGR arrays (H, W, 3) or (H, W) uint8, found '
                f'{array.shape} {array.dtype}'
            )
        return np.ascontiguousarray(array)

    def _load_file(self, path: str) -> dict:
        try:
            with _STDERR, _decoder_messages() as messages:
                loaded = self._load(path)
        except (AssertionError, cv2.error) as error:
            # mmcv asserts that a file could be decoded, and OpenCV fails on an empty one without
            # naming it.
            raise ValueError(
                f"Image '{path}' cannot be decoded: wanted an image file, found "
                f'{Path(path).stat().st_size} bytes that OpenCV cannot read.'
            ) from error
        for message in messages:
            warnings.warn(f"Image '{path}' is damaged: {message}", stacklevel=2)
        if loaded['img'].dtype == np.uint8 and loaded['img'].max(initial=0) < _NEARLY_BLACK:
            _warn_of_low_bits(path)
        return loaded


def as_picture(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a loaded BGR image: grey of one or two bands, else the first three.

    Values that are no eight bits, also as floats, are stretched from the smallest to the largest.
    """
    bands = image[..., None] if image.ndim == 2 else image
    bands = bands[..., 2::-1] if bands.shape[2] >= 3 else bands[..., :1].repeat(3, axis=2)
    if bands.dtype != np.uint8:
        bands = _within_a_byte(bands)
    return np.ascontiguousarray(bands, np.uint8)


def _within_a_byte(bands: np.ndarray) -> np.ndarray:
    lo, hi = float(bands.min()), float(bands.max())
    is_float = np.issubdtype(bands.dtype, np.floating)
    if is_float and lo >= 0 and 1 < hi <= 255 and (bands == bands.round()).all():
        return bands  # eight bits, of a pipeline with to_float32
    return (bands.astype(np.float64) - lo) * 255 / max(hi - lo, np.finfo(float).tiny)


def _warn_of_low_bits(path: str) -> None:
    stored = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if stored is not None and stored.dtype == np.uint16:
        warnings.warn(
            f"Image '{path}' is nearly black: wanted values up to 65535 in its 16 bits, found "
            f'{stored.max()} at most. Scale it to the full range, or write 8 bits.',
            stacklevel=3,
        )


@contextmanager
def _decoder_messages() -> Iterator[list[str]]:
    """What libjpeg says of a damaged file; it writes to stderr, without the file's name."""
    messages: list[str] = []
    try:
        kept = os.dup(2)
    except OSError:  # a process without stderr
        yield messages
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield messages
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            lines = said.read().decode(errors='replace').splitlines()
            for line in lines:
                if 'JPEG' in line:
                    messages.append(line.strip())
                else:
                    print(line, file=sys.stderr)
