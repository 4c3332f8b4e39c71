"""Pictures as a video file that appears whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

_CODECS = {'.mp4': 'mp4v', '.m4v': 'mp4v', '.mov': 'mp4v', '.avi': 'MJPG', '.mkv': 'MJPG'}


class VideoWriter:
    """Writes pictures of one size; a context manager.

    The file lies beside its place under a hidden name until the block ends. After an error it is
    removed.

    Args:
        path: where the video goes; its suffix chooses the container.
        fps: frames a second.

    Raises:
        ValueError: a container that is not known.
        OSError: OpenCV cannot write there.
    """

    def __init__(self, path: str | Path, fps: float):
        self.path, self.fps = Path(path), fps
        if self.path.suffix.lower() not in _CODECS:
            raise ValueError(
                f"video: wanted a file that ends in one of {', '.join(_CODECS)}, found '{path}'"
            )
        self._temporary = self.path.with_name(f'.{os.getpid()}.{self.path.name}')
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __enter__(self) -> 'VideoWriter':
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def add(self, picture: np.ndarray) -> None:
        """Append a picture (H, W, 3) uint8 RGB; one of another size than the first is resized."""
        if self._writer is None:
            # H.264 and its like halve the size of colours: both sides are even.
            height, width = picture.shape[:2]
            self._size = (width + width % 2, height + height % 2)
            codec = cv2.VideoWriter.fourcc(*_CODECS[self.path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._temporary), codec, self.fps, self._size)
            if not self._writer.isOpened():
                raise OSError(f"Video '{self.path}' cannot be written: OpenCV has no such codec")
        if picture.shape[1::-1] != self._size:
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(np.ascontiguousarray(picture[..., ::-1]))

    def __exit__(self, kind, error, trace) -> None:
        if self._writer is not None:
            self._writer.release()
        if kind is None and self._writer is not None:
            os.replace(self._temporary, self.path)
        else:
            with suppress(OSError):
                os.remove(self._temporary)
