"""Open validation decides what the rules say on its own pixels, and what it decided survives being
stored.
"""

import io
import json
import math

import pytest
import torch
from recognition_counts import count

from mmseg_opengan.functional import detection as curves
from mmseg_opengan.functional.calibration import fit_platt
from mmseg_opengan.functional.decisions import (
    MACRO_F1,
    STANDARD_RULES,
    Decisions,
    decide,
    is_rule,
    plain_rule,
)
from mmseg_opengan.functional.detection import exact_bins


def _data(shift=2.0):
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(3000, generator=generator) < 0.2).long()
    return torch.randn(3000, generator=generator) + shift * labels, labels


def _recognition(scores, labels):
    predicted = (torch.arange(len(labels)) % 3 == 0).long()
    return count(scores, predicted, torch.zeros_like(labels), labels, num_classes=2)


def test_rules_are_those_of_the_curves():
    bins, recognition = exact_bins(*_data()), _recognition(*_data())
    found = decide(bins, recognition, rules=[*STANDARD_RULES, 'fpr=0.013'])
    assert found.thresholds == {
        'fpr=0.05': curves.threshold_at_fpr(bins, fpr=0.05),
        'fpr=0.013': curves.threshold_at_fpr(bins, fpr=0.013),
        'tpr=0.95': curves.threshold_at_tpr(bins, tpr=0.95),
        'f1': curves.best_f1(bins)[1],
        MACRO_F1: recognition.best_macro_f1()[1],
    }
    assert found.calibration == fit_platt(bins)


@pytest.mark.parametrize(('label', 'rules'), [(0, ['fpr=0.05']), (1, ['tpr=0.95']), (255, [])])
def test_what_is_undefined_is_left_out(label, rules):
    scores = torch.randn(50)
    labels = torch.full((50,), label)
    found = decide(exact_bins(scores, labels), _recognition(scores, labels))
    assert list(found.thresholds) == rules  # each needs pixels of one kind
    assert found.calibration is None


def test_a_score_that_does_not_separate_is_not_calibrated():
    found = decide(exact_bins(*_data(shift=-1)))
    assert found.calibration is None
    assert list(found.thresholds) == list(STANDARD_RULES)


def test_stored_and_read_again():
    """As in a checkpoint, which torch loads with weights_only, and as in a report, where infinity
    is null.
    """
    decisions = decide(exact_bins(*_data()))
    decisions.thresholds['fpr=0.0'] = math.inf
    file = io.BytesIO()
    torch.save(decisions.to_json(), file)
    file.seek(0)
    assert Decisions.from_json(torch.load(file, weights_only=True)) == decisions
    text = json.dumps(decisions.to_json()).replace('Infinity', 'null')
    assert Decisions.from_json(json.loads(text)) == decisions
    assert Decisions.from_json(Decisions({}).to_json()) == Decisions({})


def test_a_rule_keeps_what_it_promises():
    scores, labels = torch.tensor([1.0, 2.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor([0, 0, 1, 0, 1, 1])
    bins = exact_bins(scores, labels)
    found = decide(bins, rules=['fpr=0.4', 'tpr=0.6', 'f1']).thresholds
    rates = {}
    for rule, threshold in found.items():
        called = labels[scores >= threshold]
        rates[rule] = curves.rates(int((called == 0).sum()), int((called == 1).sum()), 3, 3)
    assert rates['fpr=0.4']['FPR'] <= 0.4
    assert rates['tpr=0.6']['TPR'] >= 0.6
    assert rates['f1']['F1'] == curves.best_f1(bins)[0]


def test_an_fpr_that_no_threshold_reaches_calls_nothing_open():
    bins = exact_bins(torch.zeros(2), torch.tensor([0, 1]))
    assert decide(bins, rules=['fpr=0']).thresholds == {'fpr=0': math.inf}


def test_what_is_a_rule():
    assert [is_rule(one) for one in ('f1', 'fpr=0.05', MACRO_F1, 'nonsense')] == [True] * 4
    assert [is_rule(one) for one in (None, 0, -1.5, '.3', '1e-3', 'inf')] == [False] * 6


def test_wrong_rules_are_refused_before_anything_runs():
    for wrong in ('f2', 'fpr', 'fpr=x', 'fpr=5', 'tpr=-0.1', 'tpr=0', 'f1=0.5', '', 'fpr=nan'):
        with pytest.raises(ValueError, match="threshold: wanted a number, 'fpr=RATE'"):
            plain_rule(wrong)
    right = ('fpr=.05', 'fpr=0', 'tpr=1.0', 'f1', MACRO_F1)
    assert [plain_rule(one) for one in right] == ['fpr=0.05', 'fpr=0', 'tpr=1', 'f1', MACRO_F1]
