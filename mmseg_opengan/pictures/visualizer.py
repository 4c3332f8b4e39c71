"""mmseg's visualizer with a panel as its picture."""

from collections.abc import Sequence

import mmcv
import numpy as np
from mmengine.dist import master_only
from mmseg.registry import VISUALIZERS
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer

from ..contracts import GT_OPEN_MAP, OPEN_SCORES, OPENGAN
from .panel import draw_panel


@VISUALIZERS.register_module()
class OpenSetVisualizer(SegLocalVisualizer):
    """mmseg's visualizer with :func:`draw_panel` as its picture.

    Args:
        name: Name of the instance.
        thresholds: Probabilities of the thresholded open-pixel maps.
        threshold_of: Name of the score that they threshold.
        font: File (.ttf, .otf) for the class names.
        **kwargs: As for ``SegLocalVisualizer``.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        *,
        thresholds: Sequence[float] = (0.6, 0.7, 0.8, 0.9),
        threshold_of: str = OPENGAN,
        font: str | None = None,
        **kwargs,
    ):
        super().__init__(name, **kwargs)
        self.font = font
        self.thresholds, self.threshold_of = tuple(thresholds), threshold_of
        self.configured = self.threshold_of, self.thresholds  # a test may show others

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: SegDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        step: int = 0,
        with_labels: bool | None = True,
    ) -> None:
        """Draw one sample and show it, write it, or hand it to the backends.

        Args:
            name: Name of the picture.
            image: (H, W, 3) uint8 RGB.
            data_sample: Any of ``gt_sem_seg``, ``GT_OPEN_MAP``, ``pred_sem_seg`` and
                ``OPEN_SCORES``.
            draw_gt: Draw the ground truth.
            draw_pred: Draw prediction and scores.
            show: Show the picture in a window.
            wait_time: Seconds to show it, 0 = until a key.
            out_file: File to write instead of the backends.
            step: Step the backends record.
            with_labels: Draw the legend.
        """
        drawn = draw_panel(
            image,
            **panel_fields(data_sample, draw_gt, draw_pred),
            classes=self.dataset_meta.get('classes') or (),
            palette=self.dataset_meta.get('palette') or (),
            thresholds=self.thresholds,
            threshold_of=self.threshold_of,
            legend=bool(with_labels),
            font=self.font,
        )
        self.set_image(drawn)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(mmcv.rgb2bgr(drawn), out_file)
        else:
            self.add_image(name, drawn, step)


def panel_fields(
    sample: SegDataSample | None, draw_gt: bool = True, draw_pred: bool = True
) -> dict:
    """Arguments of :func:`draw_panel` that a sample holds, as arrays (h, w); score maps by name,
    OpenGAN's last.
    """
    if sample is None:
        return {}
    wanted = dict(gt='gt_sem_seg', open_map=GT_OPEN_MAP) if draw_gt else {}
    if draw_pred:
        wanted['pred'] = 'pred_sem_seg'
    found = {
        argument: _plane(sample.get(name).data)
        for argument, name in wanted.items()
        if name in sample
    }
    if draw_pred and OPEN_SCORES in sample:
        # mmengine keeps the names in a set, whose order differs between runs.
        names = sorted(sample.get(OPEN_SCORES).keys(), key=lambda name: (name == OPENGAN, name))
        found['scores'] = {name: _plane(sample.get(OPEN_SCORES).get(name)) for name in names}
    return found


def _plane(tensor):
    tensor = tensor.detach().cpu()
    return np.asarray(tensor.float() if tensor.is_floating_point() else tensor).squeeze(0)
