"""The test images of a run with the score maps that its test has written, for a slider.

Shapes: images of H x W pixels, maps (h, w) on the feature grid or at the size of the image.
"""

from pathlib import Path
from typing import NamedTuple

import cv2
import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS

from .. import register  # noqa: F401
from ..contracts import CLOSED, OPENGAN, VOID
from ..datasets.open_set_dataset import OpenSetDataset
from ..features.stored_taps import images_of
from ..functional.detection import roc_points, threshold_at_fpr
from ..functional.pixels import labels_on_grid
from ..functional.score_counts import ScoreCounts
from ..pictures.html_page import ScoredImage, slider

#: Pixels of a picture's longer side.
_LONGEST = 480
#: Thresholds of a slider: how many a pixel reaches fits into 8 bits.
_STEPS = 255
_OPEN, _VOID_SHOWN = 1, 2


class TestedImages(NamedTuple):
    """The images, and where their score maps of one scorer lie."""

    dataset: OpenSetDataset
    folder: Path
    scorer: str

    def path(self, index: int) -> str:
        return self.dataset.get_data_info(index)['img_path']

    def read(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (h, w) float32, and labels on that grid: 0 closed, 1 open, 255 void.

        Raises:
            FileNotFoundError: the image has no score map.
            ValueError: the score map is cut off, or is none.
        """
        file = self.folder / f'{Path(self.path(index)).stem}.{self.scorer}.npy'
        if not file.is_file():
            raise FileNotFoundError(
                f"'{file}': wanted the score map of a test image, found nothing. Test again with "
                '--out.'
            )
        try:
            scores = torch.from_numpy(np.load(file)).float()
        except (EOFError, OSError, TypeError, ValueError) as error:
            raise ValueError(f"'{file}': wanted a score map, found {error}. Test again.") from error
        _, open_map = self.dataset.read_labels(index)
        labels = labels_on_grid(torch.from_numpy(open_map), scores.shape)
        is_open = (labels != CLOSED).to(labels)
        return scores, torch.where(labels == VOID, VOID, is_open)


def tested_images(run: Path, report: dict) -> TestedImages | None:
    """From the config that a run's last test has left there, with D's score maps, or those of the
    scorer with the best AUROC; None where that test wrote none.
    """
    configs = sorted(run.glob('*/vis_data/config.py'))
    if not configs:
        return None
    cfg = Config.fromfile(configs[-1])
    folder = cfg.test_evaluator.get('output_dir')
    if folder is None or not Path(folder).is_dir():
        return None
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    dataset = DATASETS.build(images_of(cfg.test_dataloader.dataset))
    found = report['scorers']
    best = max(found, key=lambda name: (name == OPENGAN, found[name]['AUROC'] or 0))
    return TestedImages(dataset, Path(folder), best)


def slider_of(tested: TestedImages, report: dict, images: int, place: int) -> str:
    """HTML: thresholds from one end of the ROC curve to the other, what they make of all test
    pixels, and the ``images`` worst images of each kind at the first operating point of the report.

    Args:
        place: of the run on the page.
    """
    counts = ScoreCounts(num_open_classes=1)
    for index in range(len(tested.dataset)):
        counts.update(*tested.read(index))
    bins = counts.bins()
    points = report['scorers'][tested.scorer]['operating_points']
    chosen = {}
    for rule, point in points.items():
        if point['threshold'] is not None:
            chosen[f'at {rule}'] = point['threshold']
    if not chosen:
        chosen['at FPR 5 % of the test'] = min(threshold_at_fpr(bins), float(bins.lower[-1]))
    _, _, along = roc_points(bins, max_points=_STEPS - len(chosen))
    thresholds = np.unique(np.float32([*along[along.isfinite()], *chosen.values()]))
    marks = {name: int(np.searchsorted(thresholds, np.float32(chosen[name]))) for name in chosen}
    start = next(iter(marks.values()))
    called = np.stack([_called(tested, i, thresholds) for i in range(len(tested.dataset))])
    closed, opened = called.sum(0)[..., 0]
    alarm, hit = called.sum(0)[..., 1:]
    misses = called[:, 1, 0] - called[:, 1, 1 + start]
    groups = {}
    for title, worst in (('Worst false alarms', called[:, 0, 1 + start]), ('Worst misses', misses)):
        indices = [i for i in worst.argsort()[::-1][:images] if worst[i]]
        groups[title] = [_scored_image(tested, i, thresholds) for i in indices]
    counted = dict(
        threshold=[float(f'{value:.9g}') for value in thresholds],
        hit=hit.tolist(),
        alarm=alarm.tolist(),
        all=dict(open=int(opened), closed=int(closed)),
    )
    title = f'Score maps of {tested.scorer}; rates of all {report["num_images"]} test images'
    return slider(title, counted, marks, groups, place)


def _called(tested: TestedImages, index: int, thresholds: np.ndarray) -> np.ndarray:
    """(2, 1 + steps) closed and open pixels of an image: all, and those at or above each
    threshold.
    """
    scores, labels = tested.read(index)
    levels = np.searchsorted(thresholds, scores, side='right')
    counts = []
    for group in (CLOSED, _OPEN):
        pixels = np.bincount(levels[labels == group], minlength=len(thresholds) + 1)
        counts.append(pixels[::-1].cumsum()[::-1])
    return np.stack(counts)


def _scored_image(tested: TestedImages, index: int, thresholds: np.ndarray) -> ScoredImage:
    scores, labels = tested.read(index)
    step = -(-max(scores.shape) // _LONGEST)
    shown, truth = (part[::step, ::step].numpy() for part in (scores, labels))
    levels = np.searchsorted(thresholds, shown, side='right').astype(np.uint8)
    truth = np.where(truth == VOID, _VOID_SHOWN, truth).astype(np.uint8)
    path = tested.path(index)
    photo = mmcv.imread(path, channel_order='rgb')
    scale = min(1, _LONGEST / max(photo.shape[:2]))
    photo = cv2.resize(
        photo,
        None,
        fx=scale,
        fy=scale,
        interpolation=cv2.INTER_AREA,
    )
    return ScoredImage(Path(path).stem, photo, levels, truth)
