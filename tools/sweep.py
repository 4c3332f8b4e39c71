"""Tune lambda_G: train each value from the feature bank, keep what open validation picks, test all,
write the report.

    python tools/sweep.py configs/opengan/opengan_hr18s_camvid.py --out work_dirs/sweep

DIR gets sweep.md (Table 6 of the paper), figure9.png to figure11.png, sweep.json and chosen.pth.
The same command goes on where an interrupted sweep stopped.
"""

import argparse
from pathlib import Path

from mmengine.config import DictAction

from mmseg_opengan import compat
from mmseg_opengan.experiments.sweep import LAMBDAS, sweep


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='training config of OpenGAN')
    parser.add_argument('--out', required=True, help='folder for everything')
    parser.add_argument(
        '--lambdas', nargs='+', type=float, default=LAMBDAS, help='default: .05 .10 ... .90'
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument(
        '--num-open-images',
        nargs='+',
        type=int,
        default=[None],
        help='training images that give open pixels (default: all)',
    )
    parser.add_argument(
        '--processes', type=int, default=2, help='trainings at the same time, one thread each'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='override config entries'
    )
    return parser.parse_args()


def main():
    args = parse_args()
    compat.install()
    sweep(
        args.config,
        out=args.out,
        lambdas=args.lambdas,
        seeds=args.seeds,
        num_open_images=args.num_open_images,
        processes=args.processes,
        options=args.cfg_options,
    )
    print(Path(args.out, 'sweep.md').read_text())


if __name__ == '__main__':
    main()
