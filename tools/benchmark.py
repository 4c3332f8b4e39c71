"""Train several methods with several seeds, test all in one pass per resolution, and write one table.

    python tools/benchmark.py 'configs/opengan/{}_hr18s_camvid.py' --methods cls opengan0 opengan --seeds 0 1 2 3 4
"""

import argparse
from pathlib import Path

from mmengine.config import DictAction

from mmseg_opengan import compat, experiment

LABELS = {'msp': 'MSP', 'entropy': 'Entropy', 'opengan0': 'OpenGAN-0', 'cls': 'CLS', 'opengan': 'OpenGAN',
          'opengan-att': 'OpenGAN, attenuating G'}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='path of the configs, with {} where the method stands')
    parser.add_argument('--methods', nargs='+', default=['cls', 'opengan0', 'opengan'], help='what {} stands for')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument('--resolutions', nargs='+', choices=['feature', 'image'], default=['feature', 'image'])
    parser.add_argument('--out', default='work_dirs/benchmark', help='folder of all runs, reports and table.md')
    parser.add_argument('--processes', type=int, default=2,
                        help='training runs at the same time, one thread each; 0: one by one in this process')
    parser.add_argument('--block', type=int, default=10, help='consecutive test images in a block of the bootstrap')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={}, help='override config entries')
    return parser.parse_args()


def main():
    args = parse_args()
    compat.install()
    configs = {method: args.config.format(method) for method in args.methods}
    jobs = experiment.plan(configs, args.seeds, args.out, args.cfg_options)
    experiment.train(jobs, processes=args.processes)
    reports = experiment.evaluate_all(next(iter(configs.values())), jobs, resolutions=args.resolutions, out=args.out,
                                      options=args.cfg_options, bootstrap_block=args.block, processes=args.processes)
    text = experiment.report_text(jobs, reports, LABELS)
    Path(args.out, 'table.md').write_text(text)
    print(text)


if __name__ == '__main__':
    main()
