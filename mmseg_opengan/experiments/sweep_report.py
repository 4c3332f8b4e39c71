"""What a sweep of lambda_G found: numbers, Table 6, Figures 9 to 11 of the paper, and the chosen
checkpoint.
"""

import json
import math
import shutil
import statistics
from contextlib import suppress
from pathlib import Path

from matplotlib.figure import Figure
from scipy.stats import spearmanr

from ..contracts import OPENGAN
from ..evaluation.report import describe
from ..files import replacing, write_json
from ..pictures.figures import save_figure
from .sweep_figures import means_figure, scatter_figure, training_figure
from .tables import METRICS, grouped, markdown, mean, number, write_text

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

    Per number of open images the value of lambda_G with the best open-validation number, averaged
    over seeds, is chosen; of its seeds the run that validated best. The chosen run of all is that
    of the most open images.

    Args:
        jobs: finished jobs, see :class:`sweep.SweepJob`; those of the most open images first.
        report: of their test.
    """
    runs, validations = [], []
    for job in jobs:
        row = job.row(report['scorers'][job.name])
        entries = history(job.work_dir)
        checkpoint = str(job.work_dir / job.best()['checkpoint'])
        runs.append(
            dict(
                name=job.name,
                **row,
                checkpoint=checkpoint,
                history=entries,
            )
        )
        validations += [(entry[FAKE], entry[VALIDATION]) for entry in entries.values()]
    table = [_choice(some) for some in grouped(runs, 'num_open_images').values()]
    return dict(
        protocol=describe(report),
        chosen=table[0]['run'],
        table=table,
        runs=runs,
        rank_correlation=dict(
            validation_and_test=_spearman([(run['validation'], run['AUROC']) for run in runs]),
            fake_and_open=_spearman(validations),
        ),
    )


def _choice(runs) -> dict:
    """One column of Table 6: the chosen lambda_G of a number of open images, and what it does in
    test.
    """
    of_value = grouped(runs, 'lambda_fake')
    means = {}
    for value in sorted(of_value):
        means[value] = statistics.mean(run['validation'] for run in of_value[value])
    chosen = max(means, key=means.get)
    best = max(of_value[chosen], key=lambda run: run['validation'])
    return dict(
        num_open_images=best['num_open_images'],
        lambda_fake=chosen,
        validation=means[chosen],
        **{f'test_{key}': [run[key] for run in of_value[chosen]] for key in METRICS},
        run=best['name'],
    )


def _spearman(pairs) -> float:
    """Spearman's rank correlation; nan where it is not defined."""
    return float(spearmanr(*zip(*pairs)).statistic) if len(pairs) > 2 else math.nan


def write_report(out: Path, result: dict, config) -> None:
    """Everything that :func:`summarize` found, as files in ``out``."""
    (chosen,) = (run for run in result['runs'] if run['name'] == result['chosen'])
    with replacing(out / 'chosen.pth') as file, open(chosen['checkpoint'], 'rb') as source:
        shutil.copyfileobj(source, file)
    write_json(out / 'sweep.json', result)
    for name, figure in figures(result['runs']).items():
        save_figure(figure, out / name)
    write_text(out / 'sweep.md', text(result, config, out))


def figures(runs: list[dict]) -> dict[str, Figure]:
    """Figures 9, 10 and 11 by file name, of the runs with the most open images."""
    most = next(iter(grouped(runs, 'num_open_images').values()))
    curves, points = [], []
    for run in most:
        entries = run['history']
        validations = [entry[VALIDATION] for entry in entries.values()]
        curves.append((run['lambda_fake'], list(entries), validations))
        points += [(entry[FAKE], entry[VALIDATION], step) for step, entry in entries.items()]
    tuned = {}
    for name, key in (('open validation', 'validation'), ('test', 'AUROC')):
        of_value = grouped(most, 'lambda_fake')
        tuned[name] = {value: [run[key] for run in some] for value, some in of_value.items()}
    return dict(
        figure9=training_figure(curves),
        figure10=scatter_figure(points),
        figure11=means_figure(tuned, xlabel=r'$\lambda_G$'),
    )


def text(result: dict, config, out) -> str:
    """The sweep as Markdown."""
    runs = result['runs']
    seeds = ', '.join(map(str, grouped(runs, 'seed')))
    values = sorted(grouped(runs, 'lambda_fake'))
    found = result['rank_correlation']
    correlation = {name: number(value, '+.2f') or 'not defined' for name, value in found.items()}
    parts = [
        f'{len(runs)} trainings of {runs[0]["steps"]} steps: lambda_G {values[0]:g} to '
        f'{values[-1]:g} ({len(values)} values), seeds {seeds}. Test: {result["protocol"]}. '
        'Test numbers are the mean ± standard deviation over seeds.',
        _table_6(result['table'], _validated_by(runs)),
        f'Rank correlation (Spearman) of {_validated_by(runs)} and test AUROC over all runs: '
        f'{correlation["validation_and_test"]}; of fake-versus-real and open-versus-closed AUROC '
        f'over all validations: {correlation["fake_and_open"]}.',
        _table_of_runs(runs),
        f'Chosen: {result["chosen"]}, `{out}/chosen.pth`. '
        f'`python tools/test.py {config} {out}/chosen.pth` tests it.',
    ]
    return '\n\n'.join(parts) + '\n'


def _validated_by(runs):
    return f'open-validation {METRICS[runs[0]["validated_by"]]}'


def _table_6(choices, validated_by):
    columns = []
    for choice in choices:
        tested = [mean(choice[f'test_{key}']) for key in ('AUROC', 'AUROC_kinds')]
        images, chosen = choice['num_open_images'] or 'all', f'{choice["lambda_fake"]:g}'
        columns.append([images, chosen, number(choice['validation']), *tested])
    names = ['open images', 'chosen lambda_G', validated_by, 'test AUROC']
    head, *rows = zip([*names, f'test {METRICS["AUROC_kinds"]}'], *columns)
    return markdown(head, rows)


def _table_of_runs(runs):
    tested = [f'test {name}' for name in METRICS.values()]
    head = ['run', 'chosen step', _validated_by(runs), *tested, 'minutes']
    rows = []
    for run in runs:
        numbers = [number(run[key]) for key in ('validation', *METRICS)]
        rows.append([run['name'], f'{run["step"]} of {run["steps"]}', *numbers, run['minutes']])
    return markdown(head, rows)
