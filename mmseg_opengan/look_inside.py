"""What a trained generator makes, and what the discriminator thinks of it: numbers, patches, maps of the features.

    report = look_inside('config.py', 'checkpoint.pth', 'out')

The reference is the feature bank that training built. Shape letters: n pixels, C channels, H, W image size.
"""

import json
import os
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from mmseg.registry import DATASETS, MODELS
from torch import Tensor, nn
from tqdm import tqdm

from . import register  # noqa: F401
from .datasets.feature_bank import FeatureBank
from .engine import feature_plots
from .functional.curves import exact_auroc
from .functional.neighbours import METRICS, NearestRows, effective_number, quartiles
from .functional.pixels import step_rng
from .models.open_segmentor import META_KEY

CLOSED, OPEN, FAKE = 'closed', 'open', 'fake'
_SCORED = 20000  # pixels per group behind AUROC, mean scores and feature statistics
_BLOCK = 4096  # stored pixels in memory at once


@dataclass(frozen=True)
class Group:
    """Some pixel features of one kind, in random order: any first few are a random sample.

    Attributes:
        features: (n, C) float32.
        logits: (n,) D's logits of closed.
        pixels: (n,) records of the bank; None for generated features.
        rows: (n,) rows of the bank; None likewise.
    """

    features: Tensor
    logits: Tensor
    pixels: np.ndarray | None = None
    rows: np.ndarray | None = None

    def head(self, number: int) -> 'Group':
        """The first ``number``, or all where there are fewer."""
        pixels, rows = (None if part is None else part[:number] for part in (self.pixels, self.rows))
        return Group(self.features[:number], self.logits[:number], pixels, rows)


def look_inside(config, checkpoint, out, *, num_fakes: int = 256, num_points: int = 1000, num_patches: int = 16,
                patch_size: int = 64, l2: bool = False, seed: int = 0, device: str = 'cpu',
                cfg_options: dict | None = None) -> dict:
    """Write ``patches.png``, ``features_pca.png``, ``features_tsne.png`` and ``look_inside.json``.

    Args:
        config: training config of OpenGAN or OpenGAN-0; its feature bank must exist.
        checkpoint: what that training wrote: D and G.
        out: folder, made if needed.
        num_fakes: generated features, and as many closed and open ones, whose nearest stored pixels are sought.
        num_points: pixels per group in the maps.
        num_patches: patches per group.
        patch_size: height and width of a patch, in pixels of the image.
        l2: draw the maps of features scaled to unit length (paper Figure 13).
        seed: of the noise and of the choice of pixels.
        device: where D, G and the search for neighbours run.
        cfg_options: overrides of the config, keys with dots.

    Returns:
        dict: the content of ``look_inside.json``. Distances are ``l1`` and ``cosine``; a neighbour of a real pixel is
        always one in another image.

    Raises:
        FileNotFoundError: config, checkpoint, bank or a training image is missing.
        FeatureBankError: the bank was made from another segmentor than the checkpoint belongs to.
        ValueError: a checkpoint without generator, a bank without closed pixels, or labels that are not the bank's.
    """
    for name, value in (('num_fakes', num_fakes), ('num_points', num_points), ('num_patches', num_patches),
                        ('patch_size', patch_size)):
        if value < 2:
            raise ValueError(f'{name}: wanted at least 2, found {value}')
    cfg = config.copy() if isinstance(config, Config) else Config.fromfile(config)
    cfg.merge_from_dict(dict(cfg_options or {}))
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    state = CheckpointLoader.load_checkpoint(str(checkpoint), map_location='cpu')
    bank = open_bank(cfg, state)
    discriminator, generator = load_networks(cfg, state, bank.channels, checkpoint)
    source = Images(cfg.train_dataloader.dataset, bank)
    batch = cfg.train_dataloader.dataset.sampler.get('num_fake') or 2500
    groups = draw_groups(bank, discriminator.to(device), generator.to(device), seed=seed, batch=batch)
    found = search(bank, {name: group.head(num_fakes) for name, group in groups.items()})
    report = dict(config=cfg.filename, checkpoint=str(checkpoint), bank=str(bank.root), seed=seed,
                  stored_pixels=bank.manifest['counts'], label_policy=bank.manifest['identity']['label_policy'],
                  num_sought=num_fakes, **measure(groups, found, bank))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    blocks = patch_blocks(groups, found, bank, source, num_patches, patch_size)
    feature_plots.patch_figure(blocks).savefig(out / 'patches.png', dpi=110)
    shown = {name: group.head(num_points) for name, group in groups.items()}
    for name, draw in feature_plots.PROJECTIONS.items():
        figure = draw_map(draw, shown, bank, source.palette, l2=l2, seed=seed)
        figure.savefig(out / f'features_{name}.png', dpi=110)
    _write(out / 'look_inside.json', json.dumps(report, indent=1))
    return report


def open_bank(cfg: Config, state: dict) -> FeatureBank:
    """The bank of a training config, if it was made from the segmentor that a checkpoint belongs to."""
    segmentor = state.get('meta', {}).get(META_KEY, {}).get('segmentor_sha256')
    bank = FeatureBank(cfg.train_dataloader.dataset.root, {'segmentor_sha256': segmentor} if segmentor else None)
    if not bank.num_pixels(CLOSED):
        raise ValueError(f"The feature bank in '{bank.root}' holds no closed pixels; wanted one that StoreSource built")
    return bank


def load_networks(cfg: Config, state: dict, channels: int, checkpoint='the checkpoint') -> tuple[nn.Module, nn.Module]:
    """D in eval mode, as it scores images, and G in training mode, as D met it: batch norm of its own batch.

    Raises:
        ValueError: the checkpoint or the config has no generator.
    """
    weights = state.get('state_dict', state)
    networks = []
    for name, width in (('discriminator', 'in_channels'), ('generator', 'out_channels')):
        own = {key[len(name) + 1:]: value for key, value in weights.items() if key.startswith(f'{name}.')}
        if not own or cfg.model.get(name) is None:
            raise ValueError(f"'{checkpoint}' or its config has no {name}: wanted those of OpenGAN or OpenGAN-0")
        networks.append(MODELS.build({**cfg.model[name], width: channels}))
        networks[-1].load_state_dict(own)
    return networks[0].eval(), networks[1].train()


@torch.no_grad()
def draw_groups(bank: FeatureBank, discriminator: nn.Module, generator: nn.Module, *, seed: int = 0,
                batch: int = 2500, number: int = _SCORED) -> dict[str, Group]:
    """Random closed, open and generated features; a group that the bank lacks is left out.

    Args:
        batch: generated features in a forward pass of G.
        number: features per group, or all where the bank has fewer.
    """
    device = next(discriminator.parameters()).device
    groups = {}
    for stream, name in enumerate((CLOSED, OPEN)):
        available = bank.num_pixels(name)
        if available:
            rows = step_rng(seed, 0, stream).choice(available, min(number, available), replace=False)
            features = bank.gather(name, rows).float().to(device)
            groups[name] = Group(features, discriminator(features), bank.pixels(name)[rows], rows)
    noise = step_rng(seed, 0, 2).standard_normal((-(-number // batch), batch, generator.noise_channels))
    fakes = torch.cat([generator(z) for z in torch.from_numpy(noise).float().to(device)])[:number]
    groups[FAKE] = Group(fakes, discriminator(fakes))
    return groups


def search(bank: FeatureBank, queries: dict[str, Group]) -> dict:
    """Nearest stored pixels: ``{(group, stored group, metric): NearestRows}``.

    Two more entries make the groups comparable, ``(group, 'equal closed' or 'equal open', 'l1')`` for the fakes: the
    larger group is cut to as many random rows as the smaller has, for the nearer of two groups is often just the larger.
    """
    found = {}
    sizes = {name: bank.num_pixels(name) for name in (CLOSED, OPEN) if bank.num_pixels(name)}
    for stored, size in sizes.items():
        pixels = bank.pixels(stored)
        chosen = np.zeros(size, bool)
        chosen[step_rng(0, 0, 3).choice(size, min(sizes.values()), replace=False)] = True
        searches = {}
        for name, group in queries.items():
            images = None if group.pixels is None else _tensor(group.pixels['image'], group.features.device)
            searches.update({(name, stored, metric): NearestRows(group.features, metric=metric, images=images)
                             for metric in METRICS})
        equal = NearestRows(queries[FAKE].features)
        for start in tqdm(range(0, size, _BLOCK), desc=f'Comparing with {stored} pixels', unit='block'):
            rows = np.arange(start, min(start + _BLOCK, size))
            device = equal.distance.device
            features = bank.gather(stored, rows).to(device)
            ids, images = _tensor(rows, device), _tensor(pixels['image'][rows], device)
            for nearest in searches.values():
                nearest.update(features, ids, images)
            part = torch.from_numpy(chosen[rows]).to(device)
            if part.any():
                equal.update(features[part], ids[part])
        found.update(searches)
        found[FAKE, f'equal {stored}', 'l1'] = equal
    return found


def measure(groups: dict[str, Group], found: dict, bank: FeatureBank) -> dict:
    """The numbers of the report; what needs a group that is absent is left out."""
    report = dict(
        mean_p_closed={name: float(group.logits.sigmoid().mean()) for name, group in groups.items()},
        auroc={f'{high} above {low}': _auroc(groups[low].logits, groups[high].logits)
               for low, high in combinations([name for name in (CLOSED, FAKE, OPEN) if name in groups], 2)},
        features={name: _statistics(group.features) for name, group in groups.items()},
        distance={f'{name} to nearest {stored}': {metric: quartiles(_finite(found[name, stored, metric].distance))
                                                  for metric in METRICS if (name, stored, metric) in found}
                  for name, stored, metric in found if metric == 'cosine'})
    radius = {name: {metric: float(_finite(found[name, name, metric].distance).quantile(.95)) for metric in METRICS}
              for name in (CLOSED, OPEN) if name in groups}
    report['fakes_within_reach'] = {
        name: {metric: float((found[FAKE, name, metric].distance <= reach).float().mean())
               for metric, reach in reaches.items()} for name, reaches in radius.items()}
    report['nearest_of_fakes'] = _nearest_of_fakes(found, bank)
    report['modes'] = {name: _modes(found, name, bank) for name in groups}
    return report


def _auroc(low: Tensor, high: Tensor) -> float:
    """Chance that D finds a pixel of the second group more open than one of the first."""
    is_open = torch.cat([torch.zeros_like(low), torch.ones_like(high)]).bool()
    return exact_auroc(-torch.cat([low, high]), is_open)


def _statistics(features: Tensor) -> dict:
    """Of features (n, C). Spread: median distance of two random ones, so that a collapsed generator shows."""
    half = len(features) // 2
    one, other = features[:half], features[half:2 * half]
    return dict(negative_share=float((features < 0).float().mean()), zero_share=float((features == 0).float().mean()),
                l1_norm=float(features.abs().sum(1).mean()), l2_norm=float(features.norm(dim=1).mean()),
                spread=dict(l1=float((one - other).abs().sum(1).median()),
                            cosine=float((1 - nn.functional.cosine_similarity(one, other)).median())))


def _nearest_of_fakes(found, bank) -> dict:
    """Which fakes have an open pixel as the nearest stored one; ``equal``: from equally many of both groups."""
    if (FAKE, OPEN, 'l1') not in found:
        return dict(open_share=None)
    shares = {kind: (found[FAKE, opened, metric].distance < found[FAKE, closed, metric].distance).cpu()
              for kind, closed, opened, metric in (('l1', CLOSED, OPEN, 'l1'), ('cosine', CLOSED, OPEN, 'cosine'),
                                                   ('l1, equal', f'equal {CLOSED}', f'equal {OPEN}', 'l1'))}
    rows = found[FAKE, OPEN, 'l1'].row.cpu().numpy()[shares['l1'].numpy()]
    return dict(open_share={kind: float(share.float().mean()) for kind, share in shares.items()},
                open_share_of_stored=bank.num_pixels(OPEN) / (bank.num_pixels(CLOSED) + bank.num_pixels(OPEN)),
                open_classes=dict(Counter(_class_names(bank, OPEN, bank.pixels(OPEN)[rows])).most_common()))


def overall(found: dict, name: str, bank: FeatureBank) -> list[tuple[str, np.void, float]]:
    """(stored group, pixel record, L1 distance) of the stored pixel nearest to each member of a group."""
    stored = [group for group in (CLOSED, OPEN) if (name, group, 'l1') in found]
    pixels = {group: bank.pixels(group) for group in stored}
    distances = torch.stack([found[name, group, 'l1'].distance for group in stored]).cpu()
    best = [(stored[which], i) for i, which in enumerate(distances.argmin(0).tolist())
            if distances[which, i].isfinite()]
    return [(group, pixels[group][int(found[name, group, 'l1'].row[i])], float(found[name, group, 'l1'].distance[i]))
            for group, i in best]


def _modes(found, name, bank) -> dict:
    """How many images and classes the nearest stored pixels come from, and the effective number of them."""
    nearest = [(group, pixel) for group, pixel, _ in overall(found, name, bank)]
    images = [int(pixel['image']) for _, pixel in nearest]
    classes = [_class_names(bank, group, [pixel])[0] for group, pixel in nearest]
    places = {(int(pixel['image']), int(pixel['row']), int(pixel['col'])) for _, pixel in nearest}
    return dict(features=len(nearest), pixels=len(places), images=len(set(images)),
                effective_images=effective_number(images), effective_classes=effective_number(classes),
                classes=dict(Counter(classes).most_common()))


def _class_names(bank, group, pixels) -> list[str]:
    names = bank.manifest['identity'][f'{group}_classes']
    return [names[int(pixel['label'])] for pixel in pixels]


def draw_map(project, groups: dict[str, Group], bank: FeatureBank, palette, *, l2: bool, seed: int):
    """A figure of :func:`engine.feature_plots.map_figure` with the features of some groups."""
    features = torch.cat([group.features for group in groups.values()]).cpu()
    features = nn.functional.normalize(features, dim=1) if l2 else features
    kinds = np.repeat(list(groups), [len(group.logits) for group in groups.values()])
    classes = np.concatenate([['generated'] * len(group.logits) if group.pixels is None else
                              _class_names(bank, name, group.pixels) for name, group in groups.items()])
    p_open = torch.cat([(-group.logits).sigmoid() for group in groups.values()]).cpu().numpy()
    points, title = project(features.numpy(), kinds != FAKE, seed)
    colours = dict(zip(bank.manifest['identity']['closed_classes'], palette))
    return feature_plots.map_figure(points, kinds, classes, p_open, colours,
                                    title + (' of features scaled to unit length' if l2 else ' of pixel features'))


def patch_blocks(groups, found, bank, source, number: int, size: int) -> list:
    """Titles and patches: random real pixels of each group, and the stored pixels nearest to the fakes."""
    blocks = []
    for name in (CLOSED, OPEN):
        if name in groups:
            some = groups[name].head(number)
            blocks.append((f'Real: {name} pixels, random', [
                feature_plots.Patch(source.patch(pixel, size), name, _class_names(bank, name, [pixel])[0],
                                    f'D: p(closed) {p:.2f}')
                for pixel, p in zip(some.pixels, some.logits.sigmoid().tolist())]))
    nearest = overall(found, FAKE, bank)[:number]
    p_closed = groups[FAKE].logits[:number].sigmoid().tolist()
    blocks.append(('Generated: nearest real pixel (L1)', [
        feature_plots.Patch(source.patch(pixel, size), name, _class_names(bank, name, [pixel])[0],
                            f'D: p(closed) {p:.2f}, L1 {distance:.0f}')
        for (name, pixel, distance), p in zip(nearest, p_closed)]))
    return blocks
