"""Figures of an evaluation: several methods in one. Curves of ``functional.curve_data`` in,
matplotlib figures out.

``curves`` is everywhere {method: dict} with the keys of ``curve_data`` and, for legends and bars,
AUROC, AP and ``per_class`` of the method's summary, as ``OpenSetMetric.curves`` and ``curves.json``
have them. ``methods.py`` gives a method's name and colour. What a method lacks is left out; with
nothing to draw the axes stay empty.
"""

import math
import re
import warnings
from collections.abc import Callable, Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ..files import replacing
from .methods import COLOURS, label_of, line_styles

_GREY = '0.75'
_MARKERS = {'-': 'o', '--': 's', ':': '^', '-.': 'D'}  # for the dash of a line
_STYLE = {
    'font.size': 9,
    'axes.titlesize': 9,
    'axes.labelsize': 9,
    'legend.fontsize': 8,
    'legend.title_fontsize': 8,
    'xtick.labelsize': 8,
    'ytick.labelsize': 8,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.linewidth': 0.8,
    'lines.linewidth': 1.5,
    'pdf.fonttype': 42,
    'figure.titlesize': 9,
}


@rc_context(_STYLE)
def roc_figure(curves: Mapping[str, dict], title: str = '') -> Figure:
    """ROC curves, best AUROC first in the legend."""
    figure, axes = _square(title)
    styles = line_styles(curves)
    for name in _ranked(curves, 'roc', 'AUROC'):
        axes.plot(
            curves[name]['roc']['fpr'],
            curves[name]['roc']['tpr'],
            **styles[name],
            label=f'{label_of(name)}  {curves[name]["AUROC"]:.4f}',
            clip_on=False,
        )
    axes.plot(
        [0, 1],
        [0, 1],
        color=_GREY,
        linewidth=1,
        zorder=0,
    )
    axes.set(
        xlabel='false positive rate (closed pixels called open)',
        ylabel='true positive rate (open pixels found)',
    )
    _legend(axes, title='AUROC', loc='lower right')
    return figure


@rc_context(_STYLE)
def pr_figure(curves: Mapping[str, dict], title: str = '') -> Figure:
    """Precision-recall curves as the steps whose area AP is, best AP first; dotted, the share of
    open pixels. The axis ends above the curves, as few open pixels make all precisions small.
    """
    figure, axes = _square(title)
    styles = line_styles(curves)
    for name in _ranked(curves, 'pr', 'AP'):
        recall, precision = curves[name]['pr']['recall'], curves[name]['pr']['precision']
        axes.plot(
            recall,
            precision,
            **styles[name],
            label=f'{label_of(name)}  {curves[name]["AP"]:.4f}',
            drawstyle='steps-pre',
        )
    shares = {curve['pr']['precision'][-1] for curve in curves.values() if 'pr' in curve}
    for share in shares:
        chance = f'by chance  {share:.4f}'
        axes.axhline(
            share,
            color=_GREY,
            linewidth=1,
            linestyle=':',
            zorder=0,
            label=chance,
        )
    axes.set(
        xlabel='recall (open pixels found)',
        ylabel='precision (of the pixels called open)',
        ylim=(0, _highest_precision(curves)),
        aspect='auto',
    )
    _legend(axes, inside=5, title='AP', loc='best')
    return figure


@rc_context(_STYLE)
def density_figure(curves: Mapping[str, dict], title: str = '') -> Figure:
    """Densities of closed and open pixels over the score, one row per method; heights on a
    square-root scale.

    Most closed pixels share one corner of a softmax score: on a linear scale nothing else could be
    seen.
    """
    figure = Figure(figsize=(5, 0.7 + 1.3 * max(len(curves), 1)), layout='constrained')
    figure.suptitle(title)
    for row, (name, curve) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(len(curves), 1, row)
        bars = curve.get('density')
        for kind, colour in (('closed', COLOURS[0]), ('open', COLOURS[1])):
            if bars is not None:
                axes.stairs(
                    bars[kind],
                    bars['edges'],
                    fill=True,
                    facecolor=(colour, 0.45),
                    edgecolor=colour,
                    linewidth=1,
                    label=kind,
                )
        axes.set_yscale('function', functions=(np.sqrt, np.square))
        axes.set(ylabel=label_of(name), yticks=[], ylim=(0, None))
        axes.spines['left'].set_visible(False)
        if row == 1:
            _legend(axes, loc='best')
        if row == len(curves):
            axes.set_xlabel('open-set score (density on a square-root scale)')
    return figure


@rc_context(_STYLE)
def per_class_figure(curves: Mapping[str, dict], title: str = '') -> Figure:
    """AUROC of each open class against all closed pixels, classes by their number of pixels."""
    points: dict[str, list[tuple[str, float]]] = {}
    sizes: dict[str, int] = {}
    for method, curve in curves.items():
        for name, numbers in curve.get('per_class', {}).items():
            value = numbers['AUROC']
            if numbers['num_open'] and value is not None and not math.isnan(value):
                points.setdefault(method, []).append((name, value))
                sizes[name] = max(sizes.get(name, 0), numbers['num_open'])
    classes = sorted(sizes, key=sizes.get)
    figure = Figure(figsize=(5.5, 1.5 + 0.4 * max(len(classes), 2)), layout='constrained')
    axes = figure.add_subplot(title=title)
    for method, style in line_styles(points).items():
        names, values = zip(*points[method])
        marker = _MARKERS[style['linestyle']]
        places = [classes.index(name) for name in names]
        axes.plot(
            values,
            places,
            marker,
            color=style['color'],
            label=label_of(method),
        )
    axes.set(
        xlabel='AUROC against all closed pixels',
        xlim=(0, 1.02),
        ylim=(-0.5, max(len(classes), 1) - 0.5),
        yticks=range(len(classes)),
        yticklabels=[f'{name}\n{sizes[name]:,} pixels' for name in classes],
    )
    axes.axvline(0.5, color=_GREY, linewidth=1, zorder=0)
    axes.grid(axis='y', color=_GREY, linewidth=0.5)
    if classes:
        figure.legend(loc='outside lower center', ncols=4, frameon=False)
    return figure


#: Every figure of an evaluation, by the name of its file.
FIGURES: dict[str, Callable[..., Figure]] = dict(
    roc=roc_figure,
    pr=pr_figure,
    density=density_figure,
    per_class=per_class_figure,
)


def save_figure(figure: Figure, stem) -> np.ndarray:
    """Write ``{stem}.png`` (200 dpi) and ``{stem}.pdf``, each whole or not at all.

    Letters that no font of matplotlib's ``font.family`` has are named in one warning.

    Returns:
        (height, width, 3) uint8 RGB: the picture.
    """
    figure.set_dpi(200)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings(record=True) as said:
        canvas.draw()
        picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
        with replacing(f'{stem}.png') as file:
            Image.fromarray(picture).save(file, 'PNG', dpi=(200, 200))
        with replacing(f'{stem}.pdf') as file, rc_context(_STYLE):
            # no date in it: the same evaluation gives the same file
            figure.savefig(file, format='pdf', metadata=dict(CreationDate=None))
    _pass_on(said, stem)
    return picture


# ---------------------------------------------------------------------- parts


def _pass_on(said: list[warnings.WarningMessage], stem) -> None:
    """Warn of what matplotlib said, of all missing letters together."""
    missing = {}
    for one in said:
        letter = re.match(r'Glyph (\d+) .* missing from font', str(one.message))
        if letter:
            missing[chr(int(letter[1]))] = True
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if missing:
        warnings.warn(
            f"Figure '{stem}': wanted a font for each letter, found none for "
            f'{", ".join(missing)}. Name one in a file matplotlibrc: '
            "'font.family: DejaVu Sans, NAME OF THE FONT'",
            stacklevel=3,
        )


def _highest_precision(curves):
    """A little more than the curves reach, but for what they do at the first pixels found."""
    highest = 0.0
    for curve in curves.values():
        points = zip(*curve.get('pr', {}).values(), strict=True)
        highest = max([highest, *(precision for recall, precision in points if recall >= 0.02)])
    return min(1, 1.2 * highest) or 1


def _square(title):
    figure = Figure(figsize=(4.6, 4.4), layout='constrained')
    axes = figure.add_subplot(title=title, aspect='equal')
    axes.set(xlim=(0, 1), ylim=(0, 1))
    return figure, axes


def _ranked(curves, part, number):
    return sorted(
        (name for name, curve in curves.items() if part in curve),
        key=lambda name: -curves[name][number],
    )


def _legend(axes, inside=10, **options):
    """A legend in the axes; beside them where more than ``inside`` entries would cover curves."""
    entries = len(axes.get_legend_handles_labels()[0])
    if entries > inside:
        axes.figure.set_figwidth(axes.figure.get_figwidth() + 2.4)
        options.update(loc='center left', bbox_to_anchor=(1.02, 0.5))
    if entries:
        axes.legend(frameon=False, **options)
