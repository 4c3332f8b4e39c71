"""The streaming metric equals scikit-learn on all pixels at once, whatever the images and scorers."""

import math
import pickle

import numpy as np
import pytest
import torch
from metric_world import META, fpr95, pooled, run, sample, samples
from mmengine.evaluator import Evaluator
from mmseg.evaluation import IoUMetric
from sklearn.metrics import average_precision_score, roc_auc_score

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.contracts import GT_OPEN_MAP, OPEN_SCORES, VOID
from mmseg_opengan.evaluation import scorer_counts
from mmseg_opengan.evaluation.metric import OpenSetMetric, Setting
from mmseg_opengan.evaluation.report import details, headline
from mmseg_opengan.functional.score_layout import ScoreLayout


@pytest.mark.parametrize('resolution', ['image', 'feature'])
def test_equals_scikit_learn_on_all_pixels_of_all_images(resolution):
    data = samples(resolution=resolution)
    metrics, metric = run(data)
    for scorer in ('opengan', 'msp'):
        truth, scores = pooled(data, scorer)
        assert metrics[f'{scorer}/AUROC'] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
        assert metrics[f'{scorer}/AP'] == pytest.approx(
            average_precision_score(truth, scores), abs=1e-12
        )
        assert metrics[f'{scorer}/FPR95'] == pytest.approx(fpr95(truth, scores), abs=1e-12)
        report = metric.report['scorers'][scorer]
        assert (report['num_closed'], report['num_open']) == (
            (truth == 0).sum(),
            (truth == 1).sum(),
        )
    assert metric.report['resolution'] == resolution
    assert metric.report['label_policy'] == 'toy/paper'
    assert metric.report['num_images'] == 5


def test_each_open_class_has_its_own_row():
    data = samples()
    _, metric = run(data)
    rows = metric.report['scorers']['opengan']['per_class']
    assert list(rows) == ['box', 'dog']
    for label, name in ((1, 'box'), (2, 'dog')):
        truth, scores = [], []
        for one in data:
            labels, score = (
                one.get(GT_OPEN_MAP).data.numpy(),
                one.get(OPEN_SCORES).get('opengan').numpy(),
            )
            chosen = (labels == 0) | (labels == label)
            truth.append(labels[chosen] > 0)
            scores.append(score[chosen])
        assert rows[name]['AUROC'] == pytest.approx(
            roc_auc_score(np.concatenate(truth), np.concatenate(scores))
        )


def test_scorers_are_reported_by_name_and_opengan_last():
    _, metric = run(samples(1, scorers=('opengan', 'msp', 'zeta', 'entropy')))
    assert (
        list(metric.report['scorers'])
        == list(metric.curves)
        == ['entropy', 'msp', 'zeta', 'opengan']
    )


def test_images_without_open_pixels_count_their_closed_ones():
    rng = np.random.default_rng(0)
    data = [sample(rng), sample(rng, open_labels=(0, VOID))]
    metrics, metric = run(data)
    truth, scores = pooled(data, 'msp')
    assert metrics['msp/AUROC'] == pytest.approx(roc_auc_score(truth, scores))
    assert metric.report['scorers']['msp']['num_closed'] == (truth == 0).sum()


def test_a_constant_added_to_a_score_changes_nothing_that_float32_keeps():
    data = samples(3)
    wanted, _ = run(data)
    for one in data:
        one.get(OPEN_SCORES).opengan.add_(1e5)
    found, metric = run(data)
    assert found == pytest.approx(wanted, abs=1e-12)
    assert 'WARNING: opengan' not in headline(metric.report)


def test_the_table_warns_where_counting_may_have_moved_a_number():
    """The first image says nothing of where the others' scores lie."""
    data = samples(3)
    data[0].get(OPEN_SCORES).opengan.fill_(0.5)
    for one in data[1:]:
        one.get(OPEN_SCORES).opengan.add_(1e6)
    metrics, metric = run(data)
    truth, scores = pooled(data, 'opengan')
    report = metric.report['scorers']['opengan']
    assert abs(metrics['opengan/AUROC'] - roc_auc_score(truth, scores)) > 1e-3
    for number, exact in (
        ('AUROC', roc_auc_score(truth, scores)),
        ('AP', average_precision_score(truth, scores)),
        ('FPR95', fpr95(truth, scores)),
    ):
        bound = report[f'{number.lower()}_error_bound']
        assert abs(metrics[f'opengan/{number}'] - exact) <= bound
        told = f'{number} by up to {bound:.4f}' in headline(metric.report)
        assert told == (bound > 1e-3)
    assert 'WARNING: opengan: counting may have moved AUROC' in headline(metric.report)
    assert 'WARNING: opengan, box: ' in details(metric.report)


def test_scores_that_are_no_numbers_are_refused_with_the_image_and_the_score_map():
    data = samples(3)
    data[1].get(OPEN_SCORES).msp[:] = float('nan')
    message = r"ulm/1\.png, score map 'msp': scores: wanted numbers .* at \d+ of \d+ scored pixels"
    with pytest.raises(ValueError, match=message):
        run(data)


@pytest.mark.parametrize(('labels', 'missing'), [((0, VOID), '0 open'), ((1, VOID), '0 closed')])
def test_open_validation_without_one_kind_of_pixels_is_refused(labels, missing):
    with pytest.raises(ValueError, match=f'open validation: wanted .* found .*{missing}'):
        run(samples(2, open_labels=labels), setting=Setting(stage='val'))


@pytest.mark.parametrize('labels', [(0, VOID), (VOID,)])
def test_one_kind_of_pixels_only_is_nan(labels):
    with pytest.warns(UserWarning, match='AUROC, AP and FPR95 are undefined'):
        metrics, metric = run(samples(2, open_labels=labels), closed=False)
    assert all(math.isnan(metrics[f'opengan/{key}']) for key in ('AUROC', 'AP', 'FPR95'))
    assert metric.report['num_images'] == 2


def test_void_scores_may_be_anything():
    data = samples(2)
    wanted, _ = run(data)
    for one in data:
        score = one.get(OPEN_SCORES).opengan
        score[one.get(GT_OPEN_MAP).data == VOID] = float('nan')
    assert run(data)[0] == wanted


def test_miou_is_mmsegs():
    data = samples()
    metrics, metric = run(data)
    oracle = Evaluator([IoUMetric(iou_metrics=['mIoU'])])
    oracle.dataset_meta = META
    for one in data:
        oracle.process(data_samples=[one])
    for key, value in oracle.evaluate(len(data)).items():
        assert metrics[key] == pytest.approx(value, abs=0.0051)  # mmseg rounds to two digits
        assert metric.report[key] == metrics[key]


def test_small_and_large_maps_are_counted_alike(monkeypatch):
    """By sorting, or through a table of all bins."""
    data = samples(4)
    found = []
    for few in (10**9, 0):
        monkeypatch.setattr(scorer_counts, '_FEW', few)
        metrics, metric = run(data, threshold=0.7)
        found.append((metrics, metric.report))
    assert found[0] == found[1]


def test_a_class_that_the_data_does_not_have():
    """Also where it is predicted between the pixels that are scored, or in void: mIoU would count
    another pair.
    """
    one = samples(1)[0]
    void = torch.nonzero(one.get(GT_OPEN_MAP).data == VOID)[0]
    one.pred_sem_seg.data[tuple(void)] = len(META['classes'])
    with pytest.raises(
        ValueError,
        match=r'wanted predictions of the 3 classes of the data, found class 3.*OpenClass',
    ):
        run([one])


def test_bootstrap_interval_holds_the_value():
    metrics, metric = run(samples(16), bootstrap_block=2)
    low, high = metric.report['scorers']['opengan']['AUROC_interval']
    assert 0 < low < metrics['opengan/AUROC'] < high < 1


def test_means_over_images_are_those_of_the_images_with_both_kinds():
    data = [*samples(3), *samples(1, open_labels=(0, VOID))]
    _, metric = run(data)
    found = metric.report['scorers']['msp']['per_image']
    assert found['num_images'] == 3
    assert found['AUROC'] == pytest.approx(
        np.mean([roc_auc_score(*pooled([one], 'msp')) for one in data[:3]])
    )
    assert found['FPR95'] == pytest.approx(
        np.mean([fpr95(*pooled([one], 'msp')) for one in data[:3]])
    )


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(components='anomaly'), 'components: wanted a threshold too'),
        (dict(components='big', threshold=1), "components: wanted one of .*found 'big'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        OpenSetMetric(**options)


def test_a_protocol_is_followed_or_refused_at_the_first_image():
    message = (
        "'paper': label_policy: wanted 'cityscapes/paper', found 'toy/paper'; "
        "resolution: wanted 'feature', found 'image'; mode: wanted 'whole', found None"
    )
    with pytest.raises(ValueError, match=message):
        run(samples(1), protocol='paper')


def test_another_number_of_images_than_the_dataset_has():
    with pytest.raises(
        ValueError, match=r'the dataset has 6 images, 5 were evaluated.*round_up=False'
    ):
        run(samples(5), size=6)


def test_a_refused_evaluation_leaves_nothing_behind():
    metric = OpenSetMetric()
    metric.dataset_meta = META
    dicts = [one.to_dict() for one in samples(2)]
    metric.process({}, dicts)
    with pytest.raises(ValueError, match='2 were evaluated'):
        metric.evaluate(3)
    for _ in range(2):  # nor does one that succeeds
        metric.process({}, dicts)
        assert metric.evaluate(2) == run(samples(2))[0]


def test_sample_without_scores_is_named():
    one = samples(1)[0]
    del one.open_scores
    with pytest.raises(ValueError, match=r'ulm/0\.png: the model gave no score maps'):
        run([one])


def test_memory_does_not_grow_with_the_images():
    metric = OpenSetMetric()
    metric.dataset_meta = META
    rng = np.random.default_rng(0)

    def held():
        tables = [table for counts in metric.counts.values() for table in counts.tables]
        tensors = [*(table.tensor for table in tables), metric.areas.tensor]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    sizes = []
    for _ in range(30):
        metric.process({}, [sample(rng).to_dict()])
        sizes.append(held())
    assert set(sizes) == {sizes[0]}
    assert len(pickle.dumps(metric.results)) < 30 * 50  # a name for each image


@pytest.mark.parametrize('num_open_classes', [1, 51, 254])
def test_a_scorer_takes_40_mib_at_most(num_open_classes):
    """Of 19 closed classes."""
    layout = ScoreLayout.of(torch.randn(1000), torch.arange(1000) % 2)
    counts = scorer_counts.ScorerCounts(
        layout, num_open_classes=num_open_classes, num_classes=19, thresholds=dict(f1=0.5)
    )
    tables = [one for one in vars(counts).values() if hasattr(one, 'tensor')]
    assert sum(table.tensor.nbytes for table in tables) <= 40 * 2**20


def test_the_resolution_is_the_models_where_a_grid_of_stride_1_looks_like_the_image():
    data = samples(2)
    _, metric = run(
        data,
        setting=Setting(
            stage='val',
            resolution='feature',
            mode='whole',
        ),
    )
    assert metric.report['resolution'] == 'feature'
    assert run(data)[1].report['resolution'] == 'image'


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_samples_on_a_gpu_give_the_numbers_of_the_cpu():
    data = samples(3)
    wanted, _ = run(data)
    assert run([one.to('cuda') for one in data])[0] == pytest.approx(wanted)


def test_class_areas_are_on_the_cpu_whatever_the_predictions_device(monkeypatch):
    """mmseg's IoUMetric makes numpy arrays of them; and they are float64, which not every device
    has.
    """
    moved = []
    monkeypatch.setattr(
        torch.Tensor,
        'cpu',
        lambda tensor, cpu=torch.Tensor.cpu: moved.append(tensor) or cpu(tensor),
    )
    data = samples(1)
    metric = OpenSetMetric()
    metric.dataset_meta = META
    metric.process({}, [data[0].to_dict()])
    assert any(tensor.shape == (4 * 3,) and tensor.dtype == torch.int64 for tensor in moved)


def test_bootstrap_needs_one_process(monkeypatch):
    monkeypatch.setattr('mmseg_opengan.evaluation.metric.get_world_size', lambda: 2)
    with pytest.raises(ValueError, match='bootstrap_block: wanted one process'):
        OpenSetMetric(bootstrap_block=5)
