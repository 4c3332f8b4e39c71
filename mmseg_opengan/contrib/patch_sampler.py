"""Which images and which of their pixels make a batch where D reads images (paper section 7)."""

from dataclasses import dataclass

import numpy as np
from mmseg.registry import TASK_UTILS
from torch import Tensor, from_numpy

from ..features.pixel_sampler import PixelDraw, PixelSampler
from ..functional.pixels import choose_closed, step_rng
from ..models.options import check_whole

_OPEN_IMAGES, _CROPS, _FAKES, _IMAGE_NOISE = 4, 5, 6, 7  # random streams beside those of PixelDraw


@TASK_UTILS.register_module()
class PatchSampler(PixelSampler):
    """Draws images, crops, pixels and noise of each step as a pure function of (seed, step).

    Section 7 feeds D one random real image, penalised on 5,000 of its closed and 2,500 of its open
    pixels, and one generated image, penalised on 2,500 of its pixels. Where few images have open
    pixels to train on, most steps of that
    kind would see none: ``open_images_per_batch`` adds images that are drawn from those with open
    pixels.

    Args:
        num_closed, num_open, num_fake: pixels penalised per step, as in :class:`PixelSampler`.
        closed_images_per_batch: real images per step, drawn from all training images.
        open_images_per_batch: further real images, drawn from those whose open pixels may be
            trained on. 0 is the paper's text.
        crop_size: (height, width) of a random crop that stands for each real image; None takes
            whole images (the paper's text). A crop of an image that was drawn for its open pixels
            holds one of them. 64x64 for OpenGAN-0, whose generator makes patches of that size.
        fake_images: generated images per step.
        fake_grid: (r, c) of the noise, which makes them 16 (r + 3) x 16 (c + 3) pixels.

    Raises:
        ValueError: an option that is no such number.
    """

    def __init__(
        self,
        *,
        num_closed: int = 5000,
        num_open: int = 2500,
        num_fake: int = 2500,
        closed_images_per_batch: int = 1,
        open_images_per_batch: int = 1,
        crop_size: tuple[int, int] | None = None,
        fake_images: int = 1,
        fake_grid: tuple[int, int] = (13, 13),
    ):
        if closed_images_per_batch == 'all':
            raise ValueError(
                "closed_images_per_batch='all': wanted a number of images, which D reads at "
                'every step'
            )
        super().__init__(
            num_closed=num_closed,
            num_open=num_open,
            num_fake=num_fake,
            closed_images_per_batch=closed_images_per_batch,
        )
        if not isinstance(open_images_per_batch, int) or open_images_per_batch < 0:
            raise ValueError(
                'open_images_per_batch: wanted a whole number >= 0, found '
                f'{open_images_per_batch!r}'
            )
        check_whole(fake_images=fake_images)
        _check_size('fake_grid', fake_grid)
        if crop_size is not None:
            _check_size('crop_size', crop_size)
        self.open_images_per_batch = open_images_per_batch
        self.crop_size = None if crop_size is None else tuple(crop_size)
        self.fake_images = fake_images
        self.fake_grid = tuple(fake_grid)

    def at(self, seed: int, step: int) -> 'PatchDraw':
        return PatchDraw(self, seed, step)


def _check_size(name: str, size) -> None:
    """Raise a ValueError unless a size is two whole numbers."""
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        raise ValueError(f'{name}: wanted (rows, columns), found {size!r}')
    check_whole(**{f'{name}[{i}]': number for i, number in enumerate(size)})


@dataclass(frozen=True)
class PatchDraw(PixelDraw):
    """Every random choice of one training step."""

    sampler: PatchSampler

    def open_images(self, num_images: int) -> np.ndarray:
        """Indices of the images drawn from those with open pixels."""
        wanted = min(self.sampler.open_images_per_batch, num_images)
        return step_rng(self.seed, self.step, _OPEN_IMAGES).choice(
            num_images, wanted, replace=False
        )

    def crops(self, sizes, hold) -> list[tuple[slice, slice]]:
        """The part of each real image that stands for it, uniformly drawn among those that are
        asked for.

        Args:
            sizes: (H, W) of each image.
            hold: for each image, pixels (n, 2) as (row, column) of which its crop holds a random
                one; none where n = 0.

        Raises:
            ValueError: an image is smaller than the crop.
        """
        rng = step_rng(self.seed, self.step, _CROPS)
        crop = self.sampler.crop_size
        if crop is None:
            return [(slice(None), slice(None)) for _ in sizes]
        parts = []
        for (height, width), pixels in zip(sizes, hold):
            last = np.array([height - crop[0], width - crop[1]])
            if (last < 0).any():
                raise ValueError(
                    f'crop_size: wanted at most the size of an image, {height}x{width}, '
                    f'found {crop}'
                )
            lowest = np.zeros(2, np.int64)
            highest = last
            if len(pixels):
                pixel = pixels[rng.integers(len(pixels))]
                lowest = np.maximum(pixel - crop + 1, 0)
                highest = np.minimum(pixel, last)
            top, left = rng.integers(lowest, highest, endpoint=True)
            parts.append((slice(top, top + crop[0]), slice(left, left + crop[1])))
        return parts

    def fake(self, available: int) -> tuple[np.ndarray, np.ndarray]:
        """(num_fake,) indices into the ``available`` generated pixels, for D's and for G's
        phase.
        """
        rng = step_rng(self.seed, self.step, _FAKES)
        return tuple(choose_closed(available, self.sampler.num_fake, rng) for _ in range(2))

    def noise(self, channels: int) -> tuple[Tensor, Tensor]:
        """Standard normal z for D's and for G's phase, each (fake_images, channels, r, c)
        float32.
        """
        rng = step_rng(self.seed, self.step, _IMAGE_NOISE)
        shape = (2, self.sampler.fake_images, channels, *self.sampler.fake_grid)
        noise = rng.standard_normal(shape, dtype=np.float32)
        return from_numpy(noise[0]), from_numpy(noise[1])
