"""What twelve scorers together cost beside the segmentor alone, in one pass, and each scorer's
share.

    python benchmarks/scorers_speed.py  # HRNetV2-W48 at 512 x 1024, two threads
    python benchmarks/scorers_speed.py --device cuda --size 1024 2048 --repetitions 20

Random weights; the scorers that learn are fitted on random features. Medians of --repetitions
rounds after one warm-up, in which everything is timed in turn; a pass is ``inference`` on one image
with score maps on the feature grid, as in a test run.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.models.scorers.base import SCORERS, FitData, FittedScorer

MODEL = Path(__file__).resolve().parents[1] / 'configs/_base_/models/opengan_fcn_hr48.py'
DISCRIMINATOR = dict(
    type='DiscriminatorScorer', discriminator=dict(type='FeatureDiscriminator', in_channels=720)
)
TWELVE = {
    'MSP': dict(type='MSP'),
    'max-logit': dict(type='MaxLogit'),
    'energy': dict(type='Energy'),
    'Entropy': dict(type='Entropy'),
    'SML': dict(type='StandardizedMaxLogit'),
    'OpenMax': dict(type='OpenMax'),
    'GDM': dict(type='GDM', normalize=True),
    'GMM': dict(type='GMM', num_components=20, covariance='full'),
    'centroid': dict(type='ClassCentroid', normalize=True),
    'CLS': DISCRIMINATOR,
    'OpenGAN-0': DISCRIMINATOR,
    'OpenGAN': DISCRIMINATOR,
}
APART = {
    'nearest neighbour, 20,000 references': dict(type='NearestNeighbour'),
    'MC-dropout, 500 samples': dict(type='MCDropout'),
    'MSPc': dict(type='MSPc'),
}
TARGET = 1.5


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--size', type=int, nargs=2, default=(512, 1024), metavar=('ROWS', 'COLS'))
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repetitions', type=int, default=5)
    parser.add_argument(
        '--cpu',
        action='store_true',
        help='CPU seconds of all threads in place of wall-clock seconds: '
        'for a busy machine, with --threads 1',
    )
    parser.add_argument(
        '--apart',
        action='store_true',
        help='also time the scorers that are reported apart, once each',
    )
    return parser.parse_args()


def random_data(model, number: int = 25000) -> FitData:
    weight, bias = model.head.adapter.classifier
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(number) % len(weight)
    centres = torch.randn(len(weight), weight.shape[1], generator=generator)
    features = (centres[labels] + torch.randn(number, weight.shape[1], generator=generator)).relu()
    return FitData(features, features @ weight.T + bias, labels, weight, bias)


def build(cfg: dict, data: FitData):
    scorer = SCORERS.build(cfg).eval()
    return scorer.fit(data) if isinstance(scorer, FittedScorer) else scorer


def main():
    args = parse_args()
    init_default_scope('mmseg')

    def clock():
        if args.device != 'cpu':
            torch.cuda.synchronize()
        return time.process_time() if args.cpu else time.perf_counter()

    torch.backends.cudnn.benchmark = True  # as the configs have it
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    cfg = Config.fromfile(MODEL).model
    cfg.segmentor.checkpoint = None  # random weights
    model = MODELS.build(dict(cfg, discriminator=None, generator=None)).eval()
    data = random_data(model)
    model.to(args.device)
    scorers = torch.nn.ModuleDict(
        {name: build(scorer, data) for name, scorer in TWELVE.items()}
    ).to(args.device)
    alone = torch.nn.ModuleDict()
    inputs = torch.randn(1, 3, *args.size, device=args.device)
    metas = [
        dict(ori_shape=tuple(args.size), img_shape=tuple(args.size), pad_shape=tuple(args.size))
    ]
    with torch.no_grad():
        tap = model.tap_of(inputs)

    def one_pass(chosen):
        model.scorers = chosen
        with model.head.listening(model.score_tap, resize=False):
            model.segmentor.encode_decode(inputs, metas)

    timed = {
        'segmentor alone': lambda: one_pass(alone),
        'with all twelve': lambda: one_pass(scorers),
    }
    timed.update(
        {
            name: lambda scorer=scorer: scorer(tap.features, tap.logits)
            for name, scorer in scorers.items()
        }
    )
    times = {name: [] for name in timed}
    with torch.no_grad():
        for _ in range(args.repetitions + 1):
            for name, function in timed.items():
                start = clock()
                function()
                times[name].append(clock() - start)
        seconds = {name: statistics.median(some[1:]) for name, some in times.items()}
        where = f'{args.threads} threads' if args.device == 'cpu' else torch.cuda.get_device_name()
        print(
            f'HRNetV2-W48, {args.size[0]}x{args.size[1]}, {where}, torch {torch.__version__}, '
            f'medians of {args.repetitions}'
        )
        for name, value in seconds.items():
            print(
                f'{name:18s} {value:8.4f} s  {value / seconds["segmentor alone"]:6.3f} x the '
                f'segmentor'
            )
        ratio = seconds['with all twelve'] / seconds['segmentor alone']
        print(f'one pass with all twelve: {ratio:.3f} x the segmentor alone (target: <= {TARGET})')
        if args.apart:
            for name, scorer in APART.items():
                model.scorers = torch.nn.ModuleDict({'one': build(scorer, data)}).to(args.device)
                start = clock()
                with model.head.listening(model.score_tap, resize=False):
                    model.segmentor.encode_decode(inputs, metas)
                value = clock() - start - seconds['segmentor alone']
                print(
                    f'{name:38s} {value:7.2f} s  {value / seconds["segmentor alone"]:6.2f} x the '
                    f'segmentor'
                )


if __name__ == '__main__':
    main()
