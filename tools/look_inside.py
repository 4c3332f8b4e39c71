"""Show what a trained generator makes beside the real features, and what the discriminator thinks
of both.

    python tools/look_inside.py configs/opengan/opengan_hr18s_camvid.py CHECKPOINT --out DIR

DIR gets look_inside.json and the figures patches, features_pca and features_tsne (PNG and PDF).
"""

import argparse

from mmengine.config import DictAction

from mmseg_opengan.cli import one_checkpoint
from mmseg_opengan.experiments.look_inside import look_inside


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config', help='training config of OpenGAN or OpenGAN-0; its feature bank must exist'
    )
    parser.add_argument('checkpoint', nargs='+', help='checkpoint that training wrote')
    parser.add_argument('--out', required=True, help='folder for the files')
    parser.add_argument(
        '--device', default='cpu', help="e.g. 'cuda:0' for the search through a large bank"
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='override config entries: key=value'
    )
    args = parser.parse_args()
    args.checkpoint = one_checkpoint(parser, args.checkpoint)
    return args


def main():
    args = parse_args()
    report = look_inside(
        args.config,
        args.checkpoint,
        args.out,
        device=args.device,
        cfg_options=args.cfg_options,
    )
    for name, distance in report['distance'].items():
        print(f'{name}: L1 {distance["l1"]:.1f}, cosine {distance["cosine"]:.4f} (medians)')
    print(f'Numbers and pictures are in {args.out}')


if __name__ == '__main__':
    main()
