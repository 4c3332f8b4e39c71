"""Pictures of a few test images with several score maps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmcv
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..pictures.panel import draw_panel
from ..pictures.visualizer import panel_fields


@HOOKS.register_module()
class PanelHook(Hook):
    """Writes ``{out}/{image}.png``.

    Args:
        out: folder.
        scorers: title -> scorer, the score maps in their order.
        number: images to draw, spread evenly over the test set.
    """

    priority = 'ABOVE_NORMAL'  # before the report, whose presence says that a test has been

    def __init__(self, *, out: str, scorers: Mapping[str, str], number: int = 4):
        self.out = Path(out)
        self.scorers = scorers
        self.number = number

    def before_test_epoch(self, runner: Runner) -> None:
        images = len(runner.test_dataloader.dataset)
        number = min(self.number, images)
        self._wanted = {round((i + 0.5) * images / number - 0.5) for i in range(number)}
        self._seen = 0

    @master_only
    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        meta = runner.test_dataloader.dataset.metainfo
        for sample in outputs:
            if self._seen in self._wanted:
                fields = panel_fields(sample)
                scores = {title: fields['scores'][name] for title, name in self.scorers.items()}
                panel = draw_panel(
                    mmcv.imread(sample.img_path, channel_order='rgb'),
                    **dict(fields, scores=scores),
                    classes=meta['classes'],
                    palette=meta['palette'],
                )
                file = self.out / f'{Path(sample.img_path).stem}.png'
                mmcv.imwrite(mmcv.rgb2bgr(panel), str(file))
            self._seen += 1
