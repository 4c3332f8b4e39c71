"""A generator that weakens closed features instead of inventing features from nothing."""

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ..models.networks import FeatureGenerator


@MODELS.register_module()
class AttenuatingGenerator(FeatureGenerator):
    r"""G(z) = x * s(z): a real closed feature x, each channel weakened by a factor in (0, 1) that G
    learns.

    .. math:: s(z) = \mathrm{sigmoid}(z_1 + f(z)), \quad f: 64 \to 512 \to 256 \to 128 \to 256 \to C

    A segmentor is less sure of an unfamiliar object, and its features are weaker there. A G that
    begins near zero, or around the mean of the closed features, reaches the closed data too late or
    from directions in which no pixel lies; this one has the direction of a real pixel from the
    first step, and adversarial training moves only how much of each channel is left. Not in the
    paper, whose G sees noise alone; the loss is Eq. 2 all the same.

    The closed features are rows of the latest training step. They are a buffer, so that a
    checkpoint holds what its G generates, and G is called with noise alone as any other.

    Args:
        out_channels: channels of the tapped feature.
        num_reference: closed features kept; a larger batch of noise uses each several times.
        noise_channels, hidden, act, init: as in :class:`FeatureGenerator`.
    """

    def __init__(self, out_channels: int, *, num_reference: int = 1024, **options):
        if num_reference < 1:
            raise ValueError(f'num_reference: wanted at least 1, found {num_reference}')
        if 'out_act' in options:
            raise ValueError(
                'AttenuatingGenerator: wanted no out_act, since it ends in its sigmoid, found '
                f'{options["out_act"]!r}'
            )
        super().__init__(out_channels, **options)
        self.register_buffer('reference', torch.zeros(num_reference, out_channels))

    @torch.no_grad()
    def observe(self, closed: Tensor) -> None:
        """Keep the last rows of a step's closed features (n, C), repeated where they are few; none
        changes nothing.
        """
        if len(closed):
            rows = torch.arange(len(self.reference), device=closed.device) % len(closed)
            self.reference.copy_(closed.flip(0)[rows])

    def forward(self, noise: Tensor) -> Tensor:
        """(P, noise_channels) standard normal noise -> (P, C) generated features."""
        rows = torch.arange(len(noise), device=noise.device) % len(self.reference)
        return self.reference[rows] * torch.sigmoid(noise[:, :1] + self.layers(noise))
