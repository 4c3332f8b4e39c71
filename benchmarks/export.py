"""Sizes of exported files, and CPU time of an image in each beside torch.

    python benchmarks/export.py CONFIG CHECKPOINT
    python benchmarks/export.py CONFIG CHECKPOINT --images street.jpg --score gen --threads 1

Medians of --repetitions rounds after one warm-up, in which everything is timed in turn. An image
is preprocessed, scored and labelled at its own size; reading it is not counted.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import onnxruntime
import torch

from mmseg_opengan.inference.export import check_cases, export, reference
from mmseg_opengan.inference.inferencer import OpenSetInferencer
from mmseg_opengan.models.exported import ExportedModel


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--images', help="image or folder (default: the config's test images)")
    parser.add_argument('--score', default='opengan')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repetitions', type=int, default=10)
    return parser.parse_args()


def runtimes(args, inferencer, image, folder: Path) -> dict:
    """name -> (MB of its file or None, what runs the image)."""
    model = ExportedModel(inferencer.model, args.score).eval()
    found = {'torch': (None, lambda: reference(model, image))}
    rgb = image.flip(1)
    for name in ('m.onnx', 'm.pt2'):
        print(export(inferencer, folder / name, images=args.images, score=args.score, limit=1))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(folder / 'm.onnx', options)
    program = torch.export.load(folder / 'm.pt2').module()
    given = dict(image=rgb.numpy())
    found['onnxruntime'] = (size_of(folder / 'm.onnx'), lambda: session.run(None, given))
    found['torch.export'] = (size_of(folder / 'm.pt2'), lambda: program(rgb))
    return found


def size_of(path: Path) -> float:
    return path.stat().st_size / 1e6


@torch.no_grad()
def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    inferencer = OpenSetInferencer(args.config, args.checkpoint, scorers=[args.score], device='cpu')
    images = inferencer.dataset('test') if args.images is None else args.images
    image = check_cases(inferencer, images, limit=1)[0]
    with tempfile.TemporaryDirectory() as folder:
        found = runtimes(args, inferencer, image, Path(folder))
        times = {name: [] for name in found}
        for repetition in range(args.repetitions + 1):
            for name, (_, run) in found.items():
                start = time.perf_counter()
                run()
                if repetition:
                    times[name].append(time.perf_counter() - start)
    rows, columns = image.shape[2:]
    print(f'\n{rows}x{columns}, {args.threads} threads, torch {torch.__version__}\n')
    print('| runtime | file (MB) | seconds an image |\n|---|---|---|')
    for name, (size, _) in found.items():
        shown = '' if size is None else f'{size:.1f}'
        print(f'| {name} | {shown} | {statistics.median(times[name]):.3f} |')


if __name__ == '__main__':
    main()
