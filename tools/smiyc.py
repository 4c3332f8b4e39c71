"""Write the score maps of a SegmentMeIfYouCan track as its benchmark reads them (HDF5)."""

import argparse

from mmseg_opengan.inference.arguments import add_config_and_checkpoint
from mmseg_opengan.inference.inferencer import OpenSetInferencer
from mmseg_opengan.inference.smiyc import TRACKS, write_submission


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_and_checkpoint(parser)
    parser.add_argument('images', help="folder of the track's images")
    parser.add_argument('--track', choices=TRACKS, required=True)
    parser.add_argument('--method', required=True, help='name of the submission')
    parser.add_argument('--out-dir', default='outputs', help='default: outputs')
    parser.add_argument('--score', default='opengan', help='which score map (default: opengan)')
    parser.add_argument(
        '--device', help="e.g. 'cpu' or 'cuda:0' (default: an accelerator where there is one)"
    )
    return parser.parse_args()


def main():
    args = parse_args()
    inferencer = OpenSetInferencer(
        args.config,
        args.checkpoint,
        scorers=[args.score],
        device=args.device,
        cfg_options=args.cfg_options,
    )
    number = write_submission(
        inferencer,
        args.images,
        args.out_dir,
        method=args.method,
        track=args.track,
        score=args.score,
    )
    print(f"{number} files in '{args.out_dir}/anomaly_p/{args.method}/{args.track}'")


if __name__ == '__main__':
    main()
