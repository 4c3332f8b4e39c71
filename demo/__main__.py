"""The demo: trains on a small drawn street world and prints one table. No data needed."""

import argparse
from dataclasses import replace
from pathlib import Path

from demo.run import QUICK, DemoSettings, run_demo

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'demo'


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out', default='demo_output', help='folder for everything (default: demo_output)'
    )
    parser.add_argument(
        '--quick', action='store_true', help='a few images and steps: does everything run?'
    )
    parser.add_argument(
        '--fresh', action='store_true', help='repeat stages that have finished before'
    )
    parser.add_argument('--num-train', type=int, help='training images')
    parser.add_argument('--num-val', type=int, help='test images')
    parser.add_argument(
        '--from-scratch', action='store_true', help='train the closed segmentor, too'
    )
    parser.add_argument('--closed-steps', type=int, help='training steps of the closed segmentor')
    parser.add_argument('--open-steps', type=int, help='training steps of each discriminator')
    parser.add_argument('--threads', type=int, help='threads of torch where one thing runs alone')
    parser.add_argument(
        '--processes', type=int, help='processes that draw; 0: all in one, one after the other'
    )
    return parser.parse_args()


def main():
    args = parse_args()
    sizes = ('num_train', 'num_val', 'closed_steps', 'open_steps', 'threads', 'processes')
    chosen = replace(QUICK if args.quick else DemoSettings(), from_scratch=args.from_scratch)
    given = {name: getattr(args, name) for name in sizes if getattr(args, name) is not None}
    run_demo(
        CONFIGS,
        args.out,
        settings=replace(chosen, **given),
        fresh=args.fresh,
    )


if __name__ == '__main__':
    main()
