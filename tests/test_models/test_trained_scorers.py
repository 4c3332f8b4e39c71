"""C2AE, BiGAN and the (K+1)-way classifier against slow written-out versions; the contract is in
test_scorers.py.
"""

import numpy as np
import pytest
import torch
from scorer_world import World
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmseg_opengan.functional.pixels import step_rng
from mmseg_opengan.functional.scores import energy
from mmseg_opengan.models.scorers import bigan, c2ae, kplus1, training
from mmseg_opengan.models.scorers.bigan import BiGAN, bigan_losses
from mmseg_opengan.models.scorers.c2ae import C2AE, ConditionalDecoder, OtherClass
from mmseg_opengan.models.scorers.kplus1 import KPlusOne, OpenClass, open_log_odds
from mmseg_opengan.models.scorers.training import draws, mlp


@pytest.fixture(scope='module')
def world():
    return World()


def pixels(world, scorer):
    """Standardised features of the first image's pixels, as a scorer sees them."""
    return (world.features[0].flatten(1).T - scorer.mean_) / scorer.std_


# ------------------------------------------------------------------ C2AE


def test_a_decoder_modulates_the_code_by_the_class():
    torch.manual_seed(0)
    decoder = ConditionalDecoder(3, channels=5)
    code = torch.randn(4, c2ae.LATENT)
    classes = torch.tensor([0, 2, 1, 2])
    for i, k in enumerate(classes.tolist()):
        condition = torch.full((3,), -1.0)
        condition[k] = 1.0
        modulated = decoder.gamma(condition) * code[i] + decoder.beta(condition)
        torch.testing.assert_close(decoder(code, classes)[i], decoder.layers(modulated))


def made(scorer, seed):
    """The scorer with networks as they are before training."""
    torch.manual_seed(seed)
    scorer._make(6, 3)
    return scorer


def standardised(world):
    features = world.data.features
    return (features - features.mean(0)) / features.std(0, correction=0)


def assert_same_weights(scorer, other):
    state = other.state_dict()
    for key, value in state.items():
        torch.testing.assert_close(scorer.state_dict()[key], value, rtol=1e-4, atol=1e-5)


def test_c2ae_training_is_the_written_out_one(world):
    """Two steps of the encoder, then two of the decoder, .9 |x - G(F(x), k)| + .1 |x' - G(F(x),
    k')|.
    """
    seed = world.data.seed
    labels = world.data.labels
    x = standardised(world)
    own = made(C2AE(), seed)
    parameters = [*own.encoder_.parameters(), *own.classifier_.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    for rows in draws(600, 512, steps=2, seed=seed):
        optimizer.zero_grad()
        cross_entropy(own.classifier_(own.encoder_(x[rows])), labels[rows]).backward()
        optimizer.step()
    optimizer = torch.optim.Adam(own.decoder_.parameters(), lr=1e-3)
    rng = step_rng(seed, 0, 2)
    for rows in draws(600, 512, steps=2, seed=seed, stream=1):
        others = OtherClass(labels).rows(labels[rows], rng)
        code = own.encoder_(x[rows]).detach()
        match = (x[rows] - own.decoder_(code, labels[rows])).abs().mean()
        other = (x[others] - own.decoder_(code, labels[others])).abs().mean()
        optimizer.zero_grad()
        (0.9 * match + 0.1 * other).backward()
        optimizer.step()
    assert_same_weights(C2AE(steps=2).fit(world.data), own)


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
        scorer = C2AE(condition=condition, steps=5).fit(world.data)
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
    scorer = C2AE(steps=150).fit(world.data)
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


def test_bigan_losses_are_the_written_out_ones_and_reach_each_player():
    scorer = made(BiGAN(), 0)
    encoder = scorer.encoder_
    generator = scorer.generator_
    discriminator = scorer.discriminator_
    features = torch.randn(8, 6)
    noise = torch.randn(8, bigan.LATENT)
    pairs = (features, encoder(features)), (generator(noise), noise)
    real, generated = (discriminator(torch.cat(pair, 1)) for pair in pairs)
    one = torch.ones(8, 1)
    zero = torch.zeros(8, 1)
    loss_of = binary_cross_entropy_with_logits
    of_d, of_eg = bigan_losses(discriminator, *pairs)
    torch.testing.assert_close(of_d, loss_of(real, one) + loss_of(generated, zero))
    torch.testing.assert_close(of_eg, loss_of(real, zero) + loss_of(generated, one))
    for loss, networks in ((of_d, [discriminator]), (of_eg, [encoder, generator])):
        parameters = [p for net in networks for p in net.parameters()]
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_bigan_training_is_the_written_out_one(world):
    own = made(BiGAN(), world.data.seed)
    features = standardised(world)
    encoder = own.encoder_
    generator = own.generator_
    discriminator = own.discriminator_
    noise = torch.Generator().manual_seed(world.data.seed)
    options = dict(lr=2e-4, betas=(0.5, 0.999))
    d = torch.optim.Adam(discriminator.parameters(), **options)
    eg = torch.optim.Adam([*encoder.parameters(), *generator.parameters()], **options)
    for rows in draws(600, bigan.BATCH, steps=3, seed=world.data.seed):
        x = features[rows]
        for optimizer in (d, eg):
            z = torch.randn(len(rows), bigan.LATENT, generator=noise)
            with torch.set_grad_enabled(optimizer is eg):
                code = encoder(x)
                generated = generator(z)
            pairs = (x, code), (generated, z)
            real, fake = (discriminator(torch.cat(pair, 1)) for pair in pairs)
            sign = 1 if optimizer is d else -1
            right = torch.sigmoid(sign * real), torch.sigmoid(-sign * fake)
            optimizer.zero_grad()
            (-right[0].log().mean() - right[1].log().mean()).backward()
            optimizer.step()
    assert_same_weights(BiGAN(steps=3).fit(world.data), own)


@pytest.mark.parametrize('kind', ['discriminator', 'reconstruction'])
def test_bigan_scores_are_the_written_out_ones(kind, world):
    scorer = BiGAN(kind=kind, steps=5).fit(world.data)
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
    scorer = BiGAN().fit(world.data)
    found = world.score(scorer)
    closed = found[~world.open_map]
    opened = found[world.open_map]
    assert (opened[:, None] > closed[None]).float().mean() > 0.95


# ------------------------------------------------------------------ K+1


def test_the_open_logit_is_the_log_odds_of_the_softmax():
    logits = 3 * torch.randn(2, 5, 3, 4, dtype=torch.float64)
    probability = torch.softmax(logits, 1)[:, -1]
    torch.testing.assert_close(open_log_odds(logits), torch.log(probability / (1 - probability)))
    assert torch.equal(OpenClass()(None, logits), open_log_odds(logits.float()))


def test_the_classifier_starts_from_the_segmentors_own(world):
    found = KPlusOne(steps=1).fit(world.data)(world.features, world.logits)
    torch.testing.assert_close(found, energy(world.logits), rtol=0, atol=0.03)


def test_the_classifier_is_multinomial_logistic_regression(world, monkeypatch):
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
    monkeypatch.setattr(kplus1, 'RATE', 0.02)
    monkeypatch.setattr(kplus1, 'BATCH', 400)
    ours = KPlusOne(steps=1000).fit(data)
    pooled = torch.cat([features, open_features])
    labels = torch.cat([data.labels, torch.full((100,), 3)])
    theirs = (
        LogisticRegression(C=1e6, max_iter=1000)
        .fit(pooled.numpy(), labels.numpy())
        .predict_proba(pooled)[:, 3]
    )
    found = torch.sigmoid(ours(pooled.T[None, :, None], torch.zeros(1, 3, 1, 400)))[0, 0].numpy()
    assert np.abs(found - theirs).max() < 0.05
    assert np.corrcoef(found, theirs)[0, 1] > 0.999


def test_open_fraction_is_the_share_of_open_pixels_in_a_batch():
    batches = list(KPlusOne(open_fraction=0.25, steps=3)._batches(600, 300, seed=0))
    shares = [((rows < 600).sum().item(), (rows >= 600).sum().item()) for rows in batches]
    assert shares == 3 * [(kplus1.BATCH * 3 // 4, kplus1.BATCH // 4)]


def test_without_open_pixels_there_is_no_open_class(world):
    with pytest.raises(ValueError, match='wanted open_features'):
        KPlusOne().fit(world.data._replace(open_features=None))


# ------------------------------------------------------------------ what they share


@pytest.mark.parametrize(
    ('scorer', 'options', 'message'),
    [
        (C2AE, dict(condition='mean'), "condition: wanted one of .*found 'mean'"),
        (BiGAN, dict(kind='both'), "kind: wanted one of .*found 'both'"),
        (KPlusOne, dict(open_fraction=1.0), r'open_fraction: wanted a number in \(0, 1\), found'),
    ],
)
def test_unknown_options_are_refused(scorer, options, message):
    with pytest.raises(ValueError, match=message):
        scorer(**options)


def test_fitting_leaves_the_global_random_stream_alone(world):
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    for scorer in (C2AE(steps=1), BiGAN(steps=1), KPlusOne(steps=1)):
        scorer.fit(world.data)
    assert torch.equal(torch.rand(3), wanted)


def test_a_channel_that_never_changes_has_deviation_one(world):
    features = world.data.features.clone()
    features[:, 2] = 4.0
    scorer = BiGAN(steps=1).fit(world.data._replace(features=features))
    assert scorer.mean_[2] == 4
    assert scorer.std_.tolist()[2] == 1


def test_pixels_are_scored_in_chunks_and_put_back_in_their_places(world, monkeypatch):
    scorer = BiGAN(steps=1).fit(world.data)
    wanted = world.score(scorer)
    monkeypatch.setattr(training, '_CHUNK', 7)
    torch.testing.assert_close(world.score(scorer), wanted)


def test_an_mlp_has_no_activation_at_its_end():
    network = mlp(4, 8, 3)
    assert [type(layer).__name__ for layer in network] == ['Linear', 'LeakyReLU', 'Linear']
