"""Draw what a trained model finds: panels, label maps and score maps of images, or of a split of
the config's data.
"""

import argparse

from mmengine.config import DictAction

from mmseg_opengan.cli import one_checkpoint
from mmseg_opengan.inference.inferencer import SPLITS, OpenSetInferencer


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        help='checkpoint that training wrote; of a plain MMSegmentation config, its weights',
    )
    parser.add_argument('input', nargs='*', help='image, folder of images, or video')
    parser.add_argument(
        '--split',
        choices=SPLITS,
        help="images of the config's data instead, with their ground truth",
    )
    parser.add_argument('--out-dir', required=True, help='folder for the files')
    parser.add_argument(
        '--scorers',
        nargs='+',
        help='score maps to show (default: all of the config): names of the '
        "config's, opengan, or scores that need no training: msp entropy energy maxlogit gen",
    )
    parser.add_argument(
        '--thresholds',
        nargs='*',
        default=[0.6, 0.7, 0.8, 0.9],
        help='probabilities above which a pixel counts as open (default: .6 .7 .8 .9), or '
        'rules on the '
        "open validation set: 'fpr=0.05', 'tpr=0.95', 'f1'",
    )
    parser.add_argument('--limit', type=int, help='stop after so many images')
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument(
        '--device', help="e.g. 'cpu' or 'cuda:0' (default: an accelerator where there is one)"
    )
    parser.add_argument(
        '--segmentor-checkpoint',
        help="the segmentor's weights, if no longer where training had them",
    )
    parser.add_argument(
        '--pictures-only', action='store_true', help='write no score maps (.npy, 16-bit .png)'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='override config entries: key=value'
    )
    args = parser.parse_args()
    others = [path for path in args.input if path.endswith('.pth')]
    args.checkpoint = one_checkpoint(parser, [args.checkpoint, *others])
    if len(args.input) != (args.split is None):
        parser.error(f'wanted either an INPUT or --split, found {[*args.input, args.split]}')
    return args


def main():
    args = parse_args()
    inferencer = OpenSetInferencer(
        args.config,
        args.checkpoint,
        device=args.device,
        cfg_options=args.cfg_options,
        segmentor_checkpoint=args.segmentor_checkpoint,
        scorers=args.scorers,
    )
    files = inferencer(
        inferencer.dataset(args.split) if args.split else args.input[0],
        out_dir=args.out_dir,
        batch_size=args.batch_size,
        scorers=args.scorers,
        thresholds=args.thresholds,
        limit=args.limit,
        save_scores=not args.pictures_only,
    )
    print(f'{len(files)} panels in {args.out_dir}')


if __name__ == '__main__':
    main()
