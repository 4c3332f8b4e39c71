"""C2AE: how well a pixel feature can be rebuilt as one of the closed classes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from ...functional.pixels import step_rng
from ..options import check_choices, check_positive, check_weight, check_whole
from .base import SCORERS, FitData, FittedScorer
from .training import draws, mean_and_deviation, mlp, score_pixels, seeded

_CONDITIONS = ('predicted', 'minimum')


class ConditionalDecoder(nn.Module):
    """Rebuilds features from a code that a class modulates: gamma(l) * z + beta(l), then a decoder
    (C2AE's FiLM layer).

    l has 1 at the class and -1 elsewhere; gamma and beta are linear in it.
    """

    def __init__(self, num_classes: int, latent: int, hidden: int, channels: int):
        super().__init__()
        self.num_classes = num_classes
        self.gamma = nn.Linear(num_classes, latent)
        self.beta = nn.Linear(num_classes, latent)
        self.layers = mlp(latent, hidden, channels)

    def forward(self, code: Tensor, classes: Tensor) -> Tensor:
        """(n, latent) codes and (n,) classes -> (n, C) features."""
        condition = 2 * one_hot(classes, self.num_classes).to(code.dtype) - 1
        return self.layers(self.gamma(condition) * code + self.beta(condition))


@SCORERS.register_module()
class C2AE(FittedScorer):
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
        latent, hidden: widths of the code and of the hidden layer on either side of it.
        alpha: weight of the matching term; .9 in their paper.
        steps, batch_size, lr: of Adam, in each stage.
        checkpoint: file that ``save_file`` wrote.
    """

    learned = ('mean_', 'std_')
    learned_modules = ('encoder_', 'decoder_')
    mean_: Tensor
    std_: Tensor
    encoder_: nn.Module
    decoder_: Any  # ConditionalDecoder
    candidates = dict(condition=list(_CONDITIONS))

    def __init__(
        self,
        *,
        condition: str = 'predicted',
        latent: int = 32,
        hidden: int = 256,
        alpha: float = 0.9,
        steps: int = 1000,
        batch_size: int = 512,
        lr: float = 1e-3,
        checkpoint: str | None = None,
    ):
        super().__init__()
        check_choices(condition=(condition, _CONDITIONS))
        check_weight('alpha', alpha)
        check_whole(latent=latent, hidden=hidden, steps=steps, batch_size=batch_size)
        check_positive(lr=lr)
        self.condition, self.latent, self.hidden, self.alpha = condition, latent, hidden, alpha
        self.steps, self.batch_size, self.lr = steps, batch_size, lr
        self.load_file(checkpoint)

    def _networks(self, num_classes: int, channels: int) -> tuple[nn.Module, ConditionalDecoder]:
        return mlp(channels, self.hidden, self.latent), ConditionalDecoder(
            num_classes, self.latent, self.hidden, channels
        )

    def _fit(self, data: FitData) -> dict[str, Tensor]:
        mean, std = mean_and_deviation(data.features)
        features, num_classes = (data.features - mean) / std, len(data.weight)
        with seeded(data.seed):
            encoder, decoder = (
                net.to(features.device) for net in self._networks(num_classes, features.shape[1])
            )
            classifier = nn.Linear(self.latent, num_classes).to(features.device)
        with torch.enable_grad():
            self._train_encoder(encoder, classifier, features, data)
            self._train_decoder(encoder.requires_grad_(False), decoder, features, data)
        self.encoder_, self.decoder_ = encoder, decoder
        return dict(mean_=mean, std_=std)

    def _train_encoder(self, encoder, classifier, features, data):
        optimizer = torch.optim.Adam([*encoder.parameters(), *classifier.parameters()], lr=self.lr)
        for rows in draws(
            len(features), self.batch_size, steps=self.steps, seed=data.seed, name='C2AE, encoder'
        ):
            loss = cross_entropy(classifier(encoder(features[rows])), data.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _train_decoder(self, encoder, decoder, features, data):
        optimizer = torch.optim.Adam(decoder.parameters(), lr=self.lr)
        others = OtherClass(data.labels)
        rng = step_rng(data.seed, 0, 2)
        for rows in draws(
            len(features),
            self.batch_size,
            steps=self.steps,
            seed=data.seed,
            stream=1,
            name='C2AE, decoder',
        ):
            labels = data.labels[rows]
            targets = others.rows(labels, rng)
            loss = c2ae_loss(
                decoder,
                encoder(features[rows]),
                features[rows],
                labels,
                features[targets],
                data.labels[targets],
                self.alpha,
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _score(self, features, logits):
        return score_pixels(self._errors, features, logits)

    def _errors(self, features, logits):
        features = (features - self.mean_) / self.std_
        code = self.encoder_(features)
        if self.condition == 'predicted':
            return _error(self.decoder_, code, features, logits.argmax(1))
        errors = [
            _error(self.decoder_, code, features, torch.full_like(code[:, 0], k, dtype=torch.long))
            for k in range(self.decoder_.num_classes)
        ]
        return torch.stack(errors).amin(0)

    def _make_modules(self, state: dict[str, Tensor]) -> None:
        self.encoder_, self.decoder_ = self._networks(
            state['decoder_.gamma.weight'].shape[1], len(state['mean_'])
        )


def c2ae_loss(
    decoder: nn.Module,
    code: Tensor,
    features: Tensor,
    labels: Tensor,
    other_features: Tensor,
    other_labels: Tensor,
    alpha: float,
) -> Tensor:
    """C2AE's loss of stage 2 for (n, C) features: rebuild them with their class, and others with
    the others' class.
    """
    match = (features - decoder(code, labels)).abs().mean()
    return alpha * match + (1 - alpha) * (other_features - decoder(code, other_labels)).abs().mean()


def _error(decoder: nn.Module, code: Tensor, features: Tensor, classes: Tensor) -> Tensor:
    """(n,) mean absolute errors of the reconstruction with the given classes."""
    return (features - decoder(code, classes)).abs().mean(1)


class OtherClass:
    """Random pixels of other classes: for each pixel a random other class, and of that a random
    pixel.

    Where there is one class only, it stands for the other, too.
    """

    def __init__(self, labels: Tensor):
        self.classes, counts = labels.cpu().unique(return_counts=True)
        self.order = labels.cpu().argsort(stable=True)
        self.counts, self.starts = counts, counts.cumsum(0) - counts

    def rows(self, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """(n,) rows of the labels given to ``__init__``, for (n,) labels."""
        own = torch.searchsorted(self.classes, labels.cpu().contiguous())
        number = len(self.classes)
        other = (
            own + torch.from_numpy(rng.integers(min(1, number - 1), number, len(own)))
        ) % number
        within = (torch.from_numpy(rng.random(len(own))) * self.counts[other]).long()
        return self.order[self.starts[other] + within].to(labels.device)
