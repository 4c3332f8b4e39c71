"""Figures of an evaluation: ROC curves and score densities. Counts in, matplotlib figures out."""

import numpy as np
from matplotlib.figure import Figure

from ..functional.curves import ScoreBins, auroc, roc_points


def roc_figure(curves: dict[str, ScoreBins], title: str = '') -> Figure:
    """ROC curves of several scorers in one figure, best first; scorers without both kinds of pixels are left out."""
    figure = Figure(figsize=(5, 4.6), layout='constrained')
    axes = figure.add_subplot()
    areas = {name: auroc(bins) for name, bins in curves.items() if _has_both(bins)}
    for name in sorted(areas, key=areas.get, reverse=True):
        fpr, tpr, _ = roc_points(curves[name])
        axes.plot(fpr, tpr, label=f'{name}  {areas[name]:.4f}')
    axes.plot([0, 1], [0, 1], color='0.8', linewidth=1, zorder=0)
    axes.set(xlabel='false positive rate (closed pixels called open)', ylabel='true positive rate (open pixels found)',
             xlim=(0, 1), ylim=(0, 1.002), title=title)
    if areas:
        axes.legend(title='AUROC', loc='lower right', frameon=False)
    return figure


def density_figure(curves: dict[str, ScoreBins], title: str = '') -> Figure:
    """Densities of closed and open pixels over the score, one row per scorer."""
    figure = Figure(figsize=(5, 1.9 * max(len(curves), 1)), layout='constrained')
    figure.suptitle(title)
    for row, (name, bins) in enumerate(curves.items()):
        axes = figure.add_subplot(len(curves), 1, row + 1)
        _draw_density(axes, bins)
        axes.set(ylabel=name, yticks=[])
        if row == 0:
            axes.legend(frameon=False)
        if row == len(curves) - 1:
            axes.set_xlabel('open-set score')
    return figure


def _draw_density(axes, bins: ScoreBins, num_bars: int = 100) -> None:
    edges = bins.lower.numpy()
    closed, open_ = bins.closed.double().numpy(), bins.open.double().numpy()
    share = closed / max(closed.sum(), 1) + open_ / max(open_.sum(), 1)
    up_to = np.cumsum(share)
    inside = edges[(up_to > 0.002) & (up_to - share < 1.998)]  # a few far scores must not squeeze the picture
    low, high = (inside.min(), inside.max()) if len(inside) else (0.0, 1.0)
    high = max(high, low + 1e-6 * max(1, abs(low)))
    for counts, label in ((closed, 'closed'), (open_, 'open')):
        heights, borders = np.histogram(edges, bins=num_bars, range=(low, high), weights=counts)
        axes.stairs(heights / max(heights.sum(), 1), borders, fill=True, alpha=0.5, label=label)


def _has_both(bins: ScoreBins) -> bool:
    return int(bins.closed.sum()) > 0 and int(bins.open.sum()) > 0
