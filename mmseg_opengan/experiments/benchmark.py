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
from ..pictures.figures import roc_figure, save_figure
from ..pictures.methods import label_of
from ..provenance import made_from
from ..shipped import read_config_file
from .jobs import Job, claim, own_values, quiet, train
from .method_table import by_method, report_text, results_csv
from .scorer_fitting import FitSettings, fit_scorers, learns
from .tables import write_text
from .testing import REPORT, evaluate_all, methods_of, names_of

#: What is set in a config of scorers, not by options.
_OF_SCORERS = ('model.scorers', 'scorer_fitting')


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
        ValueError: a method is neither, and names those there are; its seeds are no numbers; a
            method or seed is given twice; or an option is one of scorers, which have a config.
    """
    of_scorers = [key for key in options or {} if key.startswith(_OF_SCORERS)]
    if of_scorers:
        raise ValueError(
            f'options: wanted those of trainings, found {of_scorers}. Set what scorers take in '
            f"their config, '{scorers or config}'."
        )
    seeds_of = own_values(methods, seeds, 'seeds')
    jobs, untrained = [], []
    for method, own in seeds_of.items():
        path = config.format(method)
        if '{}' in config and Path(path).is_file():
            for seed in own:
                jobs.append(Job(method, path, seed, Path(out) / f'{method}_s{seed}', options or {}))
        else:
            untrained.append(method)
    base = jobs[0].config if jobs else scorers or config
    fixed = {}
    if jobs:
        fixed = {name: cfg for name, cfg in _scorers_of(base).items() if not learns(cfg)}
    names = [name for name in fixed if name not in seeds_of] + list(seeds_of)
    known = {**fixed, **_scorers_of(scorers or base)}
    unknown = [method for method in untrained if method not in known]
    if unknown:
        raise ValueError(
            f"methods: {unknown} are neither configs ('{config}') nor scorers; there are the "
            f'scorers {sorted(known)}'
        )
    fits: dict[int, dict] = {}
    for name in untrained:
        if not learns(known[name]):
            fixed[name] = known[name]
            continue
        for seed in seeds_of[name] if _has_seeds(known[name]) else seeds_of[name][:1]:
            fits.setdefault(seed, {})[name] = known[name]
    return Plan(names, jobs, fits, fixed, base, scorers or base)


def _has_seeds(scorer):
    return issubclass(SCORERS.get(scorer['type']), FittedScorer)


def _scorers_of(config):
    return read_config_file(config).model.get('scorers') or {}


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
    todo = plan(
        config,
        methods,
        seeds,
        out,
        scorers=scorers,
        options=options,
    )
    claim(out, made_from(config=str(config), options=options or {}))
    train(todo.jobs, processes=processes)
    tested, chosen = _fit_all(todo, out, options, max(1, processes))
    for job in todo.jobs:
        best = job.best()
        step = json.dumps(dict(step=best['step']))
        metric, number = job.validation()
        numbers = dict(open_validation=number, validated_by=metric, minutes=best['minutes'])
        chosen[job.name] = dict(numbers, chosen=step)
    tested = {**todo.fixed, **tested}
    shown_as = {job.method: methods_of(job) for job in todo.jobs}
    names = [name for method in todo.methods for name in shown_as.get(method, [method])]
    titles = {name: label_of(name) for name in names}
    trained = [name for job in todo.jobs for name in names_of(job)]
    shown = _first_seeds([*tested, *trained], titles)
    passes = []
    for resolution in resolutions:
        folder = str(out / f'panels_{resolution}')
        passes.append(
            dict(
                config=todo.base,
                jobs=todo.jobs,
                resolution=resolution,
                out=out / f'test_{resolution}',
                options=options,
                scorers=tested,
                bootstrap_block=bootstrap_block,
                hooks=[
                    dict(
                        type='PanelHook',
                        out=folder,
                        scorers=shown,
                        number=num_panels,
                    )
                ],
            )
        )
    reports = dict(zip(resolutions, evaluate_all(passes, processes)))
    for resolution in resolutions:
        file = out / f'test_{resolution}' / REPORT.with_name('curves.json')
        curves = json.loads(file.read_text())
        figure = roc_figure({title: curves[name] for title, name in shown.items()}, resolution)
        save_figure(figure, out / f'roc_{resolution}')
    text = report_text(reports, titles, read_config_file(todo.scorers).get('paper_auroc'))
    write_text(out / 'table.md', text)
    write_text(out / 'results.csv', results_csv(reports, chosen))
    return text


def _first_seeds(names, titles) -> dict[str, str]:
    """Title -> scorer, the first seed of each method."""
    seeds = by_method({name: name for name in names})
    return {title: next(iter(seeds[method].values())) for method, title in titles.items()}


def _fit_all(todo: Plan, out, options, threads) -> tuple[dict, dict]:
    """Configs of the fitted scorers, and what open validation chose, by their names in tables."""
    tested, chosen = {}, {}
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
            options_ = json.dumps(result['options'])
            chosen[run_name] = dict(
                open_validation=result['AUROC'], validated_by='AUROC', chosen=options_
            )
    return tested, chosen
