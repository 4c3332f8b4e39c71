"""Time and memory of streaming open-set evaluation, beside what others compute on concatenated
scores.

    python benchmarks/evaluation_speed.py  # 50M pixels; the others need several GB of memory
    python benchmarks/evaluation_speed.py --pixels 5_000_000 --maps 50

Scores are those of CGNet (trained on Cityscapes) on RoadAnomaly21 at image resolution, tiled to
--pixels. They need $MMSEG_OPENGAN_DATA, a folder with data/road_anomaly/RoadAnomaly21 and
weights/cgnet_cityscapes.pth; without it scores are synthetic, and the first line says so. Times are
CPU seconds on one thread (a busy machine does not stretch them), medians of --repetitions after one
warm-up, all methods in turn. Ours counts void pixels too, and gives AP, FPR95 and the error bounds
with AUROC; the others get one array without void.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from mmseg_opengan.contracts import CLOSED, VOID
from mmseg_opengan.functional.score_counts import ScoreCounts, summarize

ENV = 'MMSEG_OPENGAN_DATA'
MEAN = (72.39239876, 82.90891754, 73.15835921)  # of the weights' training: RGB, std 1
IMAGE = 1280 * 720  # pixels counted at a time, as in an evaluation
TARGETS = {'scikit-learn roc_auc_score': 20, 'torchmetrics binary_auroc': 8}


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--pixels', type=int, default=50_000_000, help='pixels of the timed evaluation'
    )
    parser.add_argument(
        '--score', choices=['msp', 'entropy'], default='msp', help='which score to time'
    )
    parser.add_argument('--repetitions', type=int, default=3)
    parser.add_argument(
        '--maps', type=int, default=500, help='1024 x 2048 maps streamed for the peak of memory'
    )
    parser.add_argument(
        '--cache', metavar='NPZ', help='keep the score maps there, or read them if it exists'
    )
    parser.add_argument(
        '--stream', metavar='NPZ', help=argparse.SUPPRESS
    )  # the measured child process
    return parser.parse_args()


def real_maps(root: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N, H, W) float32 and open maps (N, H, W) uint8 of RoadAnomaly21's validation
    images.
    """
    from mmseg_opengan import compat

    compat.install()
    import cv2
    import mmseg
    from mmengine.config import Config
    from mmengine.model import revert_sync_batchnorm
    from mmseg.registry import MODELS

    from mmseg_opengan.functional import scores

    config = Config.fromfile(
        Path(mmseg.__file__).parent / '.mim' / 'configs' / '_base_' / 'models' / 'cgnet.py'
    )
    config.model.data_preprocessor = None
    model = revert_sync_batchnorm(MODELS.build(config.model)).eval()
    weights = torch.load(root / 'weights' / 'cgnet_cityscapes.pth', weights_only=True)
    model.load_state_dict(weights['state_dict'], strict=True)
    maps, labels = [], []
    for path in sorted((root / 'data' / 'road_anomaly' / 'RoadAnomaly21' / 'images').iterdir()):
        image = torch.from_numpy(cv2.imread(str(path))[..., ::-1] - np.float32(MEAN)).permute(
            2, 0, 1
        )
        with torch.inference_mode():
            logits = model.encode_decode(image[None], [dict(img_shape=image.shape[1:])])
        maps.append(getattr(scores, name)(logits)[0].numpy())
        labels.append(
            cv2.imread(str(path.parents[1] / 'masks' / f'{path.stem}.png'), cv2.IMREAD_GRAYSCALE)
        )
    return np.stack(maps), np.stack(labels)


def synthetic_maps() -> tuple[np.ndarray, np.ndarray]:
    """1 - maximum softmax probability of random three-class logits, 14 % open, 3 % void."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(10, 720, 1280, generator=generator)
    labels = torch.where(draw < 0.14, 1, torch.where(draw > 0.97, VOID, CLOSED)).to(torch.uint8)
    margin = 6 - 4 * torch.randn(draw.shape, generator=generator) - 3 * (labels == 1)
    return (-margin.abs()).sigmoid().numpy(), labels.numpy()


def ours(scores, labels):
    counts = ScoreCounts(num_open_classes=1)
    for score, label in zip(scores.split(IMAGE), labels.split(IMAGE), strict=True):
        counts.update(score, label)
    return summarize(counts)['AUROC']


def rivals(scores, labels) -> dict:
    """{name: function that gives AUROC}, each with its arrays ready."""
    from sklearn.metrics import roc_auc_score

    scored = labels != VOID
    score, is_open = scores[scored], labels[scored] == 1
    found = {'scikit-learn roc_auc_score': lambda: roc_auc_score(is_open.numpy(), score.numpy())}
    try:
        from torchmetrics.functional.classification import binary_auroc
    except ImportError:
        return found
    target = is_open.int()  # its checks of the arguments, off here, would take as long again
    found['torchmetrics binary_auroc'] = lambda: float(
        binary_auroc(score, target, validate_args=False)
    )
    return found


def cpu_seconds(functions: dict, repetitions: int) -> tuple[dict, dict]:
    """Medians and results of all functions; each round calls every one once, the first round is not
    counted.
    """
    times, results = {name: [] for name in functions}, {}
    for _ in range(repetitions + 1):
        for name, function in functions.items():
            start = time.process_time()
            results[name] = function()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(some[1:]) for name, some in times.items()}, results


def stream(path: str, number: int) -> None:
    """Evaluate ``number`` maps of 1024 x 2048, each made from the stored ones when its turn
    comes.
    """
    stored = dict(np.load(path))
    counts = ScoreCounts(num_open_classes=1)
    start = time.process_time()
    for i in range(number):
        tiled = (
            np.tile(np.roll(stored[name][i % len(stored[name])], i, 1), (2, 2))[:1024, :2048]
            for name in ('scores', 'labels')
        )
        counts.update(*(torch.from_numpy(np.ascontiguousarray(one)) for one in tiled))
    summarize(counts)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f'{peak:.2f} GiB at the peak (target: below 1.5), {time.process_time() - start:.0f} CPU s, '
        f'{counts.num_closed + counts.num_open:,} scored pixels'
    )


def main():
    args = parse_args()
    torch.set_num_threads(1)
    if args.stream:
        stream(args.stream, args.maps)
        return
    root = os.environ.get(ENV)
    source = f'CGNet {args.score} on RoadAnomaly21' if root else f'synthetic (${ENV} is not set)'
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(args.cache or Path(folder, 'maps.npz'))
        if not cache.exists():
            scores, labels = real_maps(Path(root), args.score) if root else synthetic_maps()
            np.savez(cache, scores=scores, labels=labels, source=source)
        streamed = subprocess.run(
            [sys.executable, __file__, '--stream', str(cache), '--maps', str(args.maps)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        stored = dict(np.load(cache))
    scores, labels, source = stored['scores'], stored['labels'], str(stored['source'])
    copies = -(-args.pixels // scores.size)
    pixels = [
        torch.from_numpy(one).flatten().repeat(copies)[: args.pixels] for one in (scores, labels)
    ]
    functions = {'ours': lambda: ours(*pixels), **rivals(*pixels)}
    times, results = cpu_seconds(functions, args.repetitions)
    print(f'{args.pixels:,} pixels, {source}; torch {torch.__version__}, one thread')
    for name, seconds in times.items():
        ratio = (
            '' if name == 'ours' else f'{seconds / times["ours"]:6.1f} x (target: {TARGETS[name]})'
        )
        print(f'{name:28s} {seconds:8.2f} s  AUROC {results[name]:.7f}  {ratio}')
    print(
        f'accumulator: {ScoreCounts(1).tensor.numel() * 8 / 2**20:.1f} MiB for one open class, '
        f'{ScoreCounts(9).tensor.numel() * 8 / 2**20:.1f} MiB for nine (target: below 40)'
    )
    print(f'{args.maps} maps of 1024 x 2048: {streamed}')


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    main()
