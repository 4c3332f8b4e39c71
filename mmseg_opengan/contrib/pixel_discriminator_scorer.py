"""A trained discriminator of images as one scorer among others."""

from ..models.scorers.base import SCORERS
from ..models.scorers.discriminator_scorer import DiscriminatorScorer
from .pixel_networks import open_map


@SCORERS.register_module()
class PixelDiscriminatorScorer(DiscriminatorScorer):
    """Open score -logit of a D that reads images (OpenGAN-pix, OpenGAN-0-pix or CLS-pix) from a
    checkpoint.

    As :class:`DiscriminatorScorer`, but D reads the network's input; it is fully convolutional, so
    any size will do.
    """

    reads = 'image'

    def score(self, features, logits):
        raise TypeError(f'{type(self).__name__} reads images: call score_image')

    def score_image(self, inputs, forward):
        """(N, H, W), one score for each pixel of ``inputs``; the segmentor is not run."""
        return open_map(self.discriminator, inputs)
