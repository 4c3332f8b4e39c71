"""Figures show what was counted, and do not fail where there is little to show."""

import io
import warnings

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from PIL import Image
from sklearn.metrics import roc_curve

from mmseg_opengan.functional.curve_data import curve_data
from mmseg_opengan.functional.score_counts import ScoreCounts, summarize
from mmseg_opengan.pictures.figures import (
    FIGURES,
    density_figure,
    per_class_figure,
    pr_figure,
    roc_figure,
    save_figure,
)
from mmseg_opengan.pictures.methods import LABELS, line_styles


def bins(closed, opened):
    """Curves of a scorer with these scores."""
    counts = ScoreCounts(num_open_classes=1)
    scores = torch.tensor([*closed, *opened], dtype=torch.float32)
    counts.update(scores, torch.tensor([0] * len(closed) + [1] * len(opened), dtype=torch.uint8))
    numbers = summarize(counts, ['thing'])
    return dict(
        {key: numbers[key] for key in ('AUROC', 'AP', 'FPR95', 'per_class')},
        **curve_data(counts.bins()),
    )


@pytest.fixture
def curves():
    rng = np.random.default_rng(0)
    closed, opened = rng.integers(-9, 5, 300), rng.integers(-4, 9, 100)
    return {
        'weak': bins(rng.integers(0, 9, 300), rng.integers(0, 9, 100)),
        'strong': bins(closed, opened),
    }


def png(figure):
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def test_roc_lines_are_the_roc_curve():
    rng = np.random.default_rng(0)
    closed, opened = rng.integers(-9, 5, 300), rng.integers(-4, 9, 100)
    line = roc_figure({'strong': bins(closed, opened)}).axes[0].lines[0]
    fpr, tpr, _ = roc_curve([0] * 300 + [1] * 100, [*closed, *opened], drop_intermediate=False)
    x, y = line.get_data()
    assert np.allclose(np.interp(fpr, x, y), np.interp(fpr, fpr, tpr), atol=1e-6)
    assert {(round(a, 6), round(b, 6)) for a, b in zip(x, y)} == {
        (round(a, 6), round(b, 6)) for a, b in zip(fpr, tpr)
    }


def test_roc_legend_names_the_best_first(curves):
    axes = roc_figure(curves, 'title').axes[0]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [name.split()[0] for name in names] == ['strong', 'weak']
    assert all(0 < float(name.split()[1]) < 1 for name in names)
    assert axes.get_title() == 'title'


@pytest.mark.parametrize(('number', 'beside'), [(4, False), (22, True)])
def test_the_legend_of_many_methods_covers_no_curve(curves, number, beside):
    figure = roc_figure({f'method {i}': curves['strong'] for i in range(number)})
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    legend = axes.get_legend().get_window_extent()
    assert (legend.x0 > axes.get_window_extent().x1) == beside
    assert legend.y0 >= 0
    assert legend.y1 <= figure.bbox.y1
    assert legend.x1 <= figure.bbox.x1


def test_density_has_a_row_for_each_scorer_and_two_areas_of_size_one(curves):
    figure = density_figure(curves)
    assert [axes.get_ylabel() for axes in figure.axes] == ['weak', 'strong']
    for axes in figure.axes:
        assert [patch.get_label() for patch in axes.patches] == ['closed', 'open']
        edges = [to_hex(patch.get_edgecolor()) for patch in axes.patches]
        faces = [to_hex(patch.get_facecolor()) for patch in axes.patches]
        assert edges == faces == ['#0072b2', '#d55e00']  # blue is closed
        assert [patch.get_data().values.sum() for patch in axes.patches] == pytest.approx([1, 1])


def test_a_far_score_does_not_squeeze_the_picture():
    axes = density_figure(
        {'distance': bins([*np.linspace(0, 1, 2000), 1e30], np.linspace(0.5, 1, 2000))}
    ).axes[0]
    assert axes.patches[0].get_data().edges[-1] < 1.1


@pytest.mark.parametrize(
    'case',
    [
        {},
        {'only closed': ([1.0, 2.0], []), 'only open': ([], [3.0]), 'nothing': ([], [])},
        {'constant': ([2.0] * 5, [2.0] * 3), 'infinitely apart': ([-3e38], [3e38])},
    ],
)
def test_little_to_show(case):
    curves = {name: bins(*scores) for name, scores in case.items()}
    for draw in FIGURES.values():
        assert png(draw(curves, 'title')).startswith(b'\x89PNG')


def test_a_method_has_one_name_and_one_colour_in_every_figure(curves):
    drawn = {}
    for names in (['msp', 'opengan', 'mine'], ['mine', 'OpenGAN', 'MSP, smoothed over 8 pixels']):
        some = {name: curves['strong'] for name in names}
        for draw in (roc_figure, pr_figure):
            for line in draw(some).axes[0].lines:
                drawn.setdefault(line.get_label().split('  ')[0], set()).add(line.get_color())
        for dots in per_class_figure(some).axes[0].lines:
            drawn.setdefault(dots.get_label(), set()).add(dots.get_color())
    assert len(drawn['OpenGAN']) == len(drawn['MSP']) == 1
    assert drawn['MSP'] == drawn['MSP, smoothed over 8 pixels'] != drawn['OpenGAN']
    assert 'msp' not in drawn
    assert 'opengan' not in drawn


def test_no_two_methods_of_a_figure_look_alike():
    known = line_styles(LABELS)
    assert len({(style['color'], style['linestyle']) for style in known.values()}) == len(LABELS)
    runs = ['OpenGAN (a)', 'OpenGAN (b)', 'gmm_s0', 'gmm_s1', 'mine']
    styles = line_styles(runs)
    assert len({tuple(style.values()) for style in styles.values()}) == len(runs)
    assert styles['OpenGAN (a)'] == known['opengan']
    assert styles['gmm_s0'] == known['gmm']
    fused = line_styles(['OpenGAN + GEN', 'OpenGAN'])
    assert [*fused.values()] == [known['hybrid'], known['opengan']]


def test_precision_has_what_chance_gives_beside_it(curves):
    texts = pr_figure(curves).axes[0].get_legend().get_texts()
    assert texts[-1].get_text() == 'by chance  0.2500'  # 100 of 400


def test_small_precisions_fill_the_figure():
    rng = np.random.default_rng(0)
    curve = bins(rng.normal(0, 1, 30_000), rng.normal(1, 1, 100))
    axes = pr_figure({'msp': curve}).axes[0]
    found = [y for x, y in zip(*axes.lines[0].get_data(), strict=True) if x >= 0.02]
    assert max(found) < axes.get_ylim()[1] <= 1.3 * max(found) < 0.6


def test_each_class_has_the_dots_of_all_methods_told_apart_in_one_colour(curves):
    some = {name: curves['strong'] for name in ('cls', 'cls-pix')}
    axes = per_class_figure(some).axes[0]
    first, second, _ = axes.lines
    wanted = curves['strong']['per_class']['thing']['AUROC']
    assert first.get_xydata().tolist() == second.get_xydata().tolist() == [[wanted, 0]]
    assert [text.get_text() for text in axes.get_yticklabels()] == ['thing\n100 pixels']
    assert first.get_color() == second.get_color()
    assert first.get_marker() != second.get_marker()


def test_a_figure_is_saved_twice_or_not_at_all(curves, tmp_path, monkeypatch):
    picture = save_figure(roc_figure(curves), tmp_path / 'roc')
    stored = Image.open(tmp_path / 'roc.png')
    assert [round(dots) for dots in stored.info['dpi']] == [200, 200]
    assert (np.array(stored) == picture).all()
    assert picture.shape == (880, 920, 3)  # 4.4 x 4.6 inches
    pdf = (tmp_path / 'roc.pdf').read_bytes()
    assert pdf.startswith(b'%PDF')
    save_figure(roc_figure(curves), tmp_path / 'again')
    assert (tmp_path / 'again.pdf').read_bytes() == pdf

    def full(*args, **options):
        raise OSError('No space left on device')

    monkeypatch.setattr(Image.Image, 'save', full)
    with pytest.raises(OSError, match='No space left'):
        save_figure(roc_figure({}), tmp_path / 'roc')
    assert {path.name for path in tmp_path.iterdir()} == {
        'roc.png',
        'roc.pdf',
        'again.png',
        'again.pdf',
    }
    assert (np.array(Image.open(tmp_path / 'roc.png')) == picture).all()


def test_letters_without_a_font_are_told_once(curves, tmp_path):
    named = {
        'weak': curves['weak'] | dict(per_class={'犬路': curves['weak']['per_class']['thing']})
    }
    with pytest.warns(UserWarning, match='found none for 犬, 路. Name one in') as told:
        save_figure(per_class_figure(named), tmp_path / 'per_class')
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        save_figure(per_class_figure(curves), tmp_path / 'per_class')
