"""A trained score and a free one, each standardised on closed training pixels, and added; the
trained one only raises.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import HYBRID, OPENGAN
from ..files import as_json
from ..functional.scores import fused
from .networks import is_recorded
from .options import check_numbers
from .scorers.base import SCORERS, FitData, FittedScorer, Scorer


def main_score(names: Iterable[str]) -> str:
    """The score that is meant where none is named: the fused one, else D's, else the first."""
    names = list(names)
    if not names:
        raise ValueError('scorers: wanted at least one score, found a model without any')
    return next((name for name in (HYBRID, OPENGAN) if name in names), names[0])


def require_of_tap(name: str, scorer: Scorer) -> None:
    """Raise a ValueError unless a scorer reads features or logits, which stored pixels have."""
    if scorer.reads not in ('features', 'logits'):
        raise ValueError(
            f'{name}: wanted a scorer of features or logits, found {type(scorer).__name__}'
        )


def scores_of_pixels(
    scorer: Scorer, features: Tensor, logits: Tensor, chunk: int = 16384
) -> Tensor:
    """(n,) scores of pixels given as rows (n, C) and (n, K), in bounded memory."""
    found = []
    for rows, values in zip(features.split(chunk), logits.split(chunk)):
        maps = [part.T[None, :, None].contiguous() for part in (rows, values)]
        found.append(scorer(*maps).flatten())
    return torch.cat(found)


def moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (m,) of m scores (m, n) of closed pixels.

    Raises:
        ValueError: a score is the same for all pixels.
    """
    deviation = values.double().std(dim=1, correction=0)
    if not (deviation > 0).all():
        raise ValueError(
            'fused scores: wanted scores that differ between closed pixels, found the standard '
            f'deviations {deviation.tolist()}'
        )
    return values.double().mean(dim=1).float(), deviation.float()


class Fusion(nn.Module):
    """Adds a free score to D's: (1 - w) max(z(D), 0) + w z(free), see
    :func:`functional.scores.fused`.

    Its statistics belong to one state of D. They are measured before every validation and whenever
    a checkpoint is saved, and lie in it beside a digest of the options.

    Args:
        free: config of a scorer of features or logits; one that learns is fitted when it is first
            measured.
        weight: w, in [0, 1].
    """

    mean: Tensor
    deviation: Tensor
    digest: Tensor

    def __init__(self, *, free: dict | None = None, weight: float = 0.5):
        super().__init__()
        check_numbers('[0, 1]', **{'fuse.weight': weight})
        self.free = SCORERS.build(free or dict(type='GEN')).eval()
        require_of_tap('fuse.free', self.free)
        self.weight = weight
        self.register_buffer('mean', torch.zeros(2))
        self.register_buffer('deviation', torch.zeros(2))
        content = json.dumps(as_json(self.options()), sort_keys=True).encode()
        self.register_buffer('digest', torch.tensor([*hashlib.sha256(content).digest()]).byte())

    def options(self) -> dict:
        """What a config says of it, with all defaults, as plain values."""
        return dict(free=self.free.as_config(), weight=self.weight)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        own = self.digest.cpu()
        found = state_dict.get(f'{prefix}digest', own)
        if not torch.equal(found.cpu(), own):
            raise RuntimeError(
                "model.fuse: wanted the options of the checkpoint's training, whose statistics it "
                f'holds, found others: {self.options()}'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    @torch.no_grad()
    def measure(self, trained: Tensor, data: FitData) -> None:
        """Take the statistics of D's scores (n,) and of the free ones of the same closed pixels."""
        if isinstance(self.free, FittedScorer) and not self.free.fitted:
            self.free.fit(data)
        free = scores_of_pixels(self.free, data.features, data.logits)
        mean, deviation = moments(torch.stack([trained, free]))
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def forward(self, trained: Tensor, features: Tensor, logits: Tensor) -> Tensor:
        """(N, h, w) from D's score map and the tap's features and logits.

        Raises:
            RuntimeError: nothing was measured: the checkpoint was trained without ``model.fuse``.
        """
        if not is_recorded() and not self.deviation.all():
            raise RuntimeError(
                'model.fuse: wanted a checkpoint that was trained with it, found one without its '
                'statistics. Train with model.fuse, or fit a Hybrid with tools/fit_scorers.py.'
            )
        values = (trained, self.free(features, logits))
        return fused(values, self.mean, self.deviation, self.weight)
