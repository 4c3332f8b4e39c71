"""What a sweep of lambda_G found: numbers, Table 6, Figures 9 to 11 of the paper, and the chosen
checkpoint.
"""

import csv
import io
import json
import shutil
import statistics
from contextlib import suppress
from pathlib import Path

from scipy.stats import spearmanr

from ..contracts import OPENGAN
from ..files import replacing, write_json
from . import sweep_figures as sweep_plots
from .jobs import METRICS
from .method_table import number

VALIDATION, FAKE = f'{OPENGAN}/AUROC', 'fake/AUROC'


def history(work_dir) -> dict[int, dict[str, float]]:
    """step -> what the validation of that step logged, over all starts of a training."""
    found = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            with suppress(ValueError):  # the last line of a training that was killed
                entry = json.loads(line)
                if VALIDATION in entry:
                    found[int(entry['step'])] = {
                        key: value for key, value in entry.items() if '/' in key
                    }
    return dict(sorted(found.items()))


def summarize(jobs, tested: dict) -> dict:
    """Every number of the sweep.

    Per number of open images the value of lambda_G with the best open-validation AUROC, averaged
    over seeds, is chosen; of its seeds the run that validated best. The chosen run of all is that
    of the most open images.

    Args:
        jobs: finished jobs, see :class:`sweep.SweepJob`.
        tested: ``scorers`` (test summaries by job name) and ``protocol``.
    """
    runs = []
    for job in jobs:
        best, test = job.best(), tested['scorers'][job.name]
        runs.append(
            dict(
                name=job.name,
                num_open_images=job.num_open_images,
                lambda_fake=job.lambda_fake,
                seed=job.seed,
                step=best['step'],
                steps=best['steps'],
                minutes=best['minutes'],
                checkpoint=str(job.work_dir / best['checkpoint']),
                validation=next(iter(best['open_validation'].values())),
                test={metric: number(test[metric]) for metric in METRICS},
                history=history(job.work_dir),
            )
        )
    numbers = list(dict.fromkeys(run['num_open_images'] for run in runs))
    table = [_row([run for run in runs if run['num_open_images'] == number]) for number in numbers]
    points = [entry for run in runs for entry in run['history'].values()]
    first = next(iter(tested['scorers'].values()))
    return dict(
        protocol=dict(
            tested['protocol'], num_closed=first['num_closed'], num_open=first['num_open']
        ),
        chosen=table[0]['run'],
        table=table,
        runs=runs,
        rank_correlation=dict(
            validation_and_test=_spearman(
                [(run['validation'], run['test']['AUROC']) for run in runs]
            ),
            fake_and_open=_spearman([(entry[FAKE], entry[VALIDATION]) for entry in points]),
        ),
    )


def _row(runs) -> dict:
    """One column of Table 6: the chosen lambda_G of a number of open images, and what it does in
    test.
    """
    values = sorted({run['lambda_fake'] for run in runs})
    of_value = {value: [run for run in runs if run['lambda_fake'] == value] for value in values}
    means = {
        value: statistics.mean(run['validation'] for run in of_value[value]) for value in values
    }
    chosen = max(values, key=means.get)
    aurocs = [run['test']['AUROC'] for run in of_value[chosen]]
    return dict(
        num_open_images=runs[0]['num_open_images'],
        lambda_fake=chosen,
        validation=means[chosen],
        test_AUROC=statistics.mean(aurocs),
        test_deviation=statistics.stdev(aurocs) if len(aurocs) > 1 else None,
        run=max(of_value[chosen], key=lambda run: run['validation'])['name'],
    )


def _spearman(pairs) -> float | None:
    """Spearman's rank correlation; None where it is not defined."""
    if len(pairs) < 3 or any(len(set(values)) < 2 for values in zip(*pairs)):
        return None
    return float(spearmanr(*zip(*pairs)).statistic)


def write_report(out: Path, jobs, result: dict, config) -> None:
    """Everything that :func:`summarize` found, as files in ``out``."""
    chosen = next(run for run in result['runs'] if run['name'] == result['chosen'])
    with replacing(out / 'chosen.pth') as file, open(chosen['checkpoint'], 'rb') as source:
        shutil.copyfileobj(source, file)
    write_json(out / 'sweep.json', result)
    _write_history(out / 'history.csv', result['runs'])
    for name, figure in figures(result).items():
        with replacing(out / f'{name}.png') as file:
            figure.savefig(file, format='png', dpi=130)
    with replacing(out / 'sweep.md') as file:
        file.write(text(result, config, out).encode())


def figures(result: dict) -> dict:
    """Figures 9, 10 and 11 by file name, of the runs with the most open images."""
    number = result['table'][0]['num_open_images']
    runs = [run for run in result['runs'] if run['num_open_images'] == number]
    curves = [
        (
            run['lambda_fake'],
            list(run['history']),
            [entry[VALIDATION] for entry in run['history'].values()],
        )
        for run in runs
    ]
    points = [
        (entry[FAKE], entry[VALIDATION], step)
        for run in runs
        for step, entry in run['history'].items()
    ]
    tuned = [(run['lambda_fake'], run['validation'], run['test']['AUROC']) for run in runs]
    return dict(
        figure9=sweep_plots.training_figure(curves),
        figure10=sweep_plots.scatter_figure(points),
        figure11=sweep_plots.tuning_figure(tuned, result['table'][0]['lambda_fake']),
    )


def _write_history(path: Path, runs) -> None:
    keys = [f'{OPENGAN}/{metric}' for metric in METRICS] + [FAKE]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(['run', 'num_open_images', 'lambda_fake', 'seed', 'step', *keys])
    for run in runs:
        for step, entry in run['history'].items():
            writer.writerow(
                [
                    run['name'],
                    run['num_open_images'],
                    run['lambda_fake'],
                    run['seed'],
                    step,
                    *(entry[key] for key in keys),
                ]
            )
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def text(result: dict, config, out) -> str:
    """The sweep as Markdown."""
    protocol, table = result['protocol'], result['table']
    seeds = sorted({run['seed'] for run in result['runs']})
    values = sorted({run['lambda_fake'] for run in result['runs']})
    spread = ' (mean ± standard deviation over seeds)' if len(seeds) > 1 else ''
    lines = [
        f'{len(result["runs"])} trainings of {result["runs"][0]["steps"]} steps: lambda_G '
        f'{values[0]:g} to '
        f'{values[-1]:g} ({len(values)} values), seeds {", ".join(map(str, seeds))}. Label policy '
        f'`{protocol["label_policy"]}`, {protocol["resolution"]} resolution, '
        f'{protocol["num_images"]} test images, '
        f'{protocol["num_closed"]:,} closed and {protocol["num_open"]:,} open pixels, pooled.',
        '',
        '| open images | '
        + ' | '.join(str(row['num_open_images'] or 'all') for row in table)
        + ' |',
        '|' + '---|' * (len(table) + 1),
    ]
    cells = {
        'chosen lambda_G': [f'{row["lambda_fake"]:g}' for row in table],
        'open-validation AUROC': [f'{row["validation"]:.4f}' for row in table],
        f'test AUROC{spread}': [
            f'{row["test_AUROC"]:.4f}'
            + (f' ± {row["test_deviation"]:.4f}' if row['test_deviation'] is not None else '')
            for row in table
        ],
    }
    lines += [f'| {name} | ' + ' | '.join(row) + ' |' for name, row in cells.items()]
    correlation = {
        name: 'not defined' if value is None else f'{value:+.2f}'
        for name, value in result['rank_correlation'].items()
    }
    lines += [
        '',
        f'Rank correlation (Spearman) of open-validation and test AUROC over all runs: '
        f'{correlation["validation_and_test"]}; of fake-versus-real and open-versus-closed AUROC '
        f'over all '
        f'validations: {correlation["fake_and_open"]}.',
        '',
        '| run | chosen step | open-validation AUROC | test AUROC | AP | FPR95 | minutes |',
        '|' + '---|' * 7,
    ]
    lines += [
        f'| {run["name"]} | {run["step"]} of {run["steps"]} | {run["validation"]:.4f} | '
        + ' | '.join(f'{run["test"][metric]:.4f}' for metric in METRICS)
        + f' | {run["minutes"] or ""} |'
        for run in result['runs']
    ]
    return (
        '\n'.join(lines) + f'\n\nChosen: {result["chosen"]}, `{out}/chosen.pth`. '
        f'`python tools/test.py {config} {out}/chosen.pth` tests it.\n'
    )
