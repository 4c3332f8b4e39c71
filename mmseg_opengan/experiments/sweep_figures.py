"""Figures of many trainings (paper Figures 5, 9, 10 and 11). Numbers in, matplotlib figures out."""

from collections.abc import Mapping, Sequence
from statistics import mean

from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ..pictures.methods import line_styles


def training_figure(curves: Sequence[tuple[float, Sequence[int], Sequence[float]]]) -> Figure:
    """Open-validation AUROC against training steps, a line for each run (lambda_G, steps, AUROCs).

    A circle marks the validation whose checkpoint is kept.
    """
    figure, axes = _figure()
    values = [value for value, *_ in curves]
    norm = Normalize(min(values), max(values))
    for value, steps, aurocs in curves:
        best = max(range(len(steps)), key=lambda i: aurocs[i])
        colour = colormaps['viridis'](norm(value))
        axes.plot(
            steps,
            aurocs,
            color=colour,
            marker='o',
            markevery=[best],
            markersize=5,
        )
    axes.set(xlabel='training step', ylabel='AUROC, open against closed (open validation)')
    figure.colorbar(ScalarMappable(norm, 'viridis'), ax=axes, label=r'$\lambda_G$')
    return figure


def scatter_figure(points: Sequence[tuple[float, float, int]]) -> Figure:
    """Each validation (fake-versus-real AUROC, open-versus-closed AUROC, step) as a dot, blue to
    red with the step.
    """
    figure, axes = _figure()
    fake, opened, steps = zip(*points)
    dots = axes.scatter(
        fake,
        opened,
        c=steps,
        cmap='coolwarm',
        s=18,
        edgecolors='0.3',
    )
    axes.set(
        xlabel='AUROC, generated against closed (what D is trained for)',
        ylabel='AUROC, open against closed (open validation)',
    )
    figure.colorbar(dots, ax=axes, label='training step')
    return figure


def means_figure(lines: Mapping[str, Mapping[float, Sequence[float]]], **labels: str) -> Figure:
    """AUROC against a number: dots are seeds, lines are their means.

    Args:
        lines: name -> number -> AUROC of each seed.
        labels: of the axes.
    """
    figure, axes = _figure()
    styles = line_styles(lines)
    for name, points in lines.items():
        numbers = sorted(points)
        for number in numbers:
            seeds = points[number]
            axes.plot(
                [number] * len(seeds),
                seeds,
                '.',
                color=styles[name]['color'],
                alpha=0.4,
            )
        means = [mean(points[number]) for number in numbers]
        axes.plot(
            numbers,
            means,
            marker='o',
            markersize=4,
            label=name,
            **styles[name],
        )
    axes.set(ylabel='AUROC, open against closed', **labels)
    figure.legend(frameon=False, loc='outside right upper')
    return figure


def _figure():
    figure = Figure(figsize=(7, 4.2), layout='constrained')
    return figure, figure.add_subplot()
