"""One command for all methods: train some, fit some, take the others as they are, test all in one
pass, write it down.

The folder gets::

    {method}_s{seed}/          a training run
    scorers_s{seed}/           fitted scorers, with fitting.json
    test_{resolution}/         a test run; open_set_eval/test/metrics.json has every number
    roc_{resolution}.png       one curve per method, its first seed
    panels_{resolution}/       a few test images with the maps of all methods, first seeds
    table.md  results.csv

What is there already is not done again.
"""

import csv
import dataclasses
import io
import json
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from ..files import replacing
from ..models.scorers.base import SCORERS, FittedScorer
from ..provenance import claim
from . import jobs as experiment
from .jobs import METRICS, Job, evaluate_all, own_values, quiet, train
from .method_table import interval_of, method_and_seed, report_text
from .scorer_fitting import FitSettings, fit_scorers, learns

#: Names of methods in tables; others go by their own.
LABELS = {
    'msp': 'MSP',
    'maxlogit': 'max-logit',
    'energy': 'energy',
    'entropy': 'Entropy',
    'sml': 'standardized max-logit',
    'mspc': 'MSPc',
    'mcdrop': 'MC-dropout',
    'openmax': 'OpenMax',
    'gdm': 'GDM',
    'gmm': 'GMM',
    'centroid': 'class centroid',
    'nn': 'nearest neighbour',
    'c2ae': 'C2AE',
    'bigan_r': 'BiGAN_r',
    'bigan_d': 'BiGAN_d',
    'kplus1': '(K+1), classifier',
    'opengan0': 'OpenGAN-0',
    'cls': 'CLS',
    'opengan': 'OpenGAN',
    'opengan-att': 'OpenGAN, attenuating G',
    'opengan0-pix': 'OpenGAN-0-pix',
    'cls-pix': 'CLS-pix',
    'opengan-pix': 'OpenGAN-pix',
}


@dataclass(frozen=True)
class Plan:
    """What has to be done for each method.

    Args:
        seeds: of each method, in the order of the table.
        jobs: training runs of methods that have a config of their own.
        fits: seed -> configs by name of scorers to fit with it.
        fixed: configs by name of scorers that learn nothing.
    """

    seeds: dict[str, list[int]]
    jobs: list[Job]
    fits: dict[int, dict[str, dict]]
    fixed: dict[str, dict]


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
    methods = own_values(methods, seeds, 'seeds')
    files = {method: config.format(method) for method in methods if '{}' in config}
    trained = {method: path for method, path in files.items() if Path(path).is_file()}
    own = {}
    for path in list(trained.values())[:1]:
        own = {
            name: cfg
            for name, cfg in (Config.fromfile(path).model.get('scorers') or {}).items()
            if not learns(cfg)
        }
    known = dict(own)
    if scorers or '{}' not in config:
        known.update(Config.fromfile(scorers or config).model.get('scorers') or {})
    unknown = [method for method in methods if method not in trained and method not in known]
    if unknown:
        raise ValueError(
            f"methods: {unknown} are neither configs ('{config}') nor scorers; there are the "
            f'scorers '
            f'{sorted(known)}'
        )
    chosen = {**own, **{name: known[name] for name in methods if name not in trained}}
    fits = {}
    for name, cfg in chosen.items():
        if learns(cfg):
            several = issubclass(SCORERS.get(cfg['type']), FittedScorer)
            for seed in methods[name] if several else methods[name][:1]:
                fits.setdefault(seed, {})[name] = cfg
    jobs = [
        job
        for method, path in trained.items()
        for job in experiment.plan({method: path}, methods[method], out, options)
    ]
    jobs.sort(
        key=lambda job: methods[job.method].index(job.seed)
    )  # cut short, it has something of every method
    fixed = {name: cfg for name, cfg in chosen.items() if not learns(cfg)}
    return Plan(methods, jobs, dict(sorted(fits.items())), fixed)


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
    base = todo.jobs[0].config if todo.jobs else scorers or config
    claim(out, str(config), options)
    train(todo.jobs, processes=processes)
    tested, fitted = dict(todo.fixed), {}
    for seed, wanted in todo.fits.items():
        folder = out / f'scorers_s{seed}'
        for name, found in _fit(
            scorers or base, wanted, seed, folder, options, max(1, processes)
        ).items():
            has_seed = issubclass(SCORERS.get(wanted[name]['type']), FittedScorer) and todo.seeds[
                name
            ] != [0]
            run_name = f'{name}_s{seed}' if has_seed else name
            tested[run_name] = dict(
                type=wanted[name]['type'], checkpoint=str(folder / f'{name}.pth')
            )
            fitted[run_name] = found
    unasked = (method for method in todo.fixed if method not in todo.seeds)
    titles = {method: LABELS.get(method, method) for method in (*unasked, *todo.seeds)}
    hook = dict(type='ComparisonHook', out=str(out), titles=titles, num_panels=num_panels)
    reports = evaluate_all(
        base,
        todo.jobs,
        resolutions=resolutions,
        out=out,
        options=options,
        scorers=tested,
        bootstrap_block=bootstrap_block,
        processes=processes,
        hooks=[hook],
    )
    paper = Config.fromfile(scorers or base).get('paper_auroc')
    text = report_text(todo.jobs, reports, titles, paper, fitted)
    with replacing(out / 'table.md') as file:
        file.write(text.encode())
    with replacing(out / 'results.csv') as file:
        file.write(results_csv(reports, todo.jobs, fitted).encode())
    return text


def _fit(config, wanted, seed, folder, options, threads) -> dict[str, dict]:
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(options or {})
    cfg.model.scorers = wanted
    with quiet(folder, threads=threads, bars=True):
        settings = dataclasses.replace(FitSettings(**cfg.get('scorer_fitting', {})), seed=seed)
        return fit_scorers(cfg, out=folder, settings=settings)


def results_csv(reports: dict[str, dict], jobs: list[Job], fitted: dict[str, dict]) -> str:
    """A flat row for each resolution and tested scorer: settings, what open validation said,
    results.
    """
    chosen = {
        name: dict(open_validation_AUROC=found['AUROC'], chosen=json.dumps(found['options']))
        for name, found in fitted.items()
    }
    chosen.update(
        {
            job.name: dict(
                open_validation_AUROC=next(iter(best['open_validation'].values())),
                chosen=json.dumps(dict(step=best['step'])),
                minutes=best['minutes'],
            )
            for job in jobs
            if (best := job.best())
        }
    )
    fields = [
        'resolution',
        'label_policy',
        'num_images',
        'method',
        'seed',
        *METRICS,
        'AUROC_low',
        'AUROC_high',
        'num_closed',
        'num_open',
        'open_validation_AUROC',
        'chosen',
        'minutes',
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator='\n')
    writer.writeheader()
    for resolution, report in reports.items():
        for name, summary in report['scorers'].items():
            method, seed = method_and_seed(name)
            low, high = interval_of([summary])
            writer.writerow(
                dict(
                    resolution=resolution,
                    label_policy=report['label_policy'],
                    num_images=report['num_images'],
                    method=method,
                    seed=seed,
                    **{metric: summary[metric] for metric in METRICS},
                    AUROC_low=low,
                    AUROC_high=high,
                    num_closed=summary['num_closed'],
                    num_open=summary['num_open'],
                    **chosen.get(name, {}),
                )
            )
    return text.getvalue()
