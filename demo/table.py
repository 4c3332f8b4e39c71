"""What the demo says of its results: the table, and which images it draws."""

import json
from pathlib import Path

from demo.open_kinds import VAL_ONLY
from demo.world import MANIFEST, SEEN, UNSEEN
from mmseg_opengan.contracts import HYBRID, LABEL_POLICY, OPENGAN

#: Its columns.
METRICS = ('AUROC', 'AP', 'FPR95')
#: Names of score maps -> rows of the table.
METHODS = {
    'msp': 'MSP',
    'entropy': 'Entropy',
    'gen': 'GEN',
    'cls': 'CLS',
    'opengan0': 'OpenGAN-0',
    OPENGAN: 'OpenGAN',
    HYBRID: 'OpenGAN + GEN',
}
#: Test images of each city hold open kinds that training has, or others.
CITIES = {'seen': SEEN, 'unseen': UNSEEN}


def table(report: dict) -> str:
    """The comparison as Markdown, with everything that must be said beside its numbers."""
    width = max(map(len, METHODS.values()))
    heads = [f'{metric}, {kinds}' for kinds in CITIES for metric in METRICS]
    lines = [f'| {"method":<{width}} | ' + ' | '.join(heads) + ' |']
    lines.append(f'|{"-" * (width + 2)}|' + '|'.join('-' * (len(head) + 2) for head in heads) + '|')
    for method in METHODS.values():
        cells = []
        for kinds in CITIES:
            numbers = report[kinds]['scorers'][method]
            cells += [f'{numbers[metric]:.4f}' for metric in METRICS]
        cells = [f'{cell:<{len(head)}}' for cell, head in zip(cells, heads)]
        lines.append(f'| {method:<{width}} | ' + ' | '.join(cells) + ' |')
    lines.append('')
    for kinds in CITIES:
        lines += _beside(kinds, report[kinds])
    chosen = '; '.join(
        f'{method} {found["AUROC"]:.4f} at step {found["step"]}'
        for method, found in report['open_validation'].items()
    )
    lines.append(f'Open validation, which chose each D (AUROC): {chosen}.')
    return '\n'.join(lines) + '\n'


def _beside(kinds: str, report: dict) -> list[str]:
    first = report['scorers']['MSP']
    share = first['num_open'] / (first['num_open'] + first['num_closed'])
    return [
        f'Open kinds {kinds} in training: {report["num_images"]} test images, '
        f'{first["num_closed"]:,} closed and {first["num_open"]:,} open pixels '
        f'({100 * share:.1f} %), pooled;',
        f'mIoU of the closed segmentor {report["mIoU"]:.1f} %; label policy '
        f'{report[LABEL_POLICY]}, {report["resolution"]} resolution.',
    ]


def choose_pictures(world: Path, count: int) -> dict[str, str]:
    """Image file -> name of its picture: test images whose open kinds, never seen in training,
    differ most.

    One after the other, the image that adds most kinds; of equals, the one with more kinds, then
    the first.
    """
    kinds = json.loads((world / MANIFEST).read_text())['open_kinds']
    unseen = {
        stem: [kind for kind in found if kind in VAL_ONLY]
        for stem, found in kinds.items()
        if stem.startswith('val/')
    }
    chosen, covered = {}, set()
    while unseen and len(chosen) < count:
        stem = max(unseen, key=lambda stem: (len(set(unseen[stem]) - covered), len(unseen[stem])))
        names = unseen.pop(stem)
        covered |= set(names)
        label = '_'.join(['panel', f'{len(chosen) + 1:02}', *names]).replace(' ', '-')
        chosen[f'{Path(stem).name}_leftImg8bit.png'] = label
    return chosen
