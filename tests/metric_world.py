"""Made-up predictions for the metric, and what it shall find in them."""

import numpy as np
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from sklearn.metrics import roc_curve

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.contracts import GT_OPEN_MAP, IGNORE, OPEN_SCORES, VOID
from mmseg_opengan.evaluation.metric import OpenSetMetric, Setting

META = dict(
    classes=('road', 'sky', 'car'),
    open_classes=('box', 'dog'),
    label_policy='toy/paper',
    palette=[[0, 0, 0]] * 3,
)


SIZE, STRIDE = (16, 24), 4


def sample(
    rng,
    *,
    open_labels=(0, 1, 2, VOID),
    scorers=('opengan', 'msp'),
    resolution='image',
    name='ulm/a.png',
):
    """One prediction. Scores are multiples of 1/64 and so have a bin each: the counts lose
    nothing.
    """
    open_map = rng.choice(np.array(open_labels, np.uint8), SIZE)
    gt = np.where(open_map == 0, rng.integers(0, 3, SIZE), IGNORE).astype(np.uint8)
    labels = open_map if resolution == 'image' else open_map[::STRIDE, ::STRIDE]
    is_open = (labels > 0) & (labels < VOID)
    made = SegDataSample(metainfo=dict(img_path=name))
    made.gt_sem_seg = PixelData(data=torch.from_numpy(gt)[None])
    made.set_data({GT_OPEN_MAP: PixelData(data=torch.from_numpy(open_map)[None])})
    made.pred_sem_seg = PixelData(data=torch.from_numpy(rng.integers(0, 3, SIZE))[None])
    maps = {s: np.round(64 * (rng.normal(size=labels.shape) + is_open)) / 64 for s in scorers}
    made.set_data(
        {OPEN_SCORES: PixelData(**{s: torch.from_numpy(m).float()[None] for s, m in maps.items()})}
    )
    return made


def samples(number=5, **options):
    rng = np.random.default_rng(0)
    return [sample(rng, name=f'ulm/{i}.png', **options) for i in range(number)]


def run(data, *, size=None, setting=None, **options):
    """Metrics and the metric after one evaluation, fed as mmengine's loops do."""
    metric = OpenSetMetric(**options)
    metric.setting = setting or Setting()
    evaluator = Evaluator([metric])
    evaluator.dataset_meta = META
    for one in data:
        evaluator.process(data_samples=[one])
    return evaluator.evaluate(len(data) if size is None else size), metric


def pooled(data, scorer):
    """Open (1) or closed (0), and score, of every pixel that is not void, of all samples."""
    truth, scores = [], []
    for one in data:
        score = one.get(OPEN_SCORES).get(scorer)[0].numpy()
        labels = one.get(GT_OPEN_MAP).data[0].numpy()
        labels = labels if labels.shape == score.shape else labels[::STRIDE, ::STRIDE]
        truth.append((labels[labels != VOID] > 0).astype(int))
        scores.append(score[labels != VOID])
    return np.concatenate(truth), np.concatenate(scores)


def fpr95(truth, scores):
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    return fpr[np.argmax(tpr >= 0.95)]


def grid_maps(data, scorer='opengan', resolution='image'):
    """Per sample: scores, open map, prediction and ground truth on the grid of the scores."""
    step = 1 if resolution == 'image' else STRIDE
    for one in data:
        yield (
            one.get(OPEN_SCORES).get(scorer)[0],
            *(
                field.data[0][::step, ::step]
                for field in (one.get(GT_OPEN_MAP), one.pred_sem_seg, one.gt_sem_seg)
            ),
        )
