"""Test scores on attacked images (FGSM, PGD) and on corrupted ones (noise, blur, JPEG, darkness,
fog): AUROC, FPR95, mIoU, and what thresholds and calibrations of open validation are worth there.

    python tools/robustness.py CONFIG --out DIR --every 20

DIR gets robustness.md, .png and .pdf. The same command goes on where an interrupted one
stopped. Commands with another D and the same DIR average over seeds.
"""

import argparse

from mmengine.config import DictAction

from mmseg_opengan import compat
from mmseg_opengan.cli import one_checkpoint


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='*', help='checkpoint that training wrote')
    parser.add_argument('--out', required=True, help='folder for everything')
    parser.add_argument('--scorers', nargs='+', help='names of scores (default: all of the config)')
    parser.add_argument(
        '--every', type=int, default=1, help='use each test image whose number it divides'
    )
    parser.add_argument(
        '--epsilons',
        nargs='*',
        type=int,
        choices=range(1, 256),
        default=[1, 2, 4],
        metavar='LEVELS',
        help='of attacks, in grey levels',
    )
    parser.add_argument(
        '--severities',
        nargs='*',
        type=int,
        choices=range(1, 6),
        default=[1, 3, 5],
        metavar='SEVERITY',
        help='of corruptions, 1 to 5',
    )
    parser.add_argument('--steps', type=int, default=5, help='gradients of PGD')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='override config entries: key=value'
    )
    args = parser.parse_args()
    args.checkpoint = one_checkpoint(parser, args.checkpoint)
    return args


def main():
    args = vars(parse_args())
    compat.install()
    from mmseg_opengan.experiments.robustness import robustness

    options = args.pop('cfg_options')
    print(robustness(**args, options=options))


if __name__ == '__main__':
    main()
