"""Figure 5 of the paper: how many training images must give open pixels.

Every method is trained with every number, its checkpoint chosen on open validation, and all are
tested. The draw of 10 images is part of the draw of 20; closed pixels always come from all training
images. Methods that train on no open pixel (OpenGAN-0) are trained once a seed. What the folder
gets::

    runs/{job}/       work directory of each training
    test_{i}/         test reports
    figure5.csv       one row for each job
    figure5.png, .pdf
    figure5.md        the table, ready for a results page
"""

from itertools import product
from pathlib import Path

from ..evaluation.report import describe
from ..pictures.figures import save_figure
from ..pictures.methods import label_of
from ..shipped import read_config_file
from .jobs import Job, own_values, require_each_once
from .sweep_figures import means_figure
from .tables import csv_text, grouped, markdown, mean, write_text
from .testing import train_and_test

NUMBER = 'train_dataloader.dataset.open.num_open_images'


def plan(
    config: str, numbers: dict[str, list[int]], *, seeds, out, options: dict | None = None
) -> list[Job]:
    """One job for each (method, number of open images, seed); those that fill a feature bank and
    the most images first.

    Args:
        config: path of the configs, with ``{}`` where the method stands.
        numbers: of each method.

    Raises:
        ValueError: no seed, one that is given twice, a number below 1, or a ``config`` without
            ``{}``.
    """
    if '{}' not in config:
        raise ValueError(
            "config: wanted a path with '{}' for the method, as in "
            f"'configs/opengan/{{}}_hr18s_camvid.py', found {config!r}"
        )
    require_each_once('seeds', seeds)
    ordered = []
    for method, own in numbers.items():
        path = config.format(method)
        source = read_config_file(path).train_dataloader.dataset
        trains_on_open = source.get('open') is not None
        fills = trains_on_open and 'root' in source
        for number, seed in product(own if trains_on_open else [None], seeds):
            name, changed = method, {}
            if number is not None:
                if number < 1:
                    raise ValueError(
                        f'num_open_images: wanted numbers of at least 1, found {number}'
                    )
                name, changed = f'{method}_open{number}', {NUMBER: number}
            folder = Path(out) / 'runs' / f'{name}_s{seed}'
            values = dict(method=method, open_images=number)
            job = Job(name, path, seed, folder, {**(options or {}), **changed}, values)
            ordered.append((fills, number or 0, job))
    ordered.sort(key=lambda one: one[:2], reverse=True)
    return [job for *_, job in ordered]


def open_images(
    config: str,
    methods,
    *,
    numbers,
    seeds,
    out,
    processes: int = 2,
    options: dict | None = None,
) -> str:
    """Train, test and report everything, or what is missing of it.

    Args:
        config: path of the configs, with ``{}`` where the method stands.
        methods: their names; ``'cls-pix:30,333'`` has these numbers in place of ``numbers``.
        numbers: how many training images give open pixels; of no effect on a method that trains on
            none.
        out: folder of everything; finished trainings are skipped, unfinished ones go on.
        options: config overrides for all jobs, as of ``--cfg-options``.

    Returns:
        str: the table.

    Raises:
        ValueError: see :func:`plan`; or ``out`` holds trainings of another config or other options.
    """
    out = Path(out)
    numbers_of = own_values(methods, numbers, 'num_open_images')
    jobs = plan(
        config,
        numbers_of,
        seeds=seeds,
        out=out,
        options=options,
    )
    report = train_and_test(
        jobs,
        config=config,
        out=out,
        processes=processes,
        options=options,
    )
    rows = [job.row(report['scorers'][job.name]) for job in jobs]
    shown = {method: label_of(method) for method in numbers_of}
    return write_report(out, rows, shown, describe(report))


def write_report(out: Path, rows: list[dict], labels: dict[str, str], protocol: str) -> str:
    """Write ``figure5.csv``, ``figure5.png`` and ``.pdf`` and ``figure5.md``; return the table.

    Args:
        rows: one dict per job: ``method``, ``open_images`` (None where no open pixel was trained
            on), ``seed``, ``AUROC`` and whatever else the CSV shall have.
        labels: names of the methods, in the order of table and figure.
        protocol: sentence on the test.
    """
    numbers = sorted(grouped(rows, 'open_images').keys() - {None})
    lines = {}
    for method, own in grouped(rows, 'method').items():
        name = labels[method]
        found = {
            n: [row['AUROC'] for row in some] for n, some in grouped(own, 'open_images').items()
        }
        if None in found:
            name, found = f'{name} (trains on none)', dict.fromkeys(numbers, found[None])
        lines[name] = found
    cells = []
    for name, found in lines.items():
        cells.append([name, *(mean(found.get(number, [])) for number in numbers)])
    table = f'{protocol}; AUROC\n\n{markdown(["open training images", *numbers], cells)}\n'
    write_text(out / 'figure5.md', table)
    write_text(out / 'figure5.csv', csv_text(rows))
    figure = means_figure(lines, xlabel='number of open training images', xscale='log')
    figure.axes[0].set_xticks(numbers, [str(number) for number in numbers], minor=False)
    save_figure(figure, out / 'figure5')
    return table
