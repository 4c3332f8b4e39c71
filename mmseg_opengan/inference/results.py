"""What was found in one image, its pictures and its files."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..files import half_where_it_fits, label_type, replacing
from ..pictures.overlay import OPEN_COLOUR, robust_range
from ..pictures.panel import draw_panel
from .drawing import overlay
from .objects import OpenObject, find_objects


@dataclass(eq=False)
class OpenSetResult:
    """What was found in one image of H x W pixels.

    Attributes:
        name: the image's name without suffix, below the input folder if there is one;
            ``{video}_{frame:06d}``; the position of an array in its list, as eight digits.
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) predicted closed class ids; uint8, or uint16 of more than 256 classes.
        scores: scorer name -> raw scores, float32, larger = more open; (H, W), or (h, w) of the
            feature grid.
        logits: the names among them whose scores are open logits: sigmoid gives a probability of
            open.
        main: name of the score that thresholds and overlays mean, see
            :func:`models.fusion.main_score`.
        panel: other arguments of :func:`pictures.panel.draw_panel`.
        source: path of the image; None of an array or a frame.
        scales: scorer name -> (lo, hi), the scores of the darkest and the brightest colour; of a
            scorer without one, the image's own.
        thresholded: finds ``threshold_of`` and ``thresholds`` of the panel when it is drawn.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    scores: dict[str, np.ndarray]
    logits: frozenset
    main: str
    panel: dict
    scales: dict[str, tuple[float, float]]
    source: str | None = None
    thresholded: Callable[[], dict] = dict

    @cached_property
    def picture(self) -> np.ndarray:
        """The panel, (height, 1200, 3) uint8 RGB; drawn when first asked for."""
        return draw_panel(
            self.image,
            pred=self.labels,
            scores=self.scores,
            **self.panel,
            **self.thresholded(),
        )

    def __getstate__(self) -> dict:
        return dict(self.__dict__, thresholded=partial(dict, self.thresholded()))

    def score(self, scorer: str | None = None) -> np.ndarray:
        """(H, W) scores of a scorer, of the main one by default, at the size of the image."""
        found = self.scores[scorer or self.main]
        if found.shape == self.labels.shape:
            return found
        return cv2.resize(found, self.labels.shape[::-1], interpolation=cv2.INTER_LINEAR)

    def objects(
        self, threshold: float, *, scorer: str | None = None, min_area: int = 1
    ) -> list[OpenObject]:
        """Connected regions at and above a threshold, the largest score first.

        Args:
            threshold: in the units of the score; ``OpenSetInferencer.threshold`` gives it by a
                rule.
            scorer: whose score; the main one by default.
            min_area: regions of fewer pixels are left out.
        """
        classes = self.panel['classes']
        return find_objects(self.score(scorer), threshold, self.labels, classes, min_area=min_area)

    def labels_with_unknown(
        self, threshold: float, *, unknown_id: int = 255, scorer: str | None = None
    ) -> np.ndarray:
        """(H, W) class ids, and ``unknown_id`` at and above a threshold.

        Raises:
            ValueError: ``unknown_id`` is a class's.
        """
        number = len(self.panel['classes'])
        if not number <= unknown_id < 2**16:
            raise ValueError(
                f'unknown_id: wanted {number} to 65535, which no class has, found {unknown_id}'
            )
        found = self.labels.astype(label_type(unknown_id + 1))
        found[self.score(scorer) >= np.float32(threshold)] = unknown_id
        return found

    def overlay(self, threshold: float | None = None, *, scorer: str | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB: the image with a score on top, outlined where it is open."""
        score = self.score(scorer)
        lo, hi = self.scales.get(scorer or self.main) or robust_range(score)
        return overlay(self.image, score, lo, hi, threshold)

    def save(
        self,
        out_dir: str | Path,
        *,
        scores: bool = True,
        overlay: bool = False,
        threshold: float | None = None,
        unknown_id: int = 255,
    ) -> dict[str, Path]:
        """Write the result; each file under a temporary name first, so that none is ever half
        written.

        - ``{name}.png``: class ids, 8 bits; 16 of more than 256 classes.
        - ``{name}.{scorer}.npy``: raw scores, float16.
        - ``{name}.{scorer}.png``: 16 bits. Of an open logit it holds sigmoid(score) * 65535. Other
          scores have no common scale: it goes from the image's smallest to its largest. The text
          entries ``lo`` and ``hi`` say what 0 and 65535 stand for.
        - ``{name}.panel.png``: the picture.
        - ``{name}.overlay.png``: the overlay.
        - ``{name}.unknown.png``: class ids and ``unknown_id``.
        - ``{name}.colour.png``: the same with the classes' colours as palette, unknown white.

        Args:
            out_dir: the folder.
            scores: write score maps.
            overlay: write the overlay.
            threshold: of the main score, in its units; the last two files are written where it is
                given.
            unknown_id: what label maps hold at unknown pixels.

        Returns:
            The files by what they hold: ``'labels'``, ``'{scorer}.npy'``, ``'{scorer}.png'``,
                ``'panel'``, ``'overlay'``, ``'unknown'``, ``'colour'``.

        Raises:
            ValueError: a file would replace the image.
        """
        contents = dict(labels=_png(self.labels), panel=_png(self.picture))
        for scorer, score in self.scores.items() if scores else ():
            raw = io.BytesIO()
            np.save(raw, half_where_it_fits(score))
            contents[f'{scorer}.npy'] = raw.getvalue()
            contents[f'{scorer}.png'] = score_png(score, logit=scorer in self.logits)
        if overlay:
            contents['overlay'] = _png(self.overlay(threshold))
        if threshold is not None:
            ids = self.labels_with_unknown(threshold, unknown_id=unknown_id)
            colours = {**dict(enumerate(self.panel['palette'])), unknown_id: OPEN_COLOUR}
            contents.update(unknown=_png(ids), colour=_coloured_png(ids, colours))
        paths = {kind: self._path(out_dir, kind) for kind in contents}
        for kind, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(contents[kind])
        return paths

    def _path(self, out_dir: str | Path, kind: str) -> Path:
        end = kind if kind.endswith(('.npy', '.png')) else f'{kind}.png'
        path = Path(out_dir, f'{self.name}.{"png" if kind == "labels" else end}')
        if self.source is not None and path.resolve() == Path(self.source).resolve():
            raise ValueError(f"out_dir: wanted a folder apart from the image, found '{out_dir}'")
        return path


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


def _coloured_png(ids: np.ndarray, colours: dict[int, Sequence[int]]) -> bytes:
    """Ids with colours: a palette PNG, which holds both; RGB where an id is above 255."""
    table = np.zeros((max(256, 1 + max(colours)), 3), np.uint8)
    for i, colour in colours.items():
        table[i] = colour
    if ids.dtype != np.uint8:
        return _png(table[ids])
    picture = Image.fromarray(ids).convert('P')
    picture.putpalette(table.tobytes())
    return _png(picture)


def _png(picture: np.ndarray | Image.Image, **text: str) -> bytes:
    """A picture, or an array (H, W) uint8 or uint16 or (H, W, 3) uint8 RGB, as a PNG file with
    text entries.
    """
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    info, file = PngInfo(), io.BytesIO()
    for key, value in text.items():
        info.add_text(key, value)
    picture.save(file, 'PNG', pnginfo=info, compress_level=4)
    return file.getvalue()
