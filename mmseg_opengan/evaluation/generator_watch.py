"""How well D tells generated pixels from real closed ones, at every validation (paper Figure
10).
"""

from typing import Any

import torch
from mmengine.dist import all_reduce, broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..contracts import CLOSED, FIRST_OPEN, GT_OPEN_MAP, OPEN_SCORES, OPENGAN, VOID
from ..engine.running import model_of
from ..functional.detection import auroc
from ..functional.pixels import labels_on_grid
from ..functional.score_counts import ScoreCounts
from ..functional.score_layout import ScoreLayout


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
        self._counts = None
        model = model_of(runner)
        if model.generator is None:
            return
        model.eval()  # as the loop does next: D scores as in validation
        self._fake = model.score_generated(self.num_fake, self.seed)
        self._open = torch.full_like(self._fake, FIRST_OPEN, dtype=torch.uint8)
        layout = [ScoreLayout.of(self._fake, self._open)]
        broadcast_object_list(layout)  # counts of all ranks add
        self._counts = ScoreCounts(num_open_classes=1, layout=layout[0])

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if self._counts is None:
            return
        for sample in outputs:
            scores = sample.get(OPEN_SCORES).get(OPENGAN).squeeze(0)
            labels = labels_on_grid(sample.get(GT_OPEN_MAP).data.squeeze(0), scores.shape)
            self._counts.update(scores, torch.where(labels == CLOSED, labels, VOID))

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        if self._counts is None:
            return
        all_reduce(self._counts.tensor)  # closed pixels; the generated ones are the same on each
        self._counts.update(self._fake, self._open)
        metrics['fake/AUROC'] = auroc(self._counts.bins())
