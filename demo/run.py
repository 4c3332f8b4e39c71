"""The demo: a street world, a closed segmentor, CLS, OpenGAN-0 and OpenGAN, a test, pictures.

Every stage is an ordinary run of the configs in ``configs/demo``, in folders below ``out``. A
finished stage leaves ``stage.json`` there and is not run again as long as its settings, and those
of the stages before it, are the same.
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

from demo.segmentor import WEIGHTS
from demo.table import CITIES, METHODS, choose_pictures, table
from demo.world import MANIFEST, write_demo_world
from mmseg_opengan import register  # noqa: F401
from mmseg_opengan.contracts import HYBRID, OPENGAN
from mmseg_opengan.experiments.jobs import Job, train
from mmseg_opengan.files import sha256_of, write_json
from mmseg_opengan.pictures.figures import density_figure, roc_figure, save_figure
from mmseg_opengan.pictures.panel import draw_panel
from mmseg_opengan.pictures.visualizer import panel_fields

#: Folder and config of each training -> its name in the table.
TRAINED = {'cls': 'CLS', 'opengan0': 'OpenGAN-0', 'opengan': 'OpenGAN'}
#: Score maps in the pictures.
DRAWN = ('msp', 'gen', 'cls', OPENGAN, HYBRID)
#: What the demo leaves below ``out``.
TABLE, REPORT, PICTURES, LOG = 'table.md', 'metrics.json', 'pictures', 'demo.log'
_STAGE, _STAGES = 'stage.json', 4


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """How large the demo is. The same settings give the same numbers on the same machine.

    Args:
        num_train: images of the world to train on; the last 10 of them are the open validation set.
        num_val: images to test on.
        from_scratch: train the closed segmentor, for fewer steps than the one that the demo brings
            along.
        closed_steps: training steps of the closed segmentor, from scratch.
        closed_batch: crops in each of them.
        open_steps: training steps of each discriminator.
        val_interval: steps between open validations.
        num_pictures: panels to draw.
        threads: threads of torch where one thing runs alone. Fixed, because sums depend on it in
            the last digits.
        processes: processes that draw the world; the discriminators then train side by side, each
            in a process of one thread. With 0, one thing after the other happens in this process.
            The numbers are the same.
        size: (H, W) of the images.
    """

    num_train: int = 120
    num_val: int = 40
    from_scratch: bool = False
    closed_steps: int = 450
    closed_batch: int = 4
    open_steps: int = 240
    val_interval: int = 20
    num_pictures: int = 6
    threads: int = 2
    processes: int = 2
    size: tuple[int, int] = (256, 512)


QUICK = DemoSettings(
    num_train=12,
    num_val=4,
    closed_steps=3,
    closed_batch=2,
    open_steps=2,
    val_interval=2,
    num_pictures=2,
    threads=1,
    processes=0,
    size=(128, 256),
)


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
        raise FileExistsError(
            f"'{out}' is not empty and holds no demo: choose another folder or remove it."
        )
    if fresh:
        for name in ('world', 'closed', 'bank', *TRAINED, 'test', PICTURES):
            shutil.rmtree(out / name, ignore_errors=True)
    os.environ['DEMO_OUTPUT'] = str(out)  # read by the configs
    say = partial(print, file=sys.stdout, flush=True)  # while mmengine's own output goes to the log

    say(
        f'[1/{_STAGES}] street world: {settings.num_train} training and {settings.num_val} '
        f'test images'
    )
    write_demo_world(
        world,
        num_train=settings.num_train,
        num_val=settings.num_val,
        size=settings.size,
        processes=max(settings.processes, 1),
    )
    say(f'      {time.monotonic() - start:.0f} s')
    with _quiet(out / LOG):
        _run_stages(
            _Stages((world / MANIFEST).read_text(), settings.threads, say), configs, out, settings
        )
    say('\n' + (out / TABLE).read_text())
    say('Pictures:', *sorted((out / PICTURES).glob('*.png')), sep='\n  ')
    say(f'Table: {out / TABLE}, numbers: {out / REPORT}, log: {out / LOG}')
    say(f'{time.monotonic() - start:.0f} s in all')
    return json.loads((out / REPORT).read_text())


def _run_stages(stages: '_Stages', configs: Path, out: Path, settings: DemoSettings) -> None:
    cfg = _load(configs / 'closed_hr_small.py', {})
    if settings.from_scratch:
        steps = settings.closed_steps
        cfg.merge_from_dict(
            {
                'train_cfg.max_iters': steps,
                'param_scheduler.total_steps': steps,
                'train_dataloader.batch_size': settings.closed_batch,
            }
        )
        stages.run(f'closed segmentor, {steps} steps', partial(_train_closed, cfg), cfg)
    else:
        cfg.load_from = sha256_of(WEIGHTS)  # other weights, another stage
        stages.run(
            "closed segmentor: the demo's own, trained before", partial(_take_closed, cfg), cfg
        )

    steps = settings.open_steps
    options = {'train_cfg.max_iters': steps, 'train_cfg.val_interval': settings.val_interval}
    jobs = [Job(name, str(configs / f'{name}_demo.py'), 0, out / name, options) for name in TRAINED]
    cfgs = [_load(Path(job.config), options) for job in jobs]
    chosen = stages.run(
        f'{", ".join(TRAINED.values())}: {steps} steps each, side by side',
        partial(_train_open, jobs, settings.threads, settings.processes),
        *cfgs,
    )

    cfg = _load(configs / 'compare_demo.py', {})
    wanted = choose_pictures(out / 'world', settings.num_pictures)
    stages.run('test, all methods in one pass', partial(_test, cfg, out, wanted, chosen), cfg)


# ---------------------------------------------------------------------- stages


class _Stages:
    """Runs one stage after the other, each in the folders that its configs name.

    Args:
        key: What the first stage depends on; every further stage also depends on the configs before
            it.
        threads: Threads of torch.
        say: Prints a line.
    """

    def __init__(self, key: str, threads: int, say: Callable):
        self.key, self.threads, self.say, self.number = f'{key}{threads} threads', threads, say, 1

    def run(self, title: str, work: Callable[[], dict], *cfgs: Config) -> dict:
        """What ``work`` returns, with the seconds it took; read from the last folder where it has
        been done before.
        """
        self.number += 1
        self.say(f'[{self.number}/{_STAGES}] {title}')
        for cfg in cfgs:
            self.key = hashlib.sha256(
                (self.key + json.dumps(cfg.to_dict(), default=str)).encode()
            ).hexdigest()
        folders = [Path(cfg.work_dir) for cfg in cfgs]
        path = folders[-1] / _STAGE
        record = json.loads(path.read_text()) if path.exists() else {}
        before = record.get('key') == self.key
        if not before:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
            torch.set_num_threads(self.threads)
            start, busy = time.monotonic(), _cpu_seconds()
            record = dict(
                key=self.key,
                **work(),
                seconds=round(time.monotonic() - start, 1),
                cpu_seconds=round(_cpu_seconds() - busy, 1),
            )
            write_json(path, record)
        self.say(f'      {"done before, in " * before}{record["seconds"]:.0f} s')
        return record


def _cpu_seconds() -> float:
    """Of this process and of those it has waited for."""
    return sum(os.times()[:4])


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
    """A progress bar with the loss."""

    def before_train(self, runner):
        self.bar = tqdm(total=runner.max_iters, unit='step', file=sys.stderr, mininterval=1)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.bar.set_postfix(loss=f'{outputs["loss"].item():.3f}', refresh=False)
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
            picture = self.wanted.get(Path(sample.img_path).name)
            if picture is not None:
                fields = panel_fields(sample)
                fields['scores'] = {METHODS[name]: fields['scores'][name] for name in DRAWN}
                panel = draw_panel(
                    mmcv.imread(sample.img_path, channel_order='rgb'),
                    **fields,
                    classes=meta['classes'],
                    palette=meta['palette'],
                    threshold_of=METHODS[OPENGAN],
                )
                mmcv.imwrite(mmcv.rgb2bgr(panel), str(self.folder / f'{picture}.png'))
            self.bar.update()

    def after_test(self, runner):
        self.bar.close()


def _train_closed(cfg: Config) -> dict:
    runner = Runner.from_cfg(cfg)
    runner.model.to(memory_format=torch.channels_last)  # a fifth faster on a CPU
    runner.register_hook(_ProgressHook())
    runner.train()
    return {}


def _take_closed(cfg: Config) -> dict:
    folder = Path(cfg.work_dir)
    folder.mkdir(parents=True)
    shutil.copyfile(WEIGHTS, folder / 'segmentor.pth')
    return {}


def _train_open(jobs: list[Job], threads: int, processes: int) -> dict:
    """What open validation chose of each method; copied to ``best.pth``, where the config of the
    test looks for it.
    """
    train(jobs, processes=len(jobs) if processes else 0, bank_threads=threads)
    chosen = {}
    for job in jobs:
        best = job.best()
        shutil.copyfile(job.work_dir / best['checkpoint'], job.work_dir / 'best.pth')
        chosen[TRAINED[job.method]] = dict(
            step=best['step'], AUROC=next(iter(best['open_validation'].values()))
        )
    return chosen


def _test(cfg: Config, out: Path, wanted: dict[str, str], chosen: dict[str, dict]) -> dict:
    pictures = out / PICTURES
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    report = dict(open_validation={method: chosen[method] for method in TRAINED.values()})
    for kinds, city in CITIES.items():
        report[kinds] = _test_city(cfg, kinds, city, pictures, wanted)
    write_json(out / REPORT, report)
    (out / TABLE).write_text(table(report))
    return {}


def _test_city(cfg: Config, kinds: str, city: str, pictures: Path, wanted: dict[str, str]) -> dict:
    """The report of the test images of one city, and their pictures."""
    cfg = cfg.copy()
    cfg.work_dir = str(Path(cfg.work_dir) / kinds)
    cfg.visualizer.name = cfg.experiment_name = f'test_{kinds}'
    cfg.test_dataloader.dataset.data_prefix = dict(
        img_path=f'leftImg8bit/val/{city}', seg_map_path=f'gtFine/val/{city}'
    )
    runner = Runner.from_cfg(cfg)
    runner.register_hook(_PanelHook(pictures, wanted))
    runner.test()
    [metric] = runner.test_evaluator.metrics
    curves = {label: metric.curves[name] for name, label in METHODS.items()}
    for name, figure in (('roc', roc_figure), ('density', density_figure)):
        title = f'street world, open kinds {kinds} in training'
        save_figure(figure(curves, title), pictures / f'{name}_{kinds}')
    report = json.loads(Path(cfg.work_dir, 'open_set_eval', 'test', 'metrics.json').read_text())
    report['scorers'] = {label: report['scorers'][name] for name, label in METHODS.items()}
    return report
