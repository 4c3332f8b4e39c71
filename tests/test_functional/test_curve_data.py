"""Thinned curves keep what the full ones show."""

import json

import numpy as np
import pytest
import torch
from recognition_counts import count

from mmseg_opengan.functional.calibration import Calibration, fit_platt
from mmseg_opengan.functional.curve_data import curve_data, density
from mmseg_opengan.functional.detection import auroc, exact_bins


@pytest.fixture(scope='module')
def data():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(40_000, generator=generator) < 0.1).long()
    return torch.randn(40_000, generator=generator) + 2 * labels, labels


@pytest.fixture(scope='module')
def recognition(data):
    predicted = torch.arange(len(data[0])) % 3
    truth = predicted.masked_fill(torch.arange(len(predicted)) % 7 == 0, 1)
    return count(data[0], predicted, truth, data[1], num_classes=3)


def test_few_numbers_with_the_area_of_many(data):
    bins = exact_bins(*data)
    found = curve_data(bins)
    fpr, tpr = found['roc']['fpr'], found['roc']['tpr']
    assert len(fpr) <= 400
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert float(torch.trapezoid(torch.tensor(tpr), torch.tensor(fpr))) == pytest.approx(
        auroc(bins), abs=1e-4
    )
    assert len(json.dumps(found)) < 30_000


def test_what_is_not_known_is_left_out(data, recognition):
    bins = exact_bins(*data)
    assert set(curve_data(bins)) == {'roc', 'pr', 'density', 'reliability'}
    assert set(curve_data(bins)['reliability']) == set()
    platt = fit_platt(bins)
    assert set(curve_data(bins, calibration=platt)['reliability']) == {'after'}
    full = curve_data(bins, calibration=platt, open_logit=True, recognition=recognition)
    assert set(full['reliability']) == {'before', 'after'}
    assert sum(full['reliability']['after']['num_pixels']) == len(data[0])
    one_kind = exact_bins(data[0], torch.zeros_like(data[1]))
    assert set(curve_data(one_kind, calibration=Calibration(), open_logit=True)) == {'density'}
    assert curve_data(exact_bins(data[0][:0], data[1][:0])) == {}


def test_macro_f1_points_are_points_of_the_curve_and_have_its_maximum(data, recognition):
    found = curve_data(exact_bins(*data), recognition=recognition)['macro_f1']
    assert 100 < len(found['threshold']) <= 400
    assert (np.diff(found['threshold']) > 0).all()
    thresholds, macro = recognition.macro_f1_curve()
    exact = dict(zip((float(f'{t:.7g}') for t in thresholds.tolist()), macro.tolist(), strict=True))
    assert all(
        exact[t] == pytest.approx(value, abs=1e-6)
        for t, value in zip(found['threshold'], found['macro_f1'], strict=True)
    )
    assert max(found['macro_f1']) == pytest.approx(recognition.best_macro_f1()[0], abs=1e-3)


def test_density_is_of_size_one_and_where_the_scores_are(data):
    found = density(exact_bins(*data))
    assert sum(found['closed']) == pytest.approx(1)
    assert sum(found['open']) == pytest.approx(1)
    assert len(found['edges']) == len(found['open']) + 1
    centres = (np.array(found['edges'][1:]) + found['edges'][:-1]) / 2
    assert centres @ found['open'] - centres @ found['closed'] == pytest.approx(2, abs=0.1)
