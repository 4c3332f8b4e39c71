"""One command for all methods: train some, fit some, take the others as they are, test all in one
pass, write it down.

The folder gets::

    {method}_s{seed}/          a training run
    scorers_s{seed}/           fitted scorers, with fitting.json
    test_{resolution}/         a test run; open_set_eval/test/metrics.json has every number
    roc_{resolution}.png, .pdf one curve per method, its first seed
    panels_{resolution}/       a few test images with the maps of all methods, first seeds
    table.md  results.csv

What is there already is not done again.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from ..models.scorers.base import SCORERS, FittedScorer
from ..pictures.methods import label_of
from ..provenance import made_from
from ..shipped import read_config_file
from .jobs import Job, claim, own_values, quiet, train
from .method_table import report_text, results_csv
from .scorer_fitting import FitSettings, fit_scorers, learns
from .tables import write_text
from .testing import evaluate_all


@dataclass(frozen=True)
class Plan:
    """What has to be done for each method.

    Attributes:
        methods: in the order of the table.
        jobs: training runs of methods that have a config of their own.
        fits: seed -> configs by name of scorers to fit with it.
        fixed: configs by name of scorers that learn nothing.
        base: config whose segmentor and test set are used.
        scorers: config whose bank and open validation the fits use.
    """

    methods: list[str]
    jobs: list[Job]
    fits: dict[int, dict[str, dict]]
    fixed: dict[str, dict]
    base: str
    scorers: str


def plan(
    config: str, methods, seeds, out, *, scorers: str | None = None, options: dict | None = None
) -> Plan:
    """Sort the methods.

    A method is a training run where ``config`` with its name in place of ``{}`` is a file;
    otherwise it is one of the ``model.scorers`` of the config ``scorers``. Those of the first
    training config that learn nothing (MSP, Entropy) are tested in any case. Scorers that learn are
    fitted once a seed; those with options to choose and nothing to learn, with the first seed. A
    method written ``'name:0,1'`` has these seeds in place of ``seeds``.

    Raises:
        ValueError: a method is neither, and names those there are; its seeds are no numbers; or a
            method or seed is given twice.
    """
    seeds_of = own_values(methods, seeds, 'seeds')
    trained = _training_configs(config, seeds_of)
    jobs = _jobs(trained, seeds_of, Path(out), options or {})
    base = jobs[0].config if jobs else scorers or config
    free = _free_scorers(base) if jobs else {}
    known = dict(free)
    if scorers or '{}' not in config:
        known.update(_scorers_of(scorers or config))
    untrained = [method for method in seeds_of if method not in trained]
    unknown = [method for method in untrained if method not in known]
    if unknown:
        raise ValueError(
            f"methods: {unknown} are neither configs ('{config}') nor scorers; there are the "
            f'scorers {sorted(known)}'
        )
    chosen = {**free, **{name: known[name] for name in untrained}}
    fixed = {name: cfg for name, cfg in chosen.items() if not learns(cfg)}
    fits: dict[int, dict] = {}
    for name in untrained:
        if name in fixed:
            continue
        for seed in seeds_of[name] if _has_seeds(chosen[name]) else seeds_of[name][:1]:
            fits.setdefault(seed, {})[name] = chosen[name]
    names = [name for name in fixed if name not in seeds_of] + list(seeds_of)
    return Plan(names, jobs, dict(sorted(fits.items())), fixed, base, scorers or base)


def _has_seeds(scorer):
    return issubclass(SCORERS.get(scorer['type']), FittedScorer)


def _training_configs(config, methods):
    """Paths of the methods' own configs, of those that have one."""
    if '{}' not in config:
        return {}
    files = {method: config.format(method) for method in methods}
    return {method: path for method, path in files.items() if Path(path).is_file()}


def _jobs(trained, seeds_of, out, options):
    """The first seed of every method comes first: cut short, the folder has something of each."""
    jobs = []
    most = max((len(seeds_of[method]) for method in trained), default=0)
    for place in range(most):
        for method, path in trained.items():
            for seed in seeds_of[method][place : place + 1]:
                jobs.append(Job(method, path, seed, out / f'{method}_s{seed}', options))
    return jobs


def _scorers_of(config):
    return read_config_file(config).model.get('scorers') or {}


def _free_scorers(config):
    return {name: cfg for name, cfg in _scorers_of(config).items() if not learns(cfg)}


def run(
    config: str,
    methods,
    seeds,
    out,
    *,
    scorers: str | None = None,
    resolutions=('feature', 'image'),
    options: dict | None = None,
    processes: int = 1,
    bootstrap_block: int = 10,
    num_panels: int = 4,
) -> str:
    """Do what is missing, and write tables and figures.

    Args:
        config: path of the trained methods' configs with ``{}`` for the method, or of one config
            with scorers.
        methods: what to compare, in the order of the table; see :func:`plan`.
        seeds: of training runs and fits.
        out: folder.
        scorers: config whose ``model.scorers`` has the methods without a config of their own.
        resolutions: of ``'feature'`` and ``'image'``.
        options: config overrides.
        processes: parallel processes of one thread each; 0 does everything in this one.
        bootstrap_block: consecutive test images in a block of the bootstrap.
        num_panels: test images to draw.

    Returns:
        str: the table, as in ``table.md``.

    Raises:
        ValueError: see :func:`plan`; a ``bootstrap_block`` below 1; or ``out`` holds runs of
            another config or other options.
    """
    if bootstrap_block < 1:
        raise ValueError(f'bootstrap_block: wanted at least 1 image, found {bootstrap_block}')
    out = Path(out)
    todo = plan(config, methods, seeds, out, scorers=scorers, options=options)
    claim(out, made_from(config=str(config), options=options or {}))
    train(todo.jobs, processes=processes)
    tested, fitted = _fit_all(todo, out, options, max(1, processes))
    titles = {method: label_of(method) for method in todo.methods}
    hook = dict(type='ComparisonHook', out=str(out), titles=titles, num_panels=num_panels)
    how = dict(
        config=todo.base,
        jobs=todo.jobs,
        options=options,
        scorers={**todo.fixed, **tested},
        bootstrap_block=bootstrap_block,
        hooks=[hook],
    )
    passes = [dict(how, resolution=name, out=out / f'test_{name}') for name in resolutions]
    reports = dict(zip(resolutions, evaluate_all(passes, processes)))
    paper = read_config_file(todo.scorers).get('paper_auroc')
    text = report_text(todo.jobs, reports, titles, paper, fitted)
    write_text(out / 'table.md', text)
    write_text(out / 'results.csv', results_csv(reports, _chosen(todo.jobs, fitted)))
    return text


def _fit_all(todo: Plan, out, options, threads) -> tuple[dict, dict]:
    """Configs of the fitted scorers, and what open validation found, by their names in tables."""
    tested, fitted = {}, {}
    for seed, wanted in todo.fits.items():
        folder = out / f'scorers_s{seed}'
        cfg = read_config_file(todo.scorers)
        cfg.merge_from_dict(options or {})
        cfg.model.scorers = wanted
        settings = FitSettings(**cfg.get('scorer_fitting', {}))
        with quiet(folder, threads=threads, bars=True):
            found = fit_scorers(cfg, out=folder, settings=dataclasses.replace(settings, seed=seed))
        for name, result in found.items():
            run_name = f'{name}_s{seed}' if _has_seeds(wanted[name]) else name
            file = str(folder / f'{name}.pth')
            tested[run_name] = dict(type=wanted[name]['type'], checkpoint=file)
            fitted[run_name] = result
    return tested, fitted


def _chosen(jobs, fitted) -> dict[str, dict]:
    """What open validation chose of each run and fit, as columns of the CSV."""
    chosen = {}
    for name, found in fitted.items():
        options = json.dumps(found['options'])
        chosen[name] = dict(open_validation_AUROC=found['AUROC'], chosen=options, minutes=None)
    for job in jobs:
        best = job.best()
        chosen[job.name] = dict(
            open_validation_AUROC=job.validation(),
            chosen=json.dumps(dict(step=best['step'])),
            minutes=best['minutes'],
        )
    return chosen
