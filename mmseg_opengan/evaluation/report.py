"""An evaluation as text: every table says by which protocol its numbers were made."""

import math

from prettytable import PrettyTable

_NUMBERS = ('AUROC', 'AP', 'FPR95')


def headline(report: dict) -> str:
    """One row per scorer, pooled numbers first; the means over images beside them."""
    table = PrettyTable(['scorer', *_NUMBERS, *(f'{key}, mean of images' for key in _NUMBERS)])
    table.title = describe(report)
    for name, found in report['scorers'].items():
        table.add_row([name, *_cells(found), *_cells(found['per_image'])])
    images = {found['per_image']['num_images'] for found in report['scorers'].values()}
    return (
        f'{table.get_string()}\n'
        f'Means are over the {_join(images)} images that have closed and open pixels.'
    )


def describe(report: dict) -> str:
    """Label policy, resolution, mode and counts: what has to be said beside every number."""
    first = next(iter(report['scorers'].values()))
    parts = [
        report['label_policy'],
        f'{report["resolution"]} resolution',
        report.get('mode') or 'mode not recorded',
        f'pooled over {first["num_closed"]:,} closed and {first["num_open"]:,} open pixels of '
        f'{report["num_images"]} images',
    ]
    if report.get('smoothing'):
        parts.insert(3, f'scores smoothed over {report["smoothing"]:g} pixels')
    protocol = report.get('protocol')
    return ', '.join([f"protocol '{protocol}'"] * bool(protocol) + [str(part) for part in parts])


def details(report: dict) -> str:
    """Per scorer: every open class, the closed classes most often called open, operating points,
    components, ECE.
    """
    return '\n\n'.join(_of_scorer(name, found) for name, found in report['scorers'].items())


def _of_scorer(name, found):
    table = PrettyTable(['open class', 'pixels', *_NUMBERS])
    table.title = f'{name}: each open class against all closed pixels'
    for open_class, numbers in found['per_class'].items():
        if numbers['num_open']:
            table.add_row([open_class, f'{numbers["num_open"]:,}', *_cells(numbers)])
    lines = [table.get_string()]
    missing = [
        open_class for open_class, numbers in found['per_class'].items() if not numbers['num_open']
    ]
    if missing:
        lines.append(f'Without pixels: {", ".join(missing)}')
    if 'called_open' in found:
        rows = list(found['called_open']['classes'].items())[:8]
        lines.append(
            'Called open at the FPR95 threshold: '
            + ', '.join(
                f'{closed} {100 * row["fraction"]:.1f} % of {row["num_pixels"]:,}'
                for closed, row in rows
            )
        )
    for rule, point in found['operating_points'].items():
        lines.append(
            f'At {rule} (score >= {point["threshold"]:.6g}): '
            + ', '.join(
                f'{key} {_number(point[key])}'
                for key in ('TPR', 'FPR', 'precision', 'F1', 'macro_F1')
                if key in point
            )
        )
    if 'recognition' in found:
        numbers = found['recognition']
        best = numbers['best_possible']
        lines.append(
            f'Macro-F1 of the closed prediction alone {_number(numbers["closed_only"])}; '
            'no threshold gives '
            f'more than {_number(best["macro_F1"])}'
        )
    if 'components' in found:
        part = found['components']
        lines.append(
            f'Components ({part["track"]}, at {part["rule"]}): sIoU {_number(part["sIoU"])}, PPV '
            f'{_number(part["PPV"])}, mean F1 {_number(part["F1"])}; '
            f'{part["num_ground_truth"]} in the ground '
            f'truth, {part["num_predicted"]} predicted'
        )
    if 'calibration' in found:
        part = found['calibration']
        before, after = part['ECE_mass']['before'], part['ECE_mass']['after']
        lines.append(
            f'ECE ({part["method"]}): '
            f'{"no probability" if before is None else f"{before:.4f}"} before, '
            f'{after:.4f} after'
        )
    return '\n'.join(lines)


def _cells(numbers):
    return [_number(numbers[key]) for key in _NUMBERS]


def _number(value):
    return '-' if value is None or math.isnan(value) else f'{value:.4f}'


def _join(numbers):
    return ' to '.join(str(number) for number in sorted({min(numbers), max(numbers)}))
