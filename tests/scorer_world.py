"""A world of three colours for the contract of scorers: pixels of one colour are closed, grey ones
are open.

Channels of the image are the colours; the segmentor is linear, so that it can be written down:
feature c is colour c mod 3, logit k is twice the sum of features k and k + 3, less a threshold.
"""

import torch

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.models.opengan_head import Tap
from mmseg_opengan.models.scorers.base import SCORERS, FitData, FittedScorer

COLOURS = 3
CHANNELS = 6
SPREAD = torch.eye(COLOURS).repeat(2, 1)  # (C, 3)
WEIGHT = 2 * SPREAD.T.contiguous()
BIAS = torch.full((COLOURS,), -1.0)

#: Options under which each registered scorer is tested: small, and quick to fit.
SCORER_OPTIONS = {
    'MSP': {},
    'Entropy': {},
    'MaxLogit': {},
    'Energy': {},
    'GEN': {},
    'ReAct': dict(quantile=0.9, per='channel'),
    'Hybrid': dict(trained=dict(type='Energy'), free=dict(type='GEN')),
    'DiscriminatorScorer': dict(
        discriminator=dict(
            type='FeatureDiscriminator',
            hidden=(16, 8),
            in_channels=CHANNELS,
        )
    ),
    'ClassCentroid': {},
    'GDM': {},
    'NearestNeighbour': dict(num_references=200),
    'StandardizedMaxLogit': {},
    'OpenMax': dict(alpha=2, tail_size=50),
    'MCDropout': dict(num_samples=20),
    'MSPc': dict(temperature=10.0, epsilon=0.01),
    'GMM': dict(num_components=3, covariance='diag'),
    'PixelDiscriminatorScorer': dict(
        discriminator=dict(type='PatchDiscriminator', width=4, norm='none')
    ),
    'C2AE': dict(steps=60),
    'BiGAN': dict(steps=10),
    'OpenClass': {},
    'KPlusOne': dict(steps=300),
}


def build(name):
    torch.manual_seed(0)  # of networks that are random here
    return SCORERS.build(dict(type=name, **SCORER_OPTIONS[name])).eval()


def segment(inputs) -> Tap:
    """The segmentor: (N, 3, H, W) -> features (N, 6, H, W) and logits (N, 3, H, W)."""
    weights = [value[:, :, None, None].to(inputs) for value in (SPREAD, WEIGHT)]
    features = torch.nn.functional.conv2d(inputs, weights[0])
    return Tap(features, torch.nn.functional.conv2d(features, weights[1], BIAS.to(inputs)))


def draw(labels, generator):
    """Colours (n, 3) of pixels: bright and pure where the label is a class, dark grey where it is
    -1.
    """
    pure = 3.0 * torch.eye(COLOURS)[labels.clamp(min=0)]
    colour = torch.where((labels < 0)[:, None], torch.full_like(pure, 0.6), pure)
    return (colour + 0.15 * torch.randn(colour.shape, generator=generator)).clamp(min=0)


class World:
    """Training pixels (``data``) and two images of 4 x 6 pixels whose right half is open
    (``open_map``).

    Args:
        maps: inputs, features and logits in place of the drawn images'.
    """

    def __init__(self, maps=None):
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(600) % COLOURS
        features = (
            draw(labels, generator) @ SPREAD.T
            + 0.05 * torch.randn(600, CHANNELS, generator=generator).abs()
        )
        open_features = draw(torch.full((300,), -1), generator) @ SPREAD.T
        self.data = FitData(
            features, features @ WEIGHT.T + BIAS, labels, WEIGHT, BIAS, open_features, seed=3
        )
        self.open_map = torch.zeros(2, 4, 6, dtype=torch.bool)
        self.open_map[..., 3:] = True
        labels = torch.where(self.open_map.flatten(), -1, torch.arange(48) % COLOURS)
        inputs = draw(labels, generator).view(2, 4, 6, COLOURS).permute(0, 3, 1, 2).contiguous()
        self.inputs, self.features, self.logits = maps or (inputs, *segment(inputs)[:2])
        self.fits = {}

    def fitted(self, name):
        """A scorer with its test options, fitted once where it learns."""
        if name not in self.fits:
            scorer = build(name)
            self.fits[name] = scorer.fit(self.data) if isinstance(scorer, FittedScorer) else scorer
        return self.fits[name]

    def score(self, scorer):
        """(N, h, w), by whichever of its methods a scorer has."""
        with torch.no_grad():
            if scorer.reads == 'image':
                return scorer.score_image(self.inputs, segment)
            return scorer(self.features, self.logits)
