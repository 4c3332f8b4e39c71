"""Which inputs, losses, generators and fusions help to find open kinds that nobody has labelled.

    python benchmarks/leave_out_search.py inputs --out work_dirs/search
    python benchmarks/leave_out_search.py fusions --out work_dirs/search
    python benchmarks/leave_out_search.py generators --seeds 0 1 2 3 4 --out work_dirs/search

As ``tools/benchmark.py ... --leave-out-kinds``, with everything in memory: for each open kind in
turn D trains on the other kinds, and open validation of the other kinds picks the step by the fused
score's mean AUROC over kinds. Then the kind's pixels in the training images are told from the
closed pixels of the open-validation images. With ``--kinds none`` nothing is left out, and the
number is that of open validation itself, by which the step was chosen.

Each finished training is a line of ``OUT/SEARCH_PIXELSxSTEPS.jsonl``; a run that was interrupted
goes on.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from leave_out_world import Scored, World, build_generator
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn.functional import softplus

from mmseg_opengan.experiments.leave_out import detection
from mmseg_opengan.experiments.tables import markdown, mean
from mmseg_opengan.functional.scores import fused
from mmseg_opengan.models.gan_step import gan_step, logits_of_rows
from mmseg_opengan.models.networks import FeatureDiscriminator

LARGEST_VALIDATION = 20_000
PAIRS = 250


@dataclass(frozen=True)
class Variant:
    """What differs from CLS on features with the usual loss.

    Args:
        inputs: what D reads: 'features', 'clipped', 'logits' (logits, energy, GEN) or 'all'.
        loss: 'log' (Eq. 2) or 'pairs' (the logistic loss of all closed-open pairs, for AUC).
        generator: None, or one of ``leave_out_world.build_generator``.
        weight: lambda_G.
        rate: G's learning rate.
        fusion: key of ``FUSIONS``.
        share: the free score's weight in it.
    """

    inputs: str = 'features'
    loss: str = 'log'
    generator: str | None = None
    weight: float = 0.05
    rate: float = 1e-4
    fusion: str = 'raised'
    share: float = 0.5


SEARCHES = {
    'fusions': {
        'sum': Variant(fusion='sum'),
        'D raises': Variant(),
        'D raises, .3': Variant(share=0.3),
        'both raise': Variant(fusion='both raised'),
        'larger of both': Variant(fusion='larger'),
    },
    'inputs': {
        'features (CLS)': Variant(fusion='sum'),
        'clipped features': Variant(inputs='clipped', fusion='sum'),
        'logits, energy, GEN': Variant(inputs='logits', fusion='sum'),
        'all of these': Variant(inputs='all', fusion='sum'),
        'pairwise loss': Variant(loss='pairs', fusion='sum'),
    },
    'generators': {
        'none (CLS)': Variant(),
        'usual G, .05': Variant(generator='usual'),
        'attenuating G': Variant(generator='attenuating', weight=0.5, rate=1e-5),
        'scaled G': Variant(generator='scaled', weight=0.5),
        'null-space G': Variant(generator='null space', weight=0.5),
    },
}


def pair_loss(closed: Tensor, opened: Tensor) -> Tensor:
    """Mean logistic loss of closed logits above open ones, over all pairs of the first rows."""
    margins = closed[:PAIRS, None] - opened[None, :PAIRS]
    return softplus(-margins).mean()


def adam(network: nn.Module, rate: float) -> OptimWrapper:
    return OptimWrapper(torch.optim.Adam(network.parameters(), lr=rate, betas=(0.5, 0.999)))


def add(first: Tensor, second: Tensor, share: float) -> Tensor:
    return (1 - share) * first + share * second


_STANDARD = torch.zeros(2), torch.ones(2)  # means and deviations of standardised scores
#: Of D's and the free score, both standardised.
FUSIONS = {
    'raised': lambda first, second, share: fused((first, second), *_STANDARD, share),
    'both raised': lambda first, second, share: add(first.clamp(min=0), second.clamp(min=0), share),
    'sum': add,
    'larger': lambda first, second, share: torch.maximum(first, second),
}


class Training:
    """One D (and G) on the kinds that are not left out."""

    def __init__(self, world: World, variant: Variant, left: str | None, seed: int, size: int):
        torch.manual_seed(seed)
        self.world, self.variant, self.left, self.seed = world, variant, left, seed
        world.source.leave_out = [] if left is None else [left]
        world.source._bank = None
        sampler = world.source.sampler
        sampler.num_closed, sampler.num_open, sampler.num_fake = 2 * size, size, size
        width = world.inputs(variant.inputs, world.stored.features[:2]).shape[1]
        self.network = FeatureDiscriminator(width)
        if variant.inputs not in ('features', 'clipped'):  # of different scales
            self.network = nn.Sequential(nn.BatchNorm1d(width, affine=False), self.network)
        self.optimizers = dict(discriminator=adam(self.network, 1e-4 / 1.5))
        self.generator = None
        if variant.generator is not None:
            self.generator = build_generator(variant.generator, world)
            self.optimizers['generator'] = adam(self.generator, variant.rate)

    def step(self, number: int) -> None:
        batch = self.world.source[self.seed, number]
        closed, opened = batch['closed'].float(), batch['open'].float()
        if self.variant.loss == 'pairs':
            rows = [self._read(rows) for rows in (closed, opened)]
            loss = pair_loss(*logits_of_rows(self.network, *rows, None)[:2])
            self.optimizers['discriminator'].update_params(loss)
            return
        noise = ()
        if self.generator is not None:
            self.generator.observe(closed)
            noise = batch['draw'].noise(self.generator.noise_channels)

        def logits_of_groups(made: Tensor | None) -> Sequence[Tensor]:
            groups = [None if rows is None else self._read(rows) for rows in (closed, opened, made)]
            return logits_of_rows(self.network, *groups)

        gan_step(
            (self.network, self.generator),
            self.optimizers,
            noise,
            logits_of_groups,
            lambda network, made: network(self._read(made)),
            loss_options=dict(lambda_fake=self.variant.weight),
            kind='non_saturating',
        )

    def _read(self, features: Tensor) -> Tensor:
        return self.world.inputs(self.variant.inputs, features)

    @torch.no_grad()
    def scorer(self):
        """D's open score, and the fused one, of :class:`Scored` pixels."""
        network = self.network.eval()

        def trained(pixels: Scored) -> Tensor:
            parts = [network(self._read(rows)) for rows in pixels.features.split(16384)]
            return -torch.cat(parts)

        closed = trained(self.world.stored)
        free = self.world.stored.free
        fuse, share = FUSIONS[self.variant.fusion], self.variant.share

        @torch.no_grad()
        def both(pixels: Scored) -> dict[str, Tensor]:
            alone = trained(pixels)
            first = (alone - closed.mean()) / closed.std()
            second = (pixels.free - free.mean()) / free.std()
            return dict(alone=alone, fused=fuse(first, second, share))

        return both

    def validate(self, closed: Scored) -> float:
        """Mean AUROC of the fused score over the kinds of open validation that are known."""
        score = self.scorer()
        low = score(closed)['fused']
        found = [
            detection(low, score(pixels)['fused'])['AUROC']
            for name, pixels in self.world.validation.items()
            if name != self.left
        ]
        self.network.train()
        return float(np.mean(found))


def run(world: World, variant: Variant, left: str | None, seed: int, args) -> dict:
    start = time.monotonic()
    training = Training(world, variant, left, seed, args.open_pixels)
    few = world.closed.some(LARGEST_VALIDATION)
    best, best_step, state = -1.0, 0, {}
    for number in range(args.steps):
        training.step(number)
        if (number + 1) % args.interval == 0:
            found = training.validate(few)
            if found > best:
                best, best_step = found, number + 1
                state = {key: value.clone() for key, value in training.network.state_dict().items()}
    result = dict(validation=best, step=best_step)
    training.network.load_state_dict(state)
    result['chosen'] = numbers(world, training, left)
    result['seconds'] = round(time.monotonic() - start, 1)
    return result


def numbers(world: World, training: Training, left: str | None) -> dict:
    score = training.scorer()
    closed = score(world.closed)
    if left is None:
        by_kind = [score(pixels) for pixels in world.validation.values()]
    else:
        by_kind = [score(world.opened[left])]
    found = {}
    for name in ('alone', 'fused'):
        each = [detection(closed[name], opened[name]) for opened in by_kind]
        found[name] = {key: float(np.mean([one[key] for one in each])) for key in each[0]}
    return found


def complete_seeds(runs: list[dict]) -> dict[str, list[dict]]:
    """By variant, for each seed that has every kind: the runs by kind."""
    kinds = {run['left'] for run in runs}
    found: dict[str, list[dict]] = {}
    for name in dict.fromkeys(run['variant'] for run in runs):
        by_seed: dict[int, dict] = {}
        for run in runs:
            if run['variant'] == name:
                by_seed.setdefault(run['seed'], {})[run['left']] = run
        found[name] = [of_seed for of_seed in by_seed.values() if of_seed.keys() == kinds]
    return found


def tables(path: Path) -> str:
    """Markdown: means over kinds, and AUROC of each kind; mean and deviation over seeds."""
    complete = complete_seeds([json.loads(line) for line in path.read_text().splitlines()])
    kinds = [str(kind) for kind in next(iter(complete.values()))[0]]
    head = ['variant', 'seeds', 'D alone, AUROC', 'AP', 'fused, AUROC', 'AP', 'chosen step']
    means, by_kind = [], []
    for name, seeds in complete.items():
        cells = [name, len(seeds)]
        for score, metric in product(('alone', 'fused'), ('AUROC', 'AP')):
            each = [[run['chosen'][score][metric] for run in one.values()] for one in seeds]
            cells.append(mean([float(np.mean(of_kinds)) for of_kinds in each]))
            if metric == 'AUROC':
                row = [mean([one[place] for one in each]) for place in range(len(kinds))]
                by_kind.append([f'{name}, {score}', *row])
        steps = np.median([run['step'] for one in seeds for run in one.values()])
        means.append([*cells, f'{steps:.0f}'])
    return f'{markdown(head, means)}\n\n{markdown(["variant", *kinds], by_kind)}'


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('search', choices=SEARCHES)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--kinds', nargs='+', help='left out in turn; default: each')
    parser.add_argument('--variants', nargs='+', help='default: all of the search')
    parser.add_argument('--steps', type=int, default=400)
    parser.add_argument('--interval', type=int, default=50, help='steps between validations')
    parser.add_argument('--open-pixels', type=int, default=250, help='a step; closed: twice')
    parser.add_argument('--bank', help="feature bank; default: the config's")
    return parser.parse_args()


def main():
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f'{args.search}_{args.open_pixels}x{args.steps}.jsonl'
    known = path.read_text().splitlines() if path.exists() else []
    done = {tuple(json.loads(line)[key] for key in ('variant', 'left', 'seed')) for line in known}
    world = World(args.bank)
    kinds = args.kinds or list(world.kinds)
    variants = SEARCHES[args.search]
    for seed in args.seeds:
        for kind in kinds:
            left = None if kind == 'none' else kind
            for name in args.variants or variants:
                if (name, left, seed) in done:
                    continue
                found = run(world, variants[name], left, seed, args)
                line = json.dumps(dict(variant=name, left=left, seed=seed, **found))
                with path.open('a') as file:
                    file.write(line + '\n')
                print(line, flush=True)
    print(tables(path))


if __name__ == '__main__':
    main()
