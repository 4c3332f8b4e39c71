"""Speed and memory of training and testing beside what they cannot do without: ratios, each from
one run.

    python benchmarks/training_speed.py                        # all parts on the CPU
    python benchmarks/training_speed.py --device cuda --images 128 --repetitions 20
    python benchmarks/training_speed.py --parts step --threads 1

step      one D/G step on 10,000 pixels (features in memory) beside its matrix products alone, in
          torch.mm with preallocated outputs: every forward pass, weight gradient and needed input
          gradient.
store     steps per second from a store beside online ones (HRNetV2-W48, one 1024 x 2048 image a
          step), each with reading its batch; and extraction into the store, all included, beside
          the bare segmentor on images in memory.
test      what tools/test.py does with an image (test_step and the metric), with D and OpenSetMetric
          beside mmseg's own EncoderDecoder and IoUMetric, HRNetV2-W48 on 512 x 1024; the closed
          outputs are compared bit by bit.
memory    anonymous resident memory (RssAnon) of a process that trains W48's D and G from a store of
          --store-gb GB.

Weights are random and images made up, with as many open pixels as Cityscapes' have. The things
compared take turns within a part, after one round that is not counted; reported are medians and, as
the least disturbed ones, minima. Wall time, or with --cpu-seconds what a busy machine does not
stretch (one thread only; not for extraction, which is about overlap).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import torch

PARTS = ('step', 'store', 'test', 'memory')
REPOSITORY = Path(__file__).parents[1]
CONFIG = 'configs/opengan/opengan_{}_cityscapes.py'
LABEL_IDS = (7, 8, 11, 21, 23, 24, 26, 5, 9, 14)  # seven closed, three open
SHARES = (0.97 / 7,) * 7 + (0.03 / 3,) * 3  # of open pixels about that of Cityscapes


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=PARTS)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument(
        '--repetitions', type=int, default=5, help='counted rounds of a step or a tested image'
    )
    parser.add_argument(
        '--images', type=int, default=2, help='images extracted, and at most so many online steps'
    )
    parser.add_argument(
        '--size', type=int, nargs=2, default=(1024, 2048), help='of training images'
    )
    parser.add_argument('--test-size', type=int, nargs=2, default=(512, 1024))
    parser.add_argument('--store-gb', type=float, default=16)
    parser.add_argument(
        '--cpu-seconds', action='store_true', help='CPU seconds of one thread instead of wall time'
    )
    # the measured child process
    parser.add_argument('--measure-memory', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args()


# ----------------------------------------------------------------------------------------------
# timing


def seconds(function, args, clock=None):
    clock = clock or (time.process_time if args.cpu_seconds else time.perf_counter)
    start = clock()
    function()
    if args.device != 'cpu':
        torch.cuda.synchronize()
    return clock() - start


def in_turns(functions: dict, repetitions: int, args, clock=None) -> dict[str, list[float]]:
    """Seconds of every function, which take turns; a first round is not counted."""
    times = {name: [] for name in functions}
    for _ in range(repetitions + 1):
        for name, function in functions.items():
            times[name].append(seconds(function, args, clock))
    return {name: some[1:] for name, some in times.items()}


def report(name: str, ours: list[float], peer: list[float], target: str, unit: str = 's') -> None:
    ratios = [find(ours) / find(peer) for find in (statistics.median, min)]
    print(
        f'{name}: {statistics.median(ours):.4g} {unit}, peer {statistics.median(peer):.4g} '
        f'{unit}; ratio of medians '
        f'{ratios[0]:.3f}, of minima {ratios[1]:.3f} (target: {target})',
        flush=True,
    )


def report_gpu_memory(name: str, device: str) -> None:
    if device != 'cpu':
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(f'{name}: {peak:.2f} GiB of GPU memory at the peak', flush=True)
        torch.cuda.reset_peak_memory_stats()


# ----------------------------------------------------------------------------------------------
# models and data


def build_config(root: Path, network: str = 'hr48'):
    """The paper's config, or that of another network, on made-up images below ``root``."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    os.environ['CITYSCAPES_ROOT'] = str(root)
    config = Config.fromfile(REPOSITORY / CONFIG.format(network))
    config.model.scorers = {}  # the open-set head alone
    config.model.segmentor.checkpoint = None  # random weights
    init_default_scope('mmseg')
    return config


def build_model(config, device):
    from mmseg.registry import MODELS

    torch.manual_seed(0)
    return MODELS.build(config.model).to(device)


def write_images(root: Path, folder: str, number: int, size) -> None:
    """Copies of one made-up image and its Cityscapes label file."""
    rng = np.random.default_rng(0)
    image = cv2.resize(
        rng.integers(0, 256, (size[0] // 16, size[1] // 16, 3), np.uint8), size[::-1]
    )
    blocks = rng.choice(np.array(LABEL_IDS, np.uint8), (size[0] // 32, size[1] // 32), p=SHARES)
    labels = cv2.resize(blocks, size[::-1], interpolation=cv2.INTER_NEAREST)
    for kind, end, content in (
        ('leftImg8bit', '_leftImg8bit.png', image),
        ('gtFine', '_gtFine_labelIds.png', labels),
    ):
        place = root / kind / folder / 'nowhere'
        place.mkdir(parents=True)
        content = cv2.imencode('.png', content)[1].tobytes()
        for i in range(number):
            (place / f'nowhere_{i:06d}{end}').write_bytes(content)


def optimizers(config, model):
    from mmengine.optim import build_optim_wrapper

    return build_optim_wrapper(model.train(), config.optim_wrapper)


# ----------------------------------------------------------------------------------------------
# parts


def measure_step(args):
    """Networks for 270 and for 720 channels."""
    from mmseg_opengan.features.pixel_sampler import PixelSampler

    for network in ('hr18s', 'hr48'):
        config = build_config(Path('.'), network)
        model = build_model(config, args.device)
        channels = model.head.channels
        wrappers = optimizers(config, model)
        batch = dict(draw=PixelSampler().at(0, 0))
        for name, number in (('closed', 5000), ('open', 2500)):
            batch[name] = torch.rand(number, channels).half().to(args.device)
        products = matrix_products(model.discriminator, model.generator, args.device)

        def multiply(products=products):
            for left, right, out in products:
                torch.mm(left, right, out=out)

        times = in_turns(
            dict(step=lambda: model.train_step(batch, wrappers), products=multiply),  # noqa: B023
            args.repetitions,
            args,
        )
        work = sum(left.numel() * right.shape[1] for left, right, _ in products) / 1e9
        report(
            f'D/G step of 10,000 pixels x {channels}, {work:.1f} GMAC',
            times['step'],
            times['products'],
            '<= 1.5',
        )
        report_gpu_memory('  step', args.device)


def matrix_products(discriminator, generator, device):
    """(left, right, out) of every matrix product of a step."""
    linear = [
        [m.weight.shape for m in net.modules() if isinstance(m, torch.nn.Linear)]
        for net in (discriminator, generator)
    ]
    shapes = []
    for layer, (outside, inside) in enumerate(linear[0]):
        # D's phase: forward, weight gradient, input gradient
        shapes += [(10_000, inside, outside), (outside, 10_000, inside)]
        shapes += [(10_000, outside, inside)] * (layer > 0)
        # G's phase: forward, input gradient
        shapes += [(2_500, inside, outside), (2_500, outside, inside)]
    for layer, (outside, inside) in enumerate(linear[1]):
        # both phases; weight gradient, input gradient
        shapes += [(2_500, inside, outside)] * 2 + [(outside, 2_500, inside)]
        shapes += [(2_500, outside, inside)] * (layer > 0)
    found = []
    for a, b, c in shapes:
        factors = [torch.rand(size, device=device) for size in ((a, b), (b, c))]
        found.append((*factors, torch.empty(a, c, device=device)))
    return found


def measure_store(args):
    from mmseg.registry import DATASETS

    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), 'train', args.images + 1, args.size)
        config = build_config(Path(folder))
        model = build_model(config, args.device)
        source = config.train_dataloader.dataset
        source.root = str(Path(folder, 'bank'))
        source.closed.num_open_val = source.open.num_open_val = 1
        store, online = (
            DATASETS.build({**source, 'type': kind}) for kind in ('StoreSource', 'OnlineSource')
        )

        items = [store.closed_images[i] for i in range(args.images)]

        def bare():
            for item in items:
                model.extract_image(item['inputs'], item['data_samples'])

        times = in_turns(dict(bare=bare), 1, args, time.perf_counter)
        report_gpu_memory('  the bare segmentor', args.device)
        begun = []

        def extract(image, sample):
            begun.append(time.perf_counter())
            return model.extract_image(image, sample)

        store.prepare(extract, model.segmentor_identity())
        whole = time.perf_counter() - begun[1]  # the first call only asks for the size of the grid
        size = ' x '.join(map(str, args.size))
        report(
            f'extraction of {args.images} images of {size} into a store',
            [whole],
            times['bare'],
            '<= 1.11',
        )
        report_gpu_memory('  extraction', args.device)
        online.prepare(extract, model.segmentor_identity())

        wrappers, steps = optimizers(config, model), iter(range(10**9))

        def train(data):
            model.train_step(data[0, next(steps)], wrappers)

        slow = in_turns(
            dict(online=lambda: train(online)), min(args.images, args.repetitions), args
        )['online']
        report_gpu_memory('  online step', args.device)
        fast = in_turns(dict(store=lambda: train(store)), max(5, args.repetitions), args)['store']
        report_gpu_memory('  step from a store', args.device)
        report(f'online step on one image of {size} beside one from a store', slow, fast, '>= 30')


def measure_test(args):
    from mmengine.evaluator import Evaluator
    from mmseg.registry import DATASETS, METRICS, MODELS

    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), 'val', 1, args.test_size)
        config = build_config(Path(folder))
        model = build_model(config, args.device).eval()
        plain = MODELS.build(config.model.segmentor.config.model).to(args.device).eval()
        plain.load_state_dict(model.segmentor.state_dict())
        dataset = DATASETS.build(config.test_dataloader.dataset)
        item = dataset[0]

    def tester(model, metric):
        evaluator = Evaluator([METRICS.build(metric)])
        evaluator.dataset_meta = dataset.metainfo

        @torch.no_grad()
        def test():
            batch = dict(inputs=[item['inputs']], data_samples=[item['data_samples'].clone()])
            test.outputs = model.test_step(batch)
            evaluator.process(test.outputs, batch)

        return test

    with_head, alone = (
        tester(model, dict(type='OpenSetMetric')),
        tester(plain, dict(type='IoUMetric')),
    )
    times = in_turns({'with': with_head, 'alone': alone}, args.repetitions, args)
    report(
        f'testing an image of {args.test_size[0]} x {args.test_size[1]} with the open-set head',
        times['with'],
        times['alone'],
        '<= 1.10',
    )
    report_gpu_memory('  testing, the two in turns', args.device)
    for name, test in {'with the open-set head': with_head, 'the closed model': alone}.items():
        test()
        report_gpu_memory(f'  testing, {name} (both are loaded)', args.device)
    same = all(
        torch.equal(*(getattr(run.outputs[0], key).data for run in (with_head, alone)))
        for key in ('seg_logits', 'pred_sem_seg')
    )
    print(f'  closed logits and labels bit-identical: {same}')


def measure_memory(args):
    """Train from a store that is a hole of --store-gb GB, and read this process' anonymous
    memory.
    """
    from mmseg.registry import TASK_UTILS

    from mmseg_opengan.features.bank import FeatureBank, write_record
    from mmseg_opengan.features.bank_writer import BankWriter

    config = build_config(Path('.'))
    model = build_model(config, args.device)
    wrappers = optimizers(config, model)
    channels = model.head.channels
    with tempfile.TemporaryDirectory() as folder:
        pixel = np.ones((1, channels), np.float16), np.zeros((1, 3), int)
        with BankWriter(folder, dict(channels=channels)) as writer:
            writer.add('image', dict(closed=pixel, open=pixel))
        groups = writer.bank['shards'][0]['groups']
        record = dict(images=['image'], files={}, places={}, groups=groups)
        for entry in record['groups'].values():
            path, rows = Path(folder, entry['file']), int(args.store_gb / 2 * 1e9 / 2 / channels)
            shape = dict(dtype=np.float16, shape=(rows, channels))
            np.lib.format.open_memmap(path, mode='w+', **shape)[-1] = 1
            entry.update(bytes=path.stat().st_size, images={'image': rows})
        write_record(Path(folder, 'shard-00000.json'), record)
        bank = FeatureBank(folder)
        sampler = TASK_UTILS.build(config.train_dataloader.dataset.sampler)
        for step in range(args.repetitions):
            draw = sampler.at(0, step)
            batch = dict(
                draw=draw,
                closed=bank.gather('closed', draw.closed(rows)),
                open=bank.gather('open', draw.open(rows)),
            )
            model.train_step(batch, wrappers)
    lines = Path('/proc/self/status').read_text().splitlines()
    anonymous = next(int(line.split()[1]) for line in lines if line.startswith('RssAnon'))
    print(
        f'training from a store of {args.store_gb:g} GB: {anonymous / 2**20:.2f} GiB of '
        'anonymous memory (target: < 2)',
        flush=True,
    )


def main():
    args = parse_args()
    if args.cpu_seconds and (args.threads != 1 or args.device != 'cpu'):
        sys.exit('--cpu-seconds wants --threads 1 and --device cpu')
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True  # as the configs have it
    from mmseg_opengan import compat

    compat.install()
    import mmseg_opengan.register  # noqa: F401

    if args.measure_memory:
        measure_memory(args)
        return
    name = torch.cuda.get_device_name() if args.device != 'cpu' else f'CPU, threads: {args.threads}'
    print(
        f'{name}; torch {torch.__version__}; {"CPU seconds" if args.cpu_seconds else "wall time"}',
        flush=True,
    )
    for part in args.parts:
        if part == 'memory':
            subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], '--measure-memory'], check=True
            )
        else:
            dict(step=measure_step, store=measure_store, test=measure_test)[part](args)


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    main()
