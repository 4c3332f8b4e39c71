"""A world of pixel features in which the right answer is known, and training in it by the real
step.

Each closed class activates a feature of its own. The one open kind in the training set activates a
feature that no closed class has; the other open kinds are blends, which activate the features of
two closed classes weakly, as unfamiliar objects do. A blend has nothing of the trained open kind,
so a closed/open classifier (CLS) has no reason to see it; the generator, on its way to the closed
data, passes between the classes, and D learns that it is open there.

What the world shows is limited to that: open kinds that leave the closed data in directions of
their own, where no generated pixel goes, are found no better by OpenGAN than by CLS (measured: each
ahead on some seeds).
"""

import copy
import itertools
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from small_models import FCN, HRNET, adam, build_open

from mmseg_opengan.features.pixel_sampler import PixelSampler

CHANNELS, CLASSES, NORM, SPREAD = 16, 5, 3.0, 0.5
NEW = 0  # the open kind of the training set; kinds 1 to 10 are the blends of two classes
SEGMENTOR = (HRNET, dict(FCN, channels=CHANNELS), CHANNELS)  # whose tap has 16 channels


class FeatureWorld:
    """Closed pixels, and open pixels by kind, in R^16."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        axes = NORM * np.linalg.qr(self.rng.standard_normal((CHANNELS, CHANNELS)))[0]
        self.classes = axes[:CLASSES]
        blends = [(one + other) / 2 for one, other in itertools.combinations(self.classes, 2)]
        self.kinds = np.stack([axes[CLASSES], *self.rng.permutation(blends)])

    def _around(self, centres):
        return torch.tensor(
            centres + SPREAD * self.rng.standard_normal(centres.shape), dtype=torch.float32
        )

    def closed(self, count: int) -> torch.Tensor:
        return self._around(self.classes[self.rng.integers(CLASSES, size=count)])

    def open(self, count: int, kinds) -> torch.Tensor:
        return self._around(self.kinds[self.rng.choice(kinds, count)])

    def oracle(self, pixels: torch.Tensor) -> torch.Tensor:
        """Minus the log density of closed pixels: the score to reach without knowing the open
        kinds.
        """
        # equal Gaussians around the classes
        distances = torch.cdist(pixels, torch.tensor(self.classes, dtype=torch.float32)) ** 2
        return -torch.logsumexp(-distances / (2 * SPREAD**2), dim=1)


def auroc(score, closed: torch.Tensor, open_: torch.Tensor) -> float:
    scores = score(torch.cat([closed, open_]))
    return roc_auc_score([0] * len(closed) + [1] * len(open_), scores)


def open_score(model, *, training: bool = False):
    """The open score of the model's D, in eval mode unless told otherwise."""
    network = copy.deepcopy(model.discriminator).train(training)
    return lambda pixels: -network(pixels).detach()


class Trained(NamedTuple):
    """What a training in the world leaves behind; ``chosen`` and ``last`` are AUROC on unseen open
    kinds.
    """

    world: FeatureWorld
    model: torch.nn.Module
    chosen: float
    last: float


def train(
    seed: int, *, use_open: bool = True, use_fake: bool = True, steps: int = 150, interval: int = 25
) -> Trained:
    """Train D (and G) by the real ``train_step``, and choose D on open validation as the evaluation
    hook does.

    Open validation holds the trained kind and three blends; the test holds the seven other blends.
    """
    world = FeatureWorld(seed)
    pool = dict(closed=world.closed(2000), open=world.open(500, [NEW]))
    val = world.closed(1000), world.open(500, [NEW, 1, 2, 3])
    test = world.closed(2000), world.open(1000, range(4, len(world.kinds)))
    sampler = PixelSampler(
        num_closed=200,
        num_open=100 * use_open,
        num_fake=100 * use_fake,
    )
    model = build_open(
        SEGMENTOR,
        seed=seed,
        discriminator=dict(type='FeatureDiscriminator', hidden=(64, 64, 32)),
        generator=dict(type='FeatureGenerator', hidden=(64, 64)) if use_fake else None,
    )
    model.train()
    optimizers, best, chosen = adam(model), -1.0, None
    for step in range(steps):
        draw = sampler.at(seed, step)
        model.train_step(
            dict(
                draw=draw,
                closed=pool['closed'][draw.closed(2000)],
                open=pool['open'][draw.open(500)] if use_open else None,
            ),
            optimizers,
        )
        if (step + 1) % interval == 0:
            score = open_score(model)
            if (found := auroc(score, *val)) > best:
                best, chosen = found, auroc(score, *test)
    return Trained(world, model, chosen, auroc(open_score(model), *test))
