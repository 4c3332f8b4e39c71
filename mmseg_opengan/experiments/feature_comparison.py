"""Closed, open and generated features side by side: what D makes of them, and which stored pixels
are nearest.

Three groups, ``closed``, ``open`` and ``fake``; the first two come from a feature bank. A bank
without open pixels is allowed: what needs them is then left out. Shape letters: n pixels, C
channels.
"""

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..features.bank import FeatureBank
from ..functional.detection import auroc, exact_bins
from ..functional.neighbours import METRICS, NearestRows, quartiles
from ..functional.pixels import step_rng

CLOSED, OPEN, FAKE = 'closed', 'open', 'fake'
STORED = (CLOSED, OPEN)
_BLOCK = 4096  # stored pixels in memory at once


@dataclass(frozen=True)
class Group:
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
        pixels = None if self.pixels is None else self.pixels[:number]
        return Group(self.features[:number], self.logits[:number], pixels)

    def images(self) -> Tensor | None:
        """(n,) number of each pixel's image."""
        if self.pixels is None:
            return None
        return _tensor(self.pixels['image'], self.features.device)


@torch.no_grad()
def draw_groups(
    bank: FeatureBank,
    discriminator: nn.Module,
    generator: nn.Module,
    *,
    number: int = 20000,
    batch: int = 2500,
    seed: int = 0,
) -> dict[str, Group]:
    """Random features of each group that there is, on the device of D.

    Args:
        number: features per group; all where the bank has fewer.
        batch: generated features in one forward pass of G, whose batch norm sees them together in
            training mode.
    """
    device = next(discriminator.parameters()).device
    groups = {}
    for stream, name in enumerate(STORED):
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


class Comparison:
    """Groups of features and the stored pixels nearest to some of each, found on construction in
    one pass.

    The neighbour of a real pixel is always in another image.

    Args:
        bank: the stored pixels.
        groups: as of :func:`draw_groups`.
        num_sought: features of each group whose nearest stored pixels are sought.
    """

    def __init__(self, bank: FeatureBank, groups: dict[str, Group], *, num_sought: int = 256):
        self.bank = bank
        self.groups = groups
        self.stored = [name for name in STORED if name in groups]
        self.pixels = {name: bank.pixels(name) for name in self.stored}
        self.found: dict[tuple[str, str, str], NearestRows] = {}
        for stored in self.stored:
            searches = {}
            for name, metric in product(groups, METRICS):
                some = groups[name].head(num_sought)
                search = NearestRows(some.features, metric=metric, images=some.images())
                searches[name, stored, metric] = search
            self._search(stored, list(searches.values()))
            self.found.update(searches)

    def _search(self, stored, searches):
        device = self.groups[FAKE].features.device
        images = self.pixels[stored]['image']
        blocks = range(0, len(images), _BLOCK)
        for start in tqdm(blocks, desc=f'Comparing with {stored} pixels', unit='block'):
            rows = np.arange(start, min(start + _BLOCK, len(images)))
            features = self.bank.gather(stored, rows).to(device)
            for nearest in searches:
                nearest.update(features, _tensor(rows, device), _tensor(images[rows], device))

    def class_of(self, stored: str, pixel) -> str:
        """Name of a stored pixel's class."""
        return self.bank.manifest['identity'][f'{stored}_classes'][int(pixel['label'])]

    def nearest_of_fakes(self) -> list[tuple[str, np.void, float]]:
        """(stored group, pixel record, L1 distance) of the stored pixel nearest to each generated
        feature.
        """
        searches = [self.found[FAKE, stored, 'l1'] for stored in self.stored]
        nearer = torch.stack([search.distance for search in searches]).argmin(0)
        nearest = []
        for i, which in enumerate(nearer.tolist()):
            stored, search = self.stored[which], searches[which]
            pixel = self.pixels[stored][int(search.row[i])]
            nearest.append((stored, pixel, float(search.distance[i])))
        return nearest

    def report(self) -> dict:
        """All numbers: distances to the nearest stored pixels as quartiles, AUROC of D between each
        two groups, the share of generated features whose nearest stored pixel is open.
        """
        present = [name for name in (CLOSED, FAKE, OPEN) if name in self.groups]
        logits = {name: self.groups[name].logits for name in present}
        norms = {name: self.groups[name].features.norm(dim=1) for name in present}
        nearest = [stored for stored, _, _ in self.nearest_of_fakes()]
        distance = {}
        for name, stored in product(present, self.stored):
            of_metric = {metric: self._quartiles(name, stored, metric) for metric in METRICS}
            distance[f'{name} to nearest {stored}'] = of_metric
        auroc = {}
        for low, high in combinations(present, 2):
            auroc[f'{high} above {low}'] = _auroc(logits[low], logits[high])
        return dict(
            stored_pixels={name: len(pixels) for name, pixels in self.pixels.items()},
            mean_p_closed={name: float(some.sigmoid().mean()) for name, some in logits.items()},
            mean_l2_norm={name: float(some.mean()) for name, some in norms.items()},
            auroc=auroc,
            distance=distance,
            fakes_nearest_to_open=nearest.count(OPEN) / len(nearest),
        )

    def _quartiles(self, name, stored, metric) -> dict | None:
        """Of the features that have a neighbour: a bank of one image has none for its own
        pixels.
        """
        distance = self.found[name, stored, metric].distance
        finite = distance[distance.isfinite()]
        return quartiles(finite) if len(finite) else None


def _auroc(low: Tensor, high: Tensor) -> float:
    """Chance that D finds a pixel of ``high`` more open than one of ``low``."""
    is_high = torch.cat([torch.zeros_like(low), torch.ones_like(high)]).bool()
    return auroc(exact_bins(-torch.cat([low, high]), is_high))


def _tensor(array: np.ndarray, device) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.int64)).to(device)
