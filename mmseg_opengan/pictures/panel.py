"""The picture of one image: what it shows, how it is labelled and segmented, and where it is open.

Rows as in the paper's Figures 4 and 17-23: input, ground truth and segmentation; one score map per
method; the open pixels above each threshold. What begins a row is put in the row before it, where
that then holds no more than four pictures. Each row is as wide as the sheet. H, W: size of the
image; h, w: of a map, which may lie on the coarser feature grid.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from ..contracts import CLOSED, IGNORE, OPENGAN, VOID
from .methods import label_of
from .overlay import (
    OPEN_COLOUR,
    SCORE_COLOURS,
    VOID_COLOUR,
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
_DEJAVU = str(Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf'))
_CLOSED_GREY = (112, 114, 120)  # ground truth that says closed without saying which class
_TOGETHER = 4  # pictures of two kinds that one row may hold
_MAPS_IN_A_ROW = 5
#: A picture with its title, drawn when its (height, width) is known.
_Drawn = Callable[[tuple[int, int]], np.ndarray]


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
        together: list[list[_Drawn]] = [self._views()]
        for group in (*self._lines_of_scores(), self._open_pixels()):
            if len(together[-1]) + len(group) <= _TOGETHER:
                together[-1] += group
            elif group:
                together.append(group)
        rows = []
        for row in together:
            width = (WIDTH - (len(row) + 1) * _GAP) // len(row)
            height = max(1, round(width * self.image_rgb.shape[0] / self.image_rgb.shape[1]))
            rows.append([draw((height, width)) for draw in row])
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
        marks = set() if self.open_map is None else set(np.unique(self.open_map).tolist())
        if self.thresholded or marks - {CLOSED, VOID}:
            entries.append(('open', OPEN_COLOUR))
        if VOID in marks or (self.open_map is None and IGNORE in shown):
            entries.append(('void', VOID_COLOUR))
        return entries

    def _views(self) -> list[_Drawn]:
        pictures = dict(input=self.image_rgb)
        if self.gt is not None or self.open_map is not None:
            pictures['ground truth'] = _ground_truth(self.gt, self.open_map, self.palette)
        if self.pred is not None:
            pictures['segmentation'] = colorize(self.pred, self.palette)
        return [partial(_view, name, picture) for name, picture in pictures.items()]

    def _lines_of_scores(self) -> list[list[_Drawn]]:
        """As many maps in each line, or one more."""
        maps = [partial(_score_panel, name, score) for name, score in self.scores.items()]
        lines = max(1, -(-len(maps) // _MAPS_IN_A_ROW))
        places = np.array_split(np.arange(len(maps)), lines)
        return [[maps[place] for place in line] for line in places]

    def _open_pixels(self) -> list[_Drawn]:
        row: list[_Drawn] = []
        for threshold in self.thresholds if self.thresholded else ():
            probability = getattr(threshold, 'probability', threshold)
            rule = f'score >= {threshold:.4g}'
            if probability is not None:
                rule = f'p(open) > {probability:g}'
            title = f'{label_of(self.threshold_of)}: {rule}'
            is_open = threshold_map(self.scores[self.threshold_of], threshold)
            row.append(partial(_open_view, title, self.image_rgb, is_open))
        return row


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


def _view(title: str, picture: np.ndarray, size) -> np.ndarray:
    return _titled(title, _fit(picture, size))


def _open_view(title: str, image: np.ndarray, is_open: np.ndarray, size) -> np.ndarray:
    """The image grey, and dark enough for its open pixels in white to stand out; the root keeps
    shadows apart.
    """
    grey = 0.38 * np.sqrt(255 * _fit(image, size).mean(axis=2, keepdims=True))
    share = _fit(is_open.astype(np.float32), size)[..., None]
    picture = grey.round() * (1 - share) + np.array(OPEN_COLOUR) * share
    return _titled(title, picture.round().astype(np.uint8))


def _score_panel(name: str, score: np.ndarray, size) -> np.ndarray:
    """Title, map, and a colour bar with the scores at its ends."""
    lo, hi = robust_range(score)
    width, ends = size[1], [f'{end + 0.0:.4g}' for end in (lo, hi)]  # + 0. turns -0. into 0.
    bar = np.full((_BAR, width, 3), _PAPER, np.uint8)
    left, right = (int(_font(14).getlength(end)) + 8 for end in ends)
    if left + right < width:
        colours = _fit(SCORE_COLOURS[None], (12, width - left - right), smooth=True)
        bar[8:20, left : width - right] = colours
    bar = write_text(bar, [(0, 5, ends[0]), (width - right + 8, 5, ends[1])], 14)
    picture = _fit(score_to_color(score, lo, hi), size, smooth=True)
    return np.vstack([_titled(label_of(name), picture), bar])


def _titled(title: str, picture: np.ndarray) -> np.ndarray:
    band = np.full((_TITLE, picture.shape[1], 3), _PAPER, np.uint8)
    return np.vstack([write_text(band, [(0, 2, title)], 17), picture])


def _legend(entries, file: str | Path | None = None) -> np.ndarray:
    """Swatch and name of each entry, in as many lines as it takes."""
    warn_of_missing_letters(file, ''.join(name for name, _ in entries))
    x, y, places = 0, 0, []
    for name, colour in entries:
        length = 22 + int(_font(15, file).getlength(name)) + 16
        if x and x + length > WIDTH - 2 * _GAP:
            x, y = 0, y + _ENTRY
        places.append((x, y, name, colour))
        x += length
    strip = np.full((y + _ENTRY, WIDTH - 2 * _GAP, 3), _PAPER, np.uint8)
    for x, y, _, colour in places:
        strip[y + 5 : y + 21, x : x + 16] = _LINE
        strip[y + 6 : y + 20, x + 1 : x + 15] = colour
    return write_text(strip, [(x + 22, y + 4, name) for x, y, name, _ in places], 15, file)


def write_text(picture: np.ndarray, lines, size: int, file: str | Path | None = None) -> np.ndarray:
    """A copy with (x, y, text) written on it."""
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    for x, y, text in lines:
        pen.text((x, y), text, fill=_INK, font=_font(size, file))
    return np.array(canvas)


@lru_cache(maxsize=8)
def _font(size: int, file: str | Path | None = None) -> ImageFont.FreeTypeFont:
    """A font file; DejaVu Sans, which matplotlib brings along, is the same on every machine."""
    try:
        return ImageFont.truetype(str(file or _DEJAVU), size)
    except OSError as error:
        raise ValueError(f"font: wanted a .ttf or .otf file, found '{file}' ({error})") from error


@lru_cache(maxsize=8)
def warn_of_missing_letters(file: str | Path | None, text: str) -> None:
    """Warn, once, where a font file (None: DejaVu Sans) lacks letters of what is to be written."""
    file = Path(file or _DEJAVU)
    letters = FT2Font(str(file)).get_charmap() if file.is_file() else {}
    missing = sorted({one for one in text if letters and ord(one) not in letters})
    if missing:
        warnings.warn(
            f"A picture's text holds {', '.join(missing[:5])}, which '{file.name}' cannot draw. "
            'Give a font file that has these letters: font=..., --font FILE',
            stacklevel=4,
        )
