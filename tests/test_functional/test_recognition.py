import math
import warnings

import pytest
import torch
from recognition_counts import count
from sklearn.metrics import f1_score

from mmseg_opengan.contracts import IGNORE, VOID
from mmseg_opengan.functional import detection as curves
from mmseg_opengan.functional import score_layout
from mmseg_opengan.functional.recognition import RecognitionCounts, outcomes
from mmseg_opengan.functional.score_counts import ScoreCounts
from mmseg_opengan.functional.score_layout import ScoreLayout

K = 4


def _data(seed=0, count=4000, classes=range(K)):
    """Scores, closed predictions (70 % right), ground truth and open map with 15 % open and 5 %
    void pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    truth = torch.tensor(list(classes))[torch.randint(len(classes), (count,), generator=generator)]
    predicted = torch.where(
        torch.rand(count, generator=generator) < 0.7,
        truth,
        torch.randint(K, (count,), generator=generator),
    )
    draw = torch.rand(count, generator=generator)
    open_map = torch.where(
        draw < 0.1, 1, torch.where(draw < 0.15, 2, torch.where(draw < 0.2, VOID, 0))
    )
    scores = torch.randn(count, generator=generator) + 1.5 * ((open_map == 1) | (open_map == 2))
    return scores, predicted, truth.where(open_map == 0, torch.tensor(IGNORE)), open_map


def _layout(data):
    return ScoreLayout.of(data[0], data[3])


def _counts(*data, num_classes=K, **options):
    return count(*data, num_classes=num_classes, **options)


def _oracle(data, threshold):
    """scikit-learn on the K + 1-way labels, over the classes that occur."""
    scores, predicted, truth, open_map = data
    scored = open_map != VOID
    truth = truth.where(open_map == 0, torch.tensor(K))[scored].numpy()
    called = predicted.where(scores < threshold, torch.tensor(K))[scored].numpy()
    return f1_score(
        truth, called, average='macro', labels=sorted(set(truth.tolist())), zero_division=0
    )


@pytest.mark.parametrize('threshold', [-0.3, 0.0, 1.2345, math.inf])
def test_macro_f1_is_that_of_scikit_learn_at_any_threshold_named(threshold):
    data = _data()
    counts = _counts(*data, thresholds=[t for t in (threshold, 0.1, 0.1) if t < math.inf])
    assert counts.macro_f1_at(threshold) == pytest.approx(_oracle(data, threshold), abs=1e-12)


def test_a_score_equal_to_a_threshold_is_open():
    scores, *maps = _data()
    rounded = (2 * scores).round() / 2  # a fifth of the pixels at .5
    counts = _counts(rounded, *maps, layout=_layout((scores, *maps)), thresholds=[0.5, 1.0])
    for threshold in (0.5, 1.0):
        wanted = _oracle((rounded, *maps), threshold)
        assert counts.macro_f1_at(threshold) == pytest.approx(wanted, abs=1e-12)


def test_the_whole_curve_is_that_of_scikit_learn():
    data = _data(seed=3, count=1500)
    thresholds, f1 = _counts(*data, thresholds=[0.61]).macro_f1_curve()
    assert thresholds.dtype == torch.float32
    assert (thresholds.diff() > 0).all()
    for index in [0, *range(3000, len(f1) - 2000, 97), len(f1) - 1]:
        assert f1[index] == pytest.approx(_oracle(data, thresholds[index]), abs=1e-12)


def test_by_hand():
    """One pixel of each kind: right, wrong, open called closed, open called open, closed called
    open, void.
    """
    scores = torch.tensor([0.1, 0.2, 0.3, 0.9, 0.8, 0.99])
    predicted = torch.tensor([0, 1, 1, 0, 1, 0])
    truth = torch.tensor([0, 0, IGNORE, IGNORE, 1, 0])
    counts = _counts(
        scores,
        predicted,
        truth,
        torch.tensor([0, 0, 1, 3, 0, VOID]),
        thresholds=[0.5],
        num_classes=2,
    )
    # class 0: TP 1, FN 1; class 1: called twice wrongly, its one pixel missed; open: TP 1, FP 1, FN
    # 1.
    assert counts.f1_at(0.5) == pytest.approx([2 / 3, 0, 1 / 2])
    assert counts.macro_f1_at(0.5) == pytest.approx((2 / 3 + 0 + 1 / 2) / 3)
    # nothing is called open: class 0: TP 1, FN 1, FP 1; class 1: TP 1, FP 2; open never found.
    assert counts.f1_at(math.inf) == pytest.approx([1 / 2, 1 / 2, 0])
    # everything is called open: 2 TP of 5 calls
    assert counts.f1_at(float(counts.thresholds[0])) == pytest.approx([0, 0, 4 / 7])


def test_a_class_that_never_occurs_is_left_out_of_the_mean_also_where_it_is_predicted():
    data = _data(classes=[0, 1, 3])
    assert (data[1] == 2).any()
    counts = _counts(*data, thresholds=[0.5])
    per_class = counts.f1_at(0.5)
    assert math.isnan(per_class[2])
    rest = [f1 for f1 in per_class if not math.isnan(f1)]
    assert len(rest) == K
    assert (
        counts.macro_f1_at(0.5) == pytest.approx(sum(rest) / K) == pytest.approx(_oracle(data, 0.5))
    )


def test_the_best_threshold_is_on_the_curve_and_can_be_used_on_other_data():
    validation, test = _data(seed=5), _data(seed=6)
    counts = _counts(*validation)
    f1, threshold = counts.best_macro_f1()
    assert f1 == pytest.approx(_oracle(validation, threshold), abs=1e-12)
    assert all(f1 + 1e-12 >= _oracle(validation, t) for t in torch.linspace(-2, 4, 40))
    assert all(f1 > other for other in counts.macro_f1_curve()[1][counts.thresholds > threshold])
    assert _counts(*test, thresholds=[threshold]).macro_f1_at(threshold) == pytest.approx(
        _oracle(test, threshold), abs=1e-12
    )


def test_the_best_threshold_is_found_whatever_the_origin_of_the_scores():
    scores, *maps = _data(seed=5)
    best = _counts(scores, *maps).best_macro_f1()[0]
    assert _counts(1e4 + scores, *maps).best_macro_f1()[0] == pytest.approx(best, abs=5e-3)


def test_a_threshold_resolved_on_score_counts_is_counted_exactly():
    data = _data(seed=8)
    binned = ScoreCounts(num_open_classes=2)
    binned.update(data[0], data[3])
    threshold = curves.threshold_at_fpr(binned.bins(), fpr=0.05)
    counts = _counts(*data, thresholds=[threshold])
    assert counts.macro_f1_at(threshold) == pytest.approx(_oracle(data, threshold), abs=1e-12)


def test_the_tables_are_small():
    layout = _layout(_data())
    assert RecognitionCounts(19, layout).tensor.numel() * 8 < 4.5e6


def test_streamed_in_parts_and_added_over_ranks_equals_all_at_once(monkeypatch):
    monkeypatch.setattr(score_layout, 'CHUNK', 999)
    data = _data(seed=1)
    options = dict(layout=_layout(data), thresholds=[0.3])
    whole = _counts(*data, **options)
    parts = [_counts(*part, **options) for part in zip(*(one.split(700) for one in data))]
    assert torch.equal(sum(part.tensor for part in parts), whole.tensor)
    image = [one.view(2, 40, 50) for one in data]
    assert torch.equal(_counts(*image, **options).tensor, whole.tensor)
    small = [data[0], *(one.to(torch.uint8) for one in data[1:])]
    assert torch.equal(_counts(*small, **options).tensor, whole.tensor)


def test_void_pixels_may_hold_anything():
    scores, predicted, truth, open_map = _data(seed=2)
    expected = _counts(scores, predicted, truth, open_map).tensor
    void = open_map == VOID
    scores[void], predicted[void], truth[void] = math.nan, 200, 77
    assert torch.equal(_counts(scores, predicted, truth, open_map).tensor, expected)


@pytest.mark.parametrize('label', [0, 1, VOID])
def test_one_kind_of_pixel_only_gives_nan_and_a_warning(label):
    truth = torch.zeros(5, dtype=torch.long)
    counts = _counts(torch.randn(5), truth, truth, torch.full((5,), label))
    with pytest.warns(UserWarning, match='Macro-F1 is undefined'):
        assert math.isnan(counts.macro_f1_at(math.inf))
    with pytest.warns(UserWarning, match='Macro-F1 is undefined'):
        assert all(map(math.isnan, counts.best_macro_f1()))


def test_an_empty_batch_counts_nothing():
    none = torch.zeros(0, dtype=torch.long)
    assert not _counts(torch.zeros(0), none, none, none).tensor.any()


def test_wrong_arguments_are_named():
    zeros = torch.zeros(10, dtype=torch.long)
    with pytest.raises(
        ValueError, match=r'closed_prediction: .* \[0, 3\] at scored pixels, found 4'
    ):
        outcomes(zeros + 4, zeros, zeros + 1, num_classes=K)
    with pytest.raises(
        ValueError, match=r'gt_sem_seg: .* \[0, 3\] at closed pixels, found 255 \(10'
    ):
        outcomes(zeros, zeros + IGNORE, zeros, num_classes=K)
    with pytest.raises(ValueError, match=r'one of the \d+ that were counted, found 0\.61'):
        _counts(*_data(count=10)).macro_f1_at(0.61)


def test_a_full_table_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        _counts(*_data()).best_macro_f1()


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_a_gpu_counts_what_a_cpu_counts():
    data = _data(count=300_000)
    options = dict(layout=_layout(data), thresholds=[0.3])
    counts = _counts(*(one.cuda() for one in data), **options)
    assert torch.equal(counts.tensor.cpu(), _counts(*data, **options).tensor)


def test_closed_pixels_called_open_are_counted_by_their_true_class():
    data = _data(seed=4)
    scores, _, truth, open_map = data
    counts = _counts(*data, thresholds=[0.7])
    assert counts.num_closed == (open_map == 0).sum()
    for asked in (0.7, -0.123, 2.5, math.inf):
        threshold, called, pixels = counts.called_open(asked)
        assert threshold <= torch.tensor(asked)
        assert threshold == asked or asked - threshold < 0.02 * abs(asked)
        for closed_class in range(K):
            of_class = (open_map == 0) & (truth == closed_class)
            assert pixels[closed_class] == of_class.sum()
            assert called[closed_class] == (scores[of_class] >= threshold).sum()
