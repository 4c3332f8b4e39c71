"""D and G against a written-out numpy forward pass, their sizes and options, and ``frozen``."""

import io

import numpy as np
import pytest
import torch
from torch import nn

from mmseg_opengan.functional.pixels import pixels_first
from mmseg_opengan.models.networks import (
    FeatureDiscriminator,
    FeatureGenerator,
    discriminate,
    frozen,
)


def slow_forward(network: nn.Sequential, rows: np.ndarray, training: bool) -> np.ndarray:
    """Every layer in float64 as its definition has it."""
    for layer in network:
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach().double().numpy()
            bias = layer.bias.detach().double().numpy()
            rows = np.stack(
                [[float(np.dot(w, row)) + b for w, b in zip(weight, bias)] for row in rows]
            )
        elif isinstance(layer, nn.BatchNorm1d):
            mean = rows.mean(0) if training else layer.running_mean.double().numpy()
            var = ((rows - mean) ** 2).mean(0) if training else layer.running_var.double().numpy()
            rows = (rows - mean) / np.sqrt(var + layer.eps)
            rows = (
                rows * layer.weight.detach().double().numpy() + layer.bias.detach().double().numpy()
            )
        elif isinstance(layer, nn.LeakyReLU):
            rows = np.where(rows > 0, rows, 0.2 * rows)
        elif isinstance(layer, nn.ReLU):
            rows = np.where(rows > 0, rows, 0)
        elif isinstance(layer, nn.Tanh):
            rows = np.tanh(rows)
        else:
            assert isinstance(layer, nn.Identity)
    return rows


def shaken(network):
    """Weights, biases and running statistics away from their initial values."""
    for i, values in enumerate([*network.parameters(), *network.buffers()]):
        if values.is_floating_point():
            torch.manual_seed(i)
            values.data.copy_(
                torch.rand_like(values) + 0.5 if values.dim() == 1 else torch.randn_like(values) / 3
            )
    return network


def state_of(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def assert_same_state(network, before):
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('first_bn', [True, False])
def test_discriminator_equals_the_slow_forward_pass(first_bn, training):
    network = FeatureDiscriminator(7, hidden=(12, 8, 6), first_bn=first_bn)
    shaken(network).train(training)
    rows = torch.randn(9, 7)
    found = network(rows)
    assert found.shape == (9,)
    expected = slow_forward(network.layers, rows.double().numpy(), training)[:, 0]
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('options', 'training'),
    [
        (dict(), True),
        (dict(), False),
        (dict(act='relu', out_act='tanh'), False),
        (dict(out_act='relu'), False),
    ],
)
def test_generator_equals_the_slow_forward_pass(options, training):
    network = shaken(
        FeatureGenerator(
            7,
            noise_channels=5,
            hidden=(12, 6, 8),
            **options,
        )
    ).train(training)
    noise = torch.randn(9, 5)
    expected = slow_forward(network.layers, noise.double().numpy(), training)
    np.testing.assert_allclose(network(noise).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_sizes_of_the_paper():
    """512-256-128-64-1 and 512-256-128-256, about 2 MB each for 720-d features (section 6.1)."""
    networks = FeatureDiscriminator(720), FeatureGenerator(720)
    linears = [
        [(m.in_features, m.out_features) for m in net.modules() if isinstance(m, nn.Linear)]
        for net in networks
    ]
    assert linears == [
        [(720, 512), (512, 256), (256, 128), (128, 64), (64, 1)],
        [(64, 512), (512, 256), (256, 128), (128, 256), (256, 720)],
    ]
    d, g = (
        sum(v.numel() * v.element_size() for v in net.state_dict().values()) / 1e6
        for net in networks
    )
    assert d == pytest.approx(2.2, abs=0.1)
    assert g == pytest.approx(1.7, abs=0.1)


@pytest.mark.parametrize('network', [FeatureDiscriminator(720), FeatureGenerator(720)])
def test_normal_initialisation(network):
    weights = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.Linear)])
    assert weights.mean().item() == pytest.approx(0, abs=1e-3)
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    scales = torch.cat([m.weight for m in network.modules() if isinstance(m, nn.BatchNorm1d)])
    assert scales.mean().item() == pytest.approx(1, abs=0.01)
    assert scales.std().item() == pytest.approx(0.02, rel=0.2)
    assert all(
        (m.bias == 0).all() for m in network.modules() if isinstance(m, nn.Linear | nn.BatchNorm1d)
    )


def test_tanh_cannot_reach_features_beyond_one():
    noise = torch.randn(50, 64)
    torch.manual_seed(0)
    assert shaken(FeatureGenerator(7, out_act='tanh'))(noise).abs().max() <= 1
    assert shaken(FeatureGenerator(7, out_act='none'))(noise).abs().max() > 1
    assert shaken(FeatureGenerator(7, out_act='relu'))(noise).min() >= 0


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (
            lambda: FeatureGenerator(7, act='gelu'),
            r"act: wanted one of \('leaky_relu', 'relu'\), found 'gelu'",
        ),
        (
            lambda: FeatureGenerator(7, out_act='sigmoid'),
            r"out_act: wanted one of .*'tanh'.*found 'sigmoid'",
        ),
        (
            lambda: FeatureDiscriminator(7, hidden=()),
            r'hidden: wanted a list of widths, found \(\)',
        ),
    ],
)
def test_wrong_options(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize('shape', [(5, 8), (5, 7, 1), (7,)])
def test_wrong_features(shape):
    with pytest.raises(
        ValueError, match=r'wanted features of shape \(pixels, 7\), found .* set in_channels'
    ):
        FeatureDiscriminator(7)(torch.zeros(shape))


# ------------------------------------------------------------------ frozen and discriminate


def test_frozen_lets_gradients_through_and_changes_nothing():
    network = FeatureDiscriminator(7, hidden=(8, 6)).train()
    rows = torch.randn(20, 7, requires_grad=True)
    before = state_of(network)
    expected = None
    with frozen(network):
        found = network(rows)
        found.sum().backward()
    assert_same_state(network, before)
    assert rows.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    expected = network(rows)
    assert torch.equal(found, expected)  # batch statistics, as in ordinary training
    assert any(not torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_frozen_ends_with_an_error_too():
    network = FeatureDiscriminator(7, hidden=(8,))
    with pytest.raises(KeyError), frozen(network):
        raise KeyError
    assert all(p.requires_grad for p in network.parameters())
    assert network.layers[1].track_running_stats


def test_frozen_leaves_what_was_frozen_before():
    network = FeatureDiscriminator(7, hidden=(8,))
    network.layers[0].weight.requires_grad_(False)
    with frozen(network):
        pass
    assert not network.layers[0].weight.requires_grad


@pytest.mark.parametrize('size', [(3, 4), (3, 700), (1, 1500)])
def test_discriminate_is_the_network_at_every_pixel(size):
    """Also where a map is cut into strips, and where one row is longer than a strip."""
    network = shaken(FeatureDiscriminator(5, hidden=(8,))).eval()
    features = torch.randn(2, 5, *size)
    found = discriminate(network, features)
    assert found.shape == (2, *size)
    for n, i, j in ((0, 0, 0), (0, -1, 2), (1, 0, -1), (1, -1, 1)):
        torch.testing.assert_close(found[n, i, j], network(features[n, :, i, j][None])[0])


@pytest.mark.parametrize(
    'options', [dict(hidden=(32, 16, 12)), dict(hidden=(32, 16), first_bn=False)]
)
def test_folded_batch_norms_change_nothing(options):
    network = shaken(FeatureDiscriminator(20, **options)).eval()
    assert len(network.folded()) == len(options['hidden']) + 1
    features = torch.randn(2, 20, 6, 11)
    before = features.clone(), state_of(network)
    found = discriminate(network, features)
    expected = network(pixels_first(features)).view(2, 6, 11)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert torch.equal(features, before[0])
    assert_same_state(network, before[1])


def test_folded_weights_are_never_stale():
    network = shaken(FeatureDiscriminator(5, hidden=(8,))).eval()
    features = torch.randn(1, 5, 3, 4)
    first = discriminate(network, features)
    network(torch.randn(4, 5))
    assert torch.equal(discriminate(network, features), first)
    network.train()(torch.randn(50, 5) + 3)  # the running statistics follow
    expected = network.eval()(pixels_first(features)).view(1, 3, 4)
    torch.testing.assert_close(discriminate(network, features), expected)
    assert (expected - first).abs().max() > 0.01


def test_a_discriminator_that_does_not_fold_runs_as_it_is():
    class Doubled(FeatureDiscriminator):
        def forward(self, features):
            return 2 * super().forward(features)

    features = torch.randn(1, 5, 3, 4)
    doubled = shaken(Doubled(5, hidden=(8,))).eval()
    training = shaken(FeatureDiscriminator(5, hidden=(8,))).train()
    spectral = shaken(FeatureDiscriminator(5, hidden=(8,))).eval()
    nn.utils.parametrizations.spectral_norm(spectral.layers[0])
    for network in (doubled, training, spectral.eval()):
        assert network.folded() is None
        torch.testing.assert_close(
            discriminate(network, features).flatten(), network(pixels_first(features))
        )


class Discriminated(nn.Module):
    """What is recorded of ``discriminate``."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, features):
        return discriminate(self.network, features)


@pytest.mark.parametrize('folds', [True, False])
def test_a_recorded_graph_holds_for_maps_of_any_size(folds):
    network = shaken(FeatureDiscriminator(5, hidden=(8,))).eval()
    if not folds:
        nn.utils.parametrizations.spectral_norm(network.layers[0])
    network.eval()
    traced = torch.jit.trace(Discriminated(network), torch.randn(1, 5, 3, 4))
    larger = torch.randn(2, 5, 300, 11)
    torch.testing.assert_close(traced(larger), discriminate(network, larger))


def test_the_classic_onnx_exporter_records_discriminate():
    pytest.importorskip('onnx', reason='needs the extra "export"')
    runtime = pytest.importorskip('onnxruntime', reason='needs the extra "export"')
    network = shaken(FeatureDiscriminator(5, hidden=(8,))).eval()
    file = io.BytesIO()
    torch.onnx.export(
        Discriminated(network).eval(),
        (torch.randn(1, 5, 3, 4),),
        file,
        dynamo=False,
        input_names=['features'],
        output_names=['logits'],
        dynamic_axes=dict(features={0: 'batch', 2: 'rows', 3: 'columns'}),
    )
    features = torch.randn(2, 5, 50, 30)
    session = runtime.InferenceSession(file.getvalue())
    (found,) = session.run(None, dict(features=features.numpy()))
    torch.testing.assert_close(torch.from_numpy(found), discriminate(network, features))


def test_wrong_channels_are_named_in_maps_too():
    with pytest.raises(
        ValueError, match=r'wanted features of shape \(pixels, 7\), found \(12, 8\)'
    ):
        discriminate(FeatureDiscriminator(7).eval(), torch.zeros(1, 8, 3, 4))
