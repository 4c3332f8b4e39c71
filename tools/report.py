"""One HTML page about several tests: tables, figures, and score maps with a slider."""

import argparse

from mmseg_opengan.experiments.html_report import write_report


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('runs', nargs='+', metavar='RUN', help='work directory of a test')
    parser.add_argument('--out', required=True, help='HTML file to write')
    parser.add_argument(
        '--images',
        type=int,
        default=6,
        help='the worst false alarms, and the worst misses, to show (default: 6)',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    print(write_report(args.runs, args.out, images=args.images))


if __name__ == '__main__':
    main()
