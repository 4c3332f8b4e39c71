"""Several methods, several seeds, one protocol: train each, keep what open validation picks, test
all in one pass.

Every job is an ordinary training run of an ordinary config in its own work directory, and is
skipped when it has finished before, so an interrupted experiment goes on where it stopped.
"""

import json
import multiprocessing
import os
import re
import time
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from ..engine.launch import die_with_parent, free_memory, use_gpu, workers
from ..files import as_json, sha256_of, write_json
from ..provenance import DONE, REPORT, check_recipe, note_recipe, own_modules

_REQUEST = 'tested.json'
_TRAINING = (
    'lambda_open',
    'lambda_fake',
    'reduction',
    'generator_loss',
)  # options without a part in a test
METRICS = ('AUROC', 'AP', 'FPR95')


@dataclass(frozen=True)
class Job:
    """One training run."""

    method: str
    config: str
    seed: int
    work_dir: Path
    options: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f'{self.method}_s{self.seed}'

    def load_config(self) -> Config:
        """The run's whole config."""
        config = Config.fromfile(self.config)
        config.merge_from_dict({**self.options, 'randomness.seed': self.seed})
        config.work_dir = str(self.work_dir)
        config.resume = True  # from the last checkpoint in the work directory, if any
        # mmengine gives runs of one name in one process one visualizer and one history.
        config.visualizer.name = config.experiment_name = f'{self.name}_{time.time_ns()}'
        return config

    def best(self) -> dict | None:
        """Checkpoint, step and open-validation AUROC of a finished run; None while it has not
        finished.
        """
        path = self.work_dir / DONE
        return json.loads(path.read_text()) if path.exists() else None


def plan(configs: dict[str, str], seeds, out, options: dict | None = None) -> list[Job]:
    """One job per (method, seed), below ``out``. ``options`` are config overrides as of
    ``--cfg-options``.
    """
    return [
        Job(method, config, seed, Path(out) / f'{method}_s{seed}', options or {})
        for seed in seeds
        for method, config in configs.items()
    ]


def own_values(methods, values, what: str) -> dict[str, list[int]]:
    """Method names in their order, each with ``values`` or with those that follow it as in
    ``'cls-pix:0,1'``.

    Args:
        methods: as given on a command line.
        values: integers of the methods without their own.
        what: the option that gives ``values``, for errors.

    Raises:
        ValueError: no integers after a colon, or a method or one of its values is given twice.
    """
    found = {}
    for method in methods:
        name, colon, own = method.partition(':')
        if colon and not re.fullmatch(r'\d+(,\d+)*', own):
            raise ValueError(
                f"methods: wanted {what} after the colon, as in '{name}:0,1', found {method!r}"
            )
        if name in found:
            raise ValueError(f"methods: wanted each once, found '{name}' twice")
        found[name] = [int(value) for value in own.split(',')] if colon else list(values)
        if len(set(found[name])) < len(found[name]):
            raise ValueError(f"{what} of '{name}': wanted each once, found {found[name]}")
    return found


def train(jobs: list[Job], *, processes: int = 1, bank_threads: int = 1) -> None:
    """Run the jobs that have not finished.

    Args:
        jobs: the runs, which share a feature bank.
        processes: parallel processes of one thread each, in turns over the GPUs if there are any; 0
            trains one job after the other in this process.
        bank_threads: threads that build the bank of the first job, before any job starts.

    Raises:
        ValueError: a job has begun with another config.
        RuntimeError: a job failed; names its log file.
    """
    for job in jobs:
        check_recipe(job)
    todo = [job for job in jobs if job.best() is None]
    if not todo:
        return
    with quiet(todo[0].work_dir, threads=bank_threads, bars=True):
        _prepare_bank(todo[0])  # once, before the others need it
    if processes == 0:
        for job in tqdm(todo, desc='Training', unit='run'):
            _run_quietly(_train_one, job)
        return
    context = multiprocessing.get_context('spawn')
    steps, places = context.Value('l', 0), context.SimpleQueue()
    for place in range(processes):
        places.put(place)
    total = sum(job.load_config().train_cfg.max_iters for job in todo)
    with (
        workers(
            min(processes, len(todo)), context, initializer=_start_worker, initargs=(steps, places)
        ) as pool,
        tqdm(total=total, desc='Training', unit='step') as bar,
    ):
        running = {pool.submit(_run_quietly, _train_one, job): job for job in todo}
        waiting = set(running)
        while waiting:
            finished, waiting = wait(waiting, timeout=1, return_when=FIRST_COMPLETED)
            for done in finished:
                if done.exception() is not None:
                    job = running[done]
                    raise RuntimeError(
                        f"{job.name} failed; see '{job.work_dir / 'console.log'}'"
                    ) from done.exception()
            bar.set_postfix_str(f'{len(todo) - len(waiting)}/{len(todo)} runs', refresh=False)
            bar.update(steps.value - bar.n)


def _start_worker(steps, places):
    """``steps`` counts those of all processes; of ``places`` there is one for each."""
    die_with_parent()
    use_gpu(places.get())
    _CountHook.steps = steps


class _CountHook(Hook):
    """Counts the steps of all processes, for one progress bar."""

    steps = None

    def _add(self, count):
        if self.steps is not None:
            with self.steps.get_lock():
                self.steps.value += count

    def before_train(self, runner):
        self._add(runner.iter)  # of a resumed run

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._add(1)


def build_bank(config: Config, **how) -> None:
    """Build the feature bank of a training config, without training a step. ``how``: options of its
    source.
    """
    config.train_cfg.max_iters = 0
    config.resume = False
    config.train_dataloader.dataset.update(how)
    Runner.from_cfg(config).train()


def _prepare_bank(job: Job) -> None:
    """The bank that all jobs share, before they start."""
    config = job.load_config()
    config.work_dir = str(job.work_dir.parent / 'bank')
    build_bank(config)


def _train_one(job: Job) -> None:
    config = job.load_config()
    note_recipe(job)
    start, resumed = time.monotonic(), (job.work_dir / 'last_checkpoint').exists()
    runner = Runner.from_cfg(config)
    runner.register_hook(_CountHook())
    runner.train()
    minutes = (
        None if resumed else round((time.monotonic() - start) / 60, 2)
    )  # those before are not known
    key = config.default_hooks.checkpoint.save_best
    best = runner.message_hub.get_info('best_ckpt')
    if best is None:
        raise RuntimeError(
            f'{job.name}: no validation gave a number for {key}, so there is no checkpoint to '
            f'choose. '
            'Open validation (val_dataloader) needs images with closed and open pixels.'
        )
    record = dict(
        method=job.method,
        seed=job.seed,
        checkpoint=os.path.relpath(best, job.work_dir),
        step=int(re.search(r'iter_(\d+)', os.path.basename(best))[1]),
        open_validation={key: float(runner.message_hub.get_info('best_score'))},
        steps=runner.max_iters,
        minutes=minutes,
    )
    write_json(job.work_dir / DONE, record)


def _run_quietly(function, job: Job) -> None:
    with quiet(job.work_dir):
        function(job)
    # a runner, which its hooks know, waits for the garbage collector, with loaders and model
    free_memory()


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


def evaluate(
    config: str,
    jobs: list[Job],
    *,
    resolution: str,
    out,
    options: dict | None = None,
    bootstrap_block: int = 10,
    scorers: dict[str, dict] | None = None,
    hooks=(),
) -> dict:
    """All discriminators and further scorers, in one pass over the test images.

    Args:
        config: the config whose segmentor and test set are used.
        resolution: ``'feature'`` or ``'image'``.
        out: work directory; its ``open_set_eval/test/metrics.json`` is the report. One that has all
            of these scorers, made of the same files, data and options, is not made again.
        bootstrap_block: consecutive images in a block of the bootstrap.
        scorers: configs of the further scorers by name; by default those of the config.
        hooks: configs of further hooks of the test.

    Returns:
        dict: the report.
    """
    report = Path(out) / REPORT
    cfg = config_of_test(
        config,
        jobs,
        resolution=resolution,
        out=out,
        options=options,
        bootstrap_block=bootstrap_block,
        scorers=scorers,
        hooks=hooks,
    )
    request = request_of(cfg)
    if not present_report(report, request)['scorers'].keys() >= request['scorers'].keys():
        runner = Runner.from_cfg(cfg)
        report.unlink(missing_ok=True)  # never beside the request of another
        write_json(Path(out) / _REQUEST, request)
        runner.test()
    return json.loads(report.read_text())


def config_of_test(
    config: str,
    jobs: list[Job],
    *,
    resolution: str,
    out,
    options: dict | None = None,
    bootstrap_block: int = 10,
    scorers: dict[str, dict] | None = None,
    hooks=(),
) -> Config:
    """The config of the pass over the test images that :func:`evaluate`, with the same arguments,
    makes.
    """
    cfg = Config.fromfile(config)
    cfg.merge_from_dict({**(options or {}), 'model.resolution': resolution, 'work_dir': str(out)})
    chosen = dict((cfg.model.get('scorers') or {}) if scorers is None else scorers)
    for job in jobs:
        trained = Config.fromfile(job.config)
        trained.merge_from_dict(job.options)
        network = trained.model.discriminator
        chosen[job.name] = dict(
            type='PixelDiscriminatorScorer'
            if network.type == 'PatchDiscriminator'
            else 'DiscriminatorScorer',
            discriminator=network,
            checkpoint=str(job.work_dir / job.best()['checkpoint']),
        )
    cfg.model.update(discriminator=None, generator=None, fuse=None)
    cfg.model.scorers = chosen  # update would keep those of the config
    cfg.load_from = None
    cfg.test_evaluator.bootstrap_block = bootstrap_block
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), *hooks]
    return cfg


def request_of(cfg: Config) -> dict:
    """What the numbers of a test depend on, as JSON gives it back: data, segmentor, metric and
    every scorer's file.
    """
    values = cfg.to_dict()
    model = {
        key: value for key, value in values['model'].items() if key not in (*_TRAINING, 'scorers')
    }
    scorers = {
        name: [scorer, _digest(scorer.get('checkpoint'))]
        for name, scorer in values['model']['scorers'].items()
    }
    return as_json(
        dict(
            model=model,
            segmentor=_digests(model['segmentor']),
            dataset=values['test_dataloader']['dataset'],
            evaluator=values['test_evaluator'],
            scorers=scorers,
            **own_modules(values),
        )
    )


def _digests(segmentor: dict) -> list:
    """Of a segmentor's config, where it is a file, and of its weights."""
    return [
        _digest(segmentor[key])
        for key in ('config', 'checkpoint')
        if isinstance(segmentor.get(key), str)
    ]


def _digest(path: str | None) -> str | None:
    return sha256_of(path) if path is not None and os.path.isfile(path) else None


def present_report(report: Path, request: dict) -> dict:
    """A report with those of its scorers alone that it has as a request asks for them; without any
    if there is none.

    Of a report without a record of its own request, only the names are known.
    """
    if not report.exists():
        return dict(scorers={})
    content, path = json.loads(report.read_text()), report.parents[2] / _REQUEST
    found = json.loads(path.read_text()) if path.exists() else request
    same = {**found, 'scorers': None} == {**request, 'scorers': None}
    wanted = request['scorers'] if same else {}
    return {
        **content,
        'scorers': {
            name: summary
            for name, summary in content['scorers'].items()
            if name in wanted and found['scorers'].get(name) == wanted[name]
        },
    }


def evaluate_all(
    config: str, jobs: list[Job], *, resolutions, out, processes: int = 1, **options
) -> dict[str, dict]:
    """:func:`evaluate` at each resolution in a process of its own (0: in this one); reports by
    resolution.
    """
    if processes == 0:
        return {
            resolution: evaluate_quietly(
                config, jobs, resolution, Path(out) / f'test_{resolution}', options
            )
            for resolution in tqdm(resolutions, desc='Testing')
        }
    with workers(processes) as pool:
        running = {
            resolution: pool.submit(
                evaluate_quietly,
                config,
                jobs,
                resolution,
                Path(out) / f'test_{resolution}',
                options,
                threads=max(1, processes // len(resolutions)),
                place=place,
            )
            for place, resolution in enumerate(resolutions)
        }
        return {
            resolution: future.result()
            for resolution, future in tqdm(running.items(), desc='Testing')
        }


def evaluate_quietly(config, jobs, resolution, out, options, threads=1, place=0):
    """:func:`evaluate` for a process of its own, on its place's GPU; what is printed goes to
    ``out/console.log``.
    """
    use_gpu(place)
    with quiet(out, threads=threads, bars=True):
        return evaluate(config, jobs, resolution=resolution, out=out, **options)
