"""Numbers at the thresholds of open validation, the text of a report, and counts of several ranks."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from metric_world import META, grid_maps, pooled, run, samples
from recognition_counts import count

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.contracts import IGNORE, OPEN_SCORES
from mmseg_opengan.evaluation.metric import OpenSetMetric, Setting
from mmseg_opengan.evaluation.report import describe, details, headline
from mmseg_opengan.functional.calibration import Calibration
from mmseg_opengan.functional.components import ComponentCounts, MinSizes
from mmseg_opengan.functional.decisions import MACRO_F1, STANDARD_RULES, Decisions, decide
from mmseg_opengan.functional.detection import exact_bins, fpr_at_tpr, threshold_at_tpr
from mmseg_opengan.functional.score_layout import ScoreLayout


def test_closed_classes_called_open():
    data = samples(resolution='feature')
    _, metric = run(data)
    found = metric.report['scorers']['opengan']['called_open']
    scores, labels, _, truth = (
        torch.cat([one.flatten() for one in maps])
        for maps in zip(*grid_maps(data, resolution='feature'), strict=True)
    )
    assert found['FPR95'] == fpr_at_tpr(exact_bins(scores, labels))
    assert found['threshold'] <= threshold_at_tpr(exact_bins(scores, labels))
    for i, name in enumerate(META['classes']):
        of_class = (labels == 0) & (truth == i)
        called = int((scores[of_class] >= found['threshold']).sum())
        assert found['classes'][name] == dict(
            num_pixels=int(of_class.sum()),
            called_open=called,
            fraction=called / int(of_class.sum()),
        )
    fractions = [row['fraction'] for row in found['classes'].values()]
    assert fractions == sorted(fractions, reverse=True)


def test_recognition_and_operating_points_are_at_the_thresholds_of_open_validation():
    data = samples()
    thresholds = {MACRO_F1: 0.75, 'fpr=0.05': float(np.float32(1.28))}
    _, metric = run(
        data, setting=Setting(stage='test', decisions={'opengan': Decisions(thresholds)})
    )
    found = metric.report['scorers']['opengan']
    maps = [torch.cat([one.flatten() for one in maps]) for maps in zip(*grid_maps(data))]
    scores, labels, prediction, truth = maps
    first = next(grid_maps(data))
    counts = count(
        scores,
        prediction,
        truth,
        labels,
        num_classes=3,
        thresholds=thresholds.values(),
        layout=ScoreLayout.of(first[0], first[1]),
    )
    assert found['recognition']['rule'] == MACRO_F1
    assert found['recognition']['macro_F1'] == counts.macro_f1_at(0.75)
    assert list(found['recognition']['F1'].values()) == counts.f1_at(0.75)
    assert list(found['recognition']['F1']) == ['road', 'sky', 'car', 'open']
    assert found['recognition']['best_possible']['macro_F1'] == counts.best_macro_f1()[0]
    truth, scores = pooled(data, 'opengan')
    for rule, threshold in thresholds.items():
        point = found['operating_points'][rule]
        assert point['threshold'] == threshold
        assert point['TPR'] == (scores[truth == 1] >= threshold).mean()
        assert point['FPR'] == (scores[truth == 0] >= threshold).mean()
        assert point['macro_F1'] == counts.macro_f1_at(threshold)
    assert metric.report['scorers']['msp']['operating_points'] == {}  # nothing was decided for it
    assert 'rule' not in metric.report['scorers']['msp']['recognition']


def test_a_number_is_the_threshold_of_every_scorer():
    _, metric = run(samples(2), threshold='0.5')
    for found in metric.report['scorers'].values():
        assert list(found['operating_points']) == ['0.5']
        assert found['operating_points']['0.5']['threshold'] == 0.5


@pytest.mark.parametrize('threshold', [-0.0, 0.7])
def test_a_score_equal_to_the_threshold_is_open(threshold):
    """Wherever the threshold lies in its bin, and for every number of the report alike."""
    data = samples(2)
    rng = np.random.default_rng(1)
    for one in data:
        score = one.get(OPEN_SCORES).opengan
        near = np.nextafter(np.float32(threshold), np.float32([-np.inf, np.inf]))
        score[:] = torch.from_numpy(rng.choice(np.float32([threshold, *near]), score.shape))
    _, metric = run(data, threshold=threshold, components='obstacle')
    found = metric.report['scorers']['opengan']
    (point,) = found['operating_points'].values()
    truth, scores = pooled(data, 'opengan')
    called = scores >= np.float32(threshold)
    assert point['TPR'] == called[truth == 1].mean()
    assert point['FPR'] == called[truth == 0].mean()
    assert point['precision'] == truth[called].mean()
    assert 0.5 < called.mean() < 0.8
    assert point['macro_F1'] == found['recognition']['macro_F1']


def test_a_rule_without_open_validation_is_refused_at_the_first_image():
    with pytest.raises(
        ValueError, match=r"threshold 'fpr=0\.05': wanted what open validation gives for"
    ):
        run(samples(1), threshold='fpr=0.05')


def test_validation_decides():
    data = samples()
    _, metric = run(data, setting=Setting(stage='val'), threshold='fpr=0.1')
    truth, scores = pooled(data, 'opengan')
    bins = exact_bins(torch.from_numpy(scores), torch.from_numpy(truth))
    found = metric.report['open_validation']['scorers']['opengan']
    assert list(found['thresholds']) == [*STANDARD_RULES, 'fpr=0.1', MACRO_F1]
    decided = decide(bins, rules=[*STANDARD_RULES, 'fpr=0.1']).thresholds
    for rule, threshold in decided.items():
        assert found['thresholds'][rule] == pytest.approx(threshold, abs=1e-4)  # a bin's edge
    assert found['calibration']['slope'] > 0


def test_calibration_changes_ece_and_nothing_else():
    data = samples()
    for one in data:
        one.get(OPEN_SCORES).opengan.sub_(2)  # as after training with other shares of open pixels
    plain, _ = run(data)
    _, validation = run(data, setting=Setting(stage='val'))
    decided = {
        name: Decisions.from_json(one)
        for name, one in validation.report['open_validation']['scorers'].items()
    }
    calibrated, metric = run(
        data,
        setting=Setting(
            stage='test',
            open_logits=frozenset(['opengan']),
            decisions=decided,
        ),
    )
    assert calibrated == plain
    ece = metric.report['scorers']['opengan']['calibration']['ECE_mass']
    assert 0 <= ece['after'] < ece['before']
    assert (
        metric.report['scorers']['msp']['calibration']['ECE_mass']['before'] is None
    )  # no open logit


def test_components_on_the_grid_have_sizes_in_its_cells():
    data = samples(resolution='feature')
    _, metric = run(data, threshold=0.25, components='obstacle')
    counts = ComponentCounts(threshold=0.25, min_sizes=MinSizes(4, 1))  # 50 / 16 and 10 / 16
    for scores, labels, *_ in grid_maps(data, resolution='feature'):
        counts.update(scores, labels)
    assert metric.report['scorers']['opengan']['components'] == dict(
        counts.compute(), rule='0.25', track='obstacle'
    )


def test_data_without_closed_classes_has_no_recognition():
    """Anomaly masks: gt_sem_seg is IGNORE everywhere."""
    data = samples(2)
    for one in data:
        one.gt_sem_seg.data[:] = IGNORE
    wanted, _ = run(samples(2))
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(RuntimeWarning)  # mIoU of no class
        metrics, metric = run(data)
    assert metrics['opengan/AUROC'] == wanted['opengan/AUROC']
    assert 'recognition' not in metric.report['scorers']['opengan']
    metrics, metric = run(data, closed=False)
    assert 'recognition' not in metric.report['scorers']['opengan']
    assert 'mIoU' not in {*metrics, *metric.report}


EVERYTHING = dict(threshold='f1', components='obstacle')  # and the decisions that this takes


DECIDED = Setting(
    stage='test',
    mode='whole',
    open_logits=frozenset(['opengan']),
    decisions={
        name: Decisions({'f1': 0.5, 'tpr=0.95': -1.25}, Calibration(1.5, -1.0))
        for name in ('opengan', 'msp')
    },
)


def test_every_table_says_how_its_numbers_were_made():
    _, metric = run(samples(), setting=DECIDED, **EVERYTHING)
    report = metric.report
    for said in ('toy/paper', 'image resolution', 'whole', '5 images'):
        assert said in describe(report)
    found = report['scorers']['opengan']
    assert found['num_closed'] != found['num_open']
    pixels = f'{found["num_closed"]:,} closed and {found["num_open"]:,} open pixels of'
    assert f'pooled over {pixels} 5 images' in describe(report)
    lines = headline(report).splitlines()
    assert lines[0] == describe(report)
    assert lines[2].replace(' ', '') == '|method|AUROC|AP|APbychance|FPR95|'
    share = found['num_open'] / (found['num_open'] + found['num_closed'])
    numbers = [found['AUROC'], found['AP'], share, found['FPR95']]
    row = '|'.join(['', 'opengan', *(f'{number:.4f}' for number in numbers), ''])
    assert lines[5].replace(' ', '') == row
    printed = details(report)
    for said in (
        'msp: each open class',
        'Mean of the ',
        ' box ',
        'Called open at the FPR95 threshold: ',
        'At f1 (score >= 0.5)',
        'Components (obstacle, at f1)',
        'ECE: - before',
    ):
        assert said in printed


def _evaluate_as_rank(rank, rendezvous, shares, outcomes):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{rendezvous}', rank=rank, world_size=len(shares)
    )
    metric = OpenSetMetric(**EVERYTHING)
    metric.dataset_meta, metric.setting = META, DECIDED
    data = samples(sum(map(len, shares)))
    metric.process({}, [data[i].to_dict() for i in shares[rank]])
    metrics = metric.evaluate(len(data))
    outcomes.put((rank, metrics, metric.report, metric.curves))
    torch.distributed.barrier()


@pytest.mark.parametrize(
    'shares', [([0, 2, 4], [1, 3]), ([0], [])]
)  # the second: more ranks than images
def test_counts_of_ranks_add(tmp_path: Path, shares):
    fork = multiprocessing.get_context('fork')
    outcomes = fork.Queue()
    processes = [
        fork.Process(
            target=_evaluate_as_rank,
            args=(rank, tmp_path / 'rendezvous', shares, outcomes),
            daemon=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    found = {rank: rest for rank, *rest in (outcomes.get(timeout=60) for _ in processes)}
    for process in processes:
        process.join(60)
    wanted, metric = run(samples(sum(map(len, shares))), setting=DECIDED, **EVERYTHING)
    assert found[0][0] == found[1][0] == wanted
    assert found[0][1] == metric.report
    assert found[0][2] == metric.curves
    assert metric.report['scorers']['msp']['components']['num_ground_truth'] > 0
    assert found[1][1:] == [None, {}]
