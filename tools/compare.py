"""One table and one set of figures (PNG and PDF) from the evaluations of several tests."""

import argparse

from mmseg_opengan.experiments.comparison import compare


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('runs', nargs='+', metavar='RUN', help='work directory of a test')
    parser.add_argument('--out-dir', required=True, help='folder for table.md and figures')
    parser.add_argument(
        '--mixed',
        action='store_true',
        help='allow evaluations by different protocols; every row then says its own',
    )
    parser.add_argument(
        '--names', nargs='+', default=[], help='of the runs, in their order, for table and figures'
    )
    parser.add_argument('--title', default='', help='of the figures (default: the protocol)')
    return parser.parse_args()


def main():
    args = parse_args()
    print(compare(args.runs, args.out_dir, mixed=args.mixed, names=args.names, title=args.title))


if __name__ == '__main__':
    main()
