"""BiGAN on pixel features: a GAN that learns the way back, with two scores."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..networks import frozen
from ..options import check_choices, check_positive, check_whole, check_widths
from .base import SCORERS, FitData, FittedScorer
from .training import draws, mean_and_deviation, mlp, score_pixels, seeded

_KINDS = ('discriminator', 'reconstruction')


@SCORERS.register_module()
class BiGAN(FittedScorer):
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
        latent: channels of z.
        hidden: widths of the hidden layers of E and D; G has them in reverse.
        steps, batch_size: of training; a batch has as many closed as generated features.
        lr: learning rate of Adam, betas (.5, .999), for all three networks.
        checkpoint: file that ``save_file`` wrote.
    """

    learned = ('mean_', 'std_')
    learned_modules = ('encoder_', 'generator_', 'discriminator_')
    mean_: Tensor
    std_: Tensor
    encoder_: nn.Module
    generator_: nn.Module
    discriminator_: nn.Module
    candidates = dict(steps=[250, 500, 1000, 2000])

    def __init__(
        self,
        *,
        kind: str = 'discriminator',
        latent: int = 32,
        hidden: tuple[int, ...] = (256, 128),
        steps: int = 1000,
        batch_size: int = 256,
        lr: float = 2e-4,
        checkpoint: str | None = None,
    ):
        super().__init__()
        check_choices(kind=(kind, _KINDS))
        check_whole(latent=latent, steps=steps, batch_size=batch_size)
        check_widths('hidden', hidden)
        check_positive(lr=lr)
        self.kind, self.latent, self.hidden = kind, latent, tuple(hidden)
        self.steps, self.batch_size, self.lr = steps, batch_size, lr
        self.load_file(checkpoint)

    @property
    def is_logit(self) -> bool:  # type: ignore[override]
        return self.kind == 'discriminator'

    def _networks(self, channels: int) -> tuple[nn.Module, nn.Module, nn.Module]:
        """E, G and D."""
        return (
            mlp(channels, *self.hidden, self.latent),
            mlp(self.latent, *reversed(self.hidden), channels),
            mlp(channels + self.latent, *self.hidden, 1),
        )

    def _fit(self, data: FitData) -> dict[str, Tensor]:
        mean, std = mean_and_deviation(data.features)
        features = (data.features - mean) / std
        with seeded(data.seed):
            networks = [
                network.to(features.device) for network in self._networks(features.shape[1])
            ]
        encoder, generator, discriminator = networks
        optimizers = [
            torch.optim.Adam(parameters, lr=self.lr, betas=(0.5, 0.999))
            for parameters in (
                discriminator.parameters(),
                [*encoder.parameters(), *generator.parameters()],
            )
        ]
        noise = torch.Generator().manual_seed(data.seed)
        for rows in draws(
            len(features), self.batch_size, steps=self.steps, seed=data.seed, name='BiGAN'
        ):
            x = features[rows]
            for player, optimizer in enumerate(optimizers):
                z = torch.randn(len(rows), self.latent, generator=noise).to(x)
                with torch.set_grad_enabled(
                    player == 1
                ):  # the first player is D, and needs no gradient of E and G
                    pairs = (x, encoder(x)), (generator(z), z)
                with torch.enable_grad(), frozen(discriminator) if player else nullcontext():
                    loss = bigan_losses(discriminator, *pairs)[player]
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self.encoder_, self.generator_, self.discriminator_ = networks
        return dict(mean_=mean, std_=std)

    def _score(self, features, logits):
        return score_pixels(self._pixel_scores, features)

    def _pixel_scores(self, features):
        features = (features - self.mean_) / self.std_
        code = self.encoder_(features)
        if self.kind == 'reconstruction':
            return (features - self.generator_(code)).abs().mean(1)
        return -self.discriminator_(torch.cat([features, code], 1))[:, 0]

    def _make_modules(self, state: dict[str, Tensor]) -> None:
        self.encoder_, self.generator_, self.discriminator_ = self._networks(len(state['mean_']))


def bigan_losses(
    discriminator: nn.Module, real: tuple[Tensor, Tensor], made: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """What D minimises, and what E and G minimise together.

    Args:
        real: features (n, C) and their codes E(x) (n, latent).
        made: generated features G(z) (n, C) and their noise z (n, latent).
    """
    of_real, of_made = (discriminator(torch.cat(pair, 1)) for pair in (real, made))
    return softplus(-of_real).mean() + softplus(of_made).mean(), softplus(
        of_real
    ).mean() + softplus(-of_made).mean()
