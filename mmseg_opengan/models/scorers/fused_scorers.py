"""Scores of the segmentor's own uncertainty made better: clipped features, and a trained score
beside a free one.
"""

import math

import torch
from torch import Tensor

from ...functional import scores
from ..frozen_segmentor import load_whole, part_of
from ..fusion import moments, require_of_tap, scores_of_pixels
from ..options import check_choices, check_numbers
from .base import SCORERS, FittedScorer, Scorer

#: What ReAct reads the clipped logits with.
CLIPPED_SCORES = dict(gen=scores.gen, energy=scores.energy)


@SCORERS.register_module()
class ReAct(FittedScorer):
    """A score of the logits of clipped features: min(f, c) @ W + b, then GEN or energy.

    Sun et al., NeurIPS 2021, "ReAct: Out-of-distribution Detection With Rectified Activations",
    with energy. c is a quantile of the features of closed training pixels.

    Args:
        quantile: in (0, 1]; 1 clips nothing that closed training pixels have.
        per: ``'all'``, one c for all channels (the paper), or ``'channel'``, one for each. Features
            of both signs need the second.
        uncertainty: ``'gen'`` or ``'energy'``, of the clipped logits.
        checkpoint: file that ``tools/fit_scorers.py`` wrote.
    """

    candidates = dict(
        quantile=[0.8, 0.9, 0.95, 1.0], per=['all', 'channel'], uncertainty=['gen', 'energy']
    )

    def __init__(
        self,
        *,
        quantile: float = 0.9,
        per: str = 'all',
        uncertainty: str = 'gen',
        checkpoint: str | None = None,
    ):
        super().__init__()
        check_numbers('(0, 1]', quantile=quantile)
        check_choices(per=(per, ('all', 'channel')), uncertainty=(uncertainty, CLIPPED_SCORES))
        self.quantile = quantile
        self.per = per
        self.uncertainty = uncertainty
        self.load_file(checkpoint)

    def _fit(self, data):
        values = data.features if self.per == 'channel' else data.features.reshape(-1, 1)
        rank = max(1, math.ceil(self.quantile * len(values)))
        clip = values.kthvalue(rank, dim=0).values
        return dict(
            clip_=clip.expand(data.features.shape[1]),
            weight_=data.weight.float(),
            bias_=data.bias.float(),
        )

    def _score(self, features, logits):
        clipped = torch.minimum(features, self.clip_[:, None, None])
        logits = torch.nn.functional.conv2d(clipped, self.weight_[:, :, None, None], self.bias_)
        return CLIPPED_SCORES[self.uncertainty](logits)


@SCORERS.register_module()
class Hybrid(FittedScorer):
    """A trained score and a free one, each standardised on closed training pixels:
    (1 - w) max((d - mean d) / std d, 0) + w (s - mean s) / std s.

    A trained score knows the open kinds that training showed it. A free one, of the segmentor's own
    uncertainty, does not depend on them. So the trained one only raises, see
    :func:`functional.scores.fused`.

    Args:
        trained: config of a scorer, in most cases a ``DiscriminatorScorer`` with its checkpoint.
        free: config of a scorer; where it learns and has no checkpoint, it is fitted on the same
            pixels.
        weight: w, in [0, 1].
        checkpoint: file that ``tools/fit_scorers.py`` wrote. It holds both scorers whole.
    """

    candidates = dict(
        weight=[0.25, 0.5, 0.75],
        free=[
            dict(type='GEN'),
            dict(type='Energy'),
            dict(type='ReAct', quantile=0.9, per='all'),
        ],
    )

    def __init__(
        self,
        *,
        trained: dict | None = None,
        free: dict | None = None,
        weight: float = 0.5,
        checkpoint: str | None = None,
    ):
        super().__init__()
        check_numbers('[0, 1]', weight=weight)
        self.weight = weight
        if checkpoint is not None:
            self.load_file(checkpoint)
        elif trained is not None:
            self._build(trained, free or dict(type='GEN'))
        else:
            raise ValueError('trained: wanted the config of a scorer, or a checkpoint, found None')

    def _build(self, trained: dict, free: dict) -> None:
        self.trained_scorer = SCORERS.build(dict(trained))
        self.free_scorer = SCORERS.build(dict(free))
        self.trained = whole_config(trained, self.trained_scorer)
        self.free = whole_config(free, self.free_scorer)
        self._free_is_given = 'checkpoint' in free
        require_of_tap('trained', self.trained_scorer)
        require_of_tap('free', self.free_scorer)
        self.segmentor_sha256 = self.trained_scorer.segmentor_sha256
        self.eval().requires_grad_(False)  # D's batch norm above all

    @property
    def open_pixels(self) -> str:  # type: ignore[override]
        """``'stored'`` where its trained score has seen any; fitting learns that one no more."""
        return 'unused' if self.trained_scorer.open_pixels == 'unused' else 'stored'

    def _take_options(self, options: dict) -> None:
        if 'trained' in options:
            self.weight = options['weight']
            self._build(options['trained'], options['free'])

    def _fit(self, data):
        if isinstance(self.free_scorer, FittedScorer) and not self._free_is_given:
            self.free_scorer.fit(data)
        scorers = (self.trained_scorer, self.free_scorer)
        found = [scores_of_pixels(one, data.features, data.logits) for one in scorers]
        mean, deviation = moments(torch.stack(found))
        return dict(mean_=mean, deviation_=deviation)

    def take_statistics(self, state: dict[str, Tensor]) -> None:
        """Be fitted with what a training with ``model.fuse`` measured: the state of its
        :class:`Fusion`.
        """
        load_whole(self.free_scorer, part_of(state, 'free.'), 'fuse.free', 'The checkpoint')
        self._buffers = dict(mean_=state['mean'], deviation_=state['deviation'])

    def _score(self, features, logits):
        values = (self.trained_scorer(features, logits), self.free_scorer(features, logits))
        return scores.fused(values, self.mean_, self.deviation_, self.weight)


def whole_config(config: dict, scorer: Scorer) -> dict:
    """The config of a scorer whose state is stored beside it: no checkpoint, all shapes and options
    stated.
    """
    config = {key: value for key, value in config.items() if key != 'checkpoint'}
    config.update(scorer.options())
    if 'discriminator' in config:
        channels = getattr(scorer.discriminator, 'in_channels', None)
        if channels is not None:
            config['discriminator'] = dict(config['discriminator'], in_channels=channels)
    return config
