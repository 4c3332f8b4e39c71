"""Which of many unlabelled frames hold something unknown: a ranking, boxes and polygons for a
labelling tool (COCO), and a sheet of the best. A run that was stopped goes on where it was.
"""

import argparse
import sys

from mmseg_opengan.functional.decisions import is_rule
from mmseg_opengan.inference.arguments import (
    add_model_arguments,
    build_inferencer,
    score_asked_for,
)
from mmseg_opengan.inference.find import find


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add_model_arguments(parser, '; then a folder of images, a list of them (.txt) or a video')
    parser.add_argument('--out-dir', required=True, help='folder for the files')
    parser.add_argument(
        '--threshold',
        help='score at and above which pixels are objects: a number, or a rule of open validation '
        "(default: 'fpr=0.01' where it is known or the config has validation images)",
    )
    parser.add_argument(
        '--min-area', type=int, default=100, help='smallest object, in pixels (default: 100)'
    )
    parser.add_argument('--top', type=int, default=24, help='frames on the sheet (default: 24)')
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument(
        '--skip-bad', action='store_true', help='go on after files that cannot be read'
    )
    parser.add_argument(
        '--fiftyone', metavar='NAME', help='make a FiftyOne data set of that name of the frames'
    )
    return parser, parser.parse_intermixed_args()


def main():
    parser, args = parse_args()
    inferencer, inputs = build_inferencer(parser, args)
    if len(inputs) != 1:
        parser.error(f'wanted one INPUT behind the model, found {inputs or "none"}')
    scorer = score_asked_for(args, inferencer)
    threshold = args.threshold
    if threshold is None and inferencer.decides:
        threshold = 'fpr=0.01'
    if is_rule(threshold):
        threshold = inferencer.threshold(threshold, scorer)
    if threshold is None:
        print('No objects are written: no threshold is known. Give --threshold.')
    bad = [] if args.skip_bad else None
    found = find(
        inferencer,
        inputs[0],
        args.out_dir,
        scorer=scorer,
        threshold=None if threshold is None else float(threshold),
        min_area=args.min_area,
        top=args.top,
        batch_size=args.batch_size,
        bad=bad,
        fiftyone=args.fiftyone,
    )
    for rank, (name, score) in enumerate(found.best[:5], 1):
        print(f'{rank}. {name}  {score:.3g}')
    print(f'{found.frames} frames ranked, {found.new} of them new: {args.out_dir}')
    for name, error in bad or ():
        print(f'{name}: {error}', file=sys.stderr)
    if bad:
        sys.exit(1)


if __name__ == '__main__':
    main()
