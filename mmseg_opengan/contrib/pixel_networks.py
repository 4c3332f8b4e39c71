"""Fully convolutional D and G on images instead of features (paper section 6.2).

The paper says that its pixel networks follow CycleGAN's, of about 14 MB (G) and 11 MB (D), with
strides adapted to the image size, and prints no layers. What is here is our reading of that:
CycleGAN's discriminator, the 70x70 PatchGAN of Isola et al. (CVPR 2017), has 2.8M parameters, 11
MB. CycleGAN's own generator turns images into images and starts from no noise; a
transposed-convolution generator from noise to 64x64 (Radford et al., ICLR 2016) has 3.6M
parameters, 14 MB.

Images are (N, 3, H, W) as they enter the segmentor, normalised with mmseg's mean and standard
deviation.
"""

from itertools import pairwise

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from ..models.networks import init_normal

#: (255 - mean) / std of mmseg's usual normalisation: no normalised colour is further from 0.
LARGEST = 2.64


@MODELS.register_module()
class PatchDiscriminator(nn.Module):
    """D: a 70x70 PatchGAN, which judges every pixel by what lies within 35 pixels of it; 2.8M
    parameters.

    Convolutions of 4x4: 64, 128, 256 channels at stride 2, 512 and 1 at stride 1; instance norm
    after the middle three, LeakyReLU(.2) after all but the last. The last two layers are padded to
    keep the grid, so that cell (i, j) of the stride-8 map is centred on pixels 8i ... 8i + 7, 8j
    ... 8j + 7. Real and generated images go through D apart, whence
    instance norm as in CycleGAN: batch norm would tell the two by their own statistics, and has
    others in eval mode.

    Args:
        in_channels: channels of the image.
        width: channels of the first layer.
        norm: ``'instance'`` (CycleGAN) or ``'none'``.
    """

    stride = 8

    def __init__(self, in_channels: int = 3, *, width: int = 64, norm: str = 'instance'):
        super().__init__()
        norms = {'instance': nn.InstanceNorm2d, 'none': lambda channels: nn.Identity()}
        if norm not in norms:
            raise ValueError(f'norm: wanted one of {sorted(norms)}, found {norm!r}')
        self.in_channels = in_channels
        layers = [nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for inside, outside in pairwise((width, 2 * width, 4 * width)):
            layers += [nn.Conv2d(inside, outside, 4, 2, 1), norms[norm](outside), nn.LeakyReLU(0.2)]
        layers += [
            nn.ZeroPad2d((1, 2, 1, 2)),
            nn.Conv2d(4 * width, 8 * width, 4),
            norms[norm](8 * width),
            nn.LeakyReLU(0.2),
            nn.ZeroPad2d((2, 1, 2, 1)),
            nn.Conv2d(8 * width, 1, 4),
        ]
        self.layers = nn.Sequential(*layers)
        self.apply(init_normal)

    def cells(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) images -> (N, ceil(H / 8), ceil(W / 8)) raw logits of closed."""
        if images.dim() != 4 or images.shape[1] != self.in_channels:
            raise ValueError(
                f'discriminator: wanted images of shape (N, {self.in_channels}, H, W), found '
                f'{tuple(images.shape)}'
            )
        below, beside = (-size % self.stride for size in images.shape[2:])
        return self.layers(pad(images, (0, beside, 0, below), mode='replicate'))[:, 0]

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) images -> (N, H, W) raw logits of closed, the map of cells resized
        bilinearly.

        The paper penalises 5,000 closed pixels, more than a 480x360 image has cells: so its labels
        are those of pixels.
        """
        logits = interpolate(
            self.cells(images)[:, None],
            scale_factor=self.stride,
            mode='bilinear',
            align_corners=False,
        )
        return logits[:, 0, : images.shape[2], : images.shape[3]]


@MODELS.register_module()
class PatchGenerator(nn.Module):
    """G: noise -> 64x64 image by five transposed convolutions of 4x4 (512, 256, 128, 64, 3
    channels); 3.6M parameters.

    Batch norm and ReLU after all but the last, Tanh at the end. Noise on a grid of r x c gives 16
    (r + 3) x 16 (c + 3) pixels.

    Args:
        out_channels: channels of the image.
        noise_channels: channels of z ~ N(0, 1).
        width: channels before the last layer.
    """

    def __init__(
        self,
        out_channels: int = 3,
        *,
        noise_channels: int = 100,
        width: int = 64,
    ):
        super().__init__()
        self.noise_channels = noise_channels
        layers = []
        for i, (inside, outside) in enumerate(
            pairwise((noise_channels, 8 * width, 4 * width, 2 * width, width))
        ):
            layers += [
                nn.ConvTranspose2d(inside, outside, 4, 2 if i else 1, 1 if i else 0, bias=False),
                nn.BatchNorm2d(outside),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(
            *layers, nn.ConvTranspose2d(width, out_channels, 4, 2, 1), nn.Tanh()
        )
        self.apply(init_normal)

    def forward(self, noise: Tensor) -> Tensor:
        """(N, noise_channels, r, c) standard normal noise -> (N, 3, 16 (r + 3), 16 (c + 3))
        normalised images.
        """
        return LARGEST * self.layers(noise)


@torch.no_grad()
def open_map(discriminator: PatchDiscriminator, images: Tensor) -> Tensor:
    """Raw open logits (N, H, W) of images, one image at a time."""
    return torch.cat([-discriminator(image[None].float()) for image in images])
