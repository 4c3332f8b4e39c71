"""Sizes of exported files, and CPU time of an image in each beside torch.

    python benchmarks/export.py CONFIG CHECKPOINT
    python benchmarks/export.py CONFIG CHECKPOINT --images street.jpg --score gen --threads 1
    python benchmarks/export.py mmseg::segformer/CONFIG --images street.jpg --threads 1

Without CHECKPOINT, the network of a plain MMSegmentation config and a D on its features get random
weights of seed 0: sizes and times do not depend on weights. Images are then run whole.

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
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from zoo import plain_model

from mmseg_opengan.inference.config import test_pipeline
from mmseg_opengan.inference.export import check_cases, export, reference
from mmseg_opengan.inference.inferencer import OpenSetInferencer
from mmseg_opengan.models.exported import ExportedModel
from mmseg_opengan.models.frozen_segmentor import read_config
from mmseg_opengan.shipped import read_config_file


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint', nargs='?')
    parser.add_argument('--images', help="image or folder (default: the config's test images)")
    parser.add_argument('--score', default='opengan')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repetitions', type=int, default=10)
    return parser.parse_args()


def with_random_weights(config: str, folder: Path) -> tuple[Config, Path]:
    """The config of an open-set model on a plain one, and D's checkpoint."""
    init_default_scope('mmseg')
    held = read_config(config)
    torch.save(plain_model(held).state_dict(), folder / 'segmentor.pth')
    model = dict(
        type='OpenGANSegmentor',
        segmentor=dict(config=held, checkpoint=str(folder / 'segmentor.pth')),
        discriminator=dict(type='FeatureDiscriminator'),
    )
    built = MODELS.build(model)
    built.check_segmentor()
    checkpoint = dict(state_dict=built.state_dict(), meta={})
    built.lean_checkpoint(checkpoint)
    torch.save(checkpoint, folder / 'opengan.pth')
    steps = test_pipeline(read_config_file(config))
    return Config(dict(model=model, test_pipeline=steps)), folder / 'opengan.pth'


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
    with tempfile.TemporaryDirectory() as folder:
        config, checkpoint = args.config, args.checkpoint
        if checkpoint is None:
            config, checkpoint = with_random_weights(args.config, Path(folder))
        inferencer = OpenSetInferencer(config, checkpoint, scorers=[args.score], device='cpu')
        images = inferencer.dataset('test') if args.images is None else args.images
        image = check_cases(inferencer, images, limit=1)[0]
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
