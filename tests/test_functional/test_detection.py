import math
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics

from mmseg_opengan.functional import detection as curves
from mmseg_opengan.functional.detection import ScoreBins, exact_bins, mean_over_kinds


def _bins(closed, opened, lower=None, single=False):
    lower = range(len(closed)) if lower is None else lower
    return ScoreBins(
        torch.tensor(closed, dtype=torch.int64),
        torch.tensor(opened, dtype=torch.int64),
        torch.tensor(list(lower), dtype=torch.float64),
        torch.full((len(closed),), single),
    )


def _data(kind, seed=0, count=3000):
    """Scores with labels 0, 1, 255, and the scored part as numpy arrays (is_open, score)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 0, 0, 1, 255])[torch.randint(5, (count,), generator=generator)]
    scores = torch.randn(count, generator=generator) + (labels == 1)
    scores = dict(
        distinct=scores,
        ties=scores.mul(2).round(),
        constant=torch.full_like(scores, 0.3),
        perfect=(labels == 1).float(),
    )[kind]
    scored = labels != 255
    return scores, labels, (labels == 1)[scored].numpy(), scores[scored].numpy()


KINDS = ('distinct', 'ties', 'constant', 'perfect')


def _pairwise_auroc(is_open, score):
    difference = score[is_open][:, None] - score[~is_open][None]
    return ((difference > 0).sum() + 0.5 * (difference == 0).sum()) / difference.size


def _by_every_threshold(is_open, score):
    """The obvious loop: (threshold, TP, FP) for every distinct score, from the largest."""
    return [
        (t, int((is_open & (score >= t)).sum()), int((~is_open & (score >= t)).sum()))
        for t in sorted(set(score.tolist()), reverse=True)
    ]


@pytest.mark.parametrize('kind', KINDS)
def test_numbers_agree_with_scikit_learn_and_pair_counting(kind):
    scores, labels, is_open, score = _data(kind)
    found = curves.auroc(exact_bins(scores, labels))
    assert found == pytest.approx(metrics.roc_auc_score(is_open, score), abs=1e-12)
    assert found == pytest.approx(_pairwise_auroc(is_open, score), abs=1e-12)
    assert curves.average_precision(exact_bins(scores, labels)) == pytest.approx(
        metrics.average_precision_score(is_open, score), abs=1e-12
    )


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('wanted', [0.01, 0.95])
def test_operating_points_agree_with_a_loop_over_thresholds(kind, wanted):
    scores, labels, is_open, score = _data(kind, count=400)
    bins, positives, negatives = exact_bins(scores, labels), is_open.sum(), (~is_open).sum()
    table = _by_every_threshold(is_open, score)
    threshold, _, fp = next(row for row in table if row[1] / positives >= wanted)
    assert curves.fpr_at_tpr(bins, tpr=wanted) == fp / negatives
    assert curves.threshold_at_tpr(bins, tpr=wanted) == threshold
    allowed = [row[0] for row in table if row[2] / negatives <= wanted]
    assert curves.threshold_at_fpr(bins, fpr=wanted) == (allowed[-1] if allowed else math.inf)
    f1, threshold = max(((2 * tp / (tp + fp + positives), t) for t, tp, fp in table))
    assert curves.best_f1(bins) == (pytest.approx(f1, abs=1e-15), threshold)


@pytest.mark.parametrize('kind', KINDS)
def test_points_are_those_of_scikit_learn(kind):
    scores, labels, is_open, score = _data(kind)
    bins = exact_bins(scores, labels)
    fpr, tpr, threshold = curves.roc_points(bins, max_points=10000)
    for got, wanted in zip(
        (fpr, tpr, threshold), metrics.roc_curve(is_open, score, drop_intermediate=False)
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-12)
    recall, precision = curves.pr_points(bins, max_points=10000)
    wanted = metrics.precision_recall_curve(is_open, score)  # by rising threshold
    np.testing.assert_allclose(precision, wanted[0][::-1], atol=1e-12)
    np.testing.assert_allclose(recall, wanted[1][::-1], atol=1e-12)


@pytest.mark.parametrize('function', [curves.roc_points, curves.pr_points])
def test_thinned_points_are_points_of_the_curve_and_close_to_all_others(function):
    scores, labels, _, _ = _data('distinct', count=20000)
    bins = exact_bins(scores, labels)
    x, y = function(bins, max_points=100000)[:2]
    thin_x, thin_y = function(bins, max_points=200)[:2]
    assert 100 < len(thin_x) <= 200
    assert set(zip(thin_x.tolist(), thin_y.tolist())) <= set(zip(x.tolist(), y.tolist()))
    assert (thin_x[0], thin_y[0]) == (x[0], y[0])
    assert (thin_x[-1], thin_y[-1]) == (x[-1], y[-1])
    distance = (x[:, None] - thin_x).abs() + (y[:, None] - thin_y).abs()
    length = float(x.diff().abs().sum() + y.diff().abs().sum())
    assert distance.amin(1).max() <= length / 199 + 1e-9


def test_roc_of_constant_scores_keeps_both_end_points():
    fpr, tpr, threshold = curves.roc_points(_bins([7], [3]))
    assert fpr.tolist() == tpr.tolist() == [0, 1]
    assert threshold.tolist() == [math.inf, 0]
    assert curves.auroc(_bins([7], [3])) == 0.5


def test_tpr_of_19_in_20_is_reached_by_19_pixels():
    assert curves.fpr_at_tpr(_bins([10, 5, 0], [1, 1, 18])) == 5 / 15
    assert curves.threshold_at_tpr(_bins([10, 5, 0], [1, 1, 18])) == 1


def test_threshold_at_fpr_is_inf_where_the_top_bin_already_exceeds_it():
    assert curves.threshold_at_fpr(_bins([9, 1], [0, 5]), fpr=0.05) == math.inf
    assert curves.threshold_at_fpr(_bins([9, 1], [0, 5]), fpr=0.1) == 1


def test_error_bounds_are_of_bins_of_several_scores_only():
    closed, opened = [6, 4, 0], [1, 3, 6]
    bins = _bins(closed, opened)
    assert curves.auroc_error_bound(bins) == pytest.approx((6 + 12) / 10 / 10 / 2)
    assert curves.fpr_error_bound(bins) == 6 / 10
    assert curves.fpr_error_bound(bins, tpr=0.7) == 4 / 10
    assert curves.fpr_error_bound(bins, tpr=0.6) == 0
    for bound in (curves.auroc_error_bound, curves.ap_error_bound, curves.fpr_error_bound):
        assert bound(_bins(closed, opened, single=True)) == 0


@pytest.mark.parametrize('seed', range(5))
def test_error_bounds_hold_for_every_order_inside_the_bins(seed):
    """Random bins, whose pixels are then told apart at random; tight, up to what a sum loses
    against its integral.
    """
    rng = np.random.default_rng(seed)
    closed, opened = rng.integers(0, 5, (2, 4)) + rng.integers(0, 2, (2, 4)) * 3
    closed[0], opened[3] = closed[0] + 1, opened[3] + 1
    bins = _bins(closed.tolist(), opened.tolist())
    functions = {
        curves.auroc: curves.auroc_error_bound,
        curves.average_precision: curves.ap_error_bound,
        curves.fpr_at_tpr: curves.fpr_error_bound,
    }
    labels = torch.tensor([0] * closed.sum() + [1] * opened.sum())
    places = torch.tensor(np.concatenate([np.repeat(range(4), n) for n in (closed, opened)]))
    orders = [torch.from_numpy(rng.integers(0, 6, len(labels))) for _ in range(200)]
    one_by_one = torch.arange(len(labels)) / 100
    best, worst = labels, torch.where(labels == 1, one_by_one, 9)
    for order in (*orders, best, -labels, worst):
        exact = exact_bins(places.double() + order / 10, labels)
        for function, bound in functions.items():
            assert abs(function(exact) - function(bins)) <= bound(bins) + 1e-12


def test_ap_errs_most_where_the_closed_pixel_of_the_top_bin_comes_first():
    worst = exact_bins(torch.arange(12.0), torch.tensor([0] + [1] * 10 + [0]))
    bins = _bins([1, 1], [0, 10])
    error = curves.average_precision(bins) - curves.average_precision(worst)
    assert 0.11 < error <= curves.ap_error_bound(bins) < 0.15


def test_counts_of_a_billion_keep_every_digit():
    """The same as exact integer arithmetic, although products of the counts exceed 2^63."""
    generator = torch.Generator().manual_seed(3)
    closed = torch.randint(10**9, 3 * 10**9, (2000,), generator=generator).tolist()
    opened = torch.randint(10**9, 3 * 10**9, (2000,), generator=generator).tolist()
    below = pairs = within = 0
    for c, o in zip(closed, opened):
        pairs, within, below = pairs + o * (2 * below + c), within + c * o, below + c
    all_pairs = sum(closed) * sum(opened)
    assert all_pairs > 2**63
    bins = _bins(closed, opened)
    assert curves.auroc(bins) == pytest.approx(pairs / (2 * all_pairs), rel=1e-14)
    assert curves.auroc_error_bound(bins) == pytest.approx(within / (2 * all_pairs), rel=1e-14)
    small = _bins([c // 10**6 for c in closed], [o // 10**6 for o in opened])
    large = _bins([c // 10**6 * 10**6 for c in closed], [o // 10**6 * 10**6 for o in opened])
    for function in (curves.average_precision, curves.fpr_at_tpr, curves.threshold_at_fpr):
        assert function(large) == pytest.approx(function(small), rel=1e-14)
    assert curves.best_f1(large) == pytest.approx(curves.best_f1(small), rel=1e-14)


def test_perfect_separation_is_exactly_one():
    bins = _bins([1, 2, 4, 0, 0, 0], [0, 0, 0, 3, 7, 9])
    assert (curves.auroc(bins), curves.average_precision(bins), curves.fpr_at_tpr(bins)) == (
        1,
        1,
        0,
    )


@pytest.mark.parametrize(
    ('closed', 'opened', 'missing'),
    [([3, 1], [0, 0], 'open'), ([0, 0], [3, 1], 'closed'), ([], [], 'no closed and no open')],
)
def test_one_group_only_gives_nan_and_a_warning(closed, opened, missing):
    bins = _bins(closed, opened)
    for function in (
        curves.auroc,
        curves.auroc_error_bound,
        curves.average_precision,
        curves.fpr_at_tpr,
        lambda b: curves.best_f1(b)[0],
        lambda b: curves.best_f1(b)[1],
        lambda b: float(curves.roc_points(b)[0]),
        lambda b: float(curves.pr_points(b)[1]),
    ):
        with pytest.warns(UserWarning, match=missing):
            assert math.isnan(function(bins))


def test_thresholds_need_only_the_group_that_they_are_read_from():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert curves.threshold_at_fpr(_bins([19, 1], [0, 0])) == 1
        assert curves.threshold_at_tpr(_bins([0, 0], [19, 1])) == 0
    with pytest.warns(UserWarning, match='no closed'):
        assert math.isnan(curves.threshold_at_fpr(_bins([0], [1])))
    with pytest.warns(UserWarning, match='no open'):
        assert math.isnan(curves.threshold_at_tpr(_bins([1], [0])))


def test_exact_bins_take_bool_labels_any_shape_and_keep_float64():
    scores = torch.tensor([[1.0, 1 + 1e-12], [1 - 1e-12, 1 + 2e-12]], dtype=torch.float64)
    assert curves.auroc(exact_bins(scores, torch.tensor([[False, True], [False, True]]))) == 1
    assert (
        curves.auroc(exact_bins(scores.float(), torch.tensor([[False, True], [False, True]])))
        == 0.5
    )


def test_exact_bins_refuse_nan_and_unequal_shapes_but_not_nan_under_void():
    nan = torch.tensor([math.nan, 0.0, 1.0])
    assert curves.auroc(exact_bins(nan, torch.tensor([255, 0, 1]))) == 1
    with pytest.raises(ValueError, match='1 of 2 scored pixels'):
        exact_bins(nan, torch.tensor([0, 255, 1]))
    with pytest.raises(ValueError, match=r'shape of scores \(3,\), got \(1, 3\)'):
        exact_bins(nan, torch.tensor([[0, 0, 1]]))


def test_auroc_agrees_with_torchmetrics_on_probabilities():
    """On [0, 1] only: elsewhere torchmetrics applies a sigmoid, whose saturation ties scores."""
    functional = pytest.importorskip('torchmetrics.functional.classification')
    scores, labels, _, _ = _data('distinct')
    scored = labels != 255
    wanted = functional.binary_auroc(scores[scored].sigmoid(), labels[scored], thresholds=None)
    assert curves.auroc(
        exact_bins(scores.sigmoid(), labels) == pytest.approx(float(wanted), abs=1e-5)
    )


def test_pooled_numbers_are_those_of_pytorch_ood_but_its_aupr_is_the_trapezoid():
    """Numbers of pytorch_ood.metrics.functional 0.4.0 (auroc, fpr_at_tpr, aupr) on these tied
    scores, open as label -1.

    Its AUPR joins the points of the precision-recall curve by straight lines, which is optimistic;
    AP is the step sum. Its per-image class averages over images, and is another number than the
    pooled one.
    """
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(np.repeat([0, 1], [4500, 500]))
    scores = torch.from_numpy(np.round(rng.normal(size=5000) + 1.2 * labels.numpy(), 1))
    assert curves.auroc(exact_bins(scores, labels)) == pytest.approx(0.8165833333333333, abs=1e-12)
    assert curves.fpr_at_tpr(exact_bins(scores, labels)) == pytest.approx(0.624, abs=1e-12)
    recall, precision = curves.pr_points(exact_bins(scores, labels))
    assert float(torch.trapezoid(precision, recall)) == pytest.approx(
        0.38370132182362165, abs=1e-12
    )
    assert curves.average_precision(exact_bins(scores, labels)) == pytest.approx(
        metrics.average_precision_score(labels, scores), abs=1e-12
    )
    assert curves.average_precision(exact_bins(scores, labels)) < 0.375


def test_rates_are_ratios_of_counts():
    assert curves.rates(2, 3, 3, 3) == dict(
        TPR=1,
        FPR=2 / 3,
        precision=3 / 5,
        F1=6 / 8,
    )
    nothing = curves.rates(0, 0, 3, 3)
    assert math.isnan(nothing.pop('precision'))
    assert nothing == dict(TPR=0, FPR=0, F1=0)


def test_the_mean_over_kinds_counts_each_kind_alike():
    """Kinds with fewer than ten pixels do not count; without any other there is no number."""
    kinds = {
        'large': dict(AUROC=0.9, num_open=10**6),
        'small': dict(AUROC=0.5, num_open=10),
        'tiny': dict(AUROC=0.1, num_open=9),
        'absent': dict(AUROC=math.nan, num_open=0),
    }
    assert mean_over_kinds(kinds) == pytest.approx(0.7)
    assert math.isnan(mean_over_kinds({'tiny': kinds['tiny'], 'absent': kinds['absent']}))
