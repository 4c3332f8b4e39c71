"""Train, fit and take methods, test all in one pass per resolution, and write table, CSV, ROC
figure and panels.

    python tools/benchmark.py 'configs/opengan/{}_hr18s_camvid.py' --methods cls opengan
    python tools/benchmark.py 'configs/opengan/{}_hr18s_camvid.py' --methods msp gdm cls opengan \\
        --scorers configs/baselines/all_hr18s_camvid.py --seeds 0 1 2

A method is a training run where CONFIG with its name in place of {} is a file; otherwise it is one
of the model.scorers of --scorers (or of the first config): fitted on the feature bank if it learns,
as it is if not. A method that takes long may have seeds of its own, after a colon: cls-pix:0. An
interrupted run goes on where it stopped.

--leave-out-kinds tests nothing. For each open kind of the training images, methods are trained
without it and then asked for its pixels: the honest estimate for kinds that nobody has labelled.
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
        '--leave-out-kinds', action='store_true', help='train without each open kind, and find it'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='override config entries'
    )
    return parser.parse_args()


def main():
    args = parse_args()
    compat.install()
    from mmseg_opengan.experiments import benchmark, leave_out

    given = (args.config, args.methods, args.seeds, args.out)
    options = dict(scorers=args.scorers, options=args.cfg_options, processes=args.processes)
    if args.leave_out_kinds:
        print(leave_out.run(*given, **options))
        return
    print(
        benchmark.run(
            *given,
            **options,
            resolutions=args.resolutions,
            bootstrap_block=args.block,
            num_panels=args.panels,
        )
    )


if __name__ == '__main__':
    main()
