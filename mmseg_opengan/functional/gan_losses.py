"""The two losses of OpenGAN, on raw discriminator logits.

A discriminator logit is log-odds of *closed* (D(x) = sigmoid(logit) = p(closed), paper section
3.1), so the open score of a pixel is -logit. Every loss is a dict of named terms; their sum is what
is minimised.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

REDUCTIONS = ('batch', 'term')
GENERATOR_LOSSES = ('non_saturating', 'minimax')


def discriminator_loss(
    closed: Tensor,
    open_: Tensor,
    fake: Tensor,
    *,
    lambda_open: float = 1.0,
    lambda_fake: float = 0.2,
    reduction: str = 'term',
) -> dict[str, Tensor]:
    r"""Eq. 2 of the paper, negated, for the discriminator.

    .. math:: -E_{closed} \log D(x) - \lambda_o E_{open} \log(1 - D(x)) - \lambda_G E_{z} \log(1 -
    D(G(z)))

    Args:
        closed, open_, fake: (n,) raw logits of each group; an empty group has no term.
        lambda_open: :math:`\lambda_o`.
        lambda_fake: :math:`\lambda_G`, in {.05, ..., .90} in the paper.
        reduction: ``'term'`` averages each group by itself, as Eq. 2 does (weights 1 : lambda_o :
            lambda_G); ``'batch'`` averages over all pixels together, as the authors' notebook does
            (with 5,000 / 2,500 / 2,500
            pixels 2 : lambda_o : lambda_G, over 4). Values of lambda_G do not compare between the
            two.

    Returns:
        dict: ``loss_closed``, ``loss_open``, ``loss_fake``, those whose group has pixels.
    """
    total = closed.numel() + open_.numel() + fake.numel()
    groups = (
        ('loss_closed', softplus(-closed), 1.0),
        ('loss_open', softplus(open_), lambda_open),
        ('loss_fake', softplus(fake), lambda_fake),
    )
    return {
        name: weight * values.sum() / (total if reduction == 'batch' else values.numel())
        for name, values, weight in groups
        if values.numel()
    }


def generator_loss(fake: Tensor, *, kind: str = 'non_saturating') -> dict[str, Tensor]:
    """What the generator minimises, so that its features pass as closed.

    Args:
        fake: (n,) raw logits of generated features.
        kind: ``'non_saturating'``, -E log D(G(z)); ``'minimax'``, E log(1 - D(G(z))) (Eq. 1).
    """
    values = softplus(-fake) if kind == 'non_saturating' else -softplus(fake)
    return {'loss_generator': values.mean()}


def mean_closed_probability(logits: Tensor) -> Tensor:
    """Mean D(x) of a group, in [0, 1]: the number to watch while a GAN trains."""
    return torch.sigmoid(logits.detach().float()).mean()
