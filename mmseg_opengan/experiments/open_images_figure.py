"""AUROC against the number of open training images (paper Figure 5). Numbers in, matplotlib figure
out.
"""

from statistics import mean

from matplotlib.figure import Figure


def open_images_figure(
    curves: dict[str, dict[int, list[float]]], flat: dict[str, list[float]], title: str = ''
) -> Figure:
    """One line per method; dots are seeds, lines are their means.

    Args:
        curves: method -> number of open training images -> AUROC of each seed.
        flat: methods that train on no open pixel -> AUROC of each seed; horizontal lines.
    """
    figure = Figure(figsize=(7, 4.2), layout='constrained')
    axes = figure.add_subplot()
    for place, (name, points) in enumerate(curves.items()):
        numbers = sorted(points)
        axes.plot(
            numbers,
            [mean(points[number]) for number in numbers],
            'o-',
            color=f'C{place}',
            markersize=4,
            label=name,
        )
        for number in numbers:
            axes.plot(
                [number] * len(points[number]), points[number], '.', color=f'C{place}', alpha=0.4
            )
    for place, (name, values) in enumerate(flat.items(), len(curves)):
        axes.axhline(mean(values), color=f'C{place}', linestyle='--', linewidth=1.2, label=name)
    axes.set(
        xscale='log',
        xlabel='number of open training images',
        ylabel='AUROC, open against closed',
        title=title,
    )
    numbers = sorted({number for points in curves.values() for number in points})
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.minorticks_off()
    axes.legend(frameon=False, loc='upper left', bbox_to_anchor=(1, 1))
    return figure
