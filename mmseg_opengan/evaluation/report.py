"""An evaluation as text: every table says by which protocol its numbers were made."""

import math
from collections.abc import Iterable

from prettytable import PrettyTable

#: A number with a larger error bound comes with a warning.
LARGE_ERROR = 1e-3
_NUMBERS = dict(
    AUROC='auroc_error_bound',
    AP='ap_error_bound',
    FPR95='fpr95_error_bound',
)
_RATES = ('TPR', 'FPR', 'precision', 'F1', 'macro_F1')


def headline(report: dict) -> str:
    """One row per scorer, over all pixels. AP by chance is the share of open pixels. Below, numbers
    that counting may have moved by more than ``LARGE_ERROR``.
    """
    table = PrettyTable(['method', 'AUROC', 'AP', 'AP by chance', 'FPR95'])
    for name, found in report['scorers'].items():
        auroc, ap, fpr95 = _cells(found)
        table.add_row([name, auroc, ap, _number(share_of_open(found)), fpr95])
    return '\n'.join([describe(report), table.get_string(), *_doubts(report['scorers'])])


def share_of_open(summary: dict) -> float:
    """Open pixels among the scored ones, the AP of a random score; nan without pixels."""
    pixels = summary['num_open'] + summary['num_closed']
    return summary['num_open'] / pixels if pixels else math.nan


def _doubts(summaries: dict[str, dict]) -> list[str]:
    """What the error bounds of summaries warn of, by their names."""
    doubts = []
    for name, found in summaries.items():
        large = [
            f'{number} by up to {found[bound]:.4f}'
            for number, bound in _NUMBERS.items()
            if found[bound] > LARGE_ERROR
        ]
        if large:
            doubts.append(
                f'WARNING: {name}: counting may have moved {", ".join(large)}. Scores unlike those '
                'of the first image are counted coarsely.'
            )
    return doubts


def describe(report: dict) -> str:
    """Label policy, resolution, mode and counts: what has to be said beside every number."""
    first = next(iter(report['scorers'].values()))
    parts = [
        str(report['label_policy']),
        f'{report["resolution"]} resolution',
        report.get('mode') or 'mode not recorded',
    ]
    if report.get('protocol'):
        parts.insert(0, f"protocol '{report['protocol']}'")
    if report.get('smoothing'):
        parts.append(f'scores smoothed over {report["smoothing"]:g} pixels')
    parts.append(
        f'pooled over {first["num_closed"]:,} closed and {first["num_open"]:,} open pixels of '
        f'{report["num_images"]} images'
    )
    return ', '.join(parts)


def details(report: dict) -> str:
    """Per scorer: every open class, means over images, the closed classes most often called open,
    operating points, components, ECE.
    """
    return '\n\n'.join(_of_scorer(name, found) for name, found in report['scorers'].items())


def _of_scorer(name, found):
    kinds = {f'{name}, {kind}': one for kind, one in found['per_class'].items() if one['num_open']}
    table = PrettyTable(['open class', 'pixels', *_NUMBERS])
    table.title = f'{name}: each open class against all closed pixels'
    for kind, one in found['per_class'].items():
        table.add_row([kind, f'{one["num_open"]:,}', *_cells(one)])
    images = found['per_image']
    lines = [
        table.get_string(),
        *_doubts(kinds),
        f'Mean of the {images["num_images"]} images that have closed and open pixels: '
        f'{_listed(images, _NUMBERS)}',
    ]
    if 'called_open' in found:
        rows = list(found['called_open']['classes'].items())[:8]
        parts = [
            f'{closed} {100 * row["fraction"]:.1f} % of {row["num_pixels"]:,}'
            for closed, row in rows
        ]
        lines.append(f'Called open at the FPR95 threshold: {", ".join(parts)}')
    for rule, point in found['operating_points'].items():
        at = f'At {rule} (score >= {point["threshold"]:.6g})'
        lines.append(f'{at}: {_listed(point, _RATES)}')
    if 'recognition' in found:
        one = found['recognition']
        best = one['best_possible']['macro_F1']
        lines.append(
            f'Macro-F1 of the closed prediction alone {_number(one["closed_only"])}; no threshold '
            f'gives more than {_number(best)}'
        )
    if 'components' in found:
        one = found['components']
        numbers = _listed(one, ('sIoU', 'PPV', 'F1'))
        lines.append(
            f'Components ({one["track"]}, at {one["rule"]}): {numbers}; '
            f'{one["num_ground_truth"]} in the ground truth, {one["num_predicted"]} predicted'
        )
    if 'calibration' in found:
        ece = found['calibration']['ECE_mass']
        lines.append(f'ECE: {_number(ece["before"])} before, {_number(ece["after"])} after')
    return '\n'.join(lines)


def _listed(found: dict, keys: Iterable[str]) -> str:
    return ', '.join(f'{key} {_number(found[key])}' for key in keys if key in found)


def _cells(numbers):
    return [_number(numbers[key]) for key in _NUMBERS]


def _number(value):
    return '-' if value is None or math.isnan(value) else f'{value:.4f}'
