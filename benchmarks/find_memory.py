"""Peak memory of ``find`` over many frames: it does not grow with them.

    python benchmarks/find_memory.py --frames 1000 5000 10000

Each number of frames is a process of its own, with a small random segmentor. The frames are links
to one image of 64 x 96 pixels.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_opengan.inference.find import find
from mmseg_opengan.inference.inferencer import OpenSetInferencer
from mmseg_opengan.models.frozen_segmentor import FrozenSegmentor

MODEL = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3),
    backbone=dict(
        type='ResNet',
        depth=18,
        num_stages=1,
        base_channels=8,
        stem_channels=8,
        strides=(1,),
        dilations=(1,),
        out_indices=(0,),
    ),
    decode_head=dict(type='FCNHead', in_channels=8, in_index=0, channels=12, num_classes=11),
    test_cfg=dict(mode='whole'),
)


def run(number: int) -> None:
    """Rank so many frames in this process, and print its peak memory."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        street = Path(folder, 'street')
        street.mkdir()
        image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
        cv2.imwrite(f'{folder}/frame.png', image)
        for i in range(number):
            os.symlink(f'{folder}/frame.png', street / f'{i:06d}.png')
        torch.save(FrozenSegmentor(dict(model=MODEL)).network.state_dict(), f'{folder}/model.pth')
        config = Config(dict(model=MODEL))
        inferencer = OpenSetInferencer(config, f'{folder}/model.pth', scorers=['msp'], device='cpu')
        found = find(inferencer, street, Path(folder, 'out'), threshold=0.9)
    assert found.new == number
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f'| {number:,} | {peak:.0f} |', flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--frames', type=int, nargs='+', default=[1000, 5000, 10000])
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if len(args.frames) == 1:
        run(args.frames[0])
        return
    print('| frames | peak memory (MiB) |\n|---|---|', flush=True)
    for number in args.frames:
        command = [sys.executable, __file__, '--frames', number, '--threads', args.threads]
        subprocess.run([*map(str, command)], stderr=subprocess.DEVNULL, check=True)


if __name__ == '__main__':
    main()
