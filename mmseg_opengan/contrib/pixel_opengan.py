"""OpenGAN on pixels: D reads the image, G makes images, and the segmentor only gives the closed
map.
"""

import torch
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from ..contracts import CLOSED, OPENGAN, VOID
from ..models.opengan import OpenGANSegmentor, _unwrap
from ..models.score_maps import at_size
from .pixel_networks import open_map


@MODELS.register_module()
class PixelOpenGANSegmentor(OpenGANSegmentor):
    """OpenGAN-pix, OpenGAN-0-pix and CLS-pix of the paper (sections 6.2 and 7): Eq. 2 on the pixels
    of images.

    Losses, optimizers, checkpoints and model selection are those of OpenGAN on features. The
    segmentor does not run in training. Options are :class:`OpenGANSegmentor`'s, with a
    :class:`PatchDiscriminator` and a :class:`PatchGenerator`.
    """

    @property
    def network_channels(self) -> int:
        """Channels of what D reads and G makes: an image's."""
        return 3

    def _build_fusion(self, options):
        raise ValueError('fuse: wanted a D on features, found one on images')

    def _score_by_discriminator(self, tap):
        return {}  # D reads no features

    def score_inputs(self, inputs, grid):
        maps = super().score_inputs(inputs, grid)
        if self.discriminator is not None:
            maps[OPENGAN] = at_size(
                open_map(_unwrap(self.discriminator), inputs), grid, self.align_corners
            )
        return maps

    def train_step(self, data: dict, optim_wrapper) -> dict[str, Tensor]:
        """One step of D, then one of G.

        Args:
            data: what an image source yields: ``draw`` (a :class:`PatchDraw`), raw images
                ``inputs`` and their ``open_maps``.
            optim_wrapper: as for :meth:`OpenGANSegmentor.train_step`.

        Returns:
            dict: as of :meth:`OpenGANSegmentor.train_step`.
        """
        draw = data['draw']
        self.discriminator_loaded = True
        device = next(self.discriminator.parameters()).device
        real = [self.normalise(image) for image in data['inputs']]
        labels = torch.cat([open_map.flatten() for open_map in data['open_maps']])
        closed, open_ = (
            (labels == CLOSED).nonzero()[:, 0],
            ((labels != CLOSED) & (labels != VOID)).nonzero()[:, 0],
        )
        closed = closed[torch.from_numpy(draw.closed(len(closed)))].to(device)
        open_ = open_[torch.from_numpy(draw.open(len(open_)))].to(device)
        fake = None
        if self.generator is not None:
            noise_d, noise_g = (
                z.to(device) for z in draw.noise(_unwrap(self.generator).noise_channels)
            )
            with torch.no_grad():
                fake = self.generator(noise_d).float()
            fakes = draw.fake(fake[:, 0].numel())

        def discriminate():
            maps = torch.cat(
                [
                    self._logits(image, open_map.shape)
                    for image, open_map in zip(real, data['open_maps'])
                ]
            )
            made = (
                maps[:0]
                if fake is None
                else self.discriminator(fake).flatten()[_on(fakes[0], device)]
            )
            return maps[closed], maps[open_], made

        log = self._step_discriminator(discriminate, optim_wrapper['discriminator'])
        log['empty_groups'] = torch.tensor(
            float(not len(closed)) + float(draw.sampler.num_open > 0 and not len(open_))
        )
        if fake is not None:
            log.update(
                self._step_generator(
                    lambda network: network(self.generator(noise_g)).flatten()[
                        _on(fakes[1], device)
                    ],
                    optim_wrapper['generator'],
                )
            )
        return log

    def _noise_shape(self, number):
        return -(-number // 64**2), _unwrap(self.generator).noise_channels, 1, 1  # images of 64x64

    def normalise(self, image: Tensor) -> Tensor:
        """A raw image (3, H, W) as it enters the segmentor, (1, 3, H', W'): normalised, and padded
        where configured.
        """
        return self.data_preprocessor(
            dict(inputs=[image], data_samples=[SegDataSample()]), training=False
        )['inputs']

    def _logits(self, image: Tensor, size) -> Tensor:
        """D's logits of an image's own pixels, without those that padding has added, flat."""
        return self.discriminator(image)[0, : size[0], : size[1]].flatten()


def _on(indices, device) -> Tensor:
    return torch.from_numpy(indices).to(device)
