"""Figures of pixel features: maps of a plane coloured in three ways, and patches of images. Arrays
in, figures out.
"""

from collections import Counter
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from ..pictures.landscape import limits, smooth_landscape
from ..pictures.overlay import SCORE_COLOURS

_COLOURS = {'closed': '#3b73b9', 'open': '#e07b1a'}
_SCORES = dict(cmap=ListedColormap(SCORE_COLOURS / 255.0), vmin=0, vmax=1)
_COLUMNS = 4  # patches beside each other


class Patch(NamedTuple):
    """A part of an image (H, W, 3) uint8 RGB, a pixel (row, col) in it, that pixel's group, and two
    captions.
    """

    image: np.ndarray
    pixel: tuple[int, int]
    group: str
    title: str
    note: str


def patch_figure(patches: list[Patch], title: str, footnote: str) -> Figure:
    """Patches beside each other, as the paper's Figures 6 and 16; the colour of frame and caption
    says closed (blue) or open (orange).
    """
    rows = -(-len(patches) // _COLUMNS)
    figure = Figure(figsize=(4.6, 1.2 + 1.5 * rows), layout='constrained')
    figure.suptitle(title, fontsize=14)
    for place, patch in enumerate(patches, 1):
        _draw_patch(
            figure.add_subplot(
                rows,
                _COLUMNS,
                place,
                xticks=[],
                yticks=[],
            ),
            patch,
        )
    figure.supxlabel(footnote, fontsize=8, color='0.3')
    return figure


def _draw_patch(axes, patch: Patch) -> None:
    colour = _COLOURS[patch.group]
    axes.imshow(patch.image, interpolation='bicubic')
    row, col = patch.pixel
    axes.plot(
        col,
        row,
        'o',
        color='white',
        markersize=9,
        markeredgewidth=1.3,
        fillstyle='none',
    )
    axes.spines[:].set(color=colour, linewidth=3)
    axes.set_title(patch.title, fontsize=10, color=colour, weight='bold')
    axes.set_xlabel(patch.note, fontsize=9.5)


def project_pca(features: np.ndarray, is_real: np.ndarray) -> tuple[np.ndarray, str]:
    """(n, 2) coordinates on the two main axes of the real features, and a title that says how much
    they show.
    """
    pca = PCA(2, random_state=0).fit(features[is_real])
    share = pca.explained_variance_ratio_.sum()
    return pca.transform(features), f'PCA ({100 * share:.0f} % of the variance of real features)'


def project_tsne(features: np.ndarray, is_real: np.ndarray) -> tuple[np.ndarray, str]:
    """(n, 2) coordinates and a title; all features are embedded together."""
    perplexity = min(30, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, random_state=0).fit_transform(features), 't-SNE'


PROJECTIONS = {'pca': project_pca, 'tsne': project_tsne}


def map_figure(
    points: np.ndarray,
    kinds: np.ndarray,
    classes: np.ndarray,
    p_open: np.ndarray,
    palette: dict,
    title: str,
) -> Figure:
    """Features on a plane by group and class, by D's score, and D's landscape (paper Figure 3).

    Args:
        points: (n, 2).
        kinds: (n,) 'closed', 'open' or 'fake'.
        classes: (n,) class names; of fakes, 'generated'.
        p_open: (n,) 1 - D(x).
        palette: RGB in 0 .. 255 of each closed class.
    """
    figure = Figure(figsize=(21, 6), layout='constrained')
    figure.suptitle(title, fontsize=16)
    left, right, bottom, top = extent = limits(points)
    axes = figure.subplots(1, 3)
    titles = ('classes', "D's open score", "D's landscape: the score, smoothed")
    for panel, name in zip(axes, titles):
        panel.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
        panel.set_title(name, fontsize=14)
    by_class, by_score, landscape = axes
    _by_class(by_class, points, kinds, classes, palette)
    order = np.random.default_rng(0).permutation(len(points))
    x, y = points[order].T
    shades = by_score.scatter(
        x,
        y,
        c=p_open[order],
        s=9,
        linewidths=0,
        **_SCORES,
    )
    _draw_landscape(landscape, points, p_open, extent)
    figure.colorbar(shades, ax=landscape, label='open score 1 − D(x)')
    return figure


def _by_class(axes, points, kinds, classes, palette) -> None:
    """Closed classes as dots in their own colours, open ones as triangles, fakes as small black
    crosses; frequent classes first.
    """
    bright = iter(matplotlib.colormaps['Set1'].colors * len(classes))
    for kind, marker, size in (('closed', 'o', 12), ('open', '^', 22), ('fake', 'x', 14)):
        for name, _ in Counter(classes[kinds == kind].tolist()).most_common():
            colour = 'black'
            if kind == 'closed':
                colour = np.array(palette[name]) / 255
            elif kind == 'open':
                colour = next(bright)
            x, y = points[(kinds == kind) & (classes == name)].T
            shape = dict(s=size, marker=marker, linewidths=0.7)
            axes.scatter(
                x,
                y,
                color=colour,
                label=name,
                **shape,
            )
    axes.legend(
        loc='center right',
        bbox_to_anchor=(-0.02, 0.5),
        frameon=False,
        fontsize=10,
    )


def _draw_landscape(axes, points, p_open, extent):
    """Smoothed open score, faded where there are few features, with the boundary p = .5."""
    average, mass = smooth_landscape(points, p_open, extent)
    place = dict(extent=extent, origin='lower')
    alpha = np.clip(mass * 60, 0, 1)
    axes.imshow(
        average,
        alpha=alpha,
        aspect='auto',
        interpolation='bilinear',
        **place,
        **_SCORES,
    )
    near = np.where(mass > 0.004, average, np.nan)
    if np.nanmin(near) < 0.5 < np.nanmax(near):
        axes.contour(
            near,
            levels=[0.5],
            colors='black',
            linewidths=2,
            **place,
        )
        axes.plot([], [], color='black', label='decision boundary D = .5')
        axes.legend()
