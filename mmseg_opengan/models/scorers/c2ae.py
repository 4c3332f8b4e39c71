"""C2AE: how well a pixel feature can be rebuilt as one of the closed classes."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from ...functional.pixels import step_rng
from ..options import check_choices, check_whole
from .base import SCORERS
from .training import NetworkScorer, descend, draws, mlp

_CONDITIONS = ('predicted', 'minimum')
LATENT, HIDDEN = 32, 256  # widths of the code, and of the hidden layer on either side of it
ALPHA = 0.9  # weight of the matching term, theirs
BATCH = 512


class ConditionalDecoder(nn.Module):
    """Rebuilds features from a code that a class modulates: gamma(l) * z + beta(l), then a decoder
    (C2AE's FiLM layer).

    l has 1 at the class and -1 elsewhere; gamma and beta are linear in it.
    """

    def __init__(self, num_classes: int, channels: int):
        super().__init__()
        self.gamma = nn.Linear(num_classes, LATENT)
        self.beta = nn.Linear(num_classes, LATENT)
        self.layers = mlp(LATENT, HIDDEN, channels)

    def forward(self, code: Tensor, classes: Tensor) -> Tensor:
        """(n, latent) codes and (n,) classes -> (n, C) features."""
        condition = 2 * one_hot(classes, self.gamma.in_features).to(code.dtype) - 1
        return self.layers(self.gamma(condition) * code + self.beta(condition))


@SCORERS.register_module()
class C2AE(NetworkScorer):
    r"""Reconstruction error of a class-conditioned autoencoder (Oza and Patel, CVPR 2019), here on
    pixel features.

    Stage 1 trains an encoder F with a linear classifier on its code. Stage 2 keeps F and trains a
    decoder G that is
    told a class: with the true class k it must rebuild the feature, with another k' it must give
    some feature of k',

    .. math:: \alpha \|x - G(F(x), k)\|_1 + (1 - \alpha) \|x' - G(F(x), k')\|_1, \quad x' \text{
    random of class } k'.

    The score is the mean absolute error of G(F(x), k) over channels, in standard deviations of
    each. ``condition`` says
    for which k: ``'predicted'``, the class that the segmentor predicts, costs one pass and judges
    the very prediction that is reported; ``'minimum'``, the best of all K, is C2AE's own test
    ("k-inference") and costs K passes. Open validation chooses. Classes without a pixel in the fit
    are never drawn as k'.

    Args:
        condition: see above.
        steps: of Adam, in each stage.
        checkpoint: file that ``save_file`` wrote.
    """

    candidates = dict(condition=list(_CONDITIONS))

    def __init__(
        self,
        *,
        condition: str = 'predicted',
        steps: int = 1000,
        checkpoint: str | None = None,
    ):
        super().__init__()
        check_choices(condition=(condition, _CONDITIONS))
        check_whole(steps=steps)
        self.condition = condition
        self.steps = steps
        self.load_file(checkpoint)

    def _make(self, channels, num_classes):
        self.encoder_ = mlp(channels, HIDDEN, LATENT)
        self.decoder_ = ConditionalDecoder(num_classes, channels)
        self.classifier_ = nn.Linear(LATENT, num_classes)  # of stage 1

    def _train(self, features, data):
        options = dict(steps=self.steps, seed=data.seed)
        parameters = [*self.encoder_.parameters(), *self.classifier_.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
        for rows in draws(len(features), BATCH, name='C2AE, encoder', **options):
            logits = self.classifier_(self.encoder_(features[rows]))
            descend(optimizer, cross_entropy(logits, data.labels[rows]))
        self.encoder_.requires_grad_(False)
        optimizer = torch.optim.Adam(self.decoder_.parameters(), lr=1e-3)
        others = OtherClass(data.labels)
        rng = step_rng(data.seed, 0, 2)
        for rows in draws(
            len(features),
            BATCH,
            stream=1,
            name='C2AE, decoder',
            **options,
        ):
            targets = others.rows(data.labels[rows], rng)
            code = self.encoder_(features[rows])
            match = self._errors(features[rows], code, data.labels[rows]).mean()
            other = self._errors(features[targets], code, data.labels[targets]).mean()
            descend(optimizer, ALPHA * match + (1 - ALPHA) * other)

    def _errors(self, features: Tensor, code: Tensor, classes: Tensor) -> Tensor:
        """(n, C) absolute errors of the reconstruction with the given classes."""
        return (features - self.decoder_(code, classes)).abs()

    def _score_pixels(self, features, logits):
        code = self.encoder_(features)
        if self.condition == 'predicted':
            return self._errors(features, code, logits.argmax(1)).mean(1)
        errors = []
        for k in range(logits.shape[1]):
            classes = torch.full_like(logits[:, 0], k, dtype=torch.long)
            errors.append(self._errors(features, code, classes).mean(1))
        return torch.stack(errors).amin(0)


class OtherClass:
    """Random pixels of other classes: for each pixel a random other class, and of that a random
    pixel.

    Where there is one class only, it stands for the other, too.
    """

    def __init__(self, labels: Tensor):
        self.classes, counts = labels.cpu().unique(return_counts=True)
        self.order = labels.cpu().argsort(stable=True)
        self.counts = counts
        self.starts = counts.cumsum(0) - counts

    def rows(self, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """(n,) rows of the labels given to ``__init__``, for (n,) labels."""
        own = torch.searchsorted(self.classes, labels.cpu().contiguous())
        number = len(self.classes)
        step = torch.from_numpy(rng.integers(min(1, number - 1), number, len(own)))
        other = (own + step) % number
        within = (torch.from_numpy(rng.random(len(own))) * self.counts[other]).long()
        return self.order[self.starts[other] + within].to(labels.device)
