"""The streaming metric equals scikit-learn on all pixels at once, whatever the images, ranks and
scorers.
"""

import math
import multiprocessing
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample
from recognition_counts import count
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.contracts import GT_OPEN_MAP, IGNORE, OPEN_SCORES, VOID
from mmseg_opengan.evaluation import scorer_counts
from mmseg_opengan.evaluation.map_files import MapFiles
from mmseg_opengan.evaluation.metric import OpenSetMetric, Setting
from mmseg_opengan.evaluation.report import describe, details, headline
from mmseg_opengan.functional.calibration import Calibration
from mmseg_opengan.functional.components import ComponentCounts
from mmseg_opengan.functional.decisions import MACRO_F1, STANDARD_RULES, Decisions
from mmseg_opengan.functional.detection import exact_bins, fpr_at_tpr, resolve_threshold
from mmseg_opengan.functional.score_layout import ScoreLayout

META = dict(
    classes=('road', 'sky', 'car'),
    open_classes=('box', 'dog'),
    label_policy='toy/paper',
    palette=[[0, 0, 0]] * 3,
)
SIZE, STRIDE = (16, 24), 4


def sample(
    rng,
    *,
    open_labels=(0, 1, 2, VOID),
    scorers=('opengan', 'msp'),
    resolution='image',
    name='ulm/a.png',
):
    """One prediction. Scores are multiples of 1/64 and so have a bin each: the counts lose
    nothing.
    """
    open_map = rng.choice(np.array(open_labels, np.uint8), SIZE)
    gt = np.where(open_map == 0, rng.integers(0, 3, SIZE), IGNORE).astype(np.uint8)
    labels = open_map if resolution == 'image' else open_map[::STRIDE, ::STRIDE]
    is_open = (labels > 0) & (labels < VOID)
    made = SegDataSample(metainfo=dict(img_path=name))
    made.gt_sem_seg = PixelData(data=torch.from_numpy(gt)[None])
    made.set_data({GT_OPEN_MAP: PixelData(data=torch.from_numpy(open_map)[None])})
    made.pred_sem_seg = PixelData(data=torch.from_numpy(rng.integers(0, 3, SIZE))[None])
    maps = {s: np.round(64 * (rng.normal(size=labels.shape) + is_open)) / 64 for s in scorers}
    made.set_data(
        {OPEN_SCORES: PixelData(**{s: torch.from_numpy(m).float()[None] for s, m in maps.items()})}
    )
    return made


def samples(number=5, **options):
    rng = np.random.default_rng(0)
    return [sample(rng, name=f'ulm/{i}.png', **options) for i in range(number)]


def run(data, *, size=None, setting=None, **options):
    """Metrics and the metric after one evaluation, fed as mmengine's loops do."""
    metric = OpenSetMetric(**options)
    metric.setting = setting or Setting()
    evaluator = Evaluator([metric])
    evaluator.dataset_meta = META
    for one in data:
        evaluator.process(data_samples=[one])
    return evaluator.evaluate(len(data) if size is None else size), metric


def pooled(data, scorer):
    """Open (1) or closed (0), and score, of every pixel that is not void, of all samples."""
    truth, scores = [], []
    for one in data:
        score = one.get(OPEN_SCORES).get(scorer)[0].numpy()
        labels = one.get(GT_OPEN_MAP).data[0].numpy()
        labels = labels if labels.shape == score.shape else labels[::STRIDE, ::STRIDE]
        truth.append((labels[labels != VOID] > 0).astype(int))
        scores.append(score[labels != VOID])
    return np.concatenate(truth), np.concatenate(scores)


def fpr95(truth, scores):
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    return fpr[np.argmax(tpr >= 0.95)]


# ----------------------------------------------------------------------------------------------
# numbers


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


def test_pooling_is_not_the_mean_over_images():
    rng = np.random.default_rng(0)
    easy, hard = sample(rng), sample(rng)
    hard.get(OPEN_SCORES).set_data(
        dict(opengan=hard.get(OPEN_SCORES).opengan + 5)
    )  # another offset
    metrics, _ = run([easy, hard])
    means = np.mean([roc_auc_score(*pooled([one], 'opengan')) for one in (easy, hard)])
    assert metrics['opengan/AUROC'] == pytest.approx(
        roc_auc_score(*pooled([easy, hard], 'opengan'))
    )
    assert abs(metrics['opengan/AUROC'] - means) > 0.02


def test_images_without_open_pixels_count_their_closed_ones():
    rng = np.random.default_rng(0)
    data = [sample(rng), sample(rng, open_labels=(0, VOID))]
    metrics, metric = run(data)
    truth, scores = pooled(data, 'msp')
    assert metrics['msp/AUROC'] == pytest.approx(roc_auc_score(truth, scores))
    assert metric.report['scorers']['msp']['num_closed'] == (truth == 0).sum()


@pytest.mark.parametrize('shift', [-1e4, 1e5])
def test_a_constant_added_to_a_score_changes_nothing_that_float32_keeps(shift):
    data = samples(3)
    wanted, _ = run(data)
    for one in data:
        one.get(OPEN_SCORES).opengan.add_(shift)
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


@pytest.mark.parametrize('labels', [(0, VOID), (1, 2, VOID), (VOID,)])
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


def test_without_closed_classes_there_is_no_miou():
    metrics, metric = run(samples(2), closed=False)
    assert 'mIoU' not in metrics
    assert 'mIoU' not in metric.report


def test_bootstrap_interval_holds_the_value():
    metrics, metric = run(samples(16), bootstrap_block=2)
    low, high = metric.report['scorers']['opengan']['AUROC_interval']
    assert 0 < low < metrics['opengan/AUROC'] < high < 1


# ----------------------------------------------------------------------------------------------
# more numbers


def grid_maps(data, scorer='opengan', resolution='image'):
    """Per sample: scores, open map, prediction and ground truth on the grid of the scores."""
    step = 1 if resolution == 'image' else STRIDE
    for one in data:
        yield (
            one.get(OPEN_SCORES).get(scorer)[0],
            *(
                field.data[0][::step, ::step]
                for field in (one.get(GT_OPEN_MAP), one.pred_sem_seg, one.gt_sem_seg)
            ),
        )


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


@pytest.mark.parametrize('resolution', ['image', 'feature'])
def test_closed_classes_called_open(resolution):
    data = samples(resolution=resolution)
    _, metric = run(data)
    found = metric.report['scorers']['opengan']['called_open']
    scores, labels, _, truth = (
        torch.cat([one.flatten() for one in maps])
        for maps in zip(*grid_maps(data, resolution=resolution), strict=True)
    )
    assert found['FPR95'] == fpr_at_tpr(exact_bins(scores, labels))
    assert found['threshold'] <= resolve_threshold('tpr=0.95', exact_bins(scores, labels))
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


@pytest.mark.parametrize('threshold', [-0.0, 0.7, 1e30])
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
    for rule in (*STANDARD_RULES, 'fpr=0.1'):
        assert found['thresholds'][rule] == pytest.approx(
            resolve_threshold(rule, bins), abs=1e-4
        )  # a bin's edge
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
        data, setting=Setting(stage='test', open_logits=frozenset(['opengan']), decisions=decided)
    )
    assert calibrated == plain
    ece = metric.report['scorers']['opengan']['calibration']['ECE_mass']
    assert 0 <= ece['after'] < ece['before']
    assert (
        metric.report['scorers']['msp']['calibration']['ECE_mass']['before'] is None
    )  # no open logit


@pytest.mark.parametrize('resolution', ['image', 'feature'])
def test_components(resolution):
    data = samples(resolution=resolution)
    _, metric = run(data, threshold=0.25, components='obstacle')
    sizes = (50, 10) if resolution == 'image' else (4, 1)  # 50 / 16 and 10 / 16, rounded up
    counts = ComponentCounts(threshold=0.25, min_sizes=sizes)
    for scores, labels, *_ in grid_maps(data, resolution=resolution):
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
    assert 'recognition' not in run(data, closed=False)[1].report['scorers']['opengan']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(threshold='f2'), "threshold: wanted a number, 'fpr=RATE'"),
        (dict(components='anomaly'), 'components: wanted a threshold too'),
        (dict(components='big', threshold=1), "components: wanted one of .*found 'big'"),
        (dict(protocol='mine'), "protocol: wanted one of .*found 'mine'"),
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


# ----------------------------------------------------------------------------------------------
# bookkeeping


def test_evaluations_are_independent():
    metric = OpenSetMetric()
    metric.dataset_meta = META
    evaluator = Evaluator([metric])
    evaluator.dataset_meta = META
    found = []
    for data in (samples(2), samples(4), samples(2)):
        evaluator.process(data_samples=data)
        found.append(evaluator.evaluate(len(data)))
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize('size', [4, 6])
def test_another_number_of_images_than_the_dataset_has(size):
    with pytest.raises(
        ValueError, match=rf'the dataset has {size} images, 5 were evaluated.*round_up=False'
    ):
        run(samples(5), size=size)


def test_a_refused_evaluation_leaves_nothing_behind():
    metric = OpenSetMetric()
    metric.dataset_meta = META
    dicts = [one.to_dict() for one in samples(2)]
    metric.process({}, dicts)
    with pytest.raises(ValueError, match='2 were evaluated'):
        metric.evaluate(3)
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


@pytest.mark.parametrize('num_open_classes', [0, 1, 7, 14, 51, 95, 231, 254])
def test_a_scorer_takes_40_mib_at_most(num_open_classes):
    """Of 19 closed classes; the sizes are those where tables of open classes are largest."""
    layout = ScoreLayout.of(torch.randn(1000), torch.arange(1000) % 2)
    counts = scorer_counts.ScorerCounts(
        layout, num_open_classes=num_open_classes, num_classes=19, thresholds=dict(f1=0.5)
    )
    tables = [one for one in vars(counts).values() if hasattr(one, 'tensor')]
    assert sum(table.tensor.nbytes for table in tables) <= 40 * 2**20


def test_output_dir_holds_predictions_and_raw_scores(tmp_path):
    data = samples(3, resolution='feature')
    run(data, output_dir=str(tmp_path / 'new' / 'out'), keep_results=True)
    names = {f'{i}.{end}' for i in range(3) for end in ('png', 'opengan.npy', 'msp.npy')}
    assert {path.name for path in (tmp_path / 'new' / 'out').iterdir()} == names
    for i, one in enumerate(data):
        stem = str(tmp_path / 'new' / 'out' / str(i))
        assert np.array_equal(
            cv2.imread(f'{stem}.png', cv2.IMREAD_UNCHANGED), one.pred_sem_seg.data[0].numpy()
        )
        scores = np.load(f'{stem}.opengan.npy')
        assert scores.dtype == np.float16
        assert np.array_equal(scores, one.get(OPEN_SCORES).opengan[0].numpy())


def test_more_than_256_classes_are_written_in_16_bits(tmp_path):
    prediction = torch.tensor([[[0, 255], [256, 299]]])
    one = {'img_path': 'a.jpg', 'pred_sem_seg': {'data': prediction}, OPEN_SCORES: {}}
    MapFiles(tmp_path).write(one)
    written = cv2.imread(str(tmp_path / 'a.png'), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint16
    assert np.array_equal(written, prediction[0])


def test_two_images_of_one_name_are_not_written_over_one_another(tmp_path):
    rng = np.random.default_rng(0)
    data = [sample(rng, name=name) for name in ('ulm/a.png', 'bonn/a.png')]
    with pytest.raises(
        ValueError, match=r"output_dir: .* 'ulm/a\.png' and 'bonn/a\.png' have the same name"
    ):
        run(data, output_dir=str(tmp_path))


def test_two_ranks_may_not_write_images_of_one_name(tmp_path, monkeypatch):
    monkeypatch.setattr(
        'mmseg_opengan.evaluation.map_files.all_gather_object',
        lambda value: [value, {'0': 'bonn/0.png'}],
    )
    with pytest.raises(
        ValueError, match=r"output_dir: .* 'ulm/0\.png' and 'bonn/0\.png' have the same name"
    ):
        run(samples(2), output_dir=str(tmp_path))


def test_scores_beyond_float16_are_written_as_they_are(tmp_path):
    data = samples(1)
    scores = data[0].get(OPEN_SCORES)
    scores.msp = 1e5 * scores.msp
    run(data, output_dir=str(tmp_path))
    assert np.array_equal(np.load(tmp_path / '0.msp.npy'), scores.msp[0].numpy())
    assert np.load(tmp_path / '0.opengan.npy').dtype == np.float16


def test_the_resolution_is_the_models_where_a_grid_of_stride_1_looks_like_the_image():
    data = samples(2)
    _, metric = run(data, setting=Setting(stage='val', resolution='feature', mode='whole'))
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


# ----------------------------------------------------------------------------------------------
# ranks


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


def test_bootstrap_needs_one_process(monkeypatch):
    monkeypatch.setattr('mmseg_opengan.evaluation.metric.get_world_size', lambda: 2)
    with pytest.raises(ValueError, match='bootstrap_block: wanted one process'):
        OpenSetMetric(bootstrap_block=5)
