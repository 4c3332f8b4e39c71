"""What scorers share that are small networks trained on sampled pixel features."""

from abc import abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...functional.pixels import choose_open, pixels_first, step_rng
from .base import FitData, FittedScorer

_CHUNK = 65536  # pixels that are scored at a time


def mlp(*channels: int) -> nn.Sequential:
    """Linear layers through these widths, LeakyReLU(.2) between them."""
    layers = []
    for inside, outside in pairwise(channels):
        layers += [nn.Linear(inside, outside), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def draws(
    available: int, wanted: int, *, steps: int, seed: int, stream: int = 0, name: str = ''
) -> Iterator[Tensor]:
    """(wanted,) indices into ``available`` rows for each of ``steps`` steps, with a progress bar
    under ``name``.
    """
    for step in tqdm(
        range(steps),
        desc=name,
        unit='step',
        leave=False,
        disable=not name,
    ):
        yield torch.from_numpy(choose_open(available, wanted, step_rng(seed, step, stream)))


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of an optimizer."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class NetworkScorer(FittedScorer):
    """A scorer whose networks work on features that are standardised channel by channel.

    A subclass sets its networks in ``_make``, trains them in ``_train`` and scores pixels in
    ``_score_pixels``.
    """

    @abstractmethod
    def _make(self, channels: int, num_classes: int) -> None:
        """Set networks for features of ``channels``, as attributes."""

    @abstractmethod
    def _train(self, features: Tensor, data: FitData) -> None:
        """Train the networks on standardised features (n, C)."""

    @abstractmethod
    def _score_pixels(self, features: Tensor, logits: Tensor) -> Tensor:
        """(n,) scores of standardised features (n, C)."""

    def _fit(self, data: FitData) -> dict[str, Tensor]:
        sizes = torch.tensor([data.features.shape[1], len(data.weight)])
        mean = data.features.mean(0)
        deviation = data.features.std(0, correction=0)
        deviation = torch.where(deviation > 0, deviation, 1)  # of a channel that never changes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(data.seed)
            self._make(*sizes.tolist())
        self.to(mean.device)
        with torch.enable_grad():
            self._train((data.features - mean) / deviation, data)
        return dict(mean_=mean, std_=deviation, sizes_=sizes)

    def _score(self, features: Tensor, logits: Tensor) -> Tensor:
        parts = zip(*(pixels_first(maps).split(_CHUNK) for maps in (features, logits)))
        found = [self._score_pixels((one - self.mean_) / self.std_, its) for one, its in parts]
        return torch.cat(found).view(len(features), *features.shape[2:])

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        sizes = state_dict.get(f'{prefix}sizes_')
        if sizes is not None:
            self._make(*sizes.tolist())
            self.eval().requires_grad_(False)
        super()._load_from_state_dict(state_dict, prefix, *args)
