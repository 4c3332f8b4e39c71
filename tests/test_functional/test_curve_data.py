"""Thinned curves keep what the full ones show."""

import json

import numpy as np
import pytest
import torch

from mmseg_opengan.functional.curve_data import curve_data, density
from mmseg_opengan.functional.detection import auroc, exact_bins


@pytest.fixture(scope='module')
def data():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(40_000, generator=generator) < 0.1).long()
    return torch.randn(40_000, generator=generator) + 2 * labels, labels


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


def test_what_is_not_known_is_left_out(data):
    assert set(curve_data(exact_bins(*data))) == {'roc', 'pr', 'density'}
    one_kind = exact_bins(data[0], torch.zeros_like(data[1]))
    assert set(curve_data(one_kind)) == {'density'}
    assert curve_data(exact_bins(data[0][:0], data[1][:0])) == {}


def test_density_is_of_size_one_and_where_the_scores_are(data):
    found = density(exact_bins(*data))
    assert sum(found['closed']) == pytest.approx(1)
    assert sum(found['open']) == pytest.approx(1)
    assert len(found['edges']) == len(found['open']) + 1
    centres = (np.array(found['edges'][1:]) + found['edges'][:-1]) / 2
    assert centres @ found['open'] - centres @ found['closed'] == pytest.approx(2, abs=0.1)
