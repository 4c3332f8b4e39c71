import json
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mmseg_opengan.contracts import VOID
from mmseg_opengan.functional import detection as curves
from mmseg_opengan.functional.calibration import (
    Calibration,
    expected_calibration_error,
    fit_platt,
)
from mmseg_opengan.functional.detection import exact_bins
from mmseg_opengan.functional.score_counts import ScoreCounts


def _data(slope=0.4, intercept=-3.0, count=20_000, seed=0):
    """Scores whose true calibration is known, with some void."""
    generator = torch.Generator().manual_seed(seed)
    scores = 4 * torch.randn(count, generator=generator, dtype=torch.float64) + 1
    labels = (
        torch.rand(count, generator=generator) < (slope * scores + intercept).sigmoid()
    ).long()
    labels[::17] = VOID
    return scores, labels


def _bins(*arguments, **options):
    return exact_bins(*_data(*arguments, **options))


def _scikit_learn(scores, labels, *, intercept=True, smooth=True):
    """Logistic regression without a penalty. Platt's soft targets: each pixel once open, once
    closed, with weights.
    """
    scored = labels != VOID
    x, y = scores[scored].numpy()[:, None], (labels[scored] == 1).numpy()
    opened, closed = y.sum(), (~y).sum()
    target = (
        np.where(y, (opened + 1) / (opened + 2), 1 / (closed + 2)) if smooth else y.astype(float)
    )
    model = LogisticRegression(
        C=np.inf, fit_intercept=intercept, tol=1e-10, max_iter=1000, solver='newton-cholesky'
    )
    model.fit(
        np.concatenate([x, x]), np.repeat([1, 0], len(x)), np.concatenate([target, 1 - target])
    )
    return float(model.coef_[0, 0]), float(np.ravel(model.intercept_)[0])


# Fits.


@pytest.mark.parametrize(('slope', 'intercept'), [(0.4, -3.0), (2.0, 1.0)])
def test_platt_is_the_logistic_regression_of_scikit_learn(slope, intercept):
    data = _data(slope, intercept)
    found = fit_platt(exact_bins(*data))
    assert (found.slope, found.intercept) == pytest.approx(_scikit_learn(*data), rel=1e-6)
    assert (found.slope, found.intercept) == pytest.approx(
        _scikit_learn(*data, smooth=False), rel=0.02
    )


def test_binned_scores_give_the_fit_of_the_exact_ones():
    scores, labels = _data()
    counts = ScoreCounts(num_open_classes=1)
    counts.update(scores, labels)
    binned, exact = fit_platt(counts.bins()), fit_platt(exact_bins(scores, labels))
    assert binned[:2] == pytest.approx(exact[:2], rel=1e-4)
    assert fit_platt(counts.bins()) == binned  # deterministic to the last bit


def test_distances_far_from_zero_are_fitted_too():
    scores, labels = _data()
    near, far = (
        fit_platt(exact_bins(scores, labels)),
        fit_platt(exact_bins(scores * 1e3 + 1e6, labels)),
    )
    assert far.slope == pytest.approx(near.slope / 1e3, rel=1e-6)
    assert far.probability(scores * 1e3 + 1e6) == pytest.approx(near.probability(scores), abs=1e-6)


def test_separable_scores_have_a_finite_fit():
    scores = torch.tensor([-2.0, -1.0, 1.0, 2.0])
    found = fit_platt(exact_bins(scores, torch.tensor([0, 0, 1, 1])))
    assert math.isfinite(found.slope)
    assert found.probability(scores).tolist() == pytest.approx([0.25, 0.25, 0.75, 0.75], abs=0.12)
    many = torch.cat([torch.full((500_000,), -20.0), torch.full((5000,), 20.0)])
    p = fit_platt(exact_bins(many, (many > 0).long())).probability(torch.tensor([-20.0, 20.0]))
    assert p.tolist() == pytest.approx([1 / 500_002, 5001 / 5002], rel=1e-6)


def test_scores_in_the_wrong_direction_are_an_error():
    scores, labels = _data()
    with pytest.raises(ValueError, match='wanted a slope above 0, found -'):
        fit_platt(exact_bins(-scores, labels))


def test_too_little_to_fit_is_an_error():
    for labels in ([0, 0], [1, 1], [VOID, VOID]):
        with pytest.raises(ValueError, match='wanted closed and open pixels'):
            fit_platt(exact_bins(torch.tensor([1.0, 2.0]), torch.tensor(labels)))
    with pytest.raises(ValueError, match='wanted two or more scores, found one, 3'):
        fit_platt(exact_bins(torch.full((4,), 3.0), torch.tensor([0, 1, 0, 1])))


# What calibration changes, and what not.


def test_calibration_lowers_the_error_and_leaves_auroc_alone():
    scores, labels = _data()
    found = fit_platt(exact_bins(scores, labels))
    before, after = (
        expected_calibration_error(_bins(seed=1), calibration) for calibration in (None, found)
    )
    assert before > 0.3
    assert after < 0.01
    calibrated = found.probability(scores)
    assert curves.auroc(exact_bins(calibrated, labels)) == curves.auroc(exact_bins(scores, labels))


def test_probabilities_of_a_fit_average_to_the_open_fraction():
    """The intercept sees to that: up to Platt's two pixels."""
    scores, labels = _data()
    found = fit_platt(exact_bins(scores, labels))
    mean = float(found.probability(scores[labels != VOID]).mean())
    assert mean == pytest.approx(float((labels[labels != VOID] == 1).double().mean()), abs=1e-4)


def test_probability_of_half_precision_scores_is_computed_in_float32():
    scores = torch.tensor([3.0, -7.0], dtype=torch.float16)
    p = Calibration(slope=2.0, intercept=1.0).probability(scores)
    assert torch.equal(p, torch.sigmoid(torch.tensor([7.0, -13.0])))


# Reliability and its error.


def _slow_error(p, is_open, groups):
    """ECE, written out: groups is a list of boolean masks."""
    return sum(m.sum() / len(p) * abs(p[m].mean() - is_open[m].mean()) for m in groups if m.any())


def test_the_error_is_the_obvious_sum():
    scores, labels = _data(count=15_300)  # 14,400 scored
    scored = labels != VOID
    order = scores[scored].argsort()
    p, is_open = scores[scored][order].sigmoid().numpy(), (labels[scored][order] == 1).numpy()
    groups = [np.arange(14_400) // 960 == i for i in range(15)]
    assert expected_calibration_error(exact_bins(scores, labels)) == pytest.approx(
        _slow_error(p, is_open, groups), abs=1e-12
    )


def test_ties_stay_in_one_group_and_the_largest_is_in_the_last():
    scores = torch.tensor([100.0] * 9 + [-100.0])
    bins = exact_bins(scores.double(), torch.tensor([1] * 6 + [0] * 4))
    assert expected_calibration_error(bins) == pytest.approx(0.9 / 3)


def test_no_pixel_has_no_error():
    none = exact_bins(torch.zeros(3), torch.full((3,), VOID))
    assert math.isnan(expected_calibration_error(none))


# Storing.


def test_a_calibration_survives_json_and_the_safe_loader(tmp_path):
    found = fit_platt(_bins())
    assert Calibration(**json.loads(json.dumps(found.to_json()))) == found
    torch.save(found.to_json(), tmp_path / 'calibration.pth')
    assert Calibration(**torch.load(tmp_path / 'calibration.pth', weights_only=True)) == found


def test_a_probability_has_its_score():
    found = Calibration(slope=2.0, intercept=-1.0)
    for wanted in (0.1, 0.5, 0.9):
        score = torch.tensor(found.score_of(wanted), dtype=torch.float64)
        assert float(found.probability(score)) == pytest.approx(wanted)
    for wrong in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match=r'wanted one in \(0, 1\)'):
            found.score_of(wrong)
