"""How much time OpenSetMetric adds to a test of HRNetV2-W48, and what it holds in memory.

    python benchmarks/metric_overhead.py  # 1024 x 2048 images, 2 threads; a few minutes
    python benchmarks/metric_overhead.py --size 512 1024

The model is that of configs/opengan/opengan_hr48_cityscapes.py without D, with MSP and Entropy and
random weights: time does not depend on their values. The metric counts everything that is on by
default, with the thresholds that open validation decides. Labels are blocks of random classes, 5 %
open and 3 % void. Wall-clock times need a quiet machine; beside them the metric's CPU time is
compared with the forward pass's over the number of threads, which other work hardly stretches.
Medians of --repetitions after one warm-up, the two in turn.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_opengan import register  # noqa: F401
from mmseg_opengan.contracts import GT_OPEN_MAP, IGNORE, VOID
from mmseg_opengan.datasets.label_map import CITYSCAPES_CLASSES
from mmseg_opengan.evaluation.metric import OpenSetMetric, Setting
from mmseg_opengan.functional.decisions import Decisions

CONFIG = Path(__file__).resolve().parents[1] / 'configs/opengan/opengan_hr48_cityscapes.py'
TARGET = 3  # percent
OPEN_CLASSES = [f'open {i}' for i in range(12)]  # as many as the policy 'paper' has


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--size', type=int, nargs=2, default=(1024, 2048), metavar=('H', 'W'))
    parser.add_argument('--repetitions', type=int, default=3)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=2)
    return parser.parse_args()


def build_model(resolution: str):
    init_default_scope('mmseg')
    config = Config.fromfile(CONFIG).model
    config.update(discriminator=None, generator=None, resolution=resolution)
    config.segmentor.checkpoint = None  # random weights
    torch.manual_seed(0)
    return MODELS.build(config).eval()


def labelled_sample(size) -> SegDataSample:
    """Ground truth in blocks of 32 x 32 pixels."""
    generator = torch.Generator().manual_seed(0)
    blocks = [-(-side // 32) for side in size]

    def grown(values):
        return (
            values.repeat_interleave(32, 0)
            .repeat_interleave(32, 1)[: size[0], : size[1]]
            .to(torch.uint8)[None]
        )

    draw = torch.rand(blocks, generator=generator)
    open_class = torch.randint(1, 1 + len(OPEN_CLASSES), blocks, generator=generator)
    open_map = torch.where(draw < 0.05, open_class, torch.where(draw < 0.08, VOID, 0))
    truth = torch.randint(19, blocks, generator=generator).where(
        open_map == 0, torch.tensor(IGNORE)
    )
    sample = SegDataSample(metainfo=dict(ori_shape=size, img_shape=size, img_path='benchmark.png'))
    sample.gt_sem_seg = PixelData(data=grown(truth))
    sample.set_data({GT_OPEN_MAP: PixelData(data=grown(open_map))})
    return sample


def now() -> tuple[float, float]:
    """Wall-clock and CPU seconds, when a GPU, if one has been used, has nothing left to do."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def measure(resolution: str, size, repetitions: int, device: str) -> None:
    model = build_model(resolution).to(device)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8)
    metric = OpenSetMetric()
    metric.dataset_meta = dict(
        classes=CITYSCAPES_CLASSES, open_classes=OPEN_CLASSES, label_policy='cityscapes/paper'
    )
    thresholds = {'fpr=0.05': 0.61, 'tpr=0.95': 0.11, 'f1': 0.51, 'macro_f1': 0.71}
    metric.setting = Setting(
        'test', 'whole', decisions={name: Decisions(thresholds) for name in ('msp', 'entropy')}
    )
    times = {'forward': [], 'metric': []}
    for _ in range(repetitions + 1):
        clock = [now()]
        with torch.no_grad():
            found = model.test_step(dict(inputs=[image], data_samples=[labelled_sample(size)]))
        clock.append(now())
        metric.process({}, [sample.to_dict() for sample in found])
        clock.append(now())
        for name, before, after in zip(times, clock[:-1], clock[1:], strict=True):
            times[name].append([b - a for a, b in zip(before, after, strict=True)])
    (forward, forward_cpu), (counted, counted_cpu) = (
        [statistics.median(column) for column in zip(*some[1:], strict=True)]
        for some in times.values()
    )
    threads = torch.get_num_threads()
    held = [
        sum(table.tensor.nbytes for table in counts.tables) / 2**20
        for counts in metric.counts.values()
    ]
    print(
        f'{resolution} resolution: forward {forward:.3f} s, metric {counted:.4f} s, '
        f'{100 * counted / forward:.2f} %; '
        f'CPU {forward_cpu:.2f} s, {counted_cpu:.3f} s, '
        f'{100 * counted_cpu / (forward_cpu / threads):.2f} % of it '
        f'over {threads} threads (target: below {TARGET}); accumulators of at most '
        f'{max(held):.1f} MiB (target: '
        'below 40)'
    )


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True  # as the configs have it
    where = f'{args.threads} threads' if args.device == 'cpu' else torch.cuda.get_device_name()
    print(
        f'HRNetV2-W48, one image of {args.size[0]}x{args.size[1]}, MSP and Entropy; torch '
        f'{torch.__version__}, '
        f'{where}'
    )
    for resolution in ('feature', 'image'):
        measure(resolution, tuple(args.size), args.repetitions, args.device)


if __name__ == '__main__':
    main()
