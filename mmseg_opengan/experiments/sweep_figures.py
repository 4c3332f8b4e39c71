"""Figures of a sweep of lambda_G (paper Figures 9, 10 and 11). Numbers in, matplotlib figures
out.
"""

from collections.abc import Sequence
from statistics import mean

from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure


def training_figure(curves: Sequence[tuple[float, Sequence[int], Sequence[float]]]) -> Figure:
    """Open-validation AUROC against training steps, a line for each run (lambda_G, steps, AUROCs).

    A circle marks the validation whose checkpoint is kept.
    """
    figure, axes = _figure()
    norm = _norm([value for value, *_ in curves])
    for value, steps, aurocs in curves:
        colour = colormaps['viridis'](norm(value))
        axes.plot(steps, aurocs, color=colour, linewidth=1.2)
        best = max(range(len(steps)), key=lambda i: aurocs[i])
        axes.plot(steps[best], aurocs[best], 'o', color=colour, markersize=5)
    axes.set(xlabel='training step', ylabel='AUROC, open against closed (open validation)')
    axes.set_title('a line for each run, a circle at the step that is kept', fontsize='medium')
    figure.colorbar(ScalarMappable(norm, 'viridis'), ax=axes, label=r'$\lambda_G$')
    return figure


def scatter_figure(points: Sequence[tuple[float, float, int]]) -> Figure:
    """Each validation (fake-versus-real AUROC, open-versus-closed AUROC, step) as a dot, blue to
    red with the step.
    """
    figure, axes = _figure()
    fake, opened, steps = zip(*points)
    dots = axes.scatter(
        fake, opened, c=steps, cmap='coolwarm', s=18, edgecolors='0.3', linewidths=0.3
    )
    low = min(*fake, *opened)
    axes.plot([low, 1], [low, 1], color='0.8', linewidth=1, zorder=0, label='both equal')
    axes.set(
        xlabel='AUROC, generated against closed (what D is trained for)',
        ylabel='AUROC, open against closed (open validation)',
    )
    axes.legend(frameon=False, loc='lower right')
    figure.colorbar(dots, ax=axes, label='training step')
    return figure


def tuning_figure(runs: Sequence[tuple[float, float, float]], chosen: float) -> Figure:
    """Validation and test AUROC against lambda_G, of runs (lambda_G, validation, test); lines are
    means over seeds.
    """
    figure, axes = _figure()
    values = sorted({value for value, *_ in runs})
    for place, name, colour in ((1, 'open validation', 'tab:blue'), (2, 'test', 'tab:orange')):
        means = [mean(run[place] for run in runs if run[0] == value) for value in values]
        axes.plot(values, means, 'o-', color=colour, markersize=4, label=name)
        if len(runs) > len(values):
            axes.plot(
                [run[0] for run in runs], [run[place] for run in runs], '.', color=colour, alpha=0.4
            )
    axes.axvline(
        chosen,
        color='0.7',
        linewidth=1,
        linestyle='--',
        zorder=0,
        label='chosen on open validation',
    )
    axes.set(xlabel=r'$\lambda_G$', ylabel='AUROC, open against closed')
    axes.legend(frameon=False)
    return figure


def _figure():
    figure = Figure(figsize=(5.6, 4.2), layout='constrained')
    return figure, figure.add_subplot()


def _norm(values):
    low, high = min(values), max(values)
    return Normalize(low, high if high > low else low + 1e-6)
