"""The rank correlations and the figures of a sweep, from validations and tests that are written
down here.
"""

import json
import math

import pytest
from scipy.stats import ConstantInputWarning, spearmanr

from mmseg_opengan.experiments.jobs import Job
from mmseg_opengan.experiments.sweep_report import (
    _choice,
    _spearman,
    figures,
    summarize,
    text,
    write_report,
)

# open images, lambda_G, seed, {step: (open-validation, fake-versus-real AUROC)}, test AUROC
RUNS = [
    (None, 0.1, 0, {2: (0.5, 0.9), 4: (0.6, 0.8)}, 0.7),
    (None, 0.1, 1, {2: (0.8, 0.6), 4: (0.7, 0.5)}, 0.75),
    (None, 0.3, 0, {2: (0.3, 0.2), 4: (0.6, 0.4)}, 0.5),
    (None, 0.3, 1, {2: (0.4, 0.3), 4: (0.9, 0.7)}, 0.8),
    (3, 0.1, 0, {2: (0.1, 0.15)}, 0.2),
]


@pytest.fixture
def result(tmp_path):
    jobs, scorers = [], {}
    for i, (number, lambda_fake, seed, validations, test) in enumerate(RUNS):
        place = tmp_path / str(i) / 'today' / 'vis_data'
        place.mkdir(parents=True)
        (place / 'scalars.json').write_text(
            '\n'.join(
                json.dumps({'opengan/AUROC': opened, 'fake/AUROC': fake, 'step': step})
                for step, (opened, fake) in validations.items()
            )
        )
        best = dict(
            step=0,
            steps=4,
            minutes=1,
            checkpoint='best.pth',
            open_validation={'opengan/AUROC': max(validations.values())[0]},
        )
        (tmp_path / str(i) / 'best.json').write_text(json.dumps(best))
        shown = dict(num_open_images=number, lambda_fake=lambda_fake)
        jobs.append(Job(f'job{i}', 'a.py', seed, tmp_path / str(i), {}, shown))
        (tmp_path / str(i) / 'best.pth').write_text(f'weights of job{i}')
        scorers[f'job{i}_s{seed}'] = dict(
            AUROC=test, AUROC_kinds=test - 0.1, AP=0.125, FPR95=0.25, num_closed=1000, num_open=10
        )
    report = dict(
        label_policy='toy', resolution='feature', mode='whole', num_images=3, scorers=scorers
    )
    return summarize(jobs, report)


def test_the_choice_is_open_validations(result, tmp_path):
    """The value with the best mean over seeds, and its best seed, where test would choose others.

    Of 0.1 and 0.3, test prefers 0.1 (0.725 to 0.65); of the seeds of 0.3, validation the second.
    """
    assert [row['lambda_fake'] for row in result['table']] == [0.3, 0.1]
    assert [row['test_AUROC'] for row in result['table']] == [[0.5, 0.8], [0.2]]
    assert result['chosen'] == 'job3_s1'
    result['runs'][0]['AUROC'] = 0.99
    write_report(tmp_path, result, 'a.py')
    assert (tmp_path / 'chosen.pth').read_text() == 'weights of job3'


def test_of_equal_seeds_the_one_that_validated_best_is_chosen(result):
    runs = [dict(run, lambda_fake=0.1) for run in result['runs'][:2]]
    assert _choice(runs)['run'] == 'job1_s1'
    runs[0]['AUROC'] = 0.99
    assert _choice(runs)['run'] == 'job1_s1'


def test_the_text_has_table_6_and_every_run(result):
    lines = text(result, 'a.py', 'out').splitlines()
    assert lines[0].startswith('5 trainings of 4 steps: lambda_G 0.1 to 0.3 (2 values), seeds 0, 1')
    assert 'toy, feature resolution, whole, pooled over 1,000 closed and 10 open pixels' in lines[0]
    assert lines[2:8] == [
        '| open images | all | 3 |',
        '|---|---|---|',
        '| chosen lambda_G | 0.3 | 0.1 |',
        '| open-validation AUROC | 0.7500 | 0.1000 |',
        '| test AUROC | 0.6500 ± 0.2121 | 0.2000 |',
        '| test AUROC over kinds | 0.5500 ± 0.2121 | 0.1000 |',
    ]
    assert '| job3_s1 | 0 of 4 | 0.9000 | 0.8000 | 0.7000 | 0.1250 | 0.2500 | 1 |' in lines
    assert (
        lines[-1]
        == 'Chosen: job3_s1, `out/chosen.pth`. `python tools/test.py a.py out/chosen.pth` tests it.'
    )


def test_rank_correlations_are_spearmans(result):
    found = result['rank_correlation']
    # Ranks 2.5 4 2.5 5 1, with a tie, and 3 4 2 5 1: sums of squares and products around the mean,
    # by hand.
    assert found['validation_and_test'] == pytest.approx(9.5 / (9.5 * 10) ** 0.5)
    fake, opened = [[values[i] for run in RUNS for values in run[3].values()] for i in (1, 0)]
    assert found['fake_and_open'] == pytest.approx(spearmanr(fake, opened).statistic)


def test_two_runs_or_equal_ones_have_no_rank_correlation():
    assert math.isnan(_spearman([(1, 2), (2, 3)]))
    with pytest.warns(ConstantInputWarning):
        assert math.isnan(_spearman([(1, 2), (1, 3), (1, 4)]))


def points_of(axes):
    return [line.get_xydata().tolist() for line in axes.lines]


def test_figure_9_has_a_line_and_its_best_validation_for_each_run(result):
    axes, colours = figures(result['runs'])['figure9'].axes
    assert points_of(axes) == [
        [[2, 0.5], [4, 0.6]],
        [[2, 0.8], [4, 0.7]],
        [[2, 0.3], [4, 0.6]],
        [[2, 0.4], [4, 0.9]],
    ]
    assert [line.get_markevery() for line in axes.lines] == [[1], [0], [1], [1]]
    drawn = [line.get_color() for line in axes.lines]
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3]
    assert (axes.get_xlabel(), colours.get_ylabel()) == ('training step', r'$\lambda_G$')
    assert axes.get_ylabel().startswith('AUROC, open against closed')


def test_figure_10_has_a_dot_for_each_validation(result):
    axes, colours = figures(result['runs'])['figure10'].axes
    (dots,) = axes.collections
    wanted = [values[::-1] for run in RUNS[:4] for values in run[3].values()]
    assert [tuple(dot) for dot in dots.get_offsets().tolist()] == wanted
    assert dots.get_array().tolist() == [2, 4] * 4
    assert axes.get_xlabel().startswith('AUROC, generated against closed')
    assert axes.get_ylabel().startswith('AUROC, open against closed')
    assert colours.get_ylabel() == 'training step'


def test_figure_11_has_means_and_seeds_of_validation_and_test(result):
    figure = figures(result['runs'])['figure11']
    (axes,) = figure.axes
    low, high, validation, test_low, test_high, test = points_of(axes)
    assert validation == [[0.1, 0.7], [0.3, 0.75]]
    assert low + high == [[0.1, 0.6], [0.1, 0.8], [0.3, 0.6], [0.3, 0.9]]
    assert test == [[0.1, 0.725], [0.3, 0.65]]
    assert test_low + test_high == [[0.1, 0.7], [0.1, 0.75], [0.3, 0.5], [0.3, 0.8]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (r'$\lambda_G$', 'AUROC, open against closed')
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ['open validation', 'test']
