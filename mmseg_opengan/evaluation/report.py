"""An evaluation as text: every table says by which protocol its numbers were made."""

import math

from prettytable import PrettyTable

from ..functional.decisions import MACRO_F1

#: A number with a larger error bound comes with a warning.
LARGE_ERROR = 1e-3
_NUMBERS = dict(AUROC='auroc_error_bound', AP='ap_error_bound', FPR95='fpr95_error_bound')


def headline(report: dict) -> str:
    """One row per scorer, over all pixels. AP by chance is the share of open pixels. Below, numbers
    that counting may have moved by more than ``LARGE_ERROR``.
    """
    table = PrettyTable(['method', 'AUROC', 'AP', 'AP by chance', 'FPR95'])
    for name, found in report['scorers'].items():
        auroc, ap, fpr95 = _cells(found)
        table.add_row([name, auroc, ap, _number(share_of_open(found)), fpr95])
    doubts = [_doubt(name, found) for name, found in report['scorers'].items()]
    return '\n'.join([describe(report), table.get_string(), *filter(None, doubts)])


def share_of_open(summary: dict) -> float:
    """Open pixels among the scored ones, the AP of a random score; nan without pixels."""
    pixels = summary['num_open'] + summary['num_closed']
    return summary['num_open'] / pixels if pixels else math.nan


def _doubt(name, found):
    """What the error bounds of a summary warn of; an empty text where they are small."""
    large = [
        f'{number} by up to {found[bound]:.4f}'
        for number, bound in _NUMBERS.items()
        if (found[bound] or 0) > LARGE_ERROR  # null in a file, where it is undefined
    ]
    if not large:
        return ''
    return (
        f'WARNING: {name}: counting may have moved {", ".join(large)}. Scores unlike those of '
        'the first image are counted coarsely.'
    )


def describe(report: dict) -> str:
    """Label policy, resolution, mode and counts: what has to be said beside every number."""
    first = next(iter(report['scorers'].values()))
    parts = [f"protocol '{report['protocol']}'"] if report.get('protocol') else []
    parts += [
        str(report['label_policy']),
        f'{report["resolution"]} resolution',
        report.get('mode') or 'mode not recorded',
    ]
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
    kinds = {kind: one for kind, one in found['per_class'].items() if one['num_open']}
    missing = [kind for kind in found['per_class'] if kind not in kinds]
    table = PrettyTable(['open class', 'pixels', *_NUMBERS])
    table.title = f'{name}: each open class against all closed pixels'
    for kind, one in kinds.items():
        table.add_row([kind, f'{one["num_open"]:,}', *_cells(one)])
    lines = [table.get_string()]
    lines += filter(None, [_doubt(f'{name}, {kind}', one) for kind, one in kinds.items()])
    if missing:
        lines.append(f'Without pixels: {", ".join(missing)}')
    lines.append(_means(found['per_image']))
    if 'called_open' in found:
        lines.append(_called_open(found['called_open']))
    for rule, point in found['operating_points'].items():
        lines.append(_operating_point(rule, point))
    if 'recognition' in found:
        lines.append(_recognition(found['recognition']))
    if 'components' in found:
        lines.append(_components(found['components']))
    if 'calibration' in found:
        lines.append(_calibration(found['calibration']))
    return '\n'.join(lines)


def _means(found):
    numbers = ', '.join(f'{key} {_number(found[key])}' for key in _NUMBERS)
    return f'Mean of the {found["num_images"]} images that have closed and open pixels: {numbers}'


def _called_open(found):
    rows = list(found['classes'].items())[:8]
    parts = [
        f'{closed} {100 * row["fraction"]:.1f} % of {row["num_pixels"]:,}' for closed, row in rows
    ]
    return f'Called open at the FPR95 threshold: {", ".join(parts)}'


def _operating_point(rule, point):
    if math.isinf(point['threshold']):
        why = 'no threshold has so few false alarms'
        if rule == MACRO_F1:
            why = 'on open validation every threshold lowers macro-F1'
        return f'At {rule} nothing is called open: {why}'
    shown = [key for key in ('TPR', 'FPR', 'precision', 'F1', 'macro_F1') if key in point]
    numbers = ', '.join(f'{key} {_number(point[key])}' for key in shown)
    return f'At {rule} (score >= {point["threshold"]:.6g}): {numbers}'


def _recognition(found):
    alone, best = _number(found['closed_only']), _number(found['best_possible']['macro_F1'])
    return f'Macro-F1 of the closed prediction alone {alone}; no threshold gives more than {best}'


def _components(found):
    parts = [f'{key} {_number(found[key])}' for key in ('sIoU', 'PPV')]
    return (
        f'Components ({found["track"]}, at {found["rule"]}): {", ".join(parts)}, mean F1 '
        f'{_number(found["F1"])}; {found["num_ground_truth"]} in the ground truth, '
        f'{found["num_predicted"]} predicted'
    )


def _calibration(found):
    before, after = found['ECE_mass']['before'], found['ECE_mass']['after']
    first = 'no probability' if before is None else f'{before:.4f}'
    return f'ECE: {first} before, {after:.4f} after'


def _cells(numbers):
    return [_number(numbers[key]) for key in _NUMBERS]


def _number(value):
    return '-' if value is None or math.isnan(value) else f'{value:.4f}'
