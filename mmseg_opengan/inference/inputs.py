"""What the inferencer reads: images, folders, lists, arrays, videos and data sets, one by one; and
that no output replaces them.
"""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from mimetypes import guess_type
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from mmengine.dataset import BaseDataset

from ..evaluation.decided import KINDS_OF_FILES
from ..files import text_lines

IMAGE_SUFFIXES = (
    '.avif',
    '.bmp',
    '.gif',
    '.jp2',
    '.jpeg',
    '.jpg',
    '.pgm',
    '.png',
    '.ppm',
    '.tif',
    '.tiff',
    '.webp',
)
VIDEO_SUFFIXES = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')
LIST_SUFFIX = '.txt'
Inputs = str | Path | np.ndarray | Sequence[str | Path | np.ndarray] | BaseDataset
#: Frames a second of a video that is written from images.
IMAGES_PER_SECOND = 10.0


class Entries(NamedTuple):
    """Images under their names.

    Attributes:
        total: how many; 0 where a video does not say.
        pairs: (name, source) of each; a source is a path, an array or (dataset, index). A list, or
            the frames of a video, which can be gone through once.
        fps: frames a second.
        video: path of the video; None: there is none.
    """

    total: int
    pairs: Iterable[tuple[str, object]]
    fps: float = IMAGES_PER_SECOND
    video: str | None = None


def list_inputs(inputs) -> Entries:
    """The images of whatever :meth:`OpenSetInferencer.__call__` takes; raises as it does."""
    if isinstance(inputs, Entries):
        return inputs
    if isinstance(inputs, BaseDataset):
        pairs = _list_dataset(inputs)
    elif isinstance(inputs, (str, Path)) and Path(inputs).is_dir():
        pairs = _list_folder(Path(inputs))
    else:
        if isinstance(inputs, (str, Path)):
            path = Path(inputs)
            if path.suffix.lower() in VIDEO_SUFFIXES:
                return _open_video(path)
            inputs = read_list(path) if path.suffix.lower() == LIST_SUFFIX else [path]
        elif isinstance(inputs, np.ndarray):
            inputs = [inputs]
        pairs = _list_sequence(inputs)
    _require_own_names(pairs)
    return Entries(len(pairs), pairs)


def read_list(path: Path) -> list[str]:
    """The paths in a text file, one a line; relative ones are below the file's folder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not text, or names no image.
    """
    if not path.is_file():
        raise FileNotFoundError(f"List '{path}' does not exist.")
    named = text_lines(path.read_bytes(), f"List '{path}'")
    if not named:
        raise ValueError(f"List '{path}': wanted the path of an image in each line, found none")
    return [str(path.parent / line) for line in named]


def files_of(source) -> list[str]:
    """The files that are read for a source: an image, and the labels of a data set; none of an
    array.
    """
    if isinstance(source, tuple):
        dataset, index = source
        info = dataset.get_data_info(index)
        return [info[kind] for kind in KINDS_OF_FILES if info.get(kind)]
    return [source] if isinstance(source, str) else []


def check_outputs(
    inputs, entries: Entries, out_dir: str | Path | None, video: str | Path | None
) -> None:
    """Raise where the files of results, or the video, would replace inputs or lie among them."""
    if out_dir is not None:
        pairs = entries.pairs if entries.video is None else ()  # frames lie in no folder
        below = {os.path.dirname(name) for name, _ in pairs}
        check_out_dir(out_dir, inputs, entries, below)
    if video is not None:
        place = os.path.realpath(video)
        if any(os.path.realpath(path) == place for path in _files_read(entries)):
            raise ValueError(f"video: wanted a file that is no input, found '{video}'")


def check_out_dir(out_dir: str | Path, inputs, entries: Entries, below: Iterable[str] = ()) -> None:
    """Raise where outputs would lie among the inputs: they would replace them, or be inputs of the
    next run. A video may lie beside its outputs.

    Args:
        out_dir: gets the outputs.
        inputs: as of the inferencer.
        entries: what they are.
        below: folders in ``out_dir`` that get outputs too.
    """
    root = Path(out_dir).resolve()
    is_folder = isinstance(inputs, (str, Path)) and Path(inputs).is_dir()
    if is_folder and root.is_relative_to(Path(inputs).resolve()):
        raise _among_inputs(root, inputs)
    if entries.video is not None:
        return
    written = {os.path.realpath(root / folder) for folder in ('', *below)}
    for path in _files_read(entries):
        folder = os.path.realpath(os.path.dirname(path))
        linked = os.path.dirname(os.path.realpath(path))
        if folder in written or linked in written:
            raise _among_inputs(root, path)


def _files_read(entries: Entries) -> Iterator[str]:
    if entries.video is not None:
        yield entries.video
        return
    for _, source in entries.pairs:
        yield from files_of(source)


def _among_inputs(out_dir: Path, path: str | Path) -> ValueError:
    return ValueError(
        f"out_dir: wanted a folder apart from the inputs, found '{out_dir}' for the input '{path}'"
    )


def _require_own_names(pairs) -> None:
    first: dict[str, int] = {}
    for i, (name, _) in enumerate(pairs):
        if first.setdefault(name, i) != i:
            raise ValueError(
                f"inputs: wanted images of different names, found '{name}' twice (numbers "
                f'{first[name]} and {i}); their files would replace each other'
            )


def _list_dataset(dataset: BaseDataset):
    dataset.full_init()
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    return [(Path(path).stem, (dataset, i)) for i, path in enumerate(paths)]


def _list_sequence(inputs: Sequence):
    """(name, path or array); paths are named below the folder that all of them share."""
    if not isinstance(inputs, Sequence):
        raise TypeError(
            'inputs: wanted a path, a BGR array, a list of these, or a dataset, found '
            f'{type(inputs).__name__}'
        )
    if not inputs:
        raise ValueError('inputs: wanted at least one image, found an empty list')
    for i, one in enumerate(inputs):
        if not isinstance(one, (str, Path, np.ndarray)):
            raise TypeError(
                f'inputs: wanted paths or BGR arrays, found {type(one).__name__} at number {i}'
            )
        if not isinstance(one, np.ndarray) and not Path(one).is_file():
            raise FileNotFoundError(f"Image '{one}' does not exist, or is no file.")
    paths = [os.path.abspath(one) for one in inputs if not isinstance(one, np.ndarray)]
    shared = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ''
    pairs: list = []
    for i, one in enumerate(inputs):
        if isinstance(one, np.ndarray):
            pairs.append((f'{i:08d}', one))
        else:
            below = Path(os.path.relpath(os.path.abspath(one), shared))
            pairs.append((below.with_suffix('').as_posix(), str(one)))
    return pairs


def _list_folder(folder: Path):
    """(name, path) of all images below a folder, sorted; the name keeps the folders between.

    Hidden files and folders (``._a.jpg``, ``.ipynb_checkpoints``) are left out; linked folders are
    followed once.
    """
    paths, left_out, seen = [], set(), set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        for name in files:
            path = Path(place, name)
            if name.startswith('.') or not path.is_file():
                continue
            if path.suffix.lower() in IMAGE_SUFFIXES:
                paths.append(path)
            elif (guess_type(name)[0] or '').startswith('image/'):
                left_out.add(path.suffix)
    if not paths:
        raise ValueError(
            f"Folder '{folder}' holds no images: wanted files that end in one of "
            f'{", ".join(IMAGE_SUFFIXES)}, found {sorted(left_out) or "none"}.'
        )
    if left_out:
        warnings.warn(
            f"Folder '{folder}': images that end in {', '.join(sorted(left_out))} are left out.",
            stacklevel=3,
        )
    names = [path.relative_to(folder).with_suffix('').as_posix() for path in paths]
    return sorted(zip(names, map(str, paths)))


def _open_video(path: Path) -> Entries:
    """The frames of a video, read as they are needed."""
    if not path.is_file():
        raise FileNotFoundError(f"Video '{path}' does not exist.")
    capture = cv2.VideoCapture(str(path))
    done, frame = capture.read()
    if not done:
        raise ValueError(
            f"Video '{path}' cannot be decoded: wanted a file for which this OpenCV has a "
            f'codec, found {path.stat().st_size} bytes without a first frame. A file that was '
            'cut off lacks its index. Another container or codec (e.g. mp4 with H.264, avi with '
            'MJPG), or a folder of frames, may do.'
        )
    stated = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    fps = capture.get(cv2.CAP_PROP_FPS)

    def frames(done, frame):
        count = 0
        try:
            while done:
                yield f'{path.stem}_{count:06d}', frame
                count += 1
                done, frame = capture.read()
        finally:
            capture.release()
        if count < stated:
            warnings.warn(
                f"Video '{path}' states {stated} frames, but {count} could be decoded.",
                stacklevel=2,
            )

    fps = fps if fps > 0 else IMAGES_PER_SECOND
    return Entries(stated, frames(done, frame), fps, str(path))
