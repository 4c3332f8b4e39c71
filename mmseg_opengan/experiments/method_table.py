"""Tables and differences of methods over seeds, from the report of a test run."""

import math
import re
import statistics
from dataclasses import dataclass

import numpy as np

from ..functional.bootstrap import BlockTable, interval, resampled_aurocs
from .jobs import METRICS, Job

#: Differences below a table, where it has both methods.
_COMPARED = (
    ('opengan', 'cls'),
    ('opengan', 'msp'),
    ('opengan-att', 'cls'),
    ('opengan-att', 'opengan'),
)


@dataclass
class Row:
    """One method in a table: its numbers over seeds, and the interval of their mean AUROC."""

    method: str
    seeds: list[int]
    values: dict[str, list[float]]
    tables: list[BlockTable]

    def cell(self, metric: str, digits: int = 4) -> str:
        values = self.values[metric]
        if any(map(math.isnan, values)):
            return ''
        spread = f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
        return f'{statistics.mean(values):.{digits}f}{spread}'

    def of_seeds(self, seeds) -> 'Row':
        """The same method with some of its seeds."""
        places = [self.seeds.index(seed) for seed in seeds]
        values = {
            metric: [found[place] for place in places] for metric, found in self.values.items()
        }
        return Row(self.method, list(seeds), values, [self.tables[place] for place in places])

    def interval(self) -> tuple[float, float]:
        return interval(resampled_aurocs(self.tables))


def interval_of(summaries: list[dict]) -> tuple[float, float]:
    """95 % interval of the mean AUROC of some entries of a report."""
    return interval(
        resampled_aurocs([BlockTable.from_json(summary['blocks']) for summary in summaries])
    )


def number(value: float | None) -> float:
    """A number of a report, where null stands for what is not defined."""
    return math.nan if value is None else value


def method_and_seed(scorer: str) -> tuple[str, int]:
    """``opengan_s3`` is seed 3 of opengan; a scorer without a seed is seed 0 of itself."""
    match = re.fullmatch(r'(.+)_s(\d+)', scorer)
    return (match[1], int(match[2])) if match else (scorer, 0)


def rows(report: dict) -> list[Row]:
    """The report's scorers, the seeds of a method (``method_s0``, ``method_s1``, ...) in one
    row.
    """
    found = {}
    parts = {name: method_and_seed(name) for name in report['scorers']}
    for name, (method, seed) in sorted(
        parts.items(), key=lambda item: item[1]
    ):  # differences pair equal seeds
        summary = report['scorers'][name]
        row = found.setdefault(method, Row(method, [], {metric: [] for metric in METRICS}, []))
        row.seeds.append(seed)
        for metric in METRICS:
            row.values[metric].append(number(summary[metric]))
        row.tables.append(BlockTable.from_json(summary['blocks']))
    return list(found.values())


def markdown(report: dict, labels: dict[str, str], paper: dict[str, float] | None = None) -> str:
    """A table of the methods in ``labels``, in that order, with the paper's Cityscapes numbers
    beside it if given.
    """
    found = {row.method: row for row in rows(report)}
    head = [
        'method',
        'AUROC',
        '95 % interval',
        'AP',
        'FPR95',
        *(['paper, Cityscapes AUROC'] if paper else []),
    ]
    lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    for method, label in labels.items():
        row = found[method]
        low, high = row.interval()
        between = '' if math.isnan(low) else f'{low:.3f} to {high:.3f}'
        cells = [label, row.cell('AUROC'), between, row.cell('AP'), row.cell('FPR95')]
        cells += [f'{paper[method]:.3f}' if method in paper else ''] if paper else []
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def compare(report: dict, method: str, other: str) -> dict:
    """AUROC of one method minus another's, per seed, and the paired interval of the difference of
    their means.

    Of two methods with several seeds, those that both have are compared (``per_seed``, in order);
    where they share none, only the means are. One without seeds is compared with every seed of the
    other.
    """
    found = {row.method: row for row in rows(report)}
    first, second = found[method], found[other]
    several = len(first.seeds) > 1 and len(second.seeds) > 1
    shared = [seed for seed in first.seeds if seed in second.seeds]
    if several and shared:
        first, second = first.of_seeds(shared), second.of_seeds(shared)
    aurocs, others = (row.values['AUROC'] for row in (first, second))
    pairs = [] if several and not shared else np.broadcast_arrays(aurocs, others)
    low, high = interval(resampled_aurocs(first.tables) - resampled_aurocs(second.tables))
    return dict(
        method=method,
        other=other,
        per_seed=[float(a - b) for a, b in zip(*pairs)],
        mean=float(np.mean(aurocs) - np.mean(others)),
        interval=(low, high),
    )


def report_text(
    jobs: list[Job],
    reports: dict[str, dict],
    labels: dict[str, str],
    paper: dict[str, float] | None = None,
    fitted: dict[str, dict] | None = None,
) -> str:
    """Tables at every resolution, the comparisons, and what open validation chose of training runs
    and fits.

    Args:
        jobs: training runs.
        reports: test reports by resolution.
        labels: method -> name in the table, in its order.
        paper: the paper's AUROC by method, for a column beside ours.
        fitted: what ``fit_scorers`` returned, by scorer.
    """
    present = {method_and_seed(name)[0] for name in next(iter(reports.values()))['scorers']}
    shown = {method: label for method, label in labels.items() if method in present}
    parts = []
    for resolution, report in reports.items():
        first = next(iter(report['scorers'].values()))
        parts.append(
            f'**{resolution} resolution**: label policy `{report["label_policy"]}`, '
            f'{report["num_images"]} '
            f'images, {first["num_closed"]:,} closed and {first["num_open"]:,} open pixels, pooled'
            + (f'; mIoU {report["mIoU"]:.1f} %' if report.get('mIoU') is not None else '')
            + '\n\n'
            + markdown(report, shown, paper)
        )
        for method, other in (pair for pair in _COMPARED if shown.keys() >= set(pair)):
            result = compare(report, method, other)
            low, high = result['interval']
            between = 'undefined' if math.isnan(low) else f'{low:+.4f} to {high:+.4f}'
            seeds = ', '.join(f'{value:+.4f}' for value in result['per_seed']) or 'none in common'
            parts.append(
                f'{labels[method]} minus {labels[other]}: mean {result["mean"]:+.4f} (paired 95 % '
                f'interval {between}), per seed {seeds}.'
            )
    if jobs:
        rows = ['| run | chosen step | open-validation AUROC | minutes |', '|---|---|---|---|']
        for job in jobs:
            best = job.best()
            if best:
                auroc = next(iter(best['open_validation'].values()))
                step = f'{best["step"]} of {best["steps"]}'
                rows.append(f'| {job.name} | {step} | {auroc:.4f} | {best["minutes"] or ""} |')
        parts.append('\n'.join(rows))
    if fitted:
        rows = ['| fitted scorer | chosen options | open-validation AUROC |', '|---|---|---|']
        for name, found in fitted.items():
            options = ', '.join(f'{key} {value}' for key, value in found['options'].items())
            rows.append(f'| {name} | {options or "none"} | {found["AUROC"]:.4f} |')
        parts.append('\n'.join(rows))
    return '\n\n'.join(parts) + '\n'
