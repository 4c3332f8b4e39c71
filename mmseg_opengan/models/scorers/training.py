"""What scorers share that are small networks trained on sampled pixel features."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...functional.pixels import choose_open, pixels_first, step_rng


def mlp(*channels: int) -> nn.Sequential:
    """Linear layers through these widths, LeakyReLU(.2) between them."""
    layers = []
    for inside, outside in pairwise(channels):
        layers += [nn.Linear(inside, outside), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Networks made inside start from ``seed``; torch's own random stream goes on afterwards as if
    nothing was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def draws(
    available: int, wanted: int, *, steps: int, seed: int, stream: int = 0, name: str = ''
) -> Iterator[Tensor]:
    """(wanted,) indices into ``available`` rows for each of ``steps`` steps, with a progress bar
    under ``name``.
    """
    for step in tqdm(range(steps), desc=name, unit='step', leave=False, disable=not name):
        yield torch.from_numpy(choose_open(available, wanted, step_rng(seed, step, stream)))


def mean_and_deviation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of each channel of (n, C) features; 1 where a channel never
    changes.
    """
    deviation = features.std(0, correction=0)
    return features.mean(0), torch.where(deviation > 0, deviation, 1)


def score_pixels(function: Callable[..., Tensor], *maps: Tensor, chunk: int = 65536) -> Tensor:
    """Scores (N, h, w) from maps (N, C, h, w) by a function of their pixels, (n, C) each -> (n,),
    in bounded memory.
    """
    batch, _, rows, cols = maps[0].shape
    parts = zip(*(pixels_first(one).split(chunk) for one in maps))
    return torch.cat([function(*part) for part in parts]).view(batch, rows, cols)
