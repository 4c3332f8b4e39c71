"""Pictures as a video file that appears whole or not at all."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np

_CODECS = {'.mp4': 'mp4v', '.m4v': 'mp4v', '.mov': 'mp4v', '.avi': 'MJPG', '.mkv': 'MJPG'}


@contextmanager
def video_writer(path: str | Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives a function that appends a picture (H, W, 3) uint8 RGB; one of another size than the
    first is resized.

    The file lies beside its place under a hidden name until the block ends. After an error it is
    removed.

    Args:
        path: where the video goes; its suffix chooses the container.
        fps: frames a second.

    Raises:
        ValueError: a container that is not known.
        OSError: OpenCV cannot write there.
    """
    path = Path(path)
    if path.suffix.lower() not in _CODECS:
        raise ValueError(
            f"video: wanted a file that ends in one of {', '.join(_CODECS)}, found '{path}'"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{os.getpid()}.{path.name}')
    writer, size = cv2.VideoWriter(), (0, 0)

    def add(picture: np.ndarray) -> None:
        nonlocal size
        if not writer.isOpened():
            # H.264 and its like halve the size of colours: both sides are even.
            height, width = picture.shape[:2]
            size = (width + width % 2, height + height % 2)
            codec = cv2.VideoWriter.fourcc(*_CODECS[path.suffix.lower()])
            if not writer.open(str(temporary), codec, fps, size):
                raise OSError(f"Video '{path}' cannot be written: OpenCV has no such codec")
        if picture.shape[1::-1] != size:
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        writer.write(np.ascontiguousarray(picture[..., ::-1]))

    try:
        yield add
        if writer.isOpened():
            writer.release()
            os.replace(temporary, path)
    finally:
        writer.release()
        with suppress(OSError):
            os.remove(temporary)
