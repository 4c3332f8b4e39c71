"""Write a trained model as one ONNX or torch.export file: image in, labels and open score out."""

import argparse

from mmseg_opengan.inference.arguments import add_model_arguments, build_inferencer, one_score
from mmseg_opengan.inference.export import export


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add_model_arguments(parser, '; then the file to write: .onnx, or .pt2 for torch.export')
    parser.add_argument(
        '--images',
        help="image or folder on which the file is checked (default: the config's test images)",
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
    parser.set_defaults(device='cpu')
    return parser, parser.parse_intermixed_args()


def main():
    parser, args = parse_args()
    inferencer, rest = build_inferencer(parser, args)
    score = one_score(parser, args, inferencer)
    if len(rest) != 1:
        parser.error(f'wanted one file to write, found {rest}')
    options = dict(score=score, dtype=args.dtype, size=args.size)
    print(export(inferencer, rest[0], images=args.images, **options))


if __name__ == '__main__':
    main()
