"""Eq. 1 and Eq. 2 of the paper against loops that write out every logarithm."""

import math

import pytest
import torch

from mmseg_opengan.functional.gan_losses import (
    discriminator_loss,
    generator_loss,
    mean_closed_probability,
)

EMPTY = torch.zeros(0)


def groups(seed=0, sizes=(8, 5, 3)):
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]


def log_d(logit):
    """log D(x), D(x) = 1 / (1 + exp(-logit))."""
    return math.log(1 / (1 + math.exp(-logit)))


def log_not_d(logit):
    return math.log(1 - 1 / (1 + math.exp(-logit)))


@pytest.mark.parametrize(('lambda_open', 'lambda_fake'), [(0.5, 0.9), (0.0, 0.2)])
def test_term_reduction_is_equation_2(lambda_open, lambda_fake):
    closed, open_, fake = groups()
    terms = discriminator_loss(
        closed, open_, fake, lambda_open=lambda_open, lambda_fake=lambda_fake, reduction='term'
    )
    slow = dict(
        loss_closed=-sum(log_d(x) for x in closed.tolist()) / 8,
        loss_open=-lambda_open * sum(log_not_d(x) for x in open_.tolist()) / 5,
        loss_fake=-lambda_fake * sum(log_not_d(x) for x in fake.tolist()) / 3,
    )
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(slow, rel=1e-9)


def test_batch_reduction_is_a_weighted_mean_over_all_pixels():
    """As the notebook: binary cross entropy of the concatenated batch, target 1 for closed,
    weighted by group.
    """
    lambda_open, lambda_fake = 0.5, 0.9
    closed, open_, fake = groups()
    pixels = [(x, 1, 1.0) for x in closed.tolist()]
    pixels += [(x, 0, lambda_open) for x in open_.tolist()] + [
        (x, 0, lambda_fake) for x in fake.tolist()
    ]
    slow = 0.0
    for logit, target, weight in pixels:
        slow -= weight * (target * log_d(logit) + (1 - target) * log_not_d(logit))
    terms = discriminator_loss(
        closed, open_, fake, lambda_open=lambda_open, lambda_fake=lambda_fake, reduction='batch'
    )
    assert sum(terms.values()).item() == pytest.approx(slow / len(pixels), rel=1e-9)
    oracle = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.cat([closed, open_, fake]),
        torch.tensor([float(t) for _, t, _ in pixels], dtype=torch.float64),
        weight=torch.tensor([w for *_, w in pixels], dtype=torch.float64),
    )
    assert sum(terms.values()).item() == pytest.approx(oracle.item(), rel=1e-9)


def test_the_two_reductions_weigh_groups_of_5000_2500_2500_as_documented():
    """batch = (2 closed + open + fake) / 4 of the per-group means."""
    sizes = groups(sizes=(50, 25, 25))
    term = discriminator_loss(*sizes, reduction='term')
    batch = discriminator_loss(*sizes, reduction='batch')
    for name, share in (('loss_closed', 2), ('loss_open', 1), ('loss_fake', 1)):
        assert batch[name].item() == pytest.approx(share / 4 * term[name].item(), rel=1e-9)


@pytest.mark.parametrize(
    ('reduction', 'missing'),
    [('term', (0,)), ('term', (1,)), ('batch', (2,)), ('batch', (0, 1, 2))],
)
def test_an_empty_group_has_no_term(reduction, missing):
    given = [EMPTY if i in missing else group for i, group in enumerate(groups())]
    names = [
        name for i, name in enumerate(('loss_closed', 'loss_open', 'loss_fake')) if i not in missing
    ]
    terms = discriminator_loss(*given, reduction=reduction)
    assert list(terms) == names
    assert all(math.isfinite(term) for term in terms.values())


def test_dropped_terms_are_not_refilled():
    """OpenGAN-0's and CLS's other terms stay as they are in Eq. 2."""
    closed, open_, fake = groups()
    everything = discriminator_loss(closed, open_, fake)
    opengan0 = discriminator_loss(closed, open_[:0], fake)
    assert all(opengan0[name] == everything[name] for name in ('loss_closed', 'loss_fake'))


@pytest.mark.parametrize('kind', ['non_saturating', 'minimax'])
def test_generator_losses(kind):
    fake = groups()[2]
    slow = {
        'non_saturating': -sum(log_d(x) for x in fake.tolist()) / 3,
        'minimax': sum(log_not_d(x) for x in fake.tolist()) / 3,
    }[kind]
    assert generator_loss(fake, kind=kind)['loss_generator'].item() == pytest.approx(slow, rel=1e-9)


@pytest.mark.parametrize('kind', ['non_saturating', 'minimax'])
def test_the_generator_wants_to_pass_as_closed(kind):
    fake = torch.zeros(4, requires_grad=True)
    generator_loss(fake, kind=kind)['loss_generator'].backward()
    assert (fake.grad < 0).all()  # a descent step raises D(G(z))


def test_the_discriminator_wants_the_opposite():
    given = [torch.zeros(4, requires_grad=True) for _ in range(3)]
    sum(discriminator_loss(*given).values()).backward()
    closed, open_, fake = (group.grad for group in given)
    assert (closed < 0).all()
    assert (open_ > 0).all()
    assert (fake > 0).all()


@pytest.mark.parametrize(('dtype', 'extreme'), [(torch.float32, 200.0), (torch.bfloat16, -200.0)])
def test_extreme_logits_stay_finite_with_finite_gradients(dtype, extreme):
    given = [torch.full((3,), extreme, dtype=dtype, requires_grad=True) for _ in range(3)]
    losses = list(discriminator_loss(*given).values())
    losses += [
        generator_loss(given[2], kind=kind)['loss_generator']
        for kind in ('non_saturating', 'minimax')
    ]
    assert all(torch.isfinite(loss) for loss in losses)
    sum(losses).backward()
    assert all(torch.isfinite(group.grad).all() for group in given)
    wrong = losses[1] if extreme > 0 else losses[0]
    assert wrong.item() == pytest.approx(200.0, rel=1e-2)  # linear where a sigmoid has saturated


def test_mean_closed_probability():
    logits = torch.tensor([-200.0, 0.0, 200.0], requires_grad=True)
    mean = mean_closed_probability(logits)
    assert mean.item() == pytest.approx(0.5)
    assert not mean.requires_grad
