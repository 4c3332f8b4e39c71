"""The demo from nothing to a table: a street world, a closed segmentor, CLS, OpenGAN-0 and OpenGAN, a test, pictures.

Every stage has its folder below ``out`` and is an ordinary run of a config in ``configs/demo``. A finished stage leaves
``stage.json`` there and is not run again as long as its settings, and those of the stages before it, are the same.
"""

import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mmcv
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from . import register  # noqa: F401
from .contracts import LABEL_POLICY
from .datasets.demo_open_things import VAL_ONLY
from .datasets.demo_world import MANIFEST, write_demo_world
from .engine.plots import density_figure, roc_figure
from .engine.visualizer import draw_panel, panel_fields
from .functional.files import write_json

TRAINED = {'cls': 'CLS', 'opengan0': 'OpenGAN-0', 'opengan': 'OpenGAN'}  # folder and config -> name in the table
METHODS = ('MSP', 'Entropy', *TRAINED.values())
METRICS = ('AUROC', 'AP', 'FPR95')
TABLE, REPORT, PICTURES, LOG = 'table.md', 'metrics.json', 'pictures', 'demo.log'  # what the demo leaves below ``out``
_STAGE = 'stage.json'


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """How large the demo is. The same settings give the same numbers on the same machine.

    Args:
        num_train: images of the world to train on; the last 10 of them are the open validation set.
        num_val: images to test on.
        closed_steps: training steps of the closed segmentor.
        closed_batch: crops in each of them.
        open_steps: training steps of each discriminator.
        val_interval: steps between open validations.
        num_pictures: panels to draw.
        threads: threads of torch. Fixed, because sums depend on it in the last digits.
    """

    num_train: int = 120
    num_val: int = 40
    closed_steps: int = 1000
    closed_batch: int = 4
    open_steps: int = 200
    val_interval: int = 25
    num_pictures: int = 6
    threads: int = 2


QUICK = DemoSettings(num_train=16, num_val=4, closed_steps=8, closed_batch=2, open_steps=4, val_interval=4,
                     num_pictures=2, threads=1)


def run_demo(configs, out, *, settings: DemoSettings = DemoSettings(), fresh: bool = False) -> dict:
    """Run what is missing below ``out``, print its progress and the table.

    Args:
        configs: Folder of the demo's configs.
        out: Folder to work in.
        settings: Size of the demo.
        fresh: Forget what was done before.

    Returns:
        dict: the report, as in ``metrics.json``.

    Raises:
        FileExistsError: ``out`` holds something, and no demo.
    """
    configs, out, start = Path(configs), Path(out).resolve(), time.monotonic()
    world = out / 'world'
    if out.is_dir() and any(out.glob('[!.]*')) and not (world / MANIFEST).exists():
        raise FileExistsError(f"'{out}' is not empty and holds no demo: choose another folder or remove it.")
    if fresh:
        for name in ('world', 'closed', *TRAINED, 'test', PICTURES):
            shutil.rmtree(out / name, ignore_errors=True)
    os.environ['DEMO_OUTPUT'] = str(out)  # read by the configs
    torch.set_num_threads(settings.threads)
    say = partial(print, file=sys.stdout, flush=True)  # while mmengine's own output goes to the log

    say(f'[1/{2 + len(TRAINED) + 1}] street world: {settings.num_train} training and {settings.num_val} test images')
    write_demo_world(world, num_train=settings.num_train, num_val=settings.num_val)
    say(f'      {time.monotonic() - start:.0f} s')
    with _quiet(out / LOG):
        stages = _Stages(out, (world / MANIFEST).read_text() + f'{settings.threads} threads', say)
        _run_stages(stages, configs, settings, choose_pictures(world, settings.num_pictures))
    say('\n' + (out / TABLE).read_text())
    say('Pictures:', *sorted((out / PICTURES).iterdir()), sep='\n  ')
    say(f'Table: {out / TABLE}, numbers: {out / REPORT}, log: {out / LOG}')
    say(f'{time.monotonic() - start:.0f} s in all')
    return json.loads((out / REPORT).read_text())


def _run_stages(stages: '_Stages', configs: Path, settings: DemoSettings, wanted: dict[str, str]) -> None:
    steps = settings.closed_steps
    cfg = _load(configs / 'closed_hr_small.py', {
        'train_cfg.max_iters': steps, 'param_scheduler.total_steps': steps,
        'train_dataloader.batch_size': settings.closed_batch})
    stages.run(f'closed segmentor, {steps} steps', cfg, _train)
    chosen = {}
    for name, method in TRAINED.items():
        cfg = _load(configs / f'{name}_demo.py', {'train_cfg.max_iters': settings.open_steps,
                                                  'train_cfg.val_interval': settings.val_interval})
        chosen[method] = stages.run(f'{method}, {settings.open_steps} steps', cfg, _train_open)
    cfg = _load(configs / 'compare_demo.py', {})
    stages.run('test, all methods in one pass', cfg, partial(_test, out=stages.out, wanted=wanted, chosen=chosen))


# ---------------------------------------------------------------------- stages

class _Stages:
    """Runs one stage after the other, each in the folder that its config names.

    Args:
        out: Folder of the demo.
        key: What the first stage depends on; every further stage also depends on the configs before it.
        say: Prints a line.
    """

    def __init__(self, out: Path, key: str, say: Callable):
        self.out, self.key, self.say, self.number = out, key, say, 1

    def run(self, title: str, cfg: Config, work: Callable[[Config], dict]) -> dict:
        """What ``work`` returns, with the seconds it took; read from the folder where this has been done before."""
        self.number += 1
        self.say(f'[{self.number}/{2 + len(TRAINED) + 1}] {title}')
        self.key = hashlib.sha256((self.key + json.dumps(cfg.to_dict(), default=str)).encode()).hexdigest()
        folder = Path(cfg.work_dir)
        path = folder / _STAGE
        record = json.loads(path.read_text()) if path.exists() else {}
        before = record.get('key') == self.key
        if not before:
            shutil.rmtree(folder, ignore_errors=True)
            start = time.monotonic()
            record = dict(key=self.key, **work(cfg), seconds=round(time.monotonic() - start, 1))
            write_json(path, record)
        self.say(f"      {'done before, in ' * before}{record['seconds']:.0f} s")
        return record


def _load(path: Path, options: dict) -> Config:
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options)
    cfg.visualizer.name = path.stem  # mmengine would give every stage the first one's visualizer
    return cfg


@contextmanager
def _quiet(log: Path):
    """What mmengine and mmseg print, warnings included, goes to a file."""
    file = open(log, 'a', buffering=1)  # noqa: SIM115 (mmengine's loggers keep it for the life of the process)
    warnings = logging.getLogger('py.warnings')
    handler = logging.StreamHandler(file)
    warnings.addHandler(handler)
    logging.captureWarnings(True)
    try:
        with redirect_stdout(file):
            yield
    finally:
        logging.captureWarnings(False)
        warnings.removeHandler(handler)


class _ProgressHook(Hook):
    """A progress bar for training: the losses and, where there is one, the best open validation so far."""

    def before_train(self, runner):
        self.bar = tqdm(total=runner.max_iters, unit='step', file=sys.stderr, mininterval=1)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        shown = {name: f'{float(value):.3f}' for name, value in (outputs or {}).items()
                 if name in ('loss', 'D_closed', 'D_open', 'D_fake')}
        if 'best_score' in runner.message_hub.runtime_info:
            shown['best AUROC'] = f"{float(runner.message_hub.get_info('best_score')):.4f}"
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()

    def after_train(self, runner):
        self.bar.close()


class _PanelHook(Hook):
    """A bar for testing, and a panel of each wanted image."""

    def __init__(self, folder: Path, wanted: dict[str, str]):
        self.folder, self.wanted = folder, wanted

    def before_test(self, runner):
        self.bar = tqdm(total=len(runner.test_dataloader.dataset), unit='image', file=sys.stderr)

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        meta = runner.test_dataloader.dataset.metainfo
        for sample in outputs:
            name = self.wanted.get(Path(sample.img_path).name)
            if name is not None:
                fields = panel_fields(sample)
                fields['scores'] = {method: fields['scores'][method] for method in METHODS}
                panel = draw_panel(mmcv.imread(sample.img_path, channel_order='rgb'), **fields, classes=meta['classes'],
                                   palette=meta['palette'], threshold_of=TRAINED['opengan'])
                mmcv.imwrite(mmcv.rgb2bgr(panel), str(self.folder / f'{name}.png'))
            self.bar.update()

    def after_test(self, runner):
        self.bar.close()


def _train(cfg: Config) -> dict:
    runner = Runner.from_cfg(cfg)
    runner.model.to(memory_format=torch.channels_last)  # a fifth faster on a CPU
    runner.register_hook(_ProgressHook())
    runner.train()
    return {}


def _train_open(cfg: Config) -> dict:
    runner = Runner.from_cfg(cfg)
    runner.register_hook(_ProgressHook())
    runner.train()
    best = Path(runner.message_hub.get_info('best_ckpt'))
    best.replace(best.with_name('best.pth'))
    return dict(step=int(best.stem.rsplit('_', 1)[1]), AUROC=float(runner.message_hub.get_info('best_score')))


def _test(cfg: Config, *, out: Path, wanted: dict[str, str], chosen: dict[str, dict]) -> dict:
    pictures = out / PICTURES
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(_PanelHook(pictures, wanted))
    runner.test()
    [metric] = runner.test_evaluator.metrics
    curves = {method: metric.curves[method] for method in METHODS}
    for name, figure in (('roc', roc_figure), ('density', density_figure)):
        figure(curves, 'street world').savefig(pictures / f'{name}.png', dpi=150)
    report = json.loads(Path(cfg.work_dir, 'open_set_eval', 'test', 'metrics.json').read_text())
    report['scorers'] = {method: report['scorers'][method] for method in METHODS}
    report['open_validation'] = {method: {key: found[key] for key in ('step', 'AUROC')}
                                 for method, found in chosen.items()}
    write_json(out / REPORT, report)
    (out / TABLE).write_text(table(report))
    return {}


# ---------------------------------------------------------------------- table and pictures

def table(report: dict) -> str:
    """The comparison as Markdown, with everything that must be said beside its numbers."""
    width = max(map(len, METHODS))
    lines = [f"| {'method':<{width}} | AUROC  | AP     | FPR95  |", f"|{'-' * (width + 2)}|{('-' * 8 + '|') * 3}"]
    for method in METHODS:
        cells = ' | '.join(f'{report["scorers"][method][metric]:.4f}' for metric in METRICS)
        lines.append(f'| {method:<{width}} | {cells} |')
    first = report['scorers'][METHODS[0]]
    chosen = '; '.join(f"{method} {found['AUROC']:.4f} at step {found['step']}"
                       for method, found in report['open_validation'].items())
    lines += ['', f"mIoU of the closed segmentor: {report['mIoU']:.1f} %.",
              f"Street world, {report['num_images']} test images, {first['num_closed']:,} closed and "
              f"{first['num_open']:,} open pixels, pooled;",
              f"label policy {report[LABEL_POLICY]}, {report['resolution']} resolution.",
              f'Open validation, which chose each D (AUROC): {chosen}.']
    return '\n'.join(lines) + '\n'


def choose_pictures(world: Path, count: int) -> dict[str, str]:
    """Image file -> name of its picture: test images whose open kinds, never seen in training, differ most.

    One after the other, the image that adds most kinds; of equals, the one with more kinds, then the first.
    """
    kinds = json.loads((world / MANIFEST).read_text())['open_kinds']
    unseen = {stem: [kind for kind in found if kind in VAL_ONLY] for stem, found in kinds.items()
              if stem.startswith('val/')}
    chosen, covered = {}, set()
    while unseen and len(chosen) < count:
        stem = max(unseen, key=lambda stem: (len(set(unseen[stem]) - covered), len(unseen[stem])))
        names = unseen.pop(stem)
        covered |= set(names)
        label = '_'.join(['panel', f'{len(chosen) + 1:02}', *names]).replace(' ', '-')
        chosen[f'{Path(stem).name}_leftImg8bit.png'] = label
    return chosen
