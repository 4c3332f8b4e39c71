"""The picture of one image: what it shows, how it is labelled and segmented, and where it is open.

Rows as in the paper's Figures 4 and 17-23: input, ground truth and segmentation; one score map per
method (in the first row, where it then holds no more than four); the open pixels above each
threshold. H, W: size of the image; h, w: of a map, which may lie on the coarser feature grid.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import mmcv
import numpy as np
from mmengine.dist import master_only
from mmseg.registry import VISUALIZERS
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from PIL import Image, ImageDraw, ImageFont

from ..contracts import CLOSED, GT_OPEN_MAP, IGNORE, OPEN_SCORES, OPENGAN, VOID
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
_CLOSED_GREY = (112, 114, 120)  # ground truth that says closed without saying which class


def draw_panel(
    image_rgb: np.ndarray,
    *,
    gt: np.ndarray | None = None,
    open_map: np.ndarray | None = None,
    pred: np.ndarray | None = None,
    scores: Mapping[str, np.ndarray] | None = None,
    classes: Sequence[str] = (),
    palette: Sequence = (),
    thresholds: Sequence[float] = (0.6, 0.7, 0.8, 0.9),
    threshold_of: str = OPENGAN,
    legend: bool = True,
) -> np.ndarray:
    """Everything known of one image on one sheet; what is not given is left out.

    Args:
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
        threshold_of: Name of the score that is an open logit; not among ``scores``, the maps are
            left out.
        legend: Name the classes that occur.

    Returns:
        (height, WIDTH, 3) uint8 RGB.

    Raises:
        ValueError: an image that is not (H, W, 3) uint8, or a class id without a colour.
    """
    image_rgb = np.asarray(image_rgb)
    if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8:
        raise ValueError(
            f'image_rgb must be (H, W, 3) uint8, but got {image_rgb.shape} {image_rgb.dtype}.'
        )
    if len(classes) != len(palette):
        raise ValueError(
            f'palette must have one colour per class ({len(classes)}), but has {len(palette)}.'
        )
    scores = {name: np.asarray(score) for name, score in (scores or {}).items()}
    shape = image_rgb.shape[:2]

    given = 1 + (gt is not None or open_map is not None) + (pred is not None)
    together = given + len(scores) <= 4
    size = _cell(shape, max(3, given + len(scores)) if together else 3)
    views = [_titled('input', _fit(image_rgb, size))]
    if gt is not None or open_map is not None:
        views.append(_titled('ground truth', _fit(_ground_truth(gt, open_map, palette), size)))
    if pred is not None:
        views.append(_titled('segmentation', _fit(colorize(pred, palette), size)))
    rows = [views]

    if together:
        views += [_score_panel(name, score, size) for name, score in scores.items()]
    else:
        lines = -(-len(scores) // 5)  # at most five in a row, as many in each
        columns = max(3, -(-len(scores) // lines))
        size = _cell(shape, columns)
        panels = [_score_panel(name, score, size) for name, score in scores.items()]
        rows += [panels[i : i + columns] for i in range(0, len(panels), columns)]

    if threshold_of in scores and len(thresholds):
        size = _cell(shape, max(len(thresholds), 3))
        dimmed = _dimmed(_fit(image_rgb, size))
        logits = scores[threshold_of]
        rows.append(
            [
                _titled(
                    f'{threshold_of}: '
                    + (
                        f'open logit >= {one:.4g}'
                        if isinstance(one, LogitThreshold)
                        else f'p(open) > {one:g}'
                    ),
                    _whitened(dimmed, threshold_map(logits, one)),
                )
                for one in thresholds
            ]
        )
    else:
        threshold_of = None
    if legend:
        entries = legend_entries(
            gt=gt, open_map=open_map, pred=pred, classes=classes, palette=palette
        )
        if threshold_of is not None and 'open' not in dict(entries):
            entries.append(('open', OPEN_COLOUR))
        if entries:
            rows.append([_legend(entries)])

    sheet = stack_panels(rows, gap=_GAP, background=_PAPER)
    framed = np.full((sheet.shape[0] + 2 * _GAP, WIDTH, 3), _PAPER, np.uint8)
    framed[_GAP:-_GAP, _GAP : _GAP + sheet.shape[1]] = sheet
    return framed


def legend_entries(
    *, gt=None, open_map=None, pred=None, classes=(), palette=()
) -> list[tuple[str, tuple]]:
    """(name, RGB colour) of every class that ``gt`` or ``pred`` shows, in class order, then of open
    and void pixels.
    """
    shown = set()
    for labels in (gt, pred):
        shown |= set() if labels is None else set(np.unique(labels).tolist())
    entries = [
        (name, tuple(colour))
        for i, (name, colour) in enumerate(zip(classes, palette))
        if i in shown
    ]
    if open_map is not None:
        if ((open_map != CLOSED) & (open_map != VOID)).any():
            entries.append(('open', OPEN_COLOUR))
        if (open_map == VOID).any():
            entries.append(('void', VOID_COLOUR))
    elif IGNORE in shown:
        entries.append(('void', VOID_COLOUR))
    return entries


@VISUALIZERS.register_module()
class OpenSetVisualizer(SegLocalVisualizer):
    """mmseg's visualizer with :func:`draw_panel` as its picture.

    Args:
        name: Name of the instance.
        thresholds: Probabilities of the thresholded open-pixel maps.
        threshold_of: Name of the score that they threshold.
        **kwargs: As for ``SegLocalVisualizer``.
    """

    draw_panel = staticmethod(draw_panel)

    def __init__(
        self,
        name: str = 'visualizer',
        *,
        thresholds: Sequence[float] = (0.6, 0.7, 0.8, 0.9),
        threshold_of: str = OPENGAN,
        **kwargs,
    ):
        super().__init__(name, **kwargs)
        self.thresholds, self.threshold_of = tuple(thresholds), threshold_of

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: SegDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        step: int = 0,
        with_labels: bool | None = True,
    ) -> None:
        """Draw one sample and show it, write it, or hand it to the backends.

        Args:
            name: Name of the picture.
            image: (H, W, 3) uint8 RGB.
            data_sample: Any of ``gt_sem_seg``, ``GT_OPEN_MAP``, ``pred_sem_seg`` and
                ``OPEN_SCORES``.
            draw_gt: Draw the ground truth.
            draw_pred: Draw prediction and scores.
            show: Show the picture in a window.
            wait_time: Seconds to show it, 0 = until a key.
            out_file: File to write instead of the backends.
            step: Step the backends record.
            with_labels: Draw the legend.
        """
        drawn = draw_panel(
            image,
            **panel_fields(data_sample, draw_gt, draw_pred),
            classes=self.dataset_meta.get('classes') or (),
            palette=self.dataset_meta.get('palette') or (),
            thresholds=self.thresholds,
            threshold_of=self.threshold_of,
            legend=bool(with_labels),
        )
        self.set_image(drawn)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(mmcv.rgb2bgr(drawn), out_file)
        else:
            self.add_image(name, drawn, step)


def panel_fields(
    sample: SegDataSample | None, draw_gt: bool = True, draw_pred: bool = True
) -> dict:
    """Arguments of :func:`draw_panel` that a sample holds, as arrays (h, w); score maps by name,
    OpenGAN's last.
    """

    def plane(tensor):
        return np.asarray(
            tensor.detach().cpu().float() if tensor.is_floating_point() else tensor.cpu()
        ).squeeze(0)

    found = {}
    wanted = [('gt', 'gt_sem_seg'), ('open_map', GT_OPEN_MAP)] * draw_gt + [
        ('pred', 'pred_sem_seg')
    ] * draw_pred
    for argument, field in wanted:
        if sample is not None and field in sample:
            found[argument] = plane(sample.get(field).data)
    if sample is not None and draw_pred and OPEN_SCORES in sample:
        # mmengine keeps the names in a set, whose order differs between runs.
        scores = sorted(
            sample.get(OPEN_SCORES).items(), key=lambda item: (item[0] == OPENGAN, item[0])
        )
        found['scores'] = {name: plane(score) for name, score in scores}
    return found


def _cell(shape, columns: int) -> tuple[int, int]:
    """(height, width) of one picture where a row holds ``columns`` of them."""
    width = (WIDTH - 2 * _GAP - (columns - 1) * _GAP) // columns
    return max(1, round(width * shape[0] / shape[1])), width


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


def _legend(entries) -> np.ndarray:
    """Swatch and name of each entry, in as many lines as it takes."""
    x, line, places = 0, 0, []
    for name, colour in entries:
        length = 22 + int(_font(15).getlength(name)) + 16
        if x and x + length > WIDTH - 2 * _GAP:
            x, line = 0, line + 1
        places.append((x, line * _ENTRY, name, colour))
        x += length
    strip = np.full(((line + 1) * _ENTRY, WIDTH - 2 * _GAP, 3), _PAPER, np.uint8)
    for x, y, _, colour in places:
        strip[y + 5 : y + 21, x : x + 16] = _LINE
        strip[y + 6 : y + 20, x + 1 : x + 15] = colour
    return _text(strip, [(x + 22, y + 4, name) for x, y, name, _ in places], 15)


def _text(picture: np.ndarray, lines, size: int) -> np.ndarray:
    """A copy with (x, y, text) written on it."""
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    for x, y, text in lines:
        pen.text((x, y), text, fill=_INK, font=_font(size))
    return np.array(canvas)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: the same picture on every machine."""
    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')), size
    )
