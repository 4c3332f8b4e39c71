"""Closed, open and generated features side by side: what D makes of them, and which stored pixels
are nearest.

Three groups, ``closed``, ``open`` and ``fake``; the first two come from a feature bank. A bank
without open pixels is allowed: what needs them is then left out. Shape letters: n pixels, C
channels.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..features.bank import GROUPS, FeatureBank
from ..functional.neighbours import METRICS, NearestRows
from ..functional.pixels import step_rng

FAKE = 'fake'
_BLOCK = 4096  # stored pixels in memory at once


class Group(NamedTuple):
    """Some pixel features of one group, in random order, so that the first few are a random sample.

    Attributes:
        features: (n, C) float32.
        logits: (n,) D's logits of closed.
        pixels: (n,) records of the bank; None for generated features.
    """

    features: Tensor
    logits: Tensor
    pixels: np.ndarray | None = None

    def head(self, number: int) -> 'Group':
        """The first ``number``, or all where there are fewer."""
        return Group(*(None if part is None else part[:number] for part in self))


@torch.no_grad()
def draw_groups(
    bank: FeatureBank,
    discriminator: nn.Module,
    generator: nn.Module,
    *,
    batch: int,
    number: int = 20000,
    seed: int = 0,
) -> dict[str, Group]:
    """Random features of each group that there is, on the device of D.

    Args:
        batch: generated features in one forward pass of G, whose batch norm sees them together in
            training mode.
        number: features per group; all where the bank has fewer.
    """
    device = next(discriminator.parameters()).device
    groups = {}
    for stream, name in enumerate(GROUPS):
        available = bank.num_pixels(name)
        if available:
            random = step_rng(seed, 0, stream)
            rows = random.choice(available, min(number, available), replace=False)
            features = bank.gather(name, rows).float().to(device)
            groups[name] = Group(features, discriminator(features), bank.pixels(name)[rows])
    shape = (-(-number // batch), batch, generator.noise_channels)
    noise = torch.from_numpy(step_rng(seed, 0, 2).standard_normal(shape, np.float32))
    fakes = torch.cat([generator(some.to(device)) for some in noise])[:number]
    groups[FAKE] = Group(fakes, discriminator(fakes))
    return groups


def find_nearest(
    bank: FeatureBank, groups: dict[str, Group], number: int = 256
) -> dict[tuple[str, str, str], NearestRows]:
    """The stored pixels nearest to the first ``number`` features of each group.

    The neighbour of a real pixel is always in another image.

    Returns:
        dict: (group, stored group, metric) -> what was found.
    """
    found = {}
    for stored in [name for name in GROUPS if name in groups]:
        images = _images_of(bank.pixels(stored), groups[FAKE].features.device)
        searches = []
        for name, metric in product(groups, METRICS):
            some = groups[name].head(number)
            own = None if some.pixels is None else _images_of(some.pixels, images.device)
            search = NearestRows(some.features, metric=metric, images=own)
            found[name, stored, metric] = search
            searches.append(search)
        rows = torch.arange(len(images), device=images.device)
        for block in tqdm(rows.split(_BLOCK), desc=f'Comparing with {stored} pixels', unit='block'):
            features = bank.gather(stored, block.cpu().numpy()).to(images.device)
            for search in searches:
                search.update(features, block, images[block])
    return found


def _images_of(pixels: np.ndarray, device) -> Tensor:
    return torch.from_numpy(pixels['image'].astype(np.int64)).to(device)


def nearest_of_fakes(
    bank: FeatureBank, found: dict[tuple[str, str, str], NearestRows]
) -> list[tuple[str, np.void, float]]:
    """(stored group, pixel record, L1 distance) of the stored pixel nearest to each generated
    feature.
    """
    searches = {name: found[FAKE, name, 'l1'] for name in GROUPS if (FAKE, name, 'l1') in found}
    names = list(searches)
    nearer = torch.stack([search.distance for search in searches.values()]).argmin(0)
    nearest = []
    for i, which in enumerate(nearer.tolist()):
        stored = names[which]
        search = searches[stored]
        pixel = bank.pixels(stored)[int(search.row[i])]
        nearest.append((stored, pixel, float(search.distance[i])))
    return nearest


def report(groups: dict[str, Group], found: dict[tuple[str, str, str], NearestRows]) -> dict:
    """Means of D's probability and of the norm of each group, and the median distances of its
    features to the nearest stored pixels.

    A distance is nan where no feature has a neighbour: a bank of one image has none for its own
    pixels.
    """
    distance: dict[str, dict] = {}
    for (name, stored, metric), search in found.items():
        values = search.distance.double()
        median = values.where(values.isfinite(), torch.nan).nanquantile(0.5)
        distance.setdefault(f'{name} to nearest {stored}', {})[metric] = float(median)
    return dict(
        mean_p_closed={name: float(some.logits.sigmoid().mean()) for name, some in groups.items()},
        mean_l2_norm={
            name: float(some.features.norm(dim=1).mean()) for name, some in groups.items()
        },
        distance=distance,
    )


def class_of(bank: FeatureBank, stored: str, pixel) -> str:
    """Name of a stored pixel's class."""
    return bank.manifest['identity'][f'{stored}_classes'][int(pixel['label'])]
