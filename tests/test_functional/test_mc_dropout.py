"""Dropout before the classifier against Dropout2d itself and against one mask and one pixel at a
time.
"""

import pytest
import torch

from mmseg_opengan.functional import mc_dropout
from mmseg_opengan.functional.mc_dropout import dropout_uncertainty

S, K, C, RATE = 9, 4, 6, 0.4


@pytest.fixture
def made():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, C, 15, generator=generator)
    weight, bias = torch.randn(K, C, generator=generator), torch.randn(K, generator=generator)
    kept = torch.rand(S, C, generator=generator) >= RATE
    return features, weight, bias, kept


@pytest.mark.parametrize(('mutual_information', 'block'), [(False, None), (True, (4, 8))])
def test_uncertainty_is_that_of_one_mask_and_pixel_at_a_time(
    made, mutual_information, block, monkeypatch
):
    features, weight, bias, kept = made
    if block is not None:
        monkeypatch.setattr(mc_dropout, '_PIXELS', block[0])
        monkeypatch.setattr(mc_dropout, '_NUMBERS', block[0] * K * 2)
    found = dropout_uncertainty(
        features, weight * kept[:, None] / (1 - RATE), bias, mutual_information=mutual_information
    )
    for image, values in zip(features, found):
        for pixel, value in zip(image.T, values):
            p = torch.stack(
                [torch.softmax(weight @ (pixel * mask / (1 - RATE)) + bias, 0) for mask in kept]
            ).double()
            wanted = -(p.mean(0) * p.mean(0).log()).sum()
            if mutual_information:
                wanted += (p * p.log()).sum(1).mean()
            assert value.item() == pytest.approx(wanted.item(), abs=1e-5)


def test_masked_weights_are_dropout2d_before_the_classifier():
    torch.manual_seed(0)
    features, classify = torch.rand(1, C, 3, 5) + 0.1, torch.nn.Conv2d(C, K, 1)
    dropped = torch.nn.Dropout2d(RATE).train()(features)
    kept = dropped.flatten(2).amax(2) > 0  # (1, C): a channel is dropped at every pixel or at none
    assert kept.any()
    assert not kept.all()
    weights = classify.weight.flatten(1) * kept[:, None] / (1 - RATE)
    with torch.no_grad():
        logits = classify(dropped).flatten(2)
        wanted = -(logits.softmax(1) * logits.log_softmax(1)).sum(1)
        found = dropout_uncertainty(
            features.flatten(2), weights, classify.bias, mutual_information=False
        )
    torch.testing.assert_close(found, wanted)


def test_one_mask_holds_no_information(made):
    features, weight, bias, kept = made
    found = dropout_uncertainty(features, weight * kept[:1, None], bias, mutual_information=True)
    assert found.abs().max() < 1e-5
    assert (found >= 0).all()
