"""Tables and differences of methods over seeds, from the report of a test run."""

import re
import statistics

import numpy as np

from ..evaluation.report import describe
from ..functional.bootstrap import MIN_BLOCKS, BlockTable, interval, resampled_aurocs
from .tables import METRICS, as_number, csv_text, interval_text, markdown, mean, number

#: Differences below a table, where it has both methods.
_COMPARED = (
    ('opengan', 'cls'),
    ('opengan', 'msp'),
    ('opengan-att', 'cls'),
    ('opengan-att', 'opengan'),
)


def method_and_seed(scorer: str) -> tuple[str, int]:
    """``opengan_s3`` is seed 3 of opengan; a scorer without a seed is seed 0 of itself."""
    match = re.fullmatch(r'(.+)_s(\d+)', scorer)
    return (match[1], int(match[2])) if match else (scorer, 0)


def by_method(scorers: dict[str, dict]) -> dict[str, dict[int, dict]]:
    """Entries of a report by method and seed; its scorers are ``method_s0``, ``method_s1``, ... or
    ``method``.
    """
    found: dict[str, dict[int, dict]] = {}
    for name in sorted(scorers, key=method_and_seed):
        method, seed = method_and_seed(name)
        found.setdefault(method, {})[seed] = scorers[name]
    return found


def _aurocs(entries: list[dict]) -> np.ndarray:
    """AUROC, mean over the entries, of each resample of the test's blocks."""
    return resampled_aurocs([BlockTable.from_json(entry['blocks']) for entry in entries])


def compare(first: dict[int, dict], second: dict[int, dict]) -> dict | None:
    """AUROC of one method minus another's, ``per_seed`` that both have, their ``mean``, and its
    paired ``interval``. A method with one seed is compared with every seed of the other.

    Returns:
        None where both have several seeds and share none.
    """
    if len(second) == 1:
        second = dict.fromkeys(first, *second.values())
    elif len(first) == 1:
        first = dict.fromkeys(second, *first.values())
    pairs = [(first[seed], second[seed]) for seed in first if seed in second]
    if not pairs:
        return None
    per_seed = [one['AUROC'] - other['AUROC'] for one, other in pairs]
    ones, others = (_aurocs(list(entries)) for entries in zip(*pairs))
    return dict(
        per_seed=per_seed,
        mean=statistics.mean(per_seed),
        interval=interval(ones - others),
    )


def report_text(
    reports: dict[str, dict], labels: dict[str, str], paper: dict[str, float] | None = None
) -> str:
    """Tables at every resolution, and the comparisons.

    Args:
        reports: test reports by resolution.
        labels: method -> name in the table, in its order.
        paper: the paper's AUROC by method, for a column beside ours.
    """
    parts = []
    for report in reports.values():
        found = by_method(report['scorers'])
        shown = {method: label for method, label in labels.items() if method in found}
        title = f'**{report["resolution"]} resolution**: {describe(report)}'
        miou = number(report.get('mIoU'), '.1f')
        parts += [f'{title}; mIoU {miou} %' if miou else title, _table(found, shown, paper or {})]
        blocks = [len(entry['blocks']['closed']) for entry in report['scorers'].values()]
        if min(blocks) < MIN_BLOCKS:
            parts.append(
                f'No intervals: wanted at least {MIN_BLOCKS} blocks of test images, found '
                f'{min(blocks)}. Fewer images in a block (--block) make more of them.'
            )
        for method, other in _COMPARED:
            if method in shown and other in shown:
                difference = compare(found[method], found[other])
                if difference is not None:
                    parts.append(_sentence(shown[method], shown[other], **difference))
    return '\n\n'.join(parts) + '\n'


def _table(found, labels, paper):
    head = ['method', 'AUROC', '95 % interval', 'AUROC over kinds', 'AP', 'FPR95']
    if paper:
        head.append('paper, Cityscapes AUROC')
    lines = []
    for method, label in labels.items():
        entries = list(found[method].values())
        auroc, kinds, ap, fpr95 = (
            mean([as_number(entry[metric]) for entry in entries]) for metric in METRICS
        )
        cells = [label, auroc, interval_text(interval(_aurocs(entries))), kinds, ap, fpr95]
        if paper:
            cells.append(number(paper.get(method), '.3f'))
        lines.append(cells)
    return markdown(head, lines)


def _sentence(method, other, *, per_seed, mean, interval):
    seeds = ', '.join(f'{value:+.4f}' for value in per_seed)
    between = interval_text(interval, '+.4f')
    paired = f' (paired 95 % interval {between})' if between else ''
    return f'{method} minus {other}: mean {mean:+.4f}{paired}, per seed {seeds}.'


def results_csv(reports: dict[str, dict], chosen: dict[str, dict]) -> str:
    """A flat row for each resolution and tested scorer: settings, results, and what open validation
    said (``chosen``, by scorer).
    """
    lines = []
    for resolution, report in reports.items():
        for name, entry in report['scorers'].items():
            method, seed = method_and_seed(name)
            low, high = interval(_aurocs([entry]))
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
