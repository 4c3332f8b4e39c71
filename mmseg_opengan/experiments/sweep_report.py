"""What a sweep of lambda_G found: numbers, Table 6, Figures 9 to 11 of the paper, and the chosen
checkpoint.
"""

import json
import shutil
import statistics
from contextlib import suppress
from pathlib import Path

from scipy.stats import spearmanr

from ..contracts import OPENGAN
from ..evaluation.report import describe
from ..files import replacing, write_json
from ..pictures.figures import save_figure
from . import sweep_figures as sweep_plots
from .jobs import METRICS
from .tables import as_number, markdown, mean, number, write_text

VALIDATION, FAKE = f'{OPENGAN}/AUROC', 'fake/AUROC'


def history(work_dir) -> dict[int, dict[str, float]]:
    """step -> what the validation of that step logged, over all starts of a training."""
    found = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            with suppress(ValueError):  # the last line of a training that was killed
                entry = json.loads(line)
                if VALIDATION in entry:
                    numbers = {key: value for key, value in entry.items() if '/' in key}
                    found[int(entry['step'])] = numbers
    return dict(sorted(found.items()))


def summarize(jobs, report: dict) -> dict:
    """Every number of the sweep.

    Per number of open images the value of lambda_G with the best open-validation AUROC, averaged
    over seeds, is chosen; of its seeds the run that validated best. The chosen run of all is that
    of the most open images.

    Args:
        jobs: finished jobs, see :class:`sweep.SweepJob`.
        report: of their test.
    """
    runs = [_run(job, report['scorers'][job.name]) for job in jobs]
    of_number = {}
    for run in runs:
        of_number.setdefault(run['num_open_images'], []).append(run)
    table = [_choice(some) for some in of_number.values()]
    tests = [(run['validation'], run['AUROC']) for run in runs]
    validations = []
    for run in runs:
        validations += [(entry[FAKE], entry[VALIDATION]) for entry in run['history'].values()]
    return dict(
        protocol=describe(report),
        chosen=table[0]['run'],
        table=table,
        runs=runs,
        rank_correlation=dict(
            validation_and_test=_spearman(tests), fake_and_open=_spearman(validations)
        ),
    )


def _run(job, test) -> dict:
    return dict(
        name=job.name,
        **job.row({metric: as_number(test[metric]) for metric in METRICS}),
        checkpoint=str(job.work_dir / job.best()['checkpoint']),
        history=history(job.work_dir),
    )


def _choice(runs) -> dict:
    """One column of Table 6: the chosen lambda_G of a number of open images, and what it does in
    test.
    """
    of_value = {}
    for run in runs:
        of_value.setdefault(run['lambda_fake'], []).append(run)
    means = {}
    for value in sorted(of_value):
        means[value] = statistics.mean(run['validation'] for run in of_value[value])
    chosen = max(means, key=means.get)
    return dict(
        num_open_images=runs[0]['num_open_images'],
        lambda_fake=chosen,
        validation=means[chosen],
        test_AUROC=[run['AUROC'] for run in of_value[chosen]],
        run=max(of_value[chosen], key=lambda run: run['validation'])['name'],
    )


def _spearman(pairs) -> float | None:
    """Spearman's rank correlation; None where it is not defined."""
    if len(pairs) < 3 or any(len(set(values)) < 2 for values in zip(*pairs)):
        return None
    return float(spearmanr(*zip(*pairs)).statistic)


def write_report(out: Path, result: dict, config) -> None:
    """Everything that :func:`summarize` found, as files in ``out``."""
    (chosen,) = (run for run in result['runs'] if run['name'] == result['chosen'])
    with replacing(out / 'chosen.pth') as file, open(chosen['checkpoint'], 'rb') as source:
        shutil.copyfileobj(source, file)
    write_json(out / 'sweep.json', result)
    for name, figure in figures(result).items():
        save_figure(figure, out / name)
    write_text(out / 'sweep.md', text(result, config, out))


def figures(result: dict) -> dict:
    """Figures 9, 10 and 11 by file name, of the runs with the most open images."""
    most = result['table'][0]
    curves, points, tuned = [], [], []
    for run in result['runs']:
        if run['num_open_images'] != most['num_open_images']:
            continue
        entries = run['history']
        validations = [entry[VALIDATION] for entry in entries.values()]
        curves.append((run['lambda_fake'], list(entries), validations))
        points += [(entry[FAKE], entry[VALIDATION], step) for step, entry in entries.items()]
        tuned.append((run['lambda_fake'], run['validation'], run['AUROC']))
    return dict(
        figure9=sweep_plots.training_figure(curves),
        figure10=sweep_plots.scatter_figure(points),
        figure11=sweep_plots.tuning_figure(tuned, most['lambda_fake']),
    )


def text(result: dict, config, out) -> str:
    """The sweep as Markdown."""
    found = result['rank_correlation']
    correlation = {name: number(value, '+.2f') or 'not defined' for name, value in found.items()}
    parts = [
        _grid(result),
        _table_6(result['table']),
        'Rank correlation (Spearman) of open-validation and test AUROC over all runs: '
        f'{correlation["validation_and_test"]}; of fake-versus-real and open-versus-closed AUROC '
        f'over all validations: {correlation["fake_and_open"]}.',
        _table_of_runs(result['runs']),
        f'Chosen: {result["chosen"]}, `{out}/chosen.pth`. '
        f'`python tools/test.py {config} {out}/chosen.pth` tests it.',
    ]
    return '\n\n'.join(parts) + '\n'


def _grid(result):
    runs = result['runs']
    seeds = sorted({run['seed'] for run in runs})
    values = sorted({run['lambda_fake'] for run in runs})
    return (
        f'{len(runs)} trainings of {runs[0]["steps"]} steps: lambda_G {values[0]:g} to '
        f'{values[-1]:g} ({len(values)} values), seeds {", ".join(map(str, seeds))}. '
        f'Test: {result["protocol"]}. Test AUROC is the mean ± standard deviation over seeds.'
    )


def _table_6(choices):
    head = ['open images', *(choice['num_open_images'] or 'all' for choice in choices)]
    rows = [
        ['chosen lambda_G', *(f'{choice["lambda_fake"]:g}' for choice in choices)],
        ['open-validation AUROC', *(number(choice['validation']) for choice in choices)],
        ['test AUROC', *(mean(choice['test_AUROC']) for choice in choices)],
    ]
    return markdown(head, rows)


def _table_of_runs(runs):
    head = ['run', 'chosen step', 'open-validation AUROC', 'test AUROC', *METRICS[1:], 'minutes']
    rows = []
    for run in runs:
        numbers = [
            number(value) for value in (run['validation'], *(run[metric] for metric in METRICS))
        ]
        rows.append([run['name'], f'{run["step"]} of {run["steps"]}', *numbers, run['minutes']])
    return markdown(head, rows)
