"""What the inferencer reads and writes: inputs one by one under their names, results as files."""

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from mmengine.dataset import BaseDataset
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..files import half_where_it_fits, replacing
from ..pictures.panel import draw_panel

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
VIDEO_SUFFIXES = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')


@dataclass(eq=False)
class OpenSetResult:
    """What was found in one image of H x W pixels.

    Attributes:
        name: the image's name without suffix, below the input folder if there is one;
            ``{video}_{frame:06d}``; the position of an array in its list, as eight digits.
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8 predicted closed class ids.
        scores: scorer name -> raw scores, float32, larger = more open; (H, W), or (h, w) of the
            feature grid.
        logits: the names among them whose scores are open logits: sigmoid gives a probability of
            open.
        panel: the other arguments of :func:`pictures.panel.draw_panel`.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    scores: dict[str, np.ndarray]
    logits: frozenset
    panel: dict

    @cached_property
    def picture(self) -> np.ndarray:
        """The panel, (height, 1200, 3) uint8 RGB; drawn when first asked for."""
        return draw_panel(self.image, pred=self.labels, scores=self.scores, **self.panel)

    def save(
        self, out_dir: str | Path, *, scores: bool = True, picture: bool = True
    ) -> dict[str, Path]:
        """Write the result; each file under a temporary name first, so that none is ever half
        written.

        =========================
        =================================================================================
        ``{name}.png``             class ids, 8 bits ``{name}.{scorer}.npy``    raw scores, float16
        ``{name}.{scorer}.png``    16 bits: sigmoid(open logit) * 65535 of a scorer in ``logits``;
        of another, whose
                                   scores have no common scale, the image's own smallest to largest
                                   score. The PNG's text entries ``lo`` and ``hi`` say what 0 and
                                   65535 stand for.
        ``{name}.panel.png``       the picture
        =========================
        =================================================================================

        Returns:
            The files by what they hold: ``'labels'``, ``'{scorer}.npy'``, ``'{scorer}.png'``,
                ``'panel'``.
        """
        contents = {'labels': ('png', _png(self.labels))}
        for scorer, score in self.scores.items() if scores else ():
            contents[f'{scorer}.npy'] = (f'{scorer}.npy', _npy(score))
            contents[f'{scorer}.png'] = (
                f'{scorer}.png',
                score_png(score, logit=scorer in self.logits),
            )
        if picture:
            contents['panel'] = ('panel.png', _png(self.picture))
        return {
            kind: _write(Path(out_dir, f'{self.name}.{end}'), data)
            for kind, (end, data) in contents.items()
        }


def score_png(score: np.ndarray, *, logit: bool) -> bytes:
    """A score map as a 16-bit PNG, see :meth:`OpenSetResult.save`. NaN is 0.

    The score, or its sigmoid, is ``lo + (hi - lo) * value / 65535``.
    """
    score, lo, hi = score.astype(np.float64), 0.0, 1.0
    if logit:
        score = 1 / (1 + np.exp(-score.clip(-100, 100)))
    else:
        finite = score[np.isfinite(score)]
        lo, hi = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    unit = np.nan_to_num(
        (score - lo) / (hi - lo) if hi > lo else np.zeros(score.shape), posinf=1, neginf=0
    )
    return _png((65535 * unit.clip(0, 1)).round().astype(np.uint16), lo=repr(lo), hi=repr(hi))


def list_inputs(inputs) -> tuple[int, Iterator[tuple[str, object]]]:
    """Number of images (0 = unknown), and an iterator of (name, path or BGR array or (dataset,
    index)).

    Raises: see :meth:`OpenSetInferencer.__call__`.
    """
    if isinstance(inputs, BaseDataset):
        inputs.full_init()
        paths = [inputs.get_data_info(i)['img_path'] for i in range(len(inputs))]
        entries = [(Path(path).stem, (inputs, i)) for i, path in enumerate(paths)]
    elif isinstance(inputs, np.ndarray):
        entries = [_entry(0, inputs)]
    elif isinstance(inputs, (str, Path)):
        path = Path(inputs)
        if not path.is_dir() and path.suffix.lower() in VIDEO_SUFFIXES:
            return _open_video(path)
        entries = _list_folder(path) if path.is_dir() else [_entry(0, path)]
    elif isinstance(inputs, Sequence):
        entries, paths = [_entry(i, one) for i, one in enumerate(inputs)], inputs
        if not entries:
            raise ValueError('inputs: wanted at least one image, found an empty list')
    else:
        raise TypeError(
            'inputs: wanted a path, a BGR array, a list of these, or a dataset, found '
            f'{type(inputs).__name__}'
        )
    first = {}
    for i, (name, _) in enumerate(entries):
        if first.setdefault(name, i) != i:
            raise ValueError(
                f"inputs: wanted images of different names, found '{name}' twice (numbers "
                f'{first[name]} '
                f'and {i}); their files would replace each other'
            )
    return len(entries), iter(entries)


def check_out_dir(out_dir: str | Path, inputs) -> None:
    """Raise where outputs would lie among the inputs: they would replace them, or be inputs of the
    next run.
    """
    out_dir = Path(out_dir).resolve()
    for one in inputs if isinstance(inputs, Sequence) and not isinstance(inputs, str) else [inputs]:
        if isinstance(one, (str, Path)):
            path = Path(one).resolve()
            if (path.is_dir() and out_dir.is_relative_to(path)) or path.parent == out_dir:
                raise ValueError(
                    f"out_dir: wanted a folder apart from the inputs, found '{out_dir}' for "
                    f'the input '
                    f"'{one}'"
                )


def _entry(position: int, one):
    """(name, path or array) of one element of a list."""
    if isinstance(one, np.ndarray):
        if one.ndim != 3 or one.shape[2] != 3 or one.dtype != np.uint8:
            raise ValueError(
                f'inputs: wanted BGR arrays (H, W, 3) uint8, found {one.shape} {one.dtype} '
                f'at number '
                f'{position}'
            )
        return f'{position:08d}', one
    if not isinstance(one, (str, Path)):
        raise TypeError(
            f'inputs: wanted paths or BGR arrays, found {type(one).__name__} at number {position}'
        )
    if not Path(one).is_file():
        raise FileNotFoundError(f"Image '{one}' does not exist, or is no file.")
    return Path(one).stem, str(one)


def _list_folder(folder: Path):
    """(name, path) of all images below a folder, sorted; the name keeps the folders between."""
    paths = sorted(
        path
        for path in folder.rglob('*')
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if not paths:
        raise ValueError(
            f"Folder '{folder}' holds no images: wanted files that end in one of "
            f'{", ".join(IMAGE_SUFFIXES)}, found none.'
        )
    return [(path.relative_to(folder).with_suffix('').as_posix(), str(path)) for path in paths]


def _open_video(path: Path):
    """(number of frames as the file states it, iterator of (name, BGR frame))."""
    if not path.is_file():
        raise FileNotFoundError(f"Video '{path}' does not exist.")
    capture = cv2.VideoCapture(str(path))
    done, frame = capture.read()
    if not done:
        raise ValueError(
            f"Video '{path}' cannot be decoded: wanted a file for which this OpenCV has a "
            f'codec, found '
            f'{path.stat().st_size} bytes without a first frame. Another container or codec '
            f'(e.g. mp4 '
            'with H.264, avi with MJPG), or a folder of frames, may do.'
        )
    stated = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))

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

    return stated, frames(done, frame)


def _png(picture: np.ndarray, **text: str) -> bytes:
    """(H, W) uint8 or uint16, or (H, W, 3) uint8 RGB, as a PNG file with text entries."""
    info, file = PngInfo(), io.BytesIO()
    for key, value in text.items():
        info.add_text(key, value)
    Image.fromarray(picture).save(file, 'PNG', pnginfo=info, compress_level=4)
    return file.getvalue()


def _npy(score: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, half_where_it_fits(score))
    return file.getvalue()


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content)
    return path
