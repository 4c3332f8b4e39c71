"""Figures of pixel features: maps of a plane coloured in four ways, and patches of images. Arrays
in, figures out.
"""

from collections import Counter
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from ..functional.landscape import limits, smooth_landscape
from ..functional.overlay import SCORE_COLOURS

GROUP_COLOURS = {'closed': '#3b73b9', 'open': '#e07b1a', 'fake': '#1b1b1f'}
GROUP_NAMES = {'closed': 'closed (real)', 'open': 'open (real)', 'fake': 'generated'}
_SCORES = ListedColormap(SCORE_COLOURS / 255.0)
_COLUMNS = 4  # patches beside each other in a block


class Patch(NamedTuple):
    """A part of an image (H, W, 3) uint8 RGB, a pixel (row, col) in it, that pixel's group, and two
    captions.
    """

    image: np.ndarray
    pixel: tuple[int, int]
    group: str
    title: str
    note: str


def patch_figure(blocks: dict[str, list[Patch]], footnote: str = '') -> Figure:
    """Titled blocks of patches beside each other, as the paper's Figures 6 and 16; the frame says
    closed or open.
    """
    rows = max(-(-len(patches) // _COLUMNS) for patches in blocks.values())
    height = 1.2 + 1.5 * rows
    figure = Figure(figsize=(4.6 * len(blocks), height))
    parts = np.atleast_1d(figure.subfigures(1, len(blocks)))
    for part, (title, patches) in zip(parts, blocks.items()):
        part.suptitle(title, fontsize=14, y=1 - 0.12 / height, va='top')
        grid = part.add_gridspec(
            rows,
            _COLUMNS,
            left=0.02,
            right=0.98,
            bottom=0.8 / height,
            top=1 - 0.68 / height,
            wspace=0.08,
            hspace=0.45,
        )
        for place, patch in enumerate(patches):
            _draw_patch(part.add_subplot(grid[divmod(place, _COLUMNS)]), patch)
    frames = [
        Line2D(
            [],
            [],
            marker='s',
            linestyle='',
            markersize=11,
            markerfacecolor='none',
            markeredgewidth=2.5,
            markeredgecolor=GROUP_COLOURS[group],
            label=f'{group} class',
        )
        for group in ('closed', 'open')
    ]
    figure.legend(
        handles=frames, loc='lower left', ncols=2, frameon=False, fontsize=12, handletextpad=0.1
    )
    figure.text(0.99, 0.16 / height, footnote, ha='right', fontsize=11, color='0.3')
    return figure


def _draw_patch(axes, patch: Patch) -> None:
    axes.imshow(patch.image, interpolation='bicubic')
    for size, width, colour in ((9, 3, 'black'), (9, 1.3, 'white')):
        axes.plot(
            *patch.pixel[::-1],
            'o',
            color=colour,
            markersize=size,
            markeredgewidth=width,
            fillstyle='none',
        )
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=GROUP_COLOURS[patch.group], linewidth=3)
    axes.set_title(patch.title, fontsize=10, pad=4, color=GROUP_COLOURS[patch.group], weight='bold')
    axes.set_xlabel(patch.note, fontsize=9.5, labelpad=4)


def project_pca(features: np.ndarray, is_real: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """(n, 2) coordinates on the two main axes of the real features, and a title that says how much
    they show.
    """
    pca = PCA(2, random_state=seed).fit(features[is_real])
    share = pca.explained_variance_ratio_.sum()
    return pca.transform(features), f'PCA ({100 * share:.0f} % of the variance of real features)'


def project_tsne(features: np.ndarray, is_real: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """(n, 2) coordinates and a title; all features are embedded together."""
    perplexity = min(30, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, random_state=seed).fit_transform(features), 't-SNE'


PROJECTIONS = {'pca': project_pca, 'tsne': project_tsne}


def map_figure(
    points: np.ndarray,
    kinds: np.ndarray,
    classes: np.ndarray,
    p_open: np.ndarray,
    palette: dict,
    title: str,
) -> Figure:
    """Features on a plane by class, by group, by D's score, and D's landscape (paper Figure 3 b-e).

    Args:
        points: (n, 2).
        kinds: (n,) 'closed', 'open' or 'fake'.
        classes: (n,) class names; of fakes, anything.
        p_open: (n,) 1 - D(x).
        palette: RGB in 0 .. 255 of each closed class.
    """
    figure = Figure(figsize=(14.4, 11.6), layout='constrained')
    figure.suptitle(title, fontsize=16)
    extent = limits(points)
    axes = figure.subplots(2, 2)
    for panel, name in zip(
        axes.flat, ('classes', 'groups', "D's open score", "D's landscape: the score, smoothed")
    ):
        panel.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])
        panel.set_title(name, fontsize=14)
    _by_class(axes[0, 0], points, kinds, classes, palette)
    _by_group(axes[0, 1], points, kinds)
    order = np.random.default_rng(0).permutation(len(points))
    axes[1, 0].scatter(
        *points[order].T, c=p_open[order], cmap=_SCORES, vmin=0, vmax=1, s=9, linewidths=0
    )
    shades = _landscape(axes[1, 1], points, p_open, extent)
    figure.colorbar(
        shades, ax=axes[1, :], label='open score 1 − D(x)', shrink=0.9, aspect=30, pad=0.02
    )
    return figure


def _by_class(axes, points, kinds, classes, palette) -> None:
    """Closed classes as dots in their own colours, open ones as triangles, fakes as small black
    crosses.
    """
    handles = []
    for kind, marker in (('closed', 'o'), ('open', '^')):
        names = [name for name, _ in Counter(classes[kinds == kind].tolist()).most_common()]
        bright = matplotlib.colormaps['Set1'].colors
        for i, name in enumerate(names):
            colour = np.array(palette[name]) / 255 if kind == 'closed' else bright[i % len(bright)]
            style = dict(
                color=colour, marker=marker, linewidths=0.3 * (kind == 'open'), edgecolors='black'
            )
            chosen = (kinds == kind) & (classes == name)
            axes.scatter(*points[chosen].T, s=22 if kind == 'open' else 12, **style)
            handles.append(axes.scatter([], [], s=45, label=name, **style))
    chosen = kinds == 'fake'
    handles.append(
        axes.scatter(
            *points[chosen].T,
            s=14,
            marker='x',
            color=GROUP_COLOURS['fake'],
            linewidths=0.7,
            label='generated',
        )
    )
    axes.legend(
        handles=handles,
        loc='center right',
        bbox_to_anchor=(-0.02, 0.5),
        frameon=False,
        fontsize=10,
        borderaxespad=0,
    )


def _by_group(axes, points, kinds) -> None:
    order = np.random.default_rng(0).permutation(len(points))
    axes.scatter(
        *points[order].T,
        c=[GROUP_COLOURS[kind] for kind in kinds[order]],
        s=9,
        linewidths=0,
        alpha=0.8,
    )
    for kind in GROUP_COLOURS:
        if (kinds == kind).any():
            axes.scatter([], [], color=GROUP_COLOURS[kind], s=45, label=GROUP_NAMES[kind])
    axes.legend(loc='best', fontsize=11, framealpha=0.9)


def _landscape(axes, points, p_open, extent):
    """Smoothed open score, faded where there are few features, with the boundary p = .5."""
    average, mass = smooth_landscape(points, p_open, extent)
    axes.imshow(
        average,
        cmap=_SCORES,
        vmin=0,
        vmax=1,
        extent=extent,
        origin='lower',
        aspect='auto',
        alpha=np.clip(mass * 60, 0, 1),
        interpolation='bilinear',
    )
    near = np.where(mass > 0.004, average, np.nan)
    if np.nanmin(near) < 0.5 < np.nanmax(near):
        axes.contour(near, levels=[0.5], extent=extent, colors='white', linewidths=4)
        axes.contour(near, levels=[0.5], extent=extent, colors='black', linewidths=2)
        axes.legend(
            handles=[Line2D([], [], color='black', linewidth=2, label='decision boundary D = .5')],
            loc='best',
            fontsize=11,
            framealpha=0.9,
        )
    return matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, 1), _SCORES)
