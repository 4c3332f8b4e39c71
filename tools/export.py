"""Write a trained model as one ONNX or torch.export file: image in, labels and open score out."""

import argparse

from mmseg_opengan.inference.arguments import add_config_and_checkpoint
from mmseg_opengan.inference.export import export
from mmseg_opengan.inference.inferencer import OpenSetInferencer


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_and_checkpoint(parser)
    parser.add_argument('out', help='file to write: .onnx, or .pt2 for torch.export')
    parser.add_argument(
        '--images',
        help="image or folder on which the file is checked (default: the config's test images)",
    )
    parser.add_argument(
        '--score',
        default='opengan',
        help="the score of the file (default: opengan): a name of the config's scorers, or of a "
        'score that needs no training: msp entropy energy maxlogit gen',
    )
    parser.add_argument('--dtype', default='uint8', choices=['uint8', 'float32'], help='of image')
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='the only size of images that the file takes (default: any); ONNX needs it of heads '
        'that pool to a grid (UPerHead, PSPHead)',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    inferencer = OpenSetInferencer(
        args.config,
        args.checkpoint,
        scorers=[args.score],
        device='cpu',
        cfg_options=args.cfg_options,
    )
    print(
        export(
            inferencer,
            args.out,
            images=args.images,
            score=args.score,
            dtype=args.dtype,
            size=args.size,
        )
    )


if __name__ == '__main__':
    main()
