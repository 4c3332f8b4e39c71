"""Tables and comparisons of several seeds, from a made-up report."""

import csv
import io
import math

import numpy as np
import pytest

from mmseg_opengan.experiments import method_table
from mmseg_opengan.functional.bootstrap import MIN_BLOCKS, BlockTable, interval, resampled_aurocs


def summary(auroc, blocks=MIN_BLOCKS):
    """A report entry whose blocks all have the same AUROC."""
    closed = [40 + i for i in range(blocks)]
    opened = [10 + 3 * i for i in range(blocks)]
    return dict(
        AUROC=auroc,
        AUROC_kinds=1 - auroc / 4,
        AP=auroc / 2,
        FPR95=1 - auroc,
        num_closed=sum(closed),
        num_open=sum(opened),
        blocks=dict(
            wins=(auroc * np.outer(closed, opened)).tolist(),
            closed=closed,
            open=opened,
        ),
    )


@pytest.fixture
def report():
    scorers = {
        'opengan_s10': summary(0.9),
        'cls_s2': summary(0.7),
        'msp': summary(0.6),
        'opengan_s2': summary(0.8),
        'cls_s10': summary(0.85),
    }
    return dict(
        label_policy='camvid', resolution='feature', num_images=2, mIoU=50.0, scorers=scorers
    )


def compared(report, method, other):
    found = method_table.by_method(report['scorers'])
    return method_table.compare(found[method], found[other])


def test_seeds_are_in_order_whatever_the_order_of_the_report(report):
    found = method_table.by_method(report['scorers'])
    assert [entry['AUROC'] for entry in found['opengan'].values()] == [0.8, 0.9]
    assert list(found['cls']) == [2, 10]


def test_differences_pair_seeds_that_both_have(report):
    report['scorers'] |= {'opengan_s0': summary(0.5), 'cls_s7': summary(0.1)}
    result = compared(report, 'opengan', 'cls')
    assert result['per_seed'] == pytest.approx([0.1, 0.05])
    assert result['mean'] == pytest.approx(0.075)
    assert result['interval'] == pytest.approx((0.075, 0.075))


def test_a_method_without_seeds_is_compared_with_every_seed(report):
    assert compared(report, 'opengan', 'msp')['per_seed'] == pytest.approx([0.2, 0.3])
    result = compared(report, 'msp', 'opengan')
    assert result['per_seed'] == pytest.approx([-0.2, -0.3])
    assert result['mean'] == pytest.approx(-0.25)
    assert result['interval'] == pytest.approx((-0.25, -0.25))


def test_methods_without_a_common_seed_are_not_compared(report):
    names = ('cls_s0', 'cls_s1', 'opengan_s2', 'opengan_s3')
    report['scorers'] = {name: summary(0.6) for name in names}
    assert compared(report, 'opengan', 'cls') is None
    labels = dict(cls='CLS', opengan='OpenGAN')
    assert 'minus' not in method_table.report_text(dict(feature=report), labels)


def test_differences_are_written_of_methods_that_are_there(report):
    report['scorers']['opengan-att_s10'] = summary(0.95)
    labels = {'msp': 'MSP', 'opengan': 'OpenGAN', 'opengan-att': 'Att'}
    text = method_table.report_text(dict(feature=report), labels)
    assert [line for line in text.splitlines() if 'minus' in line] == [
        'OpenGAN minus MSP: mean +0.2500 (paired 95 % interval +0.2500 to +0.2500), '
        'per seed +0.2000, +0.3000.',
        'Att minus OpenGAN: mean +0.1000 (paired 95 % interval +0.1000 to +0.1000), '
        'per seed +0.1500, +0.0500.',
    ]


def test_a_table_has_what_was_evaluated_means_and_intervals(report):
    labels = {'msp': 'MSP', 'opengan': 'OpenGAN', 'absent': 'Absent'}
    text = method_table.report_text(
        dict(feature=report), labels, paper=dict(msp=0.721, opengan=0.885)
    )
    closed, opened = report['scorers']['msp']['num_closed'], report['scorers']['msp']['num_open']
    assert text.startswith('**feature resolution**: camvid, feature resolution, ')
    assert f'pooled over {closed} closed and {opened} open pixels of 2 images; mIoU 50.0 %' in text
    lines = text.splitlines()
    assert lines[2] == (
        '| method | AUROC | 95 % interval | AUROC over kinds | AP | FPR95 | paper, Cityscapes AUROC |'
    )
    assert lines[4] == '| MSP | 0.6000 | 0.600 to 0.600 | 0.8500 | 0.3000 | 0.4000 | 0.721 |'
    assert lines[5] == (
        '| OpenGAN | 0.8500 ± 0.0707 | 0.850 to 0.850 | 0.7875 ± 0.0177 | 0.4250 ± 0.0354 | '
        '0.1500 ± 0.0707 | 0.885 |'
    )


def test_too_few_blocks_have_no_interval_and_the_table_says_why(report):
    report['scorers'] = {name: summary(0.7, MIN_BLOCKS - 1) for name in ('opengan', 'cls')}
    labels = dict(cls='CLS', opengan='OpenGAN')
    text = method_table.report_text(dict(feature=report), labels)
    assert '| CLS | 0.7000 |  | 0.8250 | 0.3500 | 0.3000 |' in text
    assert 'No intervals: wanted at least 8 blocks of test images, found 7.' in text
    assert 'mean +0.0000, per seed +0.0000.' in text
    (line, _) = csv.DictReader(io.StringIO(method_table.results_csv(dict(feature=report), {})))
    assert (line['AUROC'], line['AUROC_low'], line['AUROC_high']) == ('0.7', '', '')


def test_what_is_not_defined_has_no_number(report):
    """A test set without open pixels, of which no closed class is known."""
    report['mIoU'] = None
    for entry in report['scorers'].values():
        blocks = entry['blocks']
        nothing = np.zeros((MIN_BLOCKS, MIN_BLOCKS)).tolist()
        entry |= dict(AUROC=None, AUROC_kinds=None, AP=None, num_open=0)
        entry['blocks'] = dict(blocks, wins=nothing, open=[0] * MIN_BLOCKS)
    text = method_table.report_text({'image': report}, {'opengan': 'OpenGAN'})
    assert 'mIoU' not in text
    assert '| OpenGAN |  |  |  |  | 0.1500 ± 0.0707 |' in text


def test_csv_has_settings_results_and_the_interval_from_low_to_high(report):
    random = np.random.default_rng(0)
    entry = report['scorers']['cls_s2']
    shape = (MIN_BLOCKS, MIN_BLOCKS)
    wins = np.outer(entry['blocks']['closed'], entry['blocks']['open']) * random.random(shape)
    entry['blocks']['wins'] = wins.tolist()
    chosen = {'cls_s2': dict(open_validation=0.9, validated_by='AUROC', minutes=None)}
    text = method_table.results_csv(dict(feature=report), chosen)
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [(line['method'], line['seed']) for line in lines] == [
        ('opengan', '10'),
        ('cls', '2'),
        ('msp', '0'),
        ('opengan', '2'),
        ('cls', '10'),
    ]
    low, high = interval(resampled_aurocs([BlockTable.from_json(entry['blocks'])]))
    assert low < high
    line = lines[1]
    assert (float(line['AUROC_low']), float(line['AUROC_high'])) == (low, high)
    assert (line['resolution'], line['label_policy'], line['num_images']) == (
        'feature',
        'camvid',
        '2',
    )
    numbers = [line[name] for name in ('AUROC', 'AUROC_kinds', 'AP', 'FPR95')]
    assert numbers == ['0.7', '0.825', '0.35', '0.30000000000000004']
    assert (line['open_validation'], line['minutes']) == ('0.9', '')
    assert not math.isnan(low)
