"""Tables and comparisons of several seeds, from a made-up report."""

import numpy as np
import pytest

from mmseg_opengan.experiments import method_table


def summary(auroc, closed=(10, 15) * 4, opened=(2, 2, 2, 1, 2, 2, 2, 2)):
    """A report entry whose blocks all have the same AUROC."""
    wins = auroc * np.outer(closed, opened)
    return dict(
        AUROC=auroc,
        AP=auroc / 2,
        FPR95=1 - auroc,
        num_closed=sum(closed),
        num_open=sum(opened),
        blocks=dict(wins=wins.tolist(), closed=list(closed), open=list(opened)),
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
    return dict(label_policy='camvid', num_images=2, mIoU=50.0, scorers=scorers)


def test_seeds_are_in_order_whatever_the_order_of_the_report(report):
    found = {row.method: row for row in method_table.rows(report)}
    assert found['opengan'].values['AUROC'] == [0.8, 0.9]
    assert found['cls'].values['AUROC'] == [0.7, 0.85]


def test_differences_pair_equal_seeds(report):
    result = method_table.compare(report, 'opengan', 'cls')
    assert result['per_seed'] == pytest.approx([0.1, 0.05])
    assert result['mean'] == pytest.approx(0.075)
    assert result['interval'] == pytest.approx((0.075, 0.075))


def test_a_method_without_seeds_is_compared_with_every_seed(report):
    assert method_table.compare(report, 'opengan', 'msp')['per_seed'] == pytest.approx([0.2, 0.3])


def test_only_seeds_that_both_have_are_paired(report):
    report['scorers'] |= {'opengan_s0': summary(0.5), 'cls_s7': summary(0.1)}
    result = method_table.compare(report, 'opengan', 'cls')
    assert result['per_seed'] == pytest.approx([0.1, 0.05])
    assert result['mean'] == pytest.approx(0.075)
    assert result['interval'] == pytest.approx((0.075, 0.075))


def test_one_run_is_compared_with_every_seed_of_the_other_method(report):
    result = method_table.compare(report, 'msp', 'opengan')
    assert result['per_seed'] == pytest.approx([-0.2, -0.3])
    assert result['mean'] == pytest.approx(-0.25)
    assert result['interval'] == pytest.approx((-0.25, -0.25))


def test_methods_without_a_common_seed_are_compared_by_their_means(report):
    report['scorers'] = {
        'cls_s0': summary(0.6),
        'cls_s1': summary(0.8),
        'opengan_s2': summary(0.9),
        'opengan_s3': summary(0.9),
    }
    result = method_table.compare(report, 'opengan', 'cls')
    assert result['per_seed'] == []
    assert result['mean'] == pytest.approx(0.2)
    text = method_table.report_text([], dict(feature=report), dict(cls='CLS', opengan='OpenGAN'))
    assert (
        'mean +0.2000 (paired 95 % interval +0.2000 to +0.2000), per seed none in common.' in text
    )


def test_differences_are_written_of_methods_that_are_there(report):
    report['scorers']['opengan-att_s10'] = summary(0.95)
    labels = {'msp': 'MSP', 'opengan': 'OpenGAN', 'opengan-att': 'Att'}
    text = method_table.report_text([], dict(feature=report), labels)
    assert [line.partition(':')[0] for line in text.splitlines() if 'minus' in line] == [
        'OpenGAN minus MSP',
        'Att minus OpenGAN',
    ]


def test_table_has_mean_and_deviation(report):
    table = method_table.markdown(
        report, {'msp': 'MSP', 'opengan': 'OpenGAN'}, paper={'msp': 0.721, 'opengan': 0.885}
    )
    rows = [line for line in table.splitlines() if line.startswith(('| MSP', '| OpenGAN'))]
    assert rows[0].split('|')[2].strip() == '0.6000'
    assert rows[1].split('|')[2].strip() == '0.8500 ± 0.0707'
    assert rows[1].split('|')[-2].strip() == '0.885'


def test_what_is_not_defined_has_no_number(report):
    """A test set without open pixels, of which no closed class is known."""
    report['mIoU'] = None
    for entry in report['scorers'].values():
        entry |= dict(
            AUROC=None,
            AP=None,
            num_open=0,
            blocks=dict(wins=[[0.0] * 8] * 8, closed=[10, 15] * 4, open=[0] * 8),
        )
    text = method_table.report_text([], {'image': report}, {'opengan': 'OpenGAN'})
    assert 'mIoU' not in text
    assert '| OpenGAN |  |  |  | 0.1500 ± 0.0707 |' in text
