"""The (K+1)-way classifier: open as one more class."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, pad

from ..options import check_numbers, check_whole
from .base import SCORERS, FittedScorer, Scorer
from .training import descend, draws

BATCH, RATE = 1024, 1e-3  # of Adam


@SCORERS.register_module()
class KPlusOne(FittedScorer):
    r"""Log-odds of class K+1 of a linear classifier on the frozen features, trained on closed and
    open pixels.

    .. math:: s(x) = z_{K+1} - \log \sum_{k \le K} e^{z_k}, \quad z = W x + b,

    the logit of p(open). The paper's HRNet-(K+1) (section 4.4) is a whole network trained so
    ("ground-up"); here only the 1x1 classifier is, starting from the segmentor's own with a zero
    row for open. The whole network: ``configs/baselines/kplus1_*.py`` and :class:`OpenClass`. A
    table must say which one its row is.

    Args:
        open_fraction: share of open pixels in a batch; None draws all pixels alike. That is the
            balance of what is fitted on, all open pixels and ``num_pixels`` closed ones, not of
            images, where open pixels are rarer.
        steps: of Adam.
        checkpoint: file that ``save_file`` wrote.
    """

    is_logit = True
    open_pixels = 'fitted'
    candidates = dict(open_fraction=[None, 0.25])

    def __init__(
        self,
        *,
        open_fraction: float | None = None,
        steps: int = 1000,
        checkpoint: str | None = None,
    ):
        super().__init__()
        if open_fraction is not None:
            check_numbers('(0, 1)', open_fraction=open_fraction)
        check_whole(steps=steps)
        self.open_fraction = open_fraction
        self.steps = steps
        self.load_file(checkpoint)

    def _fit(self, data):
        if data.open_features is None or len(data.open_features) == 0:
            raise ValueError(
                'KPlusOne trains on open pixels: wanted open_features (m, C) of at least one, '
                'found none'
            )
        closed = data.features
        opened = data.open_features
        weight = pad(data.weight, (0, 0, 0, 1)).requires_grad_()  # a zero row for open
        bias = pad(data.bias, (0, 1)).requires_grad_()
        pixels = torch.cat([closed, opened])
        labels = pad(data.labels, (0, len(opened)), value=len(data.weight))
        optimizer = torch.optim.Adam([weight, bias], lr=RATE)
        with torch.enable_grad():
            for rows in self._batches(len(closed), len(opened), data.seed):
                loss = cross_entropy(linear(pixels[rows], weight, bias), labels[rows])
                descend(optimizer, loss)
        return dict(weight_=weight, bias_=bias)

    def _batches(self, closed, open_, seed):
        options = dict(steps=self.steps, seed=seed, name='K+1')
        if self.open_fraction is None:
            yield from draws(closed + open_, BATCH, **options)
            return
        wanted = max(1, round(self.open_fraction * BATCH))
        open_draws = draws(
            open_,
            wanted,
            steps=self.steps,
            seed=seed,
            stream=1,
        )
        for rows, open_rows in zip(draws(closed, BATCH - wanted, **options), open_draws):
            yield torch.cat([rows, closed + open_rows])

    def _score(self, features, logits):
        return open_log_odds(
            torch.einsum('kc,nchw->nkhw', self.weight_, features) + self.bias_[:, None, None]
        )


def open_log_odds(logits: Tensor) -> Tensor:
    """(N, K + 1, h, w) logits, open last -> (N, h, w) log-odds of open: log p(open) - log(1 -
    p(open)).
    """
    return logits[:, -1] - torch.logsumexp(logits[:, :-1], dim=1)


@SCORERS.register_module()
class OpenClass(Scorer):
    """Log-odds of the last class of a segmentor that was trained with open as class K + 1 (the
    paper's HRNet-(K+1)).

    As for every other method, the score alone says what is open: the closed prediction is the best
    of the K classes.
    """

    is_logit = True
    reads = 'logits'
    open_pixels = 'stored'
    last_class_is_open = True

    def score(self, features, logits):
        return open_log_odds(logits.float())
