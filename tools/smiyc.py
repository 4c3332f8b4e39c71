"""Write the score maps of a SegmentMeIfYouCan track as its benchmark reads them (HDF5)."""

import argparse

from mmseg_opengan.inference.arguments import add_model_arguments, build_inferencer, one_score
from mmseg_opengan.inference.smiyc import TRACKS, write_submission


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add_model_arguments(parser, "; then the folder of the track's images")
    parser.add_argument('--track', choices=TRACKS, required=True)
    parser.add_argument('--method', required=True, help='name of the submission')
    parser.add_argument('--out-dir', default='outputs', help='default: outputs')
    return parser, parser.parse_intermixed_args()


def main():
    parser, args = parse_args()
    inferencer, rest = build_inferencer(parser, args)
    score = one_score(parser, args, inferencer)
    if len(rest) != 1:
        parser.error(f'wanted one folder of images, found {rest}')
    names = dict(method=args.method, track=args.track, score=score)
    number = write_submission(inferencer, rest[0], args.out_dir, **names)
    print(f"{number} files in '{args.out_dir}/anomaly_p/{args.method}/{args.track}'")


if __name__ == '__main__':
    main()
