"""C2AE, BiGAN and the (K+1)-way classifier against slow written-out versions; the contract is in
test_scorers.py.
"""

import numpy as np
import pytest
import torch
from scorer_world import World
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import binary_cross_entropy_with_logits

from mmseg_opengan.functional.scores import energy
from mmseg_opengan.models.scorers.bigan import BiGAN, bigan_losses
from mmseg_opengan.models.scorers.c2ae import C2AE, ConditionalDecoder, OtherClass, c2ae_loss
from mmseg_opengan.models.scorers.kplus1 import KPlusOne, OpenClass, open_log_odds
from mmseg_opengan.models.scorers.training import (
    draws,
    mean_and_deviation,
    mlp,
    score_pixels,
    seeded,
)

C2AE_OPTIONS = dict(latent=2, hidden=16, steps=30, batch_size=64, lr=1e-2)
BIGAN_OPTIONS = dict(latent=2, hidden=(16, 8), batch_size=32, lr=1e-2)


@pytest.fixture(scope='module')
def world():
    return World()


def pixels(world, scorer):
    """Standardised features of the first image's pixels, as a scorer sees them."""
    return (world.features[0].flatten(1).T - scorer.mean_) / scorer.std_


# ------------------------------------------------------------------ C2AE


def test_a_decoder_modulates_the_code_by_the_class():
    torch.manual_seed(0)
    decoder = ConditionalDecoder(3, latent=2, hidden=4, channels=5)
    code, classes = torch.randn(4, 2), torch.tensor([0, 2, 1, 2])
    for i, k in enumerate(classes.tolist()):
        condition = torch.full((3,), -1.0)
        condition[k] = 1.0
        modulated = decoder.gamma(condition) * code[i] + decoder.beta(condition)
        torch.testing.assert_close(decoder(code, classes)[i], decoder.layers(modulated))


def test_c2ae_loss_is_the_written_out_one():
    torch.manual_seed(0)
    decoder = ConditionalDecoder(3, latent=2, hidden=4, channels=5)
    code, features, others = torch.randn(6, 2), torch.randn(6, 5), torch.randn(6, 5)
    labels, other_labels = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([1, 2, 0, 2, 0, 1])
    wanted = 0
    for i in range(6):
        for c in range(5):
            match = abs(features[i, c] - decoder(code[i : i + 1], labels[i : i + 1])[0, c])
            other = abs(others[i, c] - decoder(code[i : i + 1], other_labels[i : i + 1])[0, c])
            wanted += (0.9 * match + 0.1 * other) / 30
    torch.testing.assert_close(
        c2ae_loss(decoder, code, features, labels, others, other_labels, 0.9), wanted
    )


def test_the_other_class_is_another_and_every_pixel_of_it_is_drawn():
    labels = torch.tensor([0, 4, 0, 2, 2, 2, 4])
    rows = OtherClass(labels).rows(torch.zeros(2000, dtype=torch.int64), np.random.default_rng(0))
    drawn, counts = rows.unique(return_counts=True)
    assert drawn.tolist() == [
        1,
        3,
        4,
        5,
        6,
    ]  # never a pixel of class 0, never one of classes that do not occur
    shares = dict(zip(drawn.tolist(), (counts / 2000).tolist()))
    assert all(
        abs(shares[row] - wanted) < 0.04
        for row, wanted in {1: 1 / 4, 6: 1 / 4, 3: 1 / 6, 4: 1 / 6}.items()
    )


def test_a_single_class_stands_for_the_other():
    rows = OtherClass(torch.full((5,), 3)).rows(torch.full((40,), 3), np.random.default_rng(0))
    assert set(rows.tolist()) == {0, 1, 2, 3, 4}


def test_c2ae_scores_are_reconstruction_errors_of_the_class(world):
    errors = {}
    for condition in ('predicted', 'minimum'):
        scorer = C2AE(condition=condition, **C2AE_OPTIONS).fit(world.data)
        found = scorer(world.features, world.logits)[0].flatten()
        for i, x in enumerate(pixels(world, scorer)):
            by_class = [
                (x - scorer.decoder_(scorer.encoder_(x[None]), torch.tensor([k]))[0]).abs().mean()
                for k in range(3)
            ]
            k = int(world.logits[0].flatten(1).T[i].argmax())
            torch.testing.assert_close(
                found[i], by_class[k] if condition == 'predicted' else min(by_class)
            )
        errors[condition] = found
    assert (errors['minimum'] <= errors['predicted']).all()


def test_c2ae_learns_to_rebuild_with_the_own_class_and_to_fail_with_others(world):
    scorer = C2AE(latent=2, hidden=32, steps=150, batch_size=64, lr=1e-2).fit(world.data)
    features = (world.data.features[:60] - scorer.mean_) / scorer.std_
    errors = torch.stack(
        [
            (features - scorer.decoder_(scorer.encoder_(features), torch.full((60,), k)))
            .abs()
            .mean(1)
            for k in range(3)
        ],
        1,
    )
    own = errors.gather(1, world.data.labels[:60, None])[:, 0]
    assert (errors.argmin(1) == world.data.labels[:60]).float().mean() > 0.95
    assert own.mean() < 0.5 * errors.sum(1).sub(own).div(2).mean()


# ------------------------------------------------------------------ BiGAN


def small_bigan():
    with seeded(0):
        return BiGAN(**BIGAN_OPTIONS)._networks(6)


def test_bigan_losses_are_the_written_out_ones_and_reach_each_player():
    encoder, generator, discriminator = small_bigan()
    features, noise = torch.randn(8, 6), torch.randn(8, 2)
    real = discriminator(torch.cat([features, encoder(features)], 1))
    made = discriminator(torch.cat([generator(noise), noise], 1))
    one, zero = torch.ones(8, 1), torch.zeros(8, 1)
    of_d, of_eg = bigan_losses(
        discriminator, (features, encoder(features)), (generator(noise), noise)
    )
    torch.testing.assert_close(
        of_d,
        binary_cross_entropy_with_logits(real, one) + binary_cross_entropy_with_logits(made, zero),
    )
    torch.testing.assert_close(
        of_eg,
        binary_cross_entropy_with_logits(real, zero) + binary_cross_entropy_with_logits(made, one),
    )
    for loss, networks in ((of_d, [discriminator]), (of_eg, [encoder, generator])):
        gradients = torch.autograd.grad(
            loss, [p for net in networks for p in net.parameters()], retain_graph=True
        )
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_bigan_training_is_the_written_out_one(world):
    scorer = BiGAN(steps=3, **BIGAN_OPTIONS).fit(world.data)
    with seeded(world.data.seed):
        encoder, generator, discriminator = BiGAN(**BIGAN_OPTIONS)._networks(6)
    mean, std = world.data.features.mean(0), world.data.features.std(0, correction=0)
    noise = torch.Generator().manual_seed(world.data.seed)
    d = torch.optim.Adam(discriminator.parameters(), lr=1e-2, betas=(0.5, 0.999))
    eg = torch.optim.Adam(
        [*encoder.parameters(), *generator.parameters()], lr=1e-2, betas=(0.5, 0.999)
    )
    for rows in draws(600, 32, steps=3, seed=world.data.seed):
        x = (world.data.features[rows] - mean) / std
        for optimizer in (d, eg):
            z = torch.randn(32, 2, generator=noise)
            with torch.set_grad_enabled(optimizer is eg):
                code, made = encoder(x), generator(z)
            real, fake = (discriminator(torch.cat(pair, 1)) for pair in ((x, code), (made, z)))
            sign = 1 if optimizer is d else -1
            loss = -(
                torch.sigmoid(sign * real).log().mean() + torch.sigmoid(-sign * fake).log().mean()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for own, other in (
        (scorer.encoder_, encoder),
        (scorer.generator_, generator),
        (scorer.discriminator_, discriminator),
    ):
        for key, value in own.state_dict().items():
            torch.testing.assert_close(value, other.state_dict()[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', ['discriminator', 'reconstruction'])
def test_bigan_scores_are_the_written_out_ones(kind, world):
    scorer = BiGAN(kind=kind, steps=5, **BIGAN_OPTIONS).fit(world.data)
    assert scorer.is_logit == (kind == 'discriminator')
    found = scorer(world.features, world.logits)[0].flatten()
    for i, x in enumerate(pixels(world, scorer)):
        code = scorer.encoder_(x)
        wanted = (
            (x - scorer.generator_(code)).abs().mean()
            if kind == 'reconstruction'
            else -scorer.discriminator_(torch.cat([x, code]))[0]
        )
        torch.testing.assert_close(found[i], wanted)


def test_bigans_discriminator_learns_that_larger_is_more_open(world):
    scorer = BiGAN(latent=2, hidden=(32, 32), steps=300, batch_size=32, lr=5e-3).fit(world.data)
    found = world.score(scorer)
    closed, opened = found[~world.open_map], found[world.open_map]
    assert (opened[:, None] > closed[None]).float().mean() > 0.95


# ------------------------------------------------------------------ K+1


def test_the_open_logit_is_the_log_odds_of_the_softmax():
    logits = 3 * torch.randn(2, 5, 3, 4, dtype=torch.float64)
    probability = torch.softmax(logits, 1)[:, -1]
    torch.testing.assert_close(open_log_odds(logits), torch.log(probability / (1 - probability)))
    assert torch.equal(OpenClass()(None, logits), open_log_odds(logits.float()))


def test_the_classifier_starts_from_the_segmentors_own(world):
    found = KPlusOne(steps=1, lr=1e-30).fit(world.data)(world.features, world.logits)
    torch.testing.assert_close(found, energy(world.logits))


def test_the_classifier_is_multinomial_logistic_regression(world):
    """Trained to the end on classes that overlap, it predicts what scikit-learn's does."""
    generator = torch.Generator().manual_seed(1)
    features, open_features = (
        one + 1.5 * torch.randn(one.shape, generator=generator)
        for one in (world.data.features[:300], world.data.open_features[:100])
    )
    data = world.data._replace(
        features=features,
        logits=world.data.logits[:300],
        labels=world.data.labels[:300],
        open_features=open_features,
    )
    ours = KPlusOne(steps=1000, batch_size=400, lr=0.02).fit(data)
    pooled, labels = (
        torch.cat([features, open_features]),
        torch.cat([data.labels, torch.full((100,), 3)]),
    )
    theirs = (
        LogisticRegression(C=1e6, max_iter=1000)
        .fit(pooled.numpy(), labels.numpy())
        .predict_proba(pooled)[:, 3]
    )
    found = torch.sigmoid(ours(pooled.T[None, :, None], torch.zeros(1, 3, 1, 400)))[0, 0].numpy()
    assert np.abs(found - theirs).max() < 0.05
    assert np.corrcoef(found, theirs)[0, 1] > 0.999


def test_open_fraction_is_the_share_of_open_pixels_in_a_batch():
    batches = list(KPlusOne(open_fraction=0.25, steps=3, batch_size=40)._batches(600, 300, seed=0))
    assert [(int((rows < 600).sum()), int((rows >= 600).sum())) for rows in batches] == [
        (30, 10)
    ] * 3


def test_without_open_pixels_there_is_no_open_class(world):
    with pytest.raises(ValueError, match='wanted open_features'):
        KPlusOne().fit(world.data._replace(open_features=None))


# ------------------------------------------------------------------ what they share


@pytest.mark.parametrize(
    ('scorer', 'options', 'message'),
    [
        (C2AE, dict(condition='mean'), "condition: wanted one of .*found 'mean'"),
        (C2AE, dict(alpha=2.0), r'alpha: wanted a number in \[0, 1\], found 2.0'),
        (BiGAN, dict(kind='both'), "kind: wanted one of .*found 'both'"),
        (
            KPlusOne,
            dict(open_fraction=1.0),
            'open_fraction: wanted None or a share between 0 and 1, found 1.0',
        ),
    ],
)
def test_unknown_options_are_refused(scorer, options, message):
    with pytest.raises(ValueError, match=message):
        scorer(**options)


def test_fitting_leaves_the_global_random_stream_alone(world):
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    for scorer in (
        C2AE(steps=1, batch_size=8),
        BiGAN(steps=1, batch_size=8),
        KPlusOne(steps=1, batch_size=8),
    ):
        scorer.fit(world.data)
    assert torch.equal(torch.rand(3), wanted)


def test_a_channel_that_never_changes_has_deviation_one():
    mean, deviation = mean_and_deviation(torch.tensor([[1.0, 2.0], [1.0, 4.0]]))
    assert mean.tolist() == [1, 3]
    assert deviation.tolist() == [1, 1]


def test_pixels_are_scored_in_chunks_and_put_back_in_their_places():
    first, second = torch.randn(2, 3, 4, 5), torch.randn(2, 2, 4, 5)
    found = score_pixels(lambda a, b: a[:, 0] + b[:, 1], first, second, chunk=7)
    assert torch.equal(found, first[:, 0] + second[:, 1])


def test_an_mlp_has_no_activation_at_its_end():
    network = mlp(4, 8, 3)
    assert [type(layer).__name__ for layer in network] == ['Linear', 'LeakyReLU', 'Linear']
