"""Pooled pixel AUROC, AP and FPR95 of every score map, with mIoU beside them, in fixed memory."""

from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS
from prettytable import PrettyTable

from ..contracts import CLOSED, GT_OPEN_MAP, IGNORE, LABEL_POLICY, OPEN_SCORES, OPENGAN, VOID
from ..functional.bootstrap import block_table, interval, resampled_aurocs
from ..functional.files import replacing
from ..functional.pixels import labels_on_grid
from ..functional.roc import ScoreCounts, summarize


@METRICS.register_module()
class OpenSetMetric(BaseMetric):
    """Open-set segmentation, evaluated on all pixels of all images pooled.

    Every map found in ``open_scores`` is evaluated under its own name: ``opengan/AUROC``, ``opengan/AP``,
    ``opengan/FPR95``, ``msp/AUROC``, ... (fractions in [0, 1], open is the positive class), and ``mIoU``, ``mAcc``,
    ``aAcc`` of the closed prediction (percent, mseg's ``IoUMetric`` on the closed classes alone).

    Scores are counted in fixed-size tables that add over images and ranks, so memory does not grow with the data set.

    Args:
        closed: also compute mIoU (off for data without closed class labels).
        bootstrap_block: also give a 95 % block-bootstrap interval of every AUROC, over blocks of so many consecutive
            images (time segments of a video); 0 gives none. One process only, and some MB per block and scorer.
        output_dir: write ``{image}.png`` (closed class ids) and ``{image}.{scorer}.npy`` (raw scores, float16) there;
            what ``--out`` of the test tools sets.
        keep_results: set by ``--out``; has no meaning here, nothing is kept.

    Raises:
        ValueError: a sample without score maps, or an evaluation that saw another number of images than the dataset
            has (a loader that pads with duplicates or drops some).
    """

    default_prefix = ''

    def __init__(self, *, closed: bool = True, bootstrap_block: int = 0, output_dir: str | None = None,
                 keep_results: bool = False, collect_device: str = 'cpu', prefix: str | None = None):
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.closed = closed
        self.output_dir = None if output_dir is None else Path(output_dir)
        if self.output_dir is not None:
            self.output_dir.mkdir(parents=True, exist_ok=True)
        if bootstrap_block and get_world_size() > 1:
            raise ValueError('bootstrap_block: wanted one process, whose images come in order, found '
                             f'{get_world_size()}')
        self.bootstrap_block = bootstrap_block
        self.report, self.curves = None, {}
        self._reset()

    def _reset(self):
        self.counts = {}
        self.block = {}  # scorer -> counts of the current block of images
        self.blocks = {}  # scorer -> score bins of the finished blocks
        self.areas = None
        self.num_images = 0
        self.resolution = None

    def process(self, data_batch, data_samples) -> None:
        for sample in data_samples:
            open_map = sample[GT_OPEN_MAP]['data'].squeeze(0)
            if OPEN_SCORES not in sample:
                raise ValueError(f"{sample.get('img_path')}: the model gave no score maps. Use an OpenGANSegmentor "
                                 'with a discriminator or scorers.')
            for name, scores in sample[OPEN_SCORES].items():
                self._count(name, scores.squeeze(0), open_map)
            if self.closed:
                self._count_classes(sample)
            if self.output_dir is not None:
                self._write(sample)
            self.num_images += 1
            if self.bootstrap_block and self.num_images % self.bootstrap_block == 0:
                self._finish_block()
            self.results.append(sample.get('img_path'))

    def _count(self, name, scores, open_map):
        on_grid = scores.shape != open_map.shape
        self.resolution = 'feature' if on_grid else 'image'
        labels = labels_on_grid(open_map, scores.shape) if on_grid else open_map
        labels = labels.to(scores.device)
        self._counts_of(name).update(scores, labels)
        if self.bootstrap_block:
            block = self.block.setdefault(name, ScoreCounts(num_open_classes=1))
            block.update(scores, torch.where(labels == VOID, VOID, (labels != CLOSED).to(labels)))

    def _counts_of(self, name):
        if name not in self.counts:
            self.counts[name] = ScoreCounts(num_open_classes=len(self.dataset_meta['open_classes']))
        return self.counts[name]

    def _finish_block(self):
        for name, counts in self.block.items():
            self.blocks.setdefault(name, []).append(counts.bins())
        self.block = {}

    def _count_classes(self, sample):
        num_classes = len(self.dataset_meta['classes'])
        prediction = sample['pred_sem_seg']['data'].squeeze()
        label = sample['gt_sem_seg']['data'].squeeze().to(prediction)
        areas = torch.stack(IoUMetric.intersect_and_union(prediction, label, num_classes, IGNORE)).double()
        self.areas = areas if self.areas is None else self.areas + areas

    def _write(self, sample):
        stem = self.output_dir / Path(sample['img_path']).stem
        prediction = sample['pred_sem_seg']['data'].squeeze().cpu().numpy().astype(np.uint8)
        with replacing(f'{stem}.png') as file:
            file.write(cv2.imencode('.png', prediction)[1].tobytes())
        for name, scores in sample[OPEN_SCORES].items():
            with replacing(f'{stem}.{name}.npy') as file:
                np.save(file, scores.squeeze(0).cpu().numpy().astype(np.float16))

    def evaluate(self, size: int) -> dict:
        """Add the tables of all ranks, then compute; see :class:`BaseMetric`."""
        seen = torch.tensor(self.num_images)
        all_reduce(seen)
        if int(seen) != size:
            self.results.clear()
            self._reset()
            raise ValueError(f'OpenSetMetric: the dataset has {size} images, {int(seen)} were evaluated. Use '
                             "sampler=dict(type='DefaultSampler', shuffle=False, round_up=False)")
        self.num_images = size
        # More ranks than images: a rank that saw none must take part all the same, with zeros.
        names = {name for found in all_gather_object(list(self.counts)) for name in found}
        # Samples name their maps in no order; reports and figures have the methods by name, OpenGAN last.
        self.counts = {name: self._counts_of(name) for name in sorted(names, key=lambda name: (name == OPENGAN, name))}
        for counts in self.counts.values():
            all_reduce(counts.tensor)
        if self.closed:
            if self.areas is None:
                self.areas = torch.zeros(4, len(self.dataset_meta['classes']), dtype=torch.float64)
            all_reduce(self.areas)
        metrics = super().evaluate(size)
        self._reset()
        return metrics

    def compute_metrics(self, results: list) -> dict:
        open_classes = self.dataset_meta['open_classes']
        summaries = {name: summarize(counts, open_classes) for name, counts in self.counts.items()}
        self._finish_block()
        for name, blocks in self.blocks.items():
            table = block_table(blocks)
            summaries[name].update(AUROC_interval=interval(resampled_aurocs([table])), blocks=table.to_json())
        metrics = {f'{name}/{key}': summary[key] for name, summary in summaries.items()
                   for key in ('AUROC', 'AP', 'FPR95')}
        if self.areas is not None:
            closed = IoUMetric.total_area_to_metrics(*self.areas.float(), ['mIoU'])
            metrics.update(mIoU=100 * float(np.nanmean(closed['IoU'])), mAcc=100 * float(np.nanmean(closed['Acc'])),
                           aAcc=100 * float(closed['aAcc']))
        self.report = dict(
            label_policy=self.dataset_meta.get(LABEL_POLICY), resolution=self.resolution, pooling='all pixels',
            num_images=self.num_images, scorers=summaries,
            **{key: metrics[key] for key in ('mIoU', 'mAcc', 'aAcc') if key in metrics})
        self.curves = {name: counts.bins() for name, counts in self.counts.items()}
        MMLogger.get_current_instance().info('\n' + self._table())
        return metrics

    def _table(self) -> str:
        first = next(iter(self.report['scorers'].values()))
        table = PrettyTable(['scorer', 'AUROC', 'AP', 'FPR95'])
        table.title = (f"{self.report['label_policy']}, {self.resolution} resolution, {first['num_closed']:,} closed "
                       f"and {first['num_open']:,} open pixels of {self.num_images} images")
        for name, numbers in self.report['scorers'].items():
            table.add_row([name, *(f'{numbers[key]:.4f}' for key in ('AUROC', 'AP', 'FPR95'))])
        return table.get_string()
