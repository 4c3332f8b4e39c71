"""One file for a colleague: network, segmentor, D, scorers, thresholds and classes in one .pth.

from mmseg_opengan import OpenSetInferencer
OpenSetInferencer('bundle.pth')
"""

import argparse

from mmseg_opengan.inference.arguments import add_model_arguments, build_inferencer
from mmseg_opengan.inference.bundle import write_bundle


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model_arguments(parser, '')
    parser.add_argument('--out', required=True, help='the file to write (.pth)')
    return parser, parser.parse_intermixed_args()


def main():
    parser, args = parse_args()
    inferencer, rest = build_inferencer(parser, args)
    if rest:
        parser.error(f'wanted a model alone, found {rest} too')
    decisions = inferencer.decisions() if inferencer.decides else None
    write_bundle(args.out, inferencer, decisions)
    if decisions is None:
        print('The bundle has no thresholds: the config has no val_dataloader.')
    print(f'{", ".join(inferencer.scorers)} of {len(inferencer.classes)} classes in {args.out}')


if __name__ == '__main__':
    main()
