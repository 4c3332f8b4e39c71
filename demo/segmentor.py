"""Makes the closed segmentor that the demo ships: ``make demo-segmentor``.

It trains on a street world of its own, none of whose pictures the demo shows. Its weights are kept
in half precision, and their mIoU on the demo's test images is printed.
"""

import argparse
import os
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from demo.world import write_demo_world
from mmseg_opengan import compat, register  # noqa: F401
from mmseg_opengan.files import replacing

CONFIG = Path(__file__).resolve().parents[1] / 'configs' / 'demo' / 'closed_hr_small.py'
#: The weights in git.
WEIGHTS = Path(__file__).resolve().parent / 'segmentor.pth'
#: Of the world that it is trained on; the demo's is 0.
SEED = 1


def make_segmentor(
    out: str | Path,
    weights: str | Path,
    *,
    num_train: int,
    steps: int,
    processes: int,
    num_val: int = 40,
) -> float:
    """Train the segmentor below ``out`` and write ``weights``; the mIoU in percent is returned."""
    out = Path(out).resolve()
    os.environ['DEMO_OUTPUT'] = str(out)
    write_demo_world(out / 'world', num_train=num_train, num_val=0, seed=SEED, processes=processes)
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({'train_cfg.max_iters': steps, 'param_scheduler.total_steps': steps})
    cfg.default_hooks.checkpoint.update(interval=steps)
    runner = Runner.from_cfg(cfg)
    runner.model.to(memory_format=torch.channels_last)  # a fifth faster on a CPU
    runner.train()
    checkpoint = torch.load(out / 'closed' / 'segmentor.pth', weights_only=True)
    with replacing(weights) as file:
        torch.save(dict(state_dict=halved(checkpoint['state_dict'])), file)
    return measure(out / 'demo', weights, num_val, processes)


def halved(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights in half precision; counts stay whole numbers."""
    return {
        name: value.half() if value.is_floating_point() else value for name, value in state.items()
    }


def measure(out: Path, weights: str | Path, num_val: int, processes: int) -> float:
    """mIoU in percent on the demo's test images."""
    os.environ['DEMO_OUTPUT'] = str(out)
    write_demo_world(out / 'world', num_train=0, num_val=num_val, processes=processes)
    cfg = Config.fromfile(CONFIG)
    cfg.load_from = str(weights)
    return Runner.from_cfg(cfg).test()['mIoU']


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default='demo_segmentor', help='folder to work in')
    parser.add_argument('--weights', default=str(WEIGHTS), help='file to write')
    parser.add_argument('--num-train', type=int, default=400, help='images to train on')
    parser.add_argument('--steps', type=int, default=4000, help='training steps')
    parser.add_argument('--processes', type=int, default=2, help='processes that draw')
    args = parser.parse_args()
    compat.install()
    found = make_segmentor(
        args.out,
        args.weights,
        num_train=args.num_train,
        steps=args.steps,
        processes=args.processes,
    )
    size = Path(args.weights).stat().st_size
    print(f"'{args.weights}': {size / 1e6:.1f} MB, mIoU {found:.1f} % on the demo's test images")


if __name__ == '__main__':
    main()
