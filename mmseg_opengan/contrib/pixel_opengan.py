"""OpenGAN on pixels: D reads the image, G makes images, and the segmentor only gives the closed
map.
"""

import torch
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from ..contracts import CLOSED, VOID
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

    def open_logits(self, tap):
        scores = open_map(_unwrap(self.discriminator), tap.inputs)
        return at_size(scores, tap.logits.shape[2:], self.align_corners)

    def _real(self, data):
        """Images as they enter the segmentor, and where their drawn closed and open pixels lie
        among all of them.
        """
        draw = data['draw']
        maps = data['open_maps']
        images = [self.normalise(image) for image in data['inputs']]
        labels = torch.cat([open_map.flatten() for open_map in maps])
        closed = (labels == CLOSED).nonzero()[:, 0]
        opened = ((labels != CLOSED) & (labels != VOID)).nonzero()[:, 0]
        closed = closed[torch.from_numpy(draw.closed(len(closed)))].to(self._device)
        opened = opened[torch.from_numpy(draw.open(len(opened)))].to(self._device)
        sizes = [open_map.shape for open_map in maps]
        return images, sizes, closed, opened

    def _logits_of_groups(self, real, made, draw):
        images, sizes, closed, opened = real
        # D's logits of the images' own pixels, without those that padding has added
        own = [
            self.discriminator(image)[0, :rows, :cols].flatten()
            for image, (rows, cols) in zip(images, sizes)
        ]
        logits = torch.cat(own)
        of_made = (
            logits[:0] if made is None else self._logits_of_made(self.discriminator, made, draw, 0)
        )
        return logits[closed], logits[opened], of_made

    def _logits_of_made(self, network, made, draw, turn):
        chosen = torch.from_numpy(draw.fake(made[:, 0].numel())[turn])
        return network(made).flatten()[chosen.to(self._device)]

    def _noise_shape(self, number):
        return -(-number // 64**2), _unwrap(self.generator).noise_channels, 1, 1  # images of 64x64

    def normalise(self, image: Tensor) -> Tensor:
        """A raw image (3, H, W) as it enters the segmentor, (1, 3, H', W'): normalised, and padded
        where configured.
        """
        return self.data_preprocessor(
            dict(inputs=[image], data_samples=[SegDataSample()]), training=False
        )['inputs']
