"""Figure 5 of the paper: how many training images must give open pixels.

Every method is trained with every number, its checkpoint chosen on open validation, and all are
tested in one pass. The draw of 10 images is part of the draw of 20; closed pixels always come from
all training images. Methods that train on no open pixel (OpenGAN-0) are trained once a seed. What
the folder gets::

    runs/{job}/       work directory of each training
    test_{key}/       the test report of these jobs
    figure5.csv       one row for each job
    figure5.png
    figure5.md        the table, ready for a results page
"""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from matplotlib.backends.backend_agg import FigureCanvasAgg
from mmengine.config import Config

from ..files import replacing
from ..provenance import claim
from .jobs import Job, evaluate, train
from .open_images_figure import open_images_figure

NUMBER = 'train_dataloader.dataset.open.num_open_images'


@dataclass(frozen=True)
class OpenImagesJob(Job):
    """One training; ``number`` is None for a method that trains on no open pixel."""

    number: int | None = None


def plan(
    configs: dict[str, str],
    *,
    numbers: dict[str, list[int]],
    seeds,
    out,
    options: dict | None = None,
) -> list[OpenImagesJob]:
    """One job for each (method, number of open images, seed); those that fill a feature bank and
    the most images first.

    Raises:
        ValueError: no number, no seed, one that is given twice, a number below 1, or two methods of
            one config.
    """
    if len(set(configs.values())) < len(configs):
        raise ValueError(
            f"methods: wanted a config each, found {configs}. In the config's name '{{}}' stands "
            f'for the '
            "method, as in 'configs/opengan/{}_hr18s_camvid.py'."
        )
    for name, values in (
        *((f"num_open_images of '{method}'", numbers[method]) for method in configs),
        ('seeds', seeds),
    ):
        if not values or len(set(values)) < len(values):
            raise ValueError(f'{name}: wanted at least one value, each once, found {list(values)}')
    every = sorted({number for method in configs for number in numbers[method]}, reverse=True)
    if every[-1] < 1:
        raise ValueError(f'num_open_images: wanted numbers of at least 1, found {every[-1]}')
    jobs = []
    sources = {
        method: Config.fromfile(config).train_dataloader.dataset
        for method, config in configs.items()
    }
    without_open = {method for method, source in sources.items() if source.get('open') is None}
    fills = {
        configs[method]
        for method, source in sources.items()
        if 'root' in source and method not in without_open
    }
    for number in every:
        for method, config in configs.items():
            if number not in numbers[method]:
                continue
            if method in without_open:
                name, values, used = method, {}, None
            else:
                name, values, used = f'{method}_open{number}', {NUMBER: number}, number
            jobs += [
                OpenImagesJob(
                    name,
                    config,
                    seed,
                    Path(out) / 'runs' / f'{name}_s{seed}',
                    {**(options or {}), **values},
                    used,
                )
                for seed in seeds
            ]
    jobs.sort(key=lambda job: job.config not in fills)
    return list({job.name: job for job in jobs}.values())


def open_images(
    configs: dict[str, str],
    *,
    numbers: dict[str, list[int]],
    seeds,
    out,
    labels: dict[str, str] | None = None,
    resolution: str = 'feature',
    processes: int = 2,
    options: dict | None = None,
) -> str:
    """Train, test and report everything, or what is missing of it.

    Args:
        configs: training config of each method.
        numbers: for each method, how many training images give open pixels; of no effect where it
            trains on none.
        out: folder of everything; finished trainings are skipped, unfinished ones go on.
        labels: how a method is called in table and figure; its own name by default.
        options: config overrides for all jobs, as of ``--cfg-options``.

    Returns:
        str: the table.

    Raises:
        ValueError: see :func:`plan`; or ``out`` holds trainings of another config or other options.
    """
    out = Path(out)
    jobs = plan(configs, numbers=numbers, seeds=seeds, out=out, options=options)
    claim(out, configs, options)
    train(jobs, processes=processes)
    key = hashlib.sha256('\n'.join(job.name for job in jobs).encode()).hexdigest()[:8]
    report = evaluate(
        jobs[0].config, jobs, resolution=resolution, out=out / f'test_{key}', options=options
    )
    rows = [_row(job, report) for job in jobs]
    return write_report(
        out, rows, {method: (labels or {}).get(method, method) for method in configs}, report
    )


def _row(job: OpenImagesJob, report: dict) -> dict:
    best, found = job.best(), report['scorers'][job.name]
    return dict(
        method=job.method.rpartition('_open')[0] if job.number else job.method,
        open_images=job.number,
        seed=job.seed,
        AUROC=found['AUROC'],
        AP=found['AP'],
        FPR95=found['FPR95'],
        open_validation=next(iter(best['open_validation'].values())),
        step=best['step'],
        steps=best['steps'],
        minutes=best['minutes'],
    )


def write_report(out: Path, rows: list[dict], labels: dict[str, str], protocol: dict) -> str:
    """Write ``figure5.csv``, ``figure5.png`` and ``figure5.md``; return the table.

    Args:
        rows: one dict per job: ``method``, ``open_images`` (None where no open pixel was trained
            on), ``seed``, ``AUROC`` and whatever else the CSV shall have.
        labels: names of the methods, in the order of table and figure.
        protocol: ``label_policy``, ``resolution`` and ``num_images`` of the test.
    """
    out.mkdir(parents=True, exist_ok=True)
    values = {}
    for row in rows:
        values.setdefault(row['method'], {}).setdefault(row['open_images'], []).append(row['AUROC'])
    curves = {labels[method]: values[method] for method in labels if None not in values[method]}
    flat = {labels[method]: values[method][None] for method in labels if None in values[method]}
    title = f'{protocol["label_policy"]}, {protocol["resolution"]} resolution'
    numbers = sorted({number for points in curves.values() for number in points})
    lines = [
        f'{title}, {protocol["num_images"]} test images; AUROC',
        '',
        '| open training images | ' + ' | '.join(str(number) for number in numbers) + ' |',
        '|' + '---|' * (len(numbers) + 1),
    ]
    lines += [
        f'| {name} | ' + ' | '.join(_cell(points.get(number, [])) for number in numbers) + ' |'
        for name, points in curves.items()
    ]
    lines += [
        f'| {name} (trains on none) | ' + ' | '.join([_cell(found)] * len(numbers)) + ' |'
        for name, found in flat.items()
    ]
    table = '\n'.join(lines) + '\n'
    with replacing(out / 'figure5.md') as file:
        file.write(table.encode())
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    with replacing(out / 'figure5.csv') as file:
        file.write(text.getvalue().encode())
    with replacing(out / 'figure5.png') as file:
        FigureCanvasAgg(open_images_figure(curves, flat, title)).print_png(file)
    return table


def _cell(values: list[float]) -> str:
    if not values:
        return ''
    return f'{mean(values):.4f}' + (f' ± {stdev(values):.4f}' if len(values) > 1 else '')
