"""The picture of one image: what it shows, how it is labelled and segmented, and where it is open.

Rows as in the paper's Figures 4 and 17-23: input, ground truth and segmentation; one score map per
method (in the first row, where it then holds no more than four); the open pixels above each
threshold. H, W: size of the image; h, w: of a map, which may lie on the coarser feature grid.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from ..contracts import CLOSED, IGNORE, OPENGAN, VOID
from ..functional.overlay import (
    OPEN_COLOUR,
    SCORE_COLOURS,
    VOID_COLOUR,
    LogitThreshold,
    colorize,
    open_pixels_white,
    robust_range,
    score_to_color,
    stack_panels,
    threshold_map,
)

WIDTH = 1200  # pixels; what a README shows without shrinking
_GAP = 12
_TITLE, _BAR, _ENTRY = 26, 24, 26  # heights of a title, of a colour bar and of a line of the legend
_INK, _PAPER, _LINE = (34, 36, 42), (255, 255, 255), (150, 152, 158)
_DEJAVU = Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
_CLOSED_GREY = (112, 114, 120)  # ground truth that says closed without saying which class
_IN_ONE_ROW = 4  # pictures that fit beside each other in the first row
_MAPS_IN_A_ROW = 5


@dataclass(frozen=True)
class Panel:
    """Everything known of one image; what is not given is left out.

    Attributes:
        image_rgb: (H, W, 3) uint8 RGB.
        gt: (h, w) closed class ids and IGNORE.
        open_map: (h, w) open map of ``contracts.py``; open pixels are drawn white, void black.
        pred: (h, w) predicted class ids.
        scores: Method name -> (h, w) scores, larger = more open. Each is drawn between its own 1 %
            and 99 % quantiles, written at the ends of its colour bar.
        classes: Names of the K classes.
        palette: Their K colours, RGB.
        thresholds: Probabilities p, a map shows sigmoid(open logit) > p in white; or
            ``LogitThreshold``.
        threshold_of: Name of the score that is thresholded, an open logit where a threshold is a
            probability; not among ``scores``, the maps are left out.
        legend: Name the classes that occur.
        font: File (.ttf, .otf) for the class names; None: DejaVu Sans.

    Raises:
        ValueError: an image that is not (H, W, 3) uint8, or a class without a colour.
    """

    image_rgb: np.ndarray
    gt: np.ndarray | None = None
    open_map: np.ndarray | None = None
    pred: np.ndarray | None = None
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    classes: Sequence[str] = ()
    palette: Sequence = ()
    thresholds: Sequence[float] = (0.6, 0.7, 0.8, 0.9)
    threshold_of: str = OPENGAN
    legend: bool = True
    font: str | Path | None = None

    def __post_init__(self):
        image = self.image_rgb
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f'image_rgb: wanted (H, W, 3) uint8, found {image.shape} {image.dtype}'
            )
        if len(self.classes) != len(self.palette):
            raise ValueError(
                f'palette: wanted a colour for each of {len(self.classes)} classes, found '
                f'{len(self.palette)}'
            )

    @property
    def thresholded(self) -> bool:
        """There is a row of open pixels above each threshold."""
        return self.threshold_of in self.scores and len(self.thresholds) > 0

    def rows(self) -> list[list[np.ndarray]]:
        """Pictures, row by row."""
        labels = self._labels()
        together = 1 + len(labels) + len(self.scores) <= _IN_ONE_ROW
        columns = 1 + len(labels) + len(self.scores) * together
        size = self._cell(columns if together else 3)
        pictures = dict(input=self.image_rgb, **labels)
        rows = [[_titled(name, _fit(one, size)) for name, one in pictures.items()]]
        if together:
            rows[0] += self._score_maps(size)
        else:
            rows += self._rows_of_scores()
        if self.thresholded:
            rows.append(self._open_pixels())
        entries = self.legend_entries() if self.legend else []
        if entries:
            rows.append([_legend(entries, self.font)])
        return rows

    def legend_entries(self) -> list[tuple[str, tuple]]:
        """(name, RGB colour) of every class that ``gt`` or ``pred`` shows, in class order, then of
        open and void pixels.
        """
        shown: set[int] = set()
        for labels in (self.gt, self.pred):
            if labels is not None:
                shown.update(np.unique(labels).tolist())
        known = zip(self.classes, self.palette, strict=True)
        entries = [(name, tuple(colour)) for i, (name, colour) in enumerate(known) if i in shown]
        is_open, void = self.thresholded, IGNORE in shown
        if self.open_map is not None:
            void = bool((self.open_map == VOID).any())
            is_open |= bool(((self.open_map != CLOSED) & (self.open_map != VOID)).any())
        if is_open:
            entries.append(('open', OPEN_COLOUR))
        if void:
            entries.append(('void', VOID_COLOUR))
        return entries

    def _labels(self):
        found = {}
        if self.gt is not None or self.open_map is not None:
            found['ground truth'] = _ground_truth(self.gt, self.open_map, self.palette)
        if self.pred is not None:
            found['segmentation'] = colorize(self.pred, self.palette)
        return found

    def _score_maps(self, size):
        return [_score_panel(name, score, size) for name, score in self.scores.items()]

    def _rows_of_scores(self):
        lines = -(-len(self.scores) // _MAPS_IN_A_ROW)
        columns = max(3, -(-len(self.scores) // max(1, lines)))  # as many in each row
        maps = self._score_maps(self._cell(columns))
        return [maps[i : i + columns] for i in range(0, len(maps), columns)]

    def _open_pixels(self):
        dimmed = _dimmed(_fit(self.image_rgb, self._cell(len(self.thresholds))))
        row = []
        for threshold in self.thresholds:
            rule = f'p(open) > {threshold:g}'
            if isinstance(threshold, LogitThreshold):
                rule = f'score >= {threshold:.4g}'
            is_open = threshold_map(self.scores[self.threshold_of], threshold)
            row.append(_titled(f'{self.threshold_of}: {rule}', _whitened(dimmed, is_open)))
        return row

    def _cell(self, columns):
        """(height, width) of one picture where a row holds ``columns`` of them, but three at
        least.
        """
        columns = max(columns, 3)
        width = (WIDTH - 2 * _GAP - (columns - 1) * _GAP) // columns
        return max(1, round(width * self.image_rgb.shape[0] / self.image_rgb.shape[1])), width


def draw_panel(image_rgb: np.ndarray, **fields) -> np.ndarray:
    """A :class:`Panel` on one sheet: (height, WIDTH, 3) uint8 RGB. Arguments and errors are its."""
    sheet = stack_panels(Panel(image_rgb, **fields).rows(), gap=_GAP, background=_PAPER)
    framed = np.full((sheet.shape[0] + 2 * _GAP, WIDTH, 3), _PAPER, np.uint8)
    framed[_GAP:-_GAP, _GAP : _GAP + sheet.shape[1]] = sheet
    return framed


def _fit(picture: np.ndarray, size, smooth: bool = False) -> np.ndarray:
    """Resize to (height, width): averaged when it shrinks, in whole pixels (or ``smooth``) when it
    grows.
    """
    shrinks = picture.shape[0] >= size[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    return cv2.resize(np.ascontiguousarray(picture), tuple(size[::-1]), interpolation=how)


def _ground_truth(gt, open_map, palette) -> np.ndarray:
    if gt is None:
        gt = np.full(open_map.shape, IGNORE, np.uint8)
    if open_map is None:
        return colorize(gt, palette)
    if gt.shape != open_map.shape:
        gt = cv2.resize(gt, open_map.shape[::-1], interpolation=cv2.INTER_NEAREST)
    coloured = colorize(gt, palette)
    coloured[(gt == IGNORE) & (open_map == CLOSED)] = _CLOSED_GREY
    return open_pixels_white(coloured, open_map)


def _score_panel(name: str, score: np.ndarray, size) -> np.ndarray:
    """Title, map, and a colour bar with the scores at its ends."""
    lo, hi = robust_range(score)
    width, ends = size[1], _bar_ends(lo, hi)
    bar = np.full((_BAR, width, 3), _PAPER, np.uint8)
    left, right = (int(_font(14).getlength(end)) + 8 for end in ends)
    if left + right < width:
        bar[8:20, left : width - right] = _fit(
            SCORE_COLOURS[None], (12, width - left - right), smooth=True
        )
    bar = _text(bar, [(0, 5, ends[0]), (width - right + 8, 5, ends[1])], 14)
    return np.vstack([_titled(name, _fit(score_to_color(score, lo, hi), size, smooth=True)), bar])


def _bar_ends(lo: float, hi: float) -> tuple[str, str]:
    """Both ends of a range with as many decimals as tell them apart: three digits of their
    difference.
    """
    decimals = 2 - math.floor(math.log10(hi - lo)) if hi > lo else 3
    if not -3 <= decimals <= 5:
        return f'{lo:.3g}', f'{hi:.3g}'
    places = max(0, decimals)
    return tuple(
        f'{round(end, places) + 0.0:.{places}f}' for end in (lo, hi)
    )  # + 0. turns -0. into 0.


def _dimmed(picture: np.ndarray) -> np.ndarray:
    """Grey, and dark enough for white to stand out; the root keeps shadows apart."""
    grey = 0.38 * np.sqrt(255 * picture.mean(axis=2, keepdims=True))
    return grey.round().astype(np.uint8).repeat(3, axis=2)


def _whitened(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A picture with the True pixels of a map of another size in white."""
    share = _fit(mask.astype(np.float32), picture.shape[:2])[..., None]
    return (picture * (1 - share) + np.array(OPEN_COLOUR) * share).round().astype(np.uint8)


def _titled(title: str, picture: np.ndarray) -> np.ndarray:
    band = np.full((_TITLE, picture.shape[1], 3), _PAPER, np.uint8)
    return np.vstack([_text(band, [(0, 2, title)], 17), picture])


def _legend(entries, font: str | Path | None = None) -> np.ndarray:
    """Swatch and name of each entry, in as many lines as it takes."""
    file = str(font or _DEJAVU)
    _warn_of_missing_letters(file, ''.join(name for name, _ in entries))
    x, line, places = 0, 0, []
    for name, colour in entries:
        length = 22 + int(_font(15, file).getlength(name)) + 16
        if x and x + length > WIDTH - 2 * _GAP:
            x, line = 0, line + 1
        places.append((x, line * _ENTRY, name, colour))
        x += length
    strip = np.full(((line + 1) * _ENTRY, WIDTH - 2 * _GAP, 3), _PAPER, np.uint8)
    for x, y, _, colour in places:
        strip[y + 5 : y + 21, x : x + 16] = _LINE
        strip[y + 6 : y + 20, x + 1 : x + 15] = colour
    return _text(strip, [(x + 22, y + 4, name) for x, y, name, _ in places], 15, file)


def _text(picture: np.ndarray, lines, size: int, file: str | None = None) -> np.ndarray:
    """A copy with (x, y, text) written on it."""
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    for x, y, text in lines:
        pen.text((x, y), text, fill=_INK, font=_font(size, file))
    return np.array(canvas)


@lru_cache(maxsize=8)
def _font(size: int, file: str | None = None) -> ImageFont.FreeTypeFont:
    """A font file; DejaVu Sans, which matplotlib brings along, is the same on every machine."""
    try:
        return ImageFont.truetype(file or str(_DEJAVU), size)
    except OSError as error:
        raise ValueError(f"font: wanted a .ttf or .otf file, found '{file}' ({error})") from error


@lru_cache(maxsize=8)
def _warn_of_missing_letters(file: str, text: str) -> None:
    letters = FT2Font(file).get_charmap() if Path(file).is_file() else {}
    missing = sorted({one for one in text if letters and ord(one) not in letters})
    if missing:
        warnings.warn(
            f"Class names hold {', '.join(missing[:5])}, which '{Path(file).name}' cannot draw. "
            'Give a font file that has these letters: font=...',
            stacklevel=4,
        )
