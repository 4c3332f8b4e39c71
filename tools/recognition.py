"""Open-set recognition of whole images: the paper's Setups I and II on small data.

    python tools/recognition.py digits
    python tools/recognition.py cifar10 --data data/cifar-10-batches-bin --seeds 0 1 2

Every split takes six of ten classes as known and trains a small network on those. The digits come
with scikit-learn. CIFAR-10 is the binary version of https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import argparse

import torch

from mmseg_opengan import compat


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', choices=['digits', 'cifar10'], help='what to recognise')
    parser.add_argument('--data', help="folder of CIFAR-10's files, data_batch_1.bin and so on")
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2, 3, 4], help='one a split')
    parser.add_argument('--steps', type=int, default=500, help='of D, and of G')
    parser.add_argument(
        '--out', help='folder of all that is written (work_dirs/recognition_IMAGES)'
    )
    args = parser.parse_args()
    if args.images == 'cifar10' and args.data is None:
        parser.error('--data: wanted the folder of CIFAR-10, found nothing')
    return args


def main():
    args = parse_args()
    compat.install()
    from mmseg_opengan.experiments import recognition, small_images

    torch.set_num_threads(1)  # the networks are small
    is_digits = args.images == 'digits'
    images = small_images.digits() if is_digits else small_images.cifar10(args.data)
    out = args.out or f'work_dirs/recognition_{args.images}'
    print(recognition.run(images, args.seeds, args.steps, out))


if __name__ == '__main__':
    main()
