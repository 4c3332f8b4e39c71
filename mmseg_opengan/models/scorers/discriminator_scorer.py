"""A trained discriminator as one scorer among others, so that several compare in one pass."""

from mmengine.runner import CheckpointLoader
from mmseg.registry import MODELS

from ..frozen_segmentor import load_whole, noted_segmentor, part_of
from ..networks import discriminate
from .base import SCORERS, Scorer

_FIRST = 'layers.0.weight'


@SCORERS.register_module()
class DiscriminatorScorer(Scorer):
    """Open score -logit of a discriminator (OpenGAN, OpenGAN-0 or CLS) from a checkpoint of its own
    training.

    Args:
        discriminator: config of the network; ``in_channels`` is read from the checkpoint where it
            is not given.
        checkpoint: file that holds its weights under ``discriminator.``; None leaves it as
            initialised.

    Where the checkpoint says on which segmentor it was trained, another one is refused, as for
    fitted scorers.

    Raises:
        RuntimeError: the checkpoint does not hold exactly this network's weights.
    """

    is_logit = True
    open_pixels = 'stored'

    def __init__(self, discriminator: dict, checkpoint: str | None = None):
        super().__init__()
        weights = {}
        if checkpoint is not None:
            stored = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
            self.segmentor_sha256 = noted_segmentor(stored.get('meta', {})).get('sha256')
            weights = part_of(stored['state_dict'], 'discriminator.')
            if _FIRST in weights:
                discriminator = dict(dict(in_channels=weights[_FIRST].shape[1]), **discriminator)
        self.discriminator = MODELS.build(discriminator)
        if checkpoint is not None:
            load_whole(self.discriminator, weights, 'discriminator', f"'{checkpoint}'")
        self.discriminator.requires_grad_(False)

    def score(self, features, logits):
        return -discriminate(self.discriminator, features.float())
