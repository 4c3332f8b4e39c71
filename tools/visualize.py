"""Draw what a trained model finds: panels, overlays, label maps, score maps and videos of images,
or of a split of the config's data.
"""

import argparse
import sys

from mmseg_opengan.inference.arguments import add_model_arguments, build_inferencer
from mmseg_opengan.inference.failures import write_failures
from mmseg_opengan.inference.inferencer import SPLITS


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add_model_arguments(
        parser, '; then an image, a folder of images, a list of them (.txt) or a video'
    )
    parser.add_argument(
        '--split',
        choices=SPLITS,
        help="images of the config's data instead, with their ground truth",
    )
    parser.add_argument('--out-dir', help='folder for the files')
    parser.add_argument('--video', help='file for the overlays as a video (.mp4, .avi)')
    parser.add_argument(
        '--threshold',
        help="score at and above which a pixel is unknown: a number, or 'fpr=0.05', 'tpr=0.95', "
        "'f1', decided on open validation. Label maps with unknown pixels are written too",
    )
    parser.add_argument(
        '--unknown-id', type=int, default=255, help='what those hold there (default: 255)'
    )
    parser.add_argument(
        '--thresholds',
        nargs='*',
        help='probabilities above which panels show a pixel as open (default: --threshold, or '
        'else .6 .7 .8 .9), or rules',
    )
    parser.add_argument('--overlay', action='store_true', help='write the images with the score')
    parser.add_argument(
        '--pictures-only', action='store_true', help='write no score maps (.npy, 16-bit .png)'
    )
    parser.add_argument(
        '--skip-bad',
        action='store_true',
        help='go on after files that cannot be read, list them in failures.csv and exit with 1',
    )
    parser.add_argument('--limit', type=int, help='stop after so many images')
    parser.add_argument('--batch-size', type=int, default=1)
    args = parser.parse_intermixed_args()
    if args.out_dir is None and args.video is None:
        parser.error('wanted --out-dir, --video or both, found neither')
    return parser, args


def main():
    parser, args = parse_args()
    inferencer, inputs = build_inferencer(parser, args)
    if len(inputs) != (args.split is None):
        parser.error(f'wanted either one INPUT or --split, found {inputs or "none"}')
    bad = [] if args.skip_bad else None
    files = inferencer(
        inputs[0] if inputs else inferencer.dataset(args.split),
        out_dir=args.out_dir,
        video=args.video,
        batch_size=args.batch_size,
        scorers=args.scorers,
        threshold=args.threshold,
        unknown_id=args.unknown_id,
        thresholds=args.thresholds,
        limit=args.limit,
        save_scores=not args.pictures_only,
        save_overlays=args.overlay,
        bad=bad,
    )
    places = [place for place in (args.out_dir, args.video) if place is not None]
    print(f'{len(files)} images in {" and ".join(places)}')
    if args.out_dir is not None:
        write_failures(args.out_dir, bad or ())
    for name, error in bad or ():
        print(f'{name}: {error}', file=sys.stderr)
    if bad:
        sys.exit(1)


if __name__ == '__main__':
    main()
