"""Tables and differences of methods over seeds, from the report of a test run."""

import re
import statistics
from dataclasses import dataclass, field

from ..evaluation.report import describe
from ..functional.bootstrap import MIN_BLOCKS, BlockTable, interval, resampled_aurocs
from .jobs import METRICS, Job
from .tables import as_number, csv_text, interval_text, markdown, mean, number

#: Differences below a table, where it has both methods.
_COMPARED = (
    ('opengan', 'cls'),
    ('opengan', 'msp'),
    ('opengan-att', 'cls'),
    ('opengan-att', 'opengan'),
)


@dataclass
class Row:
    """One method: its entries in a report, by seed."""

    entries: dict[int, dict] = field(default_factory=dict)

    def values(self, metric: str) -> list[float]:
        return [as_number(entry[metric]) for entry in self.entries.values()]

    def resampled(self):
        """Mean AUROC over seeds of each resample of the test's blocks."""
        tables = [BlockTable.from_json(entry['blocks']) for entry in self.entries.values()]
        return resampled_aurocs(tables)

    def num_blocks(self) -> int:
        return min(len(entry['blocks']['closed']) for entry in self.entries.values())

    def of_seeds(self, seeds) -> 'Row':
        return Row({seed: self.entries[seed] for seed in seeds})

    def repeated(self, seeds) -> 'Row':
        """The only entry, for each of these seeds."""
        (entry,) = self.entries.values()
        return Row(dict.fromkeys(seeds, entry))


def method_and_seed(scorer: str) -> tuple[str, int]:
    """``opengan_s3`` is seed 3 of opengan; a scorer without a seed is seed 0 of itself."""
    match = re.fullmatch(r'(.+)_s(\d+)', scorer)
    return (match[1], int(match[2])) if match else (scorer, 0)


def rows(report: dict) -> dict[str, Row]:
    """The methods of a report, whose scorers are ``method_s0``, ``method_s1``, ... or
    ``method``.
    """
    found: dict[str, Row] = {}
    parts = [(*method_and_seed(name), entry) for name, entry in report['scorers'].items()]
    for method, seed, entry in sorted(parts, key=lambda part: part[:2]):
        found.setdefault(method, Row()).entries[seed] = entry
    return found


def compare(report: dict, method: str, other: str) -> dict | None:
    """AUROC of one method minus another's, ``per_seed`` that both have, their ``mean``, and its
    paired ``interval``. A method without seeds is compared with every seed of the other.

    Returns:
        None where both have seeds and share none.
    """
    found = rows(report)
    first, second = found[method], found[other]
    if len(second.entries) == 1:
        second = second.repeated(first.entries)
    elif len(first.entries) == 1:
        first = first.repeated(second.entries)
    shared = [seed for seed in first.entries if seed in second.entries]
    if not shared:
        return None
    first, second = first.of_seeds(shared), second.of_seeds(shared)
    per_seed = [a - b for a, b in zip(first.values('AUROC'), second.values('AUROC'))]
    return dict(
        per_seed=per_seed,
        mean=statistics.mean(per_seed),
        interval=interval(first.resampled() - second.resampled()),
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
    parts = []
    for report in reports.values():
        found = rows(report)
        shown = {method: label for method, label in labels.items() if method in found}
        parts += [_title(report), _table(found, shown, paper or {})]
        few = min(found[method].num_blocks() for method in shown)
        if few < MIN_BLOCKS:
            parts.append(
                f'No intervals: wanted at least {MIN_BLOCKS} blocks of test images, found {few}. '
                'Fewer images in a block (--block) make more of them.'
            )
        for method, other in _COMPARED:
            both = method in shown and other in shown
            difference = compare(report, method, other) if both else None
            if difference is not None:
                parts.append(_sentence(shown[method], shown[other], difference))
    finished = [job for job in jobs if job.best()]
    if finished:
        parts.append(_table_of_runs(finished))
    if fitted:
        parts.append(_table_of_fits(fitted))
    return '\n\n'.join(parts) + '\n'


def _title(report):
    title = f'**{report["resolution"]} resolution**: {describe(report)}'
    miou = report.get('mIoU')
    return title if miou is None else f'{title}; mIoU {miou:.1f} %'


def _table(found, labels, paper):
    head = ['method', 'AUROC', '95 % interval', 'AP', 'FPR95']
    if paper:
        head.append('paper, Cityscapes AUROC')
    lines = []
    for method, label in labels.items():
        row = found[method]
        auroc, ap, fpr95 = (mean(row.values(metric)) for metric in METRICS)
        cells = [label, auroc, interval_text(interval(row.resampled())), ap, fpr95]
        if paper:
            cells.append(number(paper.get(method), '.3f'))
        lines.append(cells)
    return markdown(head, lines)


def _sentence(method, other, difference):
    per_seed = ', '.join(f'{value:+.4f}' for value in difference['per_seed'])
    between = interval_text(difference['interval'], '+.4f')
    paired = f' (paired 95 % interval {between})' if between else ''
    return f'{method} minus {other}: mean {difference["mean"]:+.4f}{paired}, per seed {per_seed}.'


def _table_of_runs(jobs):
    lines = []
    for job in jobs:
        best = job.best()
        step = f'{best["step"]} of {best["steps"]}'
        lines.append([job.name, step, number(job.validation()), best['minutes']])
    return markdown(['run', 'chosen step', 'open-validation AUROC', 'minutes'], lines)


def _table_of_fits(fitted):
    lines = []
    for name, found in fitted.items():
        options = ', '.join(f'{key} {value}' for key, value in found['options'].items())
        lines.append([name, options or 'none', number(found['AUROC'])])
    return markdown(['fitted scorer', 'chosen options', 'open-validation AUROC'], lines)


def results_csv(reports: dict[str, dict], chosen: dict[str, dict]) -> str:
    """A flat row for each resolution and tested scorer: settings, results, and what open validation
    said (``chosen``, by scorer).
    """
    lines = []
    for resolution, report in reports.items():
        for name, entry in report['scorers'].items():
            method, seed = method_and_seed(name)
            low, high = interval(Row({seed: entry}).resampled())
            lines.append(
                dict(
                    resolution=resolution,
                    label_policy=report['label_policy'],
                    num_images=report['num_images'],
                    method=method,
                    seed=seed,
                    **{metric: entry[metric] for metric in METRICS},
                    AUROC_low=low,
                    AUROC_high=high,
                    num_closed=entry['num_closed'],
                    num_open=entry['num_open'],
                    **chosen.get(name, {}),
                )
            )
    return csv_text(lines)
