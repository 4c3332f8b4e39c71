"""Tuning lambda_G as the paper does (appendix 9): train each value, keep what open validation
picks, test all.

Every job is an ordinary training from the feature bank, validated on stored feature maps of the
open-validation images, so that no segmentor runs. What the folder gets::

    runs/{job}/            work directory of each training
    test_{i}/              test reports
    sweep.json             every number
    history.csv            every validation of every job
    sweep.md               Table 6 and the choice, ready for a results page
    figure9.png ... figure11.png
    chosen.pth             the chosen D and G, for tools/test.py
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from tqdm import tqdm

from ..engine.launch import workers
from ..provenance import REPORT, claim
from .jobs import Job, config_of_test, evaluate_quietly, present_report, request_of, train
from .sweep_report import summarize, write_report

#: The paper's values of lambda_G.
LAMBDAS = tuple(round(0.05 * i, 2) for i in range(1, 19))


@dataclass(frozen=True)
class SweepJob(Job):
    """One training of a sweep."""

    lambda_fake: float = 0.2
    num_open_images: int | None = None

    def load_config(self) -> Config:
        return without_segmentor(super().load_config())


def without_segmentor(config: Config) -> Config:
    """The same training with the same validation numbers, where only D and G run."""
    bank = Path(config.train_dataloader.dataset.root)
    loader = config.val_dataloader
    loader.dataset = dict(
        type='StoredTaps',
        root=str(bank.with_name(f'{bank.name}_open_val')),
        images=deepcopy(loader.dataset),
    )
    loader.num_workers, loader.persistent_workers = 0, False
    config.val_evaluator.closed = False  # the closed prediction is the same at every step
    config.model.scorers = {}
    config.custom_hooks = [
        hook for hook in config.custom_hooks if hook['type'] != 'OpenSetEvaluationHook'
    ]
    config.custom_hooks += [
        dict(type='FakeVersusRealHook'),
        dict(type='OpenSetEvaluationHook', plot_val=False),
    ]
    config.default_hooks.checkpoint.interval = (
        config.train_cfg.val_interval
    )  # where a killed job goes on
    return config


def plan(
    config: str, *, lambdas, seeds, num_open_images, out, options: dict | None = None
) -> list[SweepJob]:
    """One job per (number of open images, lambda_G, seed); the most images first, as they fill the
    bank.

    Raises:
        ValueError: a value of lambda_G that is not positive, a value given twice, or a config
            without a generator or without a feature bank.
    """
    for name, values in (
        ('lambdas', lambdas),
        ('seeds', seeds),
        ('num_open_images', num_open_images),
    ):
        if not values or len(set(values)) < len(values):
            raise ValueError(f'{name}: wanted at least one value, each once, found {list(values)}')
    if min(lambdas) <= 0:
        raise ValueError(
            f'lambdas: wanted values > 0, found {min(lambdas)}; lambda_G = 0 is CLS, which has '
            f'a config '
            'of its own'
        )
    found = Config.fromfile(config)
    if found.model.get('generator') is None:
        raise ValueError(f"'{config}' has no generator: wanted a config of OpenGAN")
    if found.train_dataloader.dataset.get('root') is None:
        raise ValueError(
            f"'{config}' trains on images: wanted a config that trains from a feature bank"
        )
    jobs = []
    for number in sorted(num_open_images, key=lambda number: number or float('inf'), reverse=True):
        for lambda_fake in lambdas:
            method = f'open{number or "all"}_lambda{lambda_fake:g}'.replace(
                '.', 'p'
            )  # names modules: no dots
            values = {'model.lambda_fake': lambda_fake}
            if number is not None:
                values['train_dataloader.dataset.open.num_open_images'] = number
            jobs += [
                SweepJob(
                    method,
                    config,
                    seed,
                    Path(out) / 'runs' / f'{method}_s{seed}',
                    {**(options or {}), **values},
                    lambda_fake,
                    number,
                )
                for seed in seeds
            ]
    return jobs


def sweep(
    config: str,
    *,
    out,
    lambdas=LAMBDAS,
    seeds=(0,),
    num_open_images=(None,),
    processes: int = 2,
    options: dict | None = None,
    bootstrap_block: int = 0,
) -> dict:
    """Train, validate and test a whole sweep, or what is missing of it.

    Args:
        config: training config of OpenGAN.
        out: folder of everything. Finished jobs are skipped, unfinished ones go on from their last
            validation.
        num_open_images: training images that give open pixels; None stands for all.
        processes: trainings at the same time, one thread each, in turns over the GPUs where there
            are some; 0 runs all in this process.
        options: config overrides for all jobs, as of ``--cfg-options``.
        bootstrap_block: consecutive test images in a block of the bootstrap; 0 gives no intervals.

    Returns:
        dict: the content of ``sweep.json``.

    Raises:
        ValueError: see :func:`plan`; or ``out`` holds a sweep of another config or other options.
        RuntimeError: a job failed; names its log file.
    """
    out = Path(out)
    jobs = plan(
        config,
        lambdas=lambdas,
        seeds=seeds,
        num_open_images=num_open_images,
        out=out,
        options=options,
    )
    claim(out, str(config), options)
    train(jobs, processes=processes)
    result = summarize(jobs, _test(jobs, out, processes, options, bootstrap_block))
    write_report(out, jobs, result, config)
    return result


def _test(jobs, out, processes, options, bootstrap_block) -> dict:
    """Test summaries by job name, with the protocol. New jobs are dealt out; each process passes
    once over the test.
    """
    first = jobs[0]
    how = dict(
        bootstrap_block=bootstrap_block,
        options={
            **(options or {}),
            'model.scorers': dict(_delete_=True),
            'test_dataloader.num_workers': 0,
            'test_dataloader.persistent_workers': False,
            'custom_hooks': [
                dict(type='OpenGANHook'),
                dict(type='OpenSetEvaluationHook', plot_test=False),
            ],
        },
    )
    resolution = first.load_config().model.resolution
    request = request_of(config_of_test(first.config, jobs, resolution=resolution, out=out, **how))
    made = {int(path.name[5:]): path for path in out.glob('test_*') if path.name[5:].isdigit()}
    reports = [present_report(made[number] / REPORT, request) for number in sorted(made)]
    done = {name for report in reports for name in report['scorers']}
    todo = [job for job in jobs if job.name not in done]
    if todo:
        shares = (
            [todo[i::processes] for i in range(min(processes, len(todo)))] if processes else [todo]
        )
        unused = 1 + max(made, default=-1)
        arguments = [
            (first.config, share, resolution, out / f'test_{unused + i}', how)
            for i, share in enumerate(shares)
        ]
        if processes:
            with workers(len(shares)) as pool:
                running = [
                    pool.submit(evaluate_quietly, *each, place=i)
                    for i, each in enumerate(arguments)
                ]
                reports += [
                    future.result() for future in tqdm(running, desc='Testing', unit='pass')
                ]
        else:
            reports.append(evaluate_quietly(*arguments[0]))
    reports = [report for report in reports if report['scorers']]
    protocol = {key: reports[0][key] for key in ('label_policy', 'resolution', 'num_images')}
    return dict(
        protocol=protocol,
        scorers={
            name: summary for report in reports for name, summary in report['scorers'].items()
        },
    )
