"""Folded layers against the layers one by one, and what does not fold."""

import pytest
import torch
from torch import nn

from mmseg_opengan.models.folding import apply_folded, fold


def shaken_norm(channels, **options):
    norm = nn.BatchNorm1d(channels, **options)
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.2, 3)
        if norm.affine:
            norm.weight.uniform_(-2, 2)
            norm.bias.normal_()
    return norm


@pytest.mark.parametrize(
    ('layers', 'products'),
    [
        (lambda: [nn.Linear(6, 5)], 1),
        (lambda: [nn.Linear(6, 5, bias=False), shaken_norm(5)], 1),
        (
            lambda: [
                nn.Linear(6, 5),
                shaken_norm(5, affine=False),
                nn.LeakyReLU(0.3),
                nn.Linear(5, 2),
            ],
            2,
        ),
        (lambda: [shaken_norm(6), nn.Linear(6, 5), nn.ReLU(), shaken_norm(5), nn.Linear(5, 2)], 2),
        (
            lambda: [
                nn.Linear(6, 5),
                shaken_norm(5),
                shaken_norm(5),
                nn.Dropout(0.5),
                nn.Identity(),
                nn.ReLU(),
            ],
            1,
        ),
        (lambda: [nn.Linear(6, 5), nn.Linear(5, 4), nn.LeakyReLU(inplace=True)], 2),
    ],
)
def test_folded_layers_equal_the_layers(layers, products):
    torch.manual_seed(0)
    network = nn.Sequential(*layers()).eval()
    rows = torch.randn(9, 6)
    with torch.no_grad():
        folded = fold(network)
        assert len(folded) == products
        found = apply_folded(folded, rows.t()[None, :, :, None])[0, :, :, 0]
        torch.testing.assert_close(found, network(rows).t(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    'layers',
    [
        lambda: [],
        lambda: [nn.ReLU()],
        lambda: [shaken_norm(6)],
        lambda: [nn.Linear(6, 5), nn.Tanh()],
        lambda: [nn.Linear(6, 5), nn.BatchNorm1d(5, track_running_stats=False)],
        lambda: [nn.Linear(6, 5), nn.ReLU(), shaken_norm(5)],  # no linear layer to go into
        lambda: [nn.Linear(6, 5), nn.ReLU(), shaken_norm(5), nn.ReLU(), nn.Linear(5, 2)],
    ],
)
def test_what_does_not_fold(layers):
    assert fold(nn.Sequential(*layers()).eval()) is None


def test_training_mode_and_hooks_do_not_fold():
    layer = nn.Linear(6, 5)
    assert fold([layer]) is None
    assert len(fold([layer.eval()])) == 1
    layer.register_forward_hook(lambda *args: None)
    assert fold([layer]) is None
