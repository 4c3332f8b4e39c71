"""BiGAN on pixel features: a GAN that learns the way back, with two scores."""

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import softplus

from ..networks import frozen
from ..options import check_choices, check_whole
from .base import SCORERS
from .training import NetworkScorer, descend, draws, mlp

_KINDS = ('discriminator', 'reconstruction')
LATENT = 32  # channels of z
HIDDEN = (256, 128)  # of E and D; G has them in reverse
BATCH = 256  # closed features, and as many generated ones


@SCORERS.register_module()
class BiGAN(NetworkScorer):
    r"""BiGAN_d and BiGAN_r of the paper's Table 2, trained on closed features alone.

    An encoder E, a generator G and a discriminator D of pairs play (Donahue et al., ICLR 2017)

    .. math:: \min_{G, E} \max_D \; E_x \log D(x, E(x)) + E_{z \sim N(0, 1)} \log(1 - D(G(z), z)),

    E and G with the non-saturating loss. Scores as in Zenati et al. (2018), who add the two up:
    ``'discriminator'`` (BiGAN_d) is minus D's logit of (x, E(x)), ``'reconstruction'`` (BiGAN_r)
    the mean absolute error of G(E(x)).

    Features are standardised channel by channel. A GAN's last state is usually not its best
    (section 8): ``steps`` are candidates, from which open validation chooses; fewer steps are the
    beginning of more.

    Args:
        kind: which score.
        steps: of training.
        checkpoint: file that ``save_file`` wrote.
    """

    candidates = dict(steps=[250, 500, 1000, 2000])

    def __init__(
        self, *, kind: str = 'discriminator', steps: int = 1000, checkpoint: str | None = None
    ):
        super().__init__()
        check_choices(kind=(kind, _KINDS))
        check_whole(steps=steps)
        self.kind = kind
        self.steps = steps
        self.load_file(checkpoint)

    @property
    def is_logit(self) -> bool:  # type: ignore[override]
        return self.kind == 'discriminator'

    def _make(self, channels, num_classes):
        self.encoder_ = mlp(channels, *HIDDEN, LATENT)
        self.generator_ = mlp(LATENT, *reversed(HIDDEN), channels)
        self.discriminator_ = mlp(channels + LATENT, *HIDDEN, 1)

    def _train(self, features, data):
        encoder = self.encoder_
        generator = self.generator_
        discriminator = self.discriminator_
        others = [*encoder.parameters(), *generator.parameters()]
        optimizers = [
            torch.optim.Adam(parameters, lr=2e-4, betas=(0.5, 0.999))
            for parameters in (discriminator.parameters(), others)
        ]
        noise = torch.Generator().manual_seed(data.seed)
        for rows in draws(
            len(features),
            BATCH,
            steps=self.steps,
            seed=data.seed,
            name='BiGAN',
        ):
            x = features[rows]
            for player, optimizer in enumerate(optimizers):
                z = torch.randn(len(rows), LATENT, generator=noise).to(x)
                # The first player is D, and needs no gradient of E and G.
                with torch.set_grad_enabled(player == 1):
                    pairs = (x, encoder(x)), (generator(z), z)
                with frozen(discriminator) if player else nullcontext():
                    loss = bigan_losses(discriminator, *pairs)[player]
                descend(optimizer, loss)

    def _score_pixels(self, features, logits):
        code = self.encoder_(features)
        if self.kind == 'reconstruction':
            return (features - self.generator_(code)).abs().mean(1)
        return -self.discriminator_(torch.cat([features, code], 1))[:, 0]


def bigan_losses(
    discriminator: Module, real: tuple[Tensor, Tensor], made: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """What D minimises, and what E and G minimise together.

    Args:
        real: features (n, C) and their codes E(x) (n, latent).
        made: generated features G(z) (n, C) and their noise z (n, latent).
    """
    of_real, of_made = (discriminator(torch.cat(pair, 1)) for pair in (real, made))
    of_d = softplus(-of_real).mean() + softplus(of_made).mean()
    of_others = softplus(of_real).mean() + softplus(-of_made).mean()
    return of_d, of_others
