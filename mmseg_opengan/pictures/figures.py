"""Figures of an evaluation: several methods in one. Curves of ``functional.curve_data`` in,
matplotlib figures out.

``curves`` is everywhere {method: dict} with the keys of ``curve_data`` and, for legends and bars,
AUROC, AP and ``per_class`` of the method's summary, as ``OpenSetMetric.curves`` and ``curves.json``
have them. A method has the same colour in all figures of one ``curves``. What a method lacks is
left out; with nothing to draw the axes stay empty.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from PIL import Image

from ..files import replacing

#: Okabe and Ito's colours, told apart with any kind of colour vision; the light yellow is left out.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#000000')
_LINES = ('-', '--', ':', '-.')
_GREY = '0.75'
_INSIDE = 10  # entries of a legend that have room in the axes
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


def roc_figure(curves: Mapping[str, dict], title: str = '') -> Figure:
    """ROC curves, best AUROC first in the legend."""
    figure, axes = _square(title)
    for name in _ranked(curves, 'roc', 'AUROC'):
        axes.plot(
            curves[name]['roc']['fpr'],
            curves[name]['roc']['tpr'],
            **_line(curves, name),
            label=f'{name}  {curves[name]["AUROC"]:.4f}',
            clip_on=False,
        )
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, zorder=0)
    axes.set(
        xlabel='false positive rate (closed pixels called open)',
        ylabel='true positive rate (open pixels found)',
    )
    _legend(axes, title='AUROC', loc='lower right')
    return figure


def pr_figure(curves: Mapping[str, dict], title: str = '') -> Figure:
    """Precision-recall curves as the steps whose area AP is, best AP first; dotted, the share of
    open pixels.
    """
    figure, axes = _square(title)
    for name in _ranked(curves, 'pr', 'AP'):
        recall, precision = curves[name]['pr']['recall'], curves[name]['pr']['precision']
        axes.plot(
            recall,
            precision,
            **_line(curves, name),
            label=f'{name}  {curves[name]["AP"]:.4f}',
            drawstyle='steps-pre',
        )
    shares = {curve['pr']['precision'][-1] for curve in curves.values() if 'pr' in curve}
    for share in shares:
        axes.axhline(share, color=_GREY, linewidth=1, linestyle=':', zorder=0)
    axes.set(xlabel='recall (open pixels found)', ylabel='precision (of the pixels called open)')
    _legend(axes, title='AP', loc='best')
    return figure


def density_figure(curves: Mapping[str, dict], title: str = '') -> Figure:
    """Densities of closed and open pixels over the score, one row per method; heights on a
    square-root scale.

    Most closed pixels share one corner of a softmax score: on a linear scale nothing else could be
    seen.
    """
    figure, rows = _rows(curves, title, height=1.3)
    for axes, (name, curve) in zip(rows, curves.items(), strict=True):
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
        axes.set(ylabel=name, yticks=[], ylim=(0, None))
        axes.spines['left'].set_visible(False)
        if axes is rows[0]:
            _legend(axes, loc='best')
    if rows:
        rows[-1].set_xlabel('open-set score (density on a square-root scale)')
    return figure


def reliability_figure(curves: Mapping[str, dict], title: str = '') -> Figure:
    """Reliability diagram in groups of equally many pixels: calibrated, and dashed the plain
    sigmoid of open logits.

    Both axes are logarithmic: where 1 % of the pixels are open, most probabilities are far below 1
    %.
    """
    figure, axes = _square(title, limits=(1e-5, 1))
    axes.set(xscale='log', yscale='log')
    for name, curve in curves.items():
        for when, points in curve.get('reliability', {}).items():
            drawn = [
                (p, share)
                for p, share in zip(points['probability'], points['open_fraction'], strict=True)
                if p > 0 and share > 0
            ]
            if drawn:
                axes.plot(
                    *zip(*drawn),
                    marker='o',
                    markersize=3.5,
                    **{**_line(curves, name), 'linestyle': '-' if when == 'after' else '--'},
                    label=name if when == 'after' else f'{name}, plain sigmoid',
                    markerfacecolor=None if when == 'after' else 'white',
                )
    axes.plot([1e-5, 1], [1e-5, 1], color=_GREY, linewidth=1, zorder=0)
    axes.set(
        xlabel='probability of open, mean of the group',
        ylabel='open pixels in the group',
        xlim=(1e-5, 1),
        ylim=(1e-5, 1),
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f'{100 * value:g} %')
        axis.set_minor_locator(NullLocator())
    _legend(axes, loc='upper left')
    return figure


def per_class_figure(curves: Mapping[str, dict], title: str = '') -> Figure:
    """AUROC of each open class against all closed pixels, classes by their number of pixels."""
    sizes = {}
    for curve in curves.values():
        for name, numbers in curve.get('per_class', {}).items():
            if (
                numbers['num_open']
                and numbers['AUROC'] is not None
                and not math.isnan(numbers['AUROC'])
            ):
                sizes[name] = max(sizes.get(name, 0), numbers['num_open'])
    classes = sorted(sizes, key=sizes.get)
    height = 0.8 / max(len(curves), 1)
    with rc_context(_STYLE):
        figure = Figure(
            figsize=(5.5, 1.2 + 0.16 * max(len(classes), 2) * (len(curves) + 1)),
            layout='constrained',
        )
        axes = figure.add_subplot(title=title)
    for i, (name, curve) in enumerate(curves.items()):
        rows = [
            j for j, open_class in enumerate(classes) if open_class in curve.get('per_class', {})
        ]
        values = [curve['per_class'][classes[j]]['AUROC'] for j in rows]
        places = [j + 0.4 - height * (i + 0.5) for j in rows]
        axes.barh(
            places, values, height=height * 0.9, color=_line(curves, name)['color'], label=name
        )
        for place, value in zip(places, values, strict=True):
            axes.text(value + 0.005, place, f'{value:.3f}', va='center', fontsize=6.5)
    axes.set(
        xlabel='AUROC against all closed pixels',
        xlim=(0, 1.08),
        yticks=range(len(classes)),
        yticklabels=[f'{name}\n{sizes[name]:,} pixels' for name in classes],
    )
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.axvline(0.5, color=_GREY, linewidth=1, zorder=0)
    axes.tick_params(axis='y', length=0)
    if classes:
        figure.legend(loc='outside lower center', ncols=min(len(curves), 4), frameon=False)
    return figure


def macro_f1_figure(curves: Mapping[str, dict], title: str = '') -> Figure:
    """Open-set recognition at every threshold, one row per method: macro-F1 over K + 1 classes, F1
    of the open one.
    """
    drawn = {
        name: curve for name, curve in curves.items() if curve.get('macro_f1', {}).get('threshold')
    }
    figure, rows = _rows(drawn, title, height=1.5)
    for axes, (name, curve) in zip(rows, drawn.items(), strict=True):
        points = curve['macro_f1']
        axes.plot(
            points['threshold'],
            points['macro_f1'],
            color=COLOURS[0],
            label='macro-F1, K + 1 classes',
        )
        axes.plot(
            points['threshold'],
            points['open_f1'],
            color=COLOURS[1],
            linestyle='--',
            label='F1, open',
        )
        axes.set(ylabel=name, ylim=(0, 1), xlim=_spread(points))
        if axes is rows[0]:
            _legend(axes, loc='best')
    if rows:
        rows[-1].set_xlabel('threshold of the open-set score')
    return figure


#: Every figure of an evaluation, by the name of its file.
FIGURES: dict[str, Callable[..., Figure]] = dict(
    roc=roc_figure,
    pr=pr_figure,
    density=density_figure,
    reliability=reliability_figure,
    per_class=per_class_figure,
    macro_f1=macro_f1_figure,
)


def save_figure(figure: Figure, stem, formats: Sequence[str] = ('png',)) -> np.ndarray:
    """Write ``{stem}.png`` and ``{stem}.pdf``, as asked for; gives the picture, (height, width, 3)
    uint8 RGB.
    """
    figure.set_dpi(150)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    for kind in formats:
        with replacing(f'{stem}.{kind}') as file, rc_context(_STYLE):
            if kind == 'png':
                Image.fromarray(picture).save(file, 'PNG')
            else:  # no date in it: the same evaluation gives the same file
                figure.savefig(file, format=kind, metadata=dict(CreationDate=None))
    return picture


# ---------------------------------------------------------------------- parts


def _square(title, limits=(0, 1)):
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 4.4), layout='constrained')
        axes = figure.add_subplot(title=title, aspect='equal')
        axes.set(xlim=limits, ylim=limits)
    return figure, axes


def _rows(curves, title, *, height):
    with rc_context(_STYLE):
        figure = Figure(figsize=(5, 0.7 + height * max(len(curves), 1)), layout='constrained')
        figure.suptitle(title)
        rows = [figure.add_subplot(len(curves), 1, row + 1) for row in range(len(curves))]
    return figure, rows


def _ranked(curves, part, number):
    return sorted(
        (name for name, curve in curves.items() if part in curve),
        key=lambda name: -curves[name][number],
    )


def _line(curves, name):
    """Colour, and a dash where there are more methods than colours."""
    index = list(curves).index(name)
    return dict(
        color=COLOURS[index % len(COLOURS)], linestyle=_LINES[index // len(COLOURS) % len(_LINES)]
    )


def _legend(axes, **options):
    """A legend in the axes, or beside them where it would cover the curves."""
    entries = len(axes.get_legend_handles_labels()[0])
    if entries > _INSIDE:
        axes.figure.set_figwidth(axes.figure.get_figwidth() + 2.4)
        options.update(loc='center left', bbox_to_anchor=(1.02, 0.5))
    if entries:
        with rc_context(_STYLE):
            axes.legend(frameon=False, **options)


def _spread(points):
    """The thresholds between which something happens: far outliers must not squeeze the picture."""
    score, change = (
        np.array(points['threshold']),
        np.abs(np.diff(points['macro_f1'])) + np.abs(np.diff(points['open_f1'])),
    )
    along = np.concatenate([[0], change.cumsum()]) / max(change.sum(), 1e-12)
    low, high = np.interp([0.005, 0.995], along, score)
    margin = 0.05 * (high - low) or 1e-6 + abs(low) * 1e-3
    return low - margin, high + margin
