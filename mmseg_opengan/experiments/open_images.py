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

from pathlib import Path
from statistics import mean as average

from matplotlib.figure import Figure

from ..evaluation.report import describe
from ..pictures.figures import save_figure
from ..pictures.methods import label_of, line_styles
from ..provenance import made_from
from ..shipped import read_config_file
from .jobs import Job, claim, own_values, require_each_once, train
from .tables import csv_text, markdown, mean, write_text
from .testing import evaluate_shares

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
    filling, others = [], []
    for method, own in numbers.items():
        path = config.format(method)
        source = read_config_file(path).train_dataloader.dataset
        trains_on_open = source.get('open') is not None
        fills = trains_on_open and 'root' in source
        for number in own if trains_on_open else [None]:
            jobs = _jobs(method, path, number, seeds, Path(out) / 'runs', options or {})
            (filling if fills else others).extend(jobs)
    for some in (filling, others):
        some.sort(key=lambda job: -(job.values['open_images'] or 0))
    return filling + others


def _jobs(method, config, number, seeds, out, options):
    """The jobs of one number; None for a method that trains on no open pixel."""
    if number is not None and number < 1:
        raise ValueError(f'num_open_images: wanted numbers of at least 1, found {number}')
    name = method if number is None else f'{method}_open{number}'
    changed = {} if number is None else {NUMBER: number}
    values = dict(method=method, open_images=number)
    return [
        Job(name, config, seed, out / f'{name}_s{seed}', {**options, **changed}, values)
        for seed in seeds
    ]


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
    jobs = plan(config, numbers_of, seeds=seeds, out=out, options=options)
    claim(out, made_from(config=config, options=options or {}))
    train(jobs, processes=processes)
    report = evaluate_shares(jobs, out=out, processes=processes, options=options)
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
    curves, flat = {}, {}
    for method, label in labels.items():
        points = {}
        for row in rows:
            if row['method'] == method:
                points.setdefault(row['open_images'], []).append(row['AUROC'])
        if None in points:
            flat[label] = points[None]
        else:
            curves[label] = points
    numbers = sorted({number for points in curves.values() for number in points})
    lines = []
    for name, points in curves.items():
        lines.append([name, *(mean(points.get(number, [])) for number in numbers)])
    for name, values in flat.items():
        lines.append([f'{name} (trains on none)', *[mean(values)] * len(numbers)])
    table = f'{protocol}; AUROC\n\n{markdown(["open training images", *numbers], lines)}\n'
    write_text(out / 'figure5.md', table)
    write_text(out / 'figure5.csv', csv_text(rows))
    save_figure(open_images_figure(curves, flat, protocol), out / 'figure5')
    return table


def open_images_figure(
    curves: dict[str, dict[int, list[float]]], flat: dict[str, list[float]], title: str = ''
) -> Figure:
    """AUROC against the number of open training images: one line per method; dots are seeds, lines
    are their means.

    Args:
        curves: method -> number of open training images -> AUROC of each seed.
        flat: methods that train on no open pixel -> AUROC of each seed; horizontal lines.
    """
    figure = Figure(figsize=(7, 4.2), layout='constrained')
    axes = figure.add_subplot()
    styles = line_styles([*curves, *flat])
    numbers = sorted({number for points in curves.values() for number in points})
    for name, points in curves.items():
        colour = styles[name]['color']
        for number, values in points.items():
            axes.plot([number] * len(values), values, '.', color=colour, alpha=0.4)
        x = sorted(points)
        means = [average(points[number]) for number in x]
        axes.plot(x, means, marker='o', **styles[name], markersize=4, label=name)
    for name, values in flat.items():
        axes.axhline(average(values), **styles[name], linewidth=1.2, label=name)
    axes.set(xscale='log', xlabel='number of open training images', ylabel='AUROC')
    axes.set_title(title, fontsize='small', wrap=True)
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.minorticks_off()
    axes.legend(frameon=False, loc='upper left', bbox_to_anchor=(1, 1))
    return figure
