"""How well D tells generated pixels from real closed ones, at every validation (paper Figure
10).
"""

from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..contracts import CLOSED, FIRST_OPEN, GT_OPEN_MAP, OPEN_SCORES, OPENGAN, VOID
from ..engine.running import model_of
from ..functional.detection import auroc
from ..functional.pixels import labels_on_grid
from ..functional.score_counts import ScoreCounts


@HOOKS.register_module()
class FakeVersusRealHook(Hook):
    """Adds ``fake/AUROC`` to the validation's metrics: generated pixels against its closed pixels,
    as D scores them.

    The noise is the same at every validation, so that only D and G change. Without a generator
    nothing is added.

    Args:
        num_fake: generated pixels.
        seed: of their noise.
    """

    priority = 'HIGHEST'  # before the metrics are logged

    def __init__(self, *, num_fake: int = 2500, seed: int = 0):
        self.num_fake = num_fake
        self.seed = seed
        self._counts: ScoreCounts | None = None

    def before_val_epoch(self, runner: Runner) -> None:
        self._counts = (
            ScoreCounts(num_open_classes=1) if model_of(runner).generator is not None else None
        )

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if self._counts is None:
            return
        for sample in outputs:
            scores = sample.get(OPEN_SCORES).get(OPENGAN).squeeze(0)
            labels = sample.get(GT_OPEN_MAP).data.squeeze(0)
            if labels.shape != scores.shape:
                labels = labels_on_grid(labels, scores.shape)
            self._counts.update(scores, torch.where(labels == CLOSED, labels, VOID))

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        if self._counts is None:
            return
        all_reduce(
            self._counts.tensor
        )  # closed pixels of all ranks; the fake ones are the same on each
        fake = model_of(runner).score_generated(self.num_fake, self.seed)
        self._counts.update(
            fake, torch.full(fake.shape, FIRST_OPEN, dtype=torch.uint8, device=fake.device)
        )
        metrics['fake/AUROC'] = auroc(self._counts.bins())
        self._counts = None
