"""Train, fit and take methods, test all in one pass per resolution, and write table, CSV, ROC
figure and panels.

    python tools/benchmark.py 'configs/opengan/{}_hr18s_camvid.py' --methods cls opengan0 opengan
    --seeds 0 1 2 3 4 python tools/benchmark.py 'configs/opengan/{}_hr18s_camvid.py' --scorers
    configs/baselines/all_hr18s_camvid.py \\
        --methods msp entropy maxlogit energy gdm gmm opengan0 cls opengan --seeds 0 1 2

A method is a training run where CONFIG with its name in place of {} is a file; otherwise it is one
of the model.scorers of --scorers (or of the first config): fitted on the feature bank if it learns,
as it is if not. A method that takes
long may have seeds of its own, after a colon: cls-pix:0. An interrupted run goes on where it
stopped.
"""

import argparse

from mmengine.config import DictAction

from mmseg_opengan import compat


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config',
        help='path of the configs, with {} where the method stands, or of one with scorers',
    )
    parser.add_argument(
        '--methods',
        nargs='+',
        default=['msp', 'entropy', 'cls', 'opengan0', 'opengan'],
        help='what to compare, in the order of the table',
    )
    parser.add_argument(
        '--scorers', help='config whose model.scorers has methods without a config of their own'
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument(
        '--resolutions', nargs='+', choices=['feature', 'image'], default=['feature', 'image']
    )
    parser.add_argument(
        '--out', default='work_dirs/benchmark', help='folder of all that is written'
    )
    parser.add_argument(
        '--processes',
        type=int,
        default=2,
        help='training runs at the same time, one thread each; 0: everything in this process',
    )
    parser.add_argument(
        '--block', type=int, default=10, help='consecutive test images in a block of the bootstrap'
    )
    parser.add_argument('--panels', type=int, default=4, help='test images to draw with all maps')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='override config entries'
    )
    return parser.parse_args()


def main():
    args = parse_args()
    compat.install()
    from mmseg_opengan.experiments import benchmark

    print(
        benchmark.run(
            args.config,
            args.methods,
            args.seeds,
            args.out,
            scorers=args.scorers,
            resolutions=args.resolutions,
            options=args.cfg_options,
            processes=args.processes,
            bootstrap_block=args.block,
            num_panels=args.panels,
        )
    )


if __name__ == '__main__':
    main()
