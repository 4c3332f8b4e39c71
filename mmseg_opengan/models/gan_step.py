"""One step of D, then one of G: what trains every OpenGAN of this package. It needs torch alone.

Shapes: n rows, (n, C) features, (n,) logits of D, log-odds of closed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..functional.gan_losses import discriminator_loss, generator_loss, mean_closed_probability
from .networks import frozen


def gan_step(
    networks: tuple[nn.Module, nn.Module | None],
    optimizers: Mapping[str, Any],
    noise: Sequence[Tensor],
    logits_of_groups: Callable[[Tensor | None], Sequence[Tensor]],
    logits_of_made: Callable[[nn.Module, Tensor], Tensor],
    *,
    loss_options: Mapping[str, Any],
    kind: str,
) -> dict[str, Tensor]:
    """One update of D and, where there is one, of G.

    Args:
        networks: D, and G or None; each may be wrapped for several processes.
        optimizers: ``discriminator`` and ``generator``, each with ``optim_context`` and
            ``update_params`` of mmengine's ``OptimWrapper``.
        noise: z of D's and of G's phase; not looked at without a G.
        logits_of_groups: from what G made of D's noise, or None, to D's logits of closed, open and
            generated rows, with their graph.
        logits_of_made: from a D that stays as it is and what G made anew to its logits.
        loss_options: of :func:`functional.gan_losses.discriminator_loss`.
        kind: of :func:`functional.gan_losses.generator_loss`.

    Returns:
        dict: every loss term, and the mean D(x) of each group that has rows.
    """
    discriminator, generator = networks
    made = None
    if generator is not None:
        with torch.no_grad():
            made = generator(noise[0]).float()
    optimizer = optimizers['discriminator']
    with optimizer.optim_context(discriminator):
        logits = logits_of_groups(made)
        terms = discriminator_loss(*logits, **loss_options)
        loss: Any = sum(terms.values())
    optimizer.update_params(loss)
    log = {name: term.detach() for name, term in terms.items()}
    log['loss_discriminator'] = loss.detach()
    for name, group in zip(('closed', 'open', 'fake'), logits):
        if len(group):
            log[f'D_{name}'] = mean_closed_probability(group)
    if generator is None:
        return log
    network: Any = getattr(discriminator, 'module', discriminator)
    optimizer = optimizers['generator']
    with optimizer.optim_context(generator), frozen(network):
        terms = generator_loss(logits_of_made(network, generator(noise[1])), kind=kind)
        loss = sum(terms.values())
    optimizer.update_params(loss)
    log.update({name: term.detach() for name, term in terms.items()})
    return log


def logits_of_rows(
    discriminator: nn.Module, closed: Tensor, open_: Tensor, made: Tensor | None
) -> Sequence[Tensor]:
    """D's logits of closed, open and generated rows, by one forward of all."""
    groups = (closed, open_, closed[:0] if made is None else made)
    return discriminator(torch.cat(groups)).split([len(group) for group in groups])
