"""Figures of a test run that compares methods: one ROC figure, and a few images with the maps of
all of them.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import mmcv
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from tqdm import tqdm

from ..contracts import IGNORE
from ..pictures.figures import roc_figure, save_figure
from ..pictures.panel import draw_panel
from ..pictures.visualizer import panel_fields
from .metric import OpenSetMetric


@HOOKS.register_module()
class ComparisonHook(Hook):
    """Writes ``{out}/roc_{resolution}`` (PNG and PDF) and ``{out}/panels_{resolution}/``, and shows
    the progress of the test.

    Of a method with several seeds (``gmm_s0``, ``gmm_s1``, ...) the first is drawn.

    Args:
        out: folder.
        titles: method -> name in the figures, in the order of the panels.
        num_panels: images to draw, spread evenly over the test set.
    """

    priority = 'ABOVE_NORMAL'  # before the report, whose presence says that a test has been

    def __init__(self, *, out: str, titles: Mapping[str, str], num_panels: int = 4):
        self.out = Path(out)
        self.titles = dict(titles)
        self.num_panels = num_panels

    def shown(self, scorers: Collection[str]) -> dict[str, str]:
        """Title -> scorer, of the methods that are there."""
        found = {}
        for method, title in self.titles.items():
            seeds = [
                name
                for name in scorers
                if name.startswith(f'{method}_s') and name[len(method) + 2 :].isdigit()
            ]
            if method in scorers:
                found[title] = method
            elif seeds:
                found[title] = min(seeds, key=lambda name: int(name[len(method) + 2 :]))
        return found

    def before_test_epoch(self, runner: Runner) -> None:
        images = len(runner.test_dataloader.dataset)
        number = min(self.num_panels, images)
        self._wanted = {round((i + 0.5) * images / number - 0.5) for i in range(number)}
        self._seen = 0
        self._bar = tqdm(
            total=images, desc=f'Testing, {runner.model.resolution} resolution', unit='image'
        )

    @master_only
    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        for sample in outputs:
            if self._seen in self._wanted:
                self._draw(sample, runner)
            self._seen += 1
            self._bar.update()

    def _draw(self, sample: SegDataSample, runner: Runner) -> None:
        fields = panel_fields(sample)
        if 'gt' in fields and (fields['gt'] == IGNORE).all():
            del fields['gt']  # the closed classes are not known: closed is drawn grey, not as void
        scores = {
            title: fields['scores'][name] for title, name in self.shown(fields['scores']).items()
        }
        meta = runner.test_dataloader.dataset.metainfo
        panel = draw_panel(
            mmcv.imread(sample.img_path, channel_order='rgb'),
            **dict(fields, scores=scores),
            classes=meta['classes'],
            palette=meta['palette'],
        )
        folder = self.out / f'panels_{runner.model.resolution}'
        mmcv.imwrite(mmcv.rgb2bgr(panel), str(folder / f'{Path(sample.img_path).stem}.png'))

    @master_only
    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._bar.close()
        for metric in runner.test_evaluator.metrics:
            if isinstance(metric, OpenSetMetric):
                curves = {
                    title: metric.curves[name] for title, name in self.shown(metric.curves).items()
                }
                figure = roc_figure(curves, f'{runner.model.resolution} resolution')
                save_figure(figure, self.out / f'roc_{runner.model.resolution}')
