"""Which pixels make a training batch: 5,000 closed, 2,500 cached open, 2,500 generated (paper
section 7).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from mmseg.registry import TASK_UTILS
from torch import Tensor, from_numpy

from ..functional.pixels import choose_closed, choose_image, choose_open, step_rng

# Independent random streams of one step; choose_image uses stream 0.
_CLOSED, _OPEN, _NOISE = 1, 2, 3


@TASK_UTILS.register_module()
class PixelSampler:
    """Draws the pixels of each step as a pure function of (seed, step), so that resuming is exact.

    Void pixels are never drawn: whoever owns the pixels counts closed and open ones only.

    Args:
        num_closed: closed pixels per batch (paper: 5,000).
        num_open: cached open pixels per batch (paper: 2,500); 0 for OpenGAN-0.
        num_fake: generated pixels per batch (paper: 2,500); 0 for CLS.
        closed_images_per_batch: images that give the closed pixels; 1 is the paper's, ``'all'``
            draws from every stored image at once. D's batch norm sees the difference.
    """

    def __init__(
        self,
        *,
        num_closed: int = 5000,
        num_open: int = 2500,
        num_fake: int = 2500,
        closed_images_per_batch: int | Literal['all'] = 1,
    ):
        numbers = dict(
            num_closed=num_closed,
            num_open=num_open,
            num_fake=num_fake,
        )
        for name, value in numbers.items():
            if not isinstance(value, int) or value < 0:
                raise ValueError(f'{name}: wanted a whole number >= 0, found {value!r}')
        per_batch = closed_images_per_batch
        if per_batch != 'all' and not (isinstance(per_batch, int) and per_batch >= 1):
            raise ValueError(
                f"closed_images_per_batch: wanted a number >= 1 or 'all', found {per_batch!r}"
            )
        self.num_closed = num_closed
        self.num_open = num_open
        self.num_fake = num_fake
        self.closed_images_per_batch = closed_images_per_batch

    def at(self, seed: int, step: int) -> 'PixelDraw':
        """The draw of one step."""
        return PixelDraw(self, seed, step)


@dataclass(frozen=True)
class PixelDraw:
    """Every random choice of one training step."""

    sampler: PixelSampler
    seed: int
    step: int

    def images(self, num_images: int) -> np.ndarray:
        """Indices of the images that give the closed pixels; every image once an epoch, in shuffled
        order.
        """
        per_step = self.sampler.closed_images_per_batch
        if per_step == 'all':
            return np.arange(num_images)
        return choose_image(num_images, self.step, self.seed, per_step)

    def closed(self, available: int) -> np.ndarray:
        """(num_closed,) indices into the ``available`` closed pixels of this step's images."""
        rng = step_rng(self.seed, self.step, _CLOSED)
        return choose_closed(available, self.sampler.num_closed, rng)

    def open(self, available: int) -> np.ndarray:
        """(num_open,) indices into the ``available`` cached open pixels."""
        return choose_open(available, self.sampler.num_open, step_rng(self.seed, self.step, _OPEN))

    def noise(self, channels: int) -> tuple[Tensor, Tensor]:
        """Standard normal z for D's and for G's phase, each (num_fake, channels) float32."""
        rng = step_rng(self.seed, self.step, _NOISE)
        noise = rng.standard_normal((2, self.sampler.num_fake, channels), dtype=np.float32)
        return from_numpy(noise[0]), from_numpy(noise[1])
