"""AUROC against the number of open training images (paper Figure 5): train, test, table and plot.

    python tools/open_images.py 'configs/opengan/{}_hr18s_camvid.py' --num-open-images 3 10 30 333

A method that takes long may have numbers of its own, after a colon: cls-pix:30,333. The same
command goes on where an interrupted one stopped.
"""

import argparse

from mmengine.config import DictAction

from mmseg_opengan import compat
from mmseg_opengan.experiments.open_images import open_images

METHODS = ('cls', 'opengan0', 'opengan', 'cls-pix', 'opengan0-pix', 'opengan-pix')


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the configs, with {} where the method stands')
    parser.add_argument('--methods', nargs='+', default=METHODS, help='what {} stands for')
    parser.add_argument(
        '--num-open-images',
        nargs='+',
        type=int,
        required=True,
        help='training images that give open pixels',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--out', default='work_dirs/open_images', help='folder for everything')
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
    print(
        open_images(
            args.config,
            args.methods,
            numbers=args.num_open_images,
            seeds=args.seeds,
            out=args.out,
            processes=args.processes,
            options=args.cfg_options,
        )
    )


if __name__ == '__main__':
    main()
