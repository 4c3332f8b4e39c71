"""Tuning lambda_G as the paper does (appendix 9): train each value, keep what open validation
picks, test all.

Every job is an ordinary training from the feature bank, validated on stored feature maps of the
open-validation images, so that no segmentor runs. What the folder gets::

    runs/{job}/            work directory of each training
    test_{i}/              test reports
    sweep.json             every number, every validation of every job
    sweep.md               Table 6 and the choice, ready for a results page
    figure9.png, .pdf ... figure11.png, .pdf
    chosen.pth             the chosen D and G, for tools/test.py
"""

from copy import deepcopy
from itertools import product
from pathlib import Path

from mmengine.config import Config

from ..shipped import read_config_file
from .jobs import Job, require_each_once
from .open_images import NUMBER
from .sweep_report import summarize, write_report
from .testing import train_and_test

#: The paper's values of lambda_G.
LAMBDAS = tuple(round(0.05 * i, 2) for i in range(1, 19))


class SweepJob(Job):
    """A training with the validation numbers of its config, where only D and G run."""

    def load_config(self) -> Config:
        config = super().load_config()
        _store_taps(config)
        config.val_evaluator.closed = False  # the closed prediction is the same at every step
        config.model.scorers = {}
        hooks = [hook for hook in config.custom_hooks if hook['type'] != 'OpenSetEvaluationHook']
        hooks += [
            dict(type='FakeVersusRealHook'),
            dict(type='OpenSetEvaluationHook', plot_val=False),
        ]
        config.custom_hooks = hooks
        _keep_history(config)
        # where a killed job goes on
        config.default_hooks.checkpoint.interval = config.train_cfg.val_interval
        return config


def _store_taps(config: Config) -> None:
    """Validate on stored feature maps, those of the config where it has some."""
    bank = Path(config.train_dataloader.dataset.root)
    loader = config.val_dataloader
    if loader.dataset.type != 'StoredTaps':
        loader.dataset = dict(
            type='StoredTaps',
            root=str(bank.with_name(f'{bank.name}_open_val')),
            images=deepcopy(loader.dataset),
        )
    loader.num_workers, loader.persistent_workers = 0, False


def _keep_history(config: Config) -> None:
    """Let every validation leave its numbers where the report finds them, whatever else is told."""
    backends = [dict(type='LocalVisBackend')]
    for backend in config.visualizer.get('vis_backends') or []:
        if backend['type'] != 'LocalVisBackend':
            backends.append(backend)
    config.visualizer.vis_backends = backends
    logger = config.default_hooks.get('logger') or dict(type='LoggerHook')
    config.default_hooks.logger = dict(logger, log_metric_by_epoch=False)


def plan(
    config: str, *, lambdas, seeds, num_open_images, out, options: dict | None = None
) -> list[SweepJob]:
    """One job per (number of open images, lambda_G, seed); the most images first, as they fill the
    bank.

    Raises:
        ValueError: a value of lambda_G that is not positive, a value given twice, or a config
            without a generator or without a feature bank, or that chooses by another number.
    """
    grid = dict(lambdas=lambdas, seeds=seeds, num_open_images=num_open_images)
    for name, values in grid.items():
        require_each_once(name, values)
    _require_fit(config, min(lambdas), options)
    most_first = sorted(num_open_images, key=lambda number: number or float('inf'), reverse=True)
    jobs = []
    for number, lambda_fake, seed in product(most_first, lambdas, seeds):
        name = f'open{number or "all"}_lambda{lambda_fake:g}'.replace('.', 'p')
        changed = {**(options or {}), 'model.lambda_fake': lambda_fake}
        if number is not None:
            changed[NUMBER] = number
        folder = Path(out) / 'runs' / f'{name}_s{seed}'
        shown = dict(num_open_images=number, lambda_fake=lambda_fake)
        jobs.append(SweepJob(name, config, seed, folder, changed, shown))
    return jobs


def _require_fit(config, smallest, options):
    if smallest <= 0:
        raise ValueError(
            f'lambdas: wanted values > 0, found {smallest}; lambda_G = 0 is CLS, which has a '
            'config of its own'
        )
    found = read_config_file(config)
    found.merge_from_dict(options or {})
    chosen_by = str(found.default_hooks.checkpoint.get('save_best'))
    if chosen_by.rpartition('/')[-1] not in ('auto', 'AUROC', 'AUROC_kinds'):
        raise ValueError(
            f"default_hooks.checkpoint.save_best: wanted 'auto' or an AUROC, by which the sweep "
            f'chooses, found {chosen_by!r}'
        )
    if found.model.get('generator') is None:
        raise ValueError(f"'{config}' has no generator: wanted a config of OpenGAN")
    if found.train_dataloader.dataset.get('root') is None:
        raise ValueError(
            f"'{config}' trains on images: wanted a config that trains from a feature bank"
        )


def sweep(
    config: str,
    *,
    out,
    lambdas=LAMBDAS,
    seeds=(0,),
    num_open_images=(None,),
    processes: int = 2,
    options: dict | None = None,
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

    Returns:
        dict: the content of ``sweep.json``.

    Raises:
        ValueError: see :func:`plan`; or ``out`` holds a sweep of another config or other options.
        RuntimeError: a job failed; names its log file.
    """
    out = Path(out)
    grid = dict(lambdas=lambdas, seeds=seeds, num_open_images=num_open_images)
    jobs = plan(config, **grid, out=out, options=options)
    report = train_and_test(
        jobs,
        config=config,
        out=out,
        processes=processes,
        options=options,
    )
    result = summarize(jobs, report)
    write_report(out, result, config)
    return result
