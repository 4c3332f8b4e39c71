"""The test images of a run with the score maps that its test has written, for a slider.

Shapes: images of H x W pixels, maps (h, w) on the feature grid or at the size of the image.
"""

import heapq
from collections.abc import Sequence
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
from ..functional.detection import ScoreBins, roc_points, threshold_at_fpr
from ..functional.pixels import labels_on_grid
from ..functional.score_counts import ScoreCounts
from ..pictures.html_page import ScoredImage, Slider

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
    best = max(found, key=lambda name: found[name]['AUROC'] or 0)
    return TestedImages(dataset, Path(folder), OPENGAN if OPENGAN in found else best)


def slider_of(tested: TestedImages, report: dict, images: int) -> Slider:
    """Thresholds from one end of the ROC curve to the other, and the ``images`` worst images of
    each kind at the first operating point of the report.
    """
    counts = ScoreCounts(num_open_classes=1)
    for index in range(len(tested.dataset)):
        counts.update(*tested.read(index))
    bins = counts.bins()
    points = report['scorers'][tested.scorer]['operating_points']
    chosen = {f'at {rule}': point['threshold'] for rule, point in points.items()}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    chosen = chosen or {'at FPR 5 % of the test': threshold_at_fpr(bins)}
    places = {name: int(_bin_of(bins, [value])) for name, value in chosen.items()}
    _, _, along = roc_points(bins, max_points=_STEPS - len(chosen))
    steps = torch.cat([_bin_of(bins, along), torch.tensor(list(places.values()))]).unique()
    thresholds = bins.lower[steps].numpy().astype(np.float32)
    marks = {name: int(torch.searchsorted(steps, place)) for name, place in places.items()}
    start = next(iter(marks.values()))
    return Slider(
        f'Score maps of {tested.scorer}; rates of all {report["num_images"]} test images',
        threshold=thresholds.tolist(),
        hit=_from(bins.open, steps),
        alarm=_from(bins.closed, steps),
        open=int(bins.open.sum()),
        closed=int(bins.closed.sum()),
        marks=marks,
        groups=_worst(tested, thresholds, start, images),
    )


def _bin_of(bins: ScoreBins, thresholds: Sequence[float] | torch.Tensor) -> torch.Tensor:
    """Index of the first bin at or above each threshold, or of the last bin."""
    wanted = torch.as_tensor(thresholds, dtype=torch.float64)
    return torch.searchsorted(bins.lower, wanted).clamp(max=len(bins.lower) - 1)


def _from(counts: torch.Tensor, steps: torch.Tensor) -> list[int]:
    """The sums of counts per bin from each step on."""
    return counts.flip(0).cumsum(0).flip(0)[steps].tolist()


def _worst(
    tested: TestedImages, thresholds: np.ndarray, start: int, images: int
) -> dict[str, list[ScoredImage]]:
    """The images with most closed pixels called open, and with most open ones missed."""
    alarms, misses = [], []
    for index in range(len(tested.dataset)):
        scores, labels = tested.read(index)
        called = scores >= float(thresholds[start])
        alarms.append((int((called & (labels == CLOSED)).sum()), index))
        misses.append((int((~called & (labels == _OPEN)).sum()), index))
    groups = {}
    for title, counts in (('Worst false alarms', alarms), ('Worst misses', misses)):
        worst = [index for number, index in heapq.nlargest(images, counts) if number]
        groups[title] = [_scored_image(tested, index, thresholds) for index in worst]
    return groups


def _scored_image(tested: TestedImages, index: int, thresholds: np.ndarray) -> ScoredImage:
    scores, labels = tested.read(index)
    step = -(-max(scores.shape) // _LONGEST)
    shown = scores[::step, ::step].numpy()
    levels = np.searchsorted(thresholds, shown, side='right').astype(np.uint8)
    truth = labels[::step, ::step].numpy().astype(np.uint8)
    truth[truth == VOID] = _VOID_SHOWN
    path = tested.path(index)
    photo = mmcv.imread(path, channel_order='rgb')
    scale = min(1, _LONGEST / max(photo.shape[:2]))
    photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return ScoredImage(Path(path).stem, photo, levels, truth)
