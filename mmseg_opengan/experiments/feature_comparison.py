"""Closed, open and generated features side by side: what D makes of them, and which stored pixels
are nearest.

Three groups, ``closed``, ``open`` and ``fake``; the first two come from a feature bank. A bank
without open pixels is
allowed: what needs them is then left out. Shape letters: n pixels, C channels.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..features.bank import FeatureBank
from ..functional.detection import exact_auroc
from ..functional.neighbours import METRICS, NearestRows, effective_number, quartiles
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
            rows = step_rng(seed, 0, stream).choice(
                available, min(number, available), replace=False
            )
            features = bank.gather(name, rows).float().to(device)
            groups[name] = Group(features, discriminator(features), bank.pixels(name)[rows])
    noise = step_rng(seed, 0, 2).standard_normal(
        (-(-number // batch), batch, generator.noise_channels), np.float32
    )
    fakes = torch.cat([generator(z.to(device)) for z in torch.from_numpy(noise)])[:number]
    groups[FAKE] = Group(fakes, discriminator(fakes))
    return groups


class Comparison:
    """Groups of features and the stored pixels nearest to some of each, found on construction in
    one pass.

    The neighbour of a real pixel is always in another image. The nearer of two stored groups is
    often just the larger one; so the fakes are compared with equally many random rows of both
    groups as well.

    Args:
        bank: the stored pixels.
        groups: as of :func:`draw_groups`.
        num_sought: features of each group whose nearest stored pixels are sought.
        seed: of the choice of equally many rows.
    """

    def __init__(
        self, bank: FeatureBank, groups: dict[str, Group], *, num_sought: int = 256, seed: int = 0
    ):
        self.bank = bank
        self.groups = groups
        self.stored = [name for name in STORED if bank.num_pixels(name)]
        self.pixels = {name: bank.pixels(name) for name in self.stored}
        self.found, self.equal = (
            {},
            {},
        )  # (group, stored group, metric), and stored group: NearestRows
        fewest = min(len(pixels) for pixels in self.pixels.values())
        for stored in self.stored:
            self._search(
                stored,
                {name: group.head(num_sought) for name, group in groups.items()},
                np.sort(
                    step_rng(seed, 0, 3).choice(len(self.pixels[stored]), fewest, replace=False)
                ),
            )

    def _search(self, stored, queries, equal_rows):
        device = queries[FAKE].features.device
        searches = {}
        for name, group in queries.items():
            images = None if group.pixels is None else _tensor(group.pixels['image'], device)
            for metric in METRICS:
                searches[name, stored, metric] = NearestRows(
                    group.features, metric=metric, images=images
                )
        equal = NearestRows(queries[FAKE].features)
        total = len(self.pixels[stored])
        for start in tqdm(
            range(0, total, _BLOCK), desc=f'Comparing with {stored} pixels', unit='block'
        ):
            rows = np.arange(start, min(start + _BLOCK, total))
            features = self.bank.gather(stored, rows).to(device)
            images = _tensor(self.pixels[stored]['image'][rows], device)
            for nearest in searches.values():
                nearest.update(features, _tensor(rows, device), images)
            part = _tensor(
                equal_rows[slice(*np.searchsorted(equal_rows, (start, start + len(rows))))], device
            )
            if len(part):
                equal.update(features[part - start], part)
        self.found.update(searches)
        self.equal[stored] = equal

    def class_of(self, stored: str, pixel) -> str:
        """Name of a stored pixel's class."""
        return self.bank.manifest['identity'][f'{stored}_classes'][int(pixel['label'])]

    def nearest(self, name: str) -> list[tuple[str, np.void, float]]:
        """(stored group, pixel record, L1 distance) of the stored pixel nearest to each of a group
        that has one.
        """
        distances = torch.stack([self.found[name, stored, 'l1'].distance for stored in self.stored])
        nearest = []
        for i, which in enumerate(distances.argmin(0).tolist()):
            search = self.found[name, self.stored[which], 'l1']
            if search.row[i] >= 0:
                nearest.append(
                    (
                        self.stored[which],
                        self.pixels[self.stored[which]][int(search.row[i])],
                        float(search.distance[i]),
                    )
                )
        return nearest

    def report(self) -> dict:
        """All numbers; distances as quartiles, shares in [0, 1], AUROC of D between each two
        groups.
        """
        present = [name for name in (CLOSED, FAKE, OPEN) if name in self.groups]
        return dict(
            stored_pixels={name: len(pixels) for name, pixels in self.pixels.items()},
            mean_p_closed={
                name: float(self.groups[name].logits.sigmoid().mean()) for name in present
            },
            auroc={
                f'{high} above {low}': _auroc(self.groups[low].logits, self.groups[high].logits)
                for low, high in combinations(present, 2)
            },
            features={name: statistics(self.groups[name].features) for name in present},
            distance={
                f'{name} to nearest {stored}': {
                    metric: self._quartiles(name, stored, metric) for metric in METRICS
                }
                for name in present
                for stored in self.stored
            },
            fakes_within_reach={stored: self._within_reach(stored) for stored in self.stored},
            nearest_of_fakes=self._open_share(),
            modes={name: self._modes(name) for name in present},
        )

    def _distances(self, name, stored, metric) -> Tensor:
        """Of the features that have a neighbour: a bank of one image has none for its own
        pixels.
        """
        distance = self.found[name, stored, metric].distance
        return distance[distance.isfinite()]

    def _quartiles(self, name, stored, metric) -> dict | None:
        distances = self._distances(name, stored, metric)
        return quartiles(distances) if len(distances) else None

    def _within_reach(self, stored) -> dict:
        """Share of fakes no farther from a stored pixel than 95 % of that group's own pixels are
        from one another.
        """
        shares = {}
        for metric in METRICS:
            own, fakes = (
                self._distances(stored, stored, metric),
                self.found[FAKE, stored, metric].distance,
            )
            shares[metric] = (
                float((fakes <= own.quantile(0.95)).float().mean()) if len(own) else None
            )
        return shares

    def _open_share(self) -> dict | None:
        """Share of fakes whose nearest stored pixel is open; ``l1_equal``: among equally many of
        both groups.
        """
        if OPEN not in self.stored:
            return None
        nearer = {
            metric: self.found[FAKE, OPEN, metric].distance
            < self.found[FAKE, CLOSED, metric].distance
            for metric in METRICS
        }
        nearer['l1_equal'] = self.equal[OPEN].distance < self.equal[CLOSED].distance
        rows = self.found[FAKE, OPEN, 'l1'].row[nearer['l1']].tolist()
        classes = Counter(self.class_of(OPEN, pixel) for pixel in self.pixels[OPEN][rows])
        total = sum(len(pixels) for pixels in self.pixels.values())
        return dict(
            open_share={
                kind: float(is_nearer.float().mean()) for kind, is_nearer in nearer.items()
            },
            open_share_of_stored=len(self.pixels[OPEN]) / total,
            open_classes=dict(classes.most_common()),
        )

    def _modes(self, name) -> dict:
        """How varied the nearest stored pixels are: distinct and effective (exp of entropy)
        numbers.
        """
        nearest = self.nearest(name)
        if not nearest:
            return dict(features=0)
        images = [int(pixel['image']) for _, pixel, _ in nearest]
        classes = [self.class_of(stored, pixel) for stored, pixel, _ in nearest]
        return dict(
            features=len(nearest),
            pixels=len({(stored, pixel.tobytes()) for stored, pixel, _ in nearest}),
            images=len(set(images)),
            effective_images=effective_number(images),
            effective_classes=effective_number(classes),
            classes=dict(Counter(classes).most_common()),
        )


def statistics(features: Tensor) -> dict:
    """Of features (n, C), n >= 2. Spread is the median distance of two random ones: small in a
    collapsed generator.
    """
    half = len(features) // 2
    one, other = features[:half], features[half : 2 * half]
    return dict(
        negative_share=float((features < 0).float().mean()),
        zero_share=float((features == 0).float().mean()),
        l1_norm=float(features.abs().sum(1).mean()),
        l2_norm=float(features.norm(dim=1).mean()),
        spread=dict(
            l1=float((one - other).abs().sum(1).median()),
            cosine=float((1 - nn.functional.cosine_similarity(one, other)).median()),
        ),
    )


def _auroc(low: Tensor, high: Tensor) -> float:
    """Chance that D finds a pixel of ``high`` more open than one of ``low``."""
    is_high = torch.cat([torch.zeros_like(low), torch.ones_like(high)]).bool()
    return exact_auroc(-torch.cat([low, high]), is_high)


def _tensor(array: np.ndarray, device) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.int64)).to(device)
