"""Trainings of an experiment: each an ordinary run of an ordinary config in its own work directory.

A job that has finished is not trained again, so an interrupted experiment goes on where it stopped.
"""

import importlib.util
import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from tqdm import tqdm

from .. import compat, register  # noqa: F401
from ..engine.launch import die_with_parent, free_memory, use_gpu, workers
from ..evaluation.best_checkpoint import choice_of
from ..evaluation.decided import digest_of_data
from ..features.bank import GROUPS
from ..files import write_json
from ..provenance import digest_of_file, made_from, note, noted, require_same
from ..shipped import read_config_file
from .tables import METRICS

_DONE = 'best.json'
#: One of them is in a folder whose record matters.
_BEGUN = (_DONE, 'last_checkpoint', 'metrics.json', 'clean_0.json')
#: What the weights of a run and their choice depend on.
_RECIPE = (
    'model',
    'train_dataloader',
    'val_dataloader',
    'val_evaluator',
    'optim_wrapper',
    'param_scheduler',
    'train_cfg',
    'custom_hooks',
    'randomness',
)
#: Where data lies and how it is read, and scorers, which take no part in training.
_ELSEWHERE = ('data_root', 'root', 'scorers', 'num_workers', 'persistent_workers')
#: Where a folder holds something else.
ADVICE = 'Choose another folder, or remove this one.'
_OTHERS_MODULES = ('mmseg_opengan', 'mmseg', 'mmpretrain')


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        options: config overrides, as of ``--cfg-options``.
        values: what distinguishes it from the others of its experiment, for tables.
    """

    method: str
    config: str
    seed: int
    work_dir: Path
    options: dict = field(default_factory=dict)
    values: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f'{self.method}_s{self.seed}'

    def load_config(self) -> Config:
        """The run's whole config."""
        config = read_config_file(self.config)
        config.merge_from_dict({**self.options, 'randomness.seed': self.seed})
        config.work_dir = str(self.work_dir)
        config.resume = True  # from the last checkpoint in the work directory, if any
        # mmengine gives runs of one name in one process one visualizer and one history.
        config.visualizer.name = config.experiment_name = f'{self.name}_{time.time_ns()}'
        return config

    def best(self) -> dict | None:
        """What open validation chose: ``checkpoint`` (relative to the work directory), ``step`` of
        ``steps``, ``open_validation`` and ``minutes``; None of an unfinished run.
        """
        path = self.work_dir / _DONE
        return json.loads(path.read_text()) if path.exists() else None

    def validation(self) -> tuple[str, float]:
        """The metric by which open validation chose, and its number."""
        ((name, number),) = self.best()['open_validation'].items()
        return name.rpartition('/')[-1], number

    def row(self, tested: dict) -> dict:
        """Its values, what open validation chose, and its numbers in a test's report."""
        best = self.best()
        validated_by, validation = self.validation()
        return dict(
            **self.values,
            seed=self.seed,
            **{metric: tested[metric] for metric in METRICS},
            validation=validation,
            validated_by=validated_by,
            step=best['step'],
            steps=best['steps'],
            minutes=best['minutes'],
        )

    def recipe(self, known: dict | None = None) -> dict:
        """What the run's weights and their choice depend on, but not where data lies.

        Args:
            known: digests of data sets by their configs, which are found anew where they are
                missing.
        """
        config = self.load_config().to_dict()
        known = {} if known is None else known
        parts = {key: _without_places(config.get(key)) for key in _RECIPE}
        choice = config['default_hooks']['checkpoint']
        parts['choice'] = {key: choice.get(key) for key in ('save_best', 'rule')}
        init_default_scope(config.get('default_scope', 'mmseg'))
        data = [config['train_dataloader']['dataset'].get(group) for group in GROUPS]
        data.append((config.get('val_dataloader') or {}).get('dataset'))
        found = [_digest_of(one, known) for one in data if one is not None]
        return made_from(**parts, own_modules=own_modules(config), data=found)


def _digest_of(dataset: dict, known: dict[str, str]) -> str | None:
    """Digest of a data set's images and labels; None where there are none yet."""
    key = repr(dataset)
    if key not in known:
        try:
            known[key] = digest_of_data(dataset)
        except FileNotFoundError:  # which the training tells
            return None
    return known[key]


def _without_places(value):
    if isinstance(value, dict):
        return {key: _without_places(item) for key, item in value.items() if key not in _ELSEWHERE}
    if isinstance(value, (list, tuple)):
        return [_without_places(item) for item in value]
    return value


def own_modules(config: dict) -> dict[str, str]:
    """Digests of the user's modules in ``custom_imports``, by name."""
    names = (config.get('custom_imports') or {}).get('imports', [])
    found = {}
    for name in [names] if isinstance(names, str) else names:
        spec = importlib.util.find_spec(name)
        if spec is not None and name.split('.')[0] not in _OTHERS_MODULES:
            found[name] = digest_of_file(spec.origin)
    return found


def claim(folder: Path, record: dict) -> None:
    """Note what a folder is made from, or refuse one that has begun with something else.

    Raises:
        ValueError: names the folder and every difference.
    """
    if any(next(folder.rglob(name), None) for name in _BEGUN):
        require_same(f"'{folder}'", record, noted(folder), advice=ADVICE)
    note(folder, record)


def require_each_once(name: str, values: Sequence) -> None:
    """Raise a ValueError unless there are values, each once."""
    if not values or len(set(values)) < len(values):
        raise ValueError(f'{name}: wanted at least one value, each once, found {list(values)}')


def own_values(methods: Iterable[str], values: Sequence[int], what: str) -> dict[str, list[int]]:
    """Method names in their order, each with ``values`` or with those that follow it as in
    ``'cls-pix:0,1'``.

    Args:
        methods: as given on a command line.
        values: integers of the methods without their own.
        what: the option that gives ``values``, for errors.

    Raises:
        ValueError: no integers after a colon, or a method or one of its values is given twice.
    """
    methods = list(methods)
    require_each_once('methods', [method.partition(':')[0] for method in methods])
    found = {}
    for method in methods:
        name, colon, own = method.partition(':')
        if colon and not re.fullmatch(r'\d+(,\d+)*', own):
            raise ValueError(
                f"methods: wanted {what} after the colon, as in '{name}:0,1', found {method!r}"
            )
        found[name] = [int(value) for value in own.split(',')] if colon else list(values)
        require_each_once(f"{what} of '{name}'", found[name])
    return found


# ---------------------------------------------------------------------- training


def train(jobs: list[Job], *, processes: int = 1, bank_threads: int = 1) -> None:
    """Run the jobs that have not finished.

    Args:
        jobs: the runs, which share a feature bank.
        processes: parallel processes of one thread each; 0 trains one job after the other in this
            process.
        bank_threads: threads that build the bank of the first job, before any job starts.

    Raises:
        ValueError: a job has begun with another config.
        RuntimeError: a job failed; names its log file.
    """
    known: dict[str, str] = {}
    for job in jobs:
        claim(job.work_dir, job.recipe(known))
    todo = [job for job in jobs if job.best() is None]
    if todo:
        with quiet(todo[0].work_dir, threads=bank_threads, bars=True):
            _prepare_bank(todo[0])  # once, before the others need it
        in_parallel(_train_quietly, todo, processes, desc='Training', unit='run')


def in_parallel(function, tasks: list, processes: int, **bar) -> list:
    """What ``function(task, place)`` returns for each task, with a progress bar.

    Args:
        processes: those to share among the tasks, on the GPUs in turns if there are any; 0 does
            everything in this one.
        bar: options of the bar.
    """
    if processes == 0:
        return [function(task, 0) for task in tqdm(tasks, **bar)]
    with workers(min(processes, len(tasks)), initializer=_begin_worker) as pool:
        running = [pool.submit(function, task, place) for place, task in enumerate(tasks)]
        for done in tqdm(as_completed(running), total=len(tasks), **bar):
            done.result()  # the first error ends all
    return [done.result() for done in running]


def _begin_worker() -> None:
    die_with_parent()
    compat.install()


def build_bank(config: Config, **how) -> None:
    """Build the feature bank of a training config, without training a step. ``how``: options of its
    source.
    """
    config.train_cfg.max_iters = 0
    config.resume = False
    config.train_dataloader.dataset.update(how)
    Runner.from_cfg(config).train()


def _prepare_bank(job: Job) -> None:
    config = job.load_config()
    config.work_dir = str(job.work_dir.parent / 'bank')
    build_bank(config)


def _train_quietly(job: Job, place: int) -> None:
    use_gpu(place)
    with quiet(job.work_dir):
        try:
            _train_one(job)
        except Exception as error:
            log = job.work_dir / 'console.log'
            raise RuntimeError(f"{job.name} failed, see '{log}': {error}") from error
    # a runner, which its hooks know, waits for the garbage collector, with loaders and model
    free_memory()


def _train_one(job: Job) -> None:
    config = job.load_config()
    start, resumed = time.monotonic(), (job.work_dir / 'last_checkpoint').exists()
    runner = Runner.from_cfg(config)
    runner.train()
    minutes = round((time.monotonic() - start) / 60, 2)
    key, _ = choice_of(runner)  # what 'auto' has come to mean
    best = runner.message_hub.get_info('best_ckpt')
    if best is None:
        raise RuntimeError(
            f'no validation gave a number for {key}, so there is no checkpoint to '
            'choose. Open validation (val_dataloader) needs images with closed and open pixels.'
        )
    record = dict(
        method=job.method,
        seed=job.seed,
        checkpoint=os.path.relpath(best, job.work_dir),
        step=int(re.search(r'iter_(\d+)', os.path.basename(best))[1]),
        open_validation={key: float(runner.message_hub.get_info('best_score'))},
        steps=runner.max_iters,
        minutes=None if resumed else minutes,  # those before are not known
    )
    write_json(job.work_dir / _DONE, record)


@contextmanager
def quiet(folder: Path, threads: int = 1, bars: bool = False):
    """Everything printed goes to the folder's console.log, but for stderr, where progress bars are,
    with ``bars``.
    """
    torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    log = open(folder / 'console.log', 'a', buffering=1)  # noqa: SIM115 (mmengine's loggers keep it while they live)
    with redirect_stdout(log), nullcontext() if bars else redirect_stderr(log):
        yield
