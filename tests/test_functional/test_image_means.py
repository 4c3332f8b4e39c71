"""Means over images are scikit-learn's numbers averaged, whatever the order in which images and
ranks are added.
"""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from mmseg_opengan.contracts import VOID
from mmseg_opengan.functional.detection import exact_bins
from mmseg_opengan.functional.image_means import ImageMeans


def _images(number=7):
    generator = torch.Generator().manual_seed(0)
    for _ in range(number):
        labels = torch.randint(0, 3, (200,), generator=generator)
        labels[torch.rand(200, generator=generator) < 0.1] = VOID
        yield torch.randn(200, generator=generator) + (labels == 1), labels


def _fpr95(truth, scores):
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    return fpr[np.argmax(tpr >= 0.95)]


def _means(images):
    means = ImageMeans()
    for scores, labels in images:
        means.update(exact_bins(scores, labels))
    return means


@pytest.mark.parametrize(
    ('name', 'number'),
    [('AUROC', roc_auc_score), ('AP', average_precision_score), ('FPR95', _fpr95)],
)
def test_mean_of_scikit_learns_numbers(name, number):
    wanted = [
        number((labels != 0)[labels != VOID].numpy(), scores[labels != VOID].numpy())
        for scores, labels in _images()
    ]
    assert _means(_images()).compute()[name] == pytest.approx(np.mean(wanted), abs=1e-11)


def test_images_without_a_kind_of_pixels_are_left_out():
    scores = torch.randn(200)
    lacking = [(scores, torch.full((200,), label)) for label in (0, 1, VOID)]
    assert _means([*_images(), *lacking]).compute() == _means(_images()).compute()
    found = _means(lacking).compute()
    assert found.pop('num_images') == 0
    assert all(math.isnan(value) for value in found.values())


def test_order_and_ranks_change_nothing_not_even_the_last_digit():
    images = list(_images(30))
    whole, parts = (
        _means(images),
        [_means(images[::-3]), _means(images[-2::-3]), _means(images[-3::-3])],
    )
    assert torch.equal(sum(part.tensor for part in parts), whole.tensor)
