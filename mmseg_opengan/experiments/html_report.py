"""One page about the tests of one or several runs: protocol, tables, figures, and score maps whose
threshold a reader moves.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from ..evaluation.report import describe, share_of_open
from ..files import replacing
from ..pictures.figures import FIGURES
from ..pictures.html_page import Table, beside, charts, heading, page, paragraph, slider, table
from .comparison import Method, load
from .scored_images import slider_of, tested_images

LARGEST = 10e6
_RATES = ('TPR', 'FPR', 'precision', 'F1', 'macro_F1')
_FIGURE_TEXTS = dict(
    roc='ROC curves',
    pr='Precision-recall curves',
    density='Densities of closed and open pixels over the score',
    per_class='AUROC of each open class',
)


def write_report(
    runs: Sequence[str | Path],
    path: str | Path,
    *,
    scorers: Sequence[str] | None = None,
    title: str = 'Open-set evaluation',
    images: int = 6,
) -> str:
    """Write a page that needs no other file and no network.

    Score maps are shown of runs that were tested with ``--out``: those of D, or else of the scorer
    with the best AUROC.

    Args:
        runs: work directories of tests.
        path: the HTML file.
        scorers: names of the scorers to take; None takes all.
        title: of the page.
        images: the worst false alarms, and the worst misses, of all runs together.

    Returns:
        str: what was written.

    Raises:
        FileNotFoundError: a run without a report, or without images that its test had.
        ValueError: the page would be larger than 10 MB.
    """
    methods = load(runs, scorers=scorers)
    folders = list(dict.fromkeys(method.run for method in methods))
    parts = _overview(methods)
    shown = max(1, images // len(folders))
    for number, folder in enumerate(folders):
        own = [method for method in methods if method.run == folder]
        parts += _of_run(folder, own, shown, number)
    text = page(title, parts).encode()
    if len(text) > LARGEST:
        raise ValueError(
            f"'{path}': wanted at most {LARGEST / 1e6:g} MB, found {len(text) / 1e6:.1f}. Take "
            'fewer runs, scorers or images.'
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text)
    return f"'{path}': {len(methods)} methods, {len(text) / 1e6:.1f} MB"


# ---------------------------------------------------------------------- tables and figures


def _overview(methods: Sequence[Method]) -> list[str]:
    protocols = dict.fromkeys(describe(method.report) for method in methods)
    parts = [heading('What was evaluated'), *map(paragraph, protocols)]
    if len(protocols) > 1:
        parts.append(paragraph('These protocols differ: their numbers cannot be compared.'))
    parts += [heading('Results'), table(_results(methods))]
    curves = {method.name: method.curves for method in methods}
    figures = {}
    for name, drawn in FIGURES.items():
        figures[f'{_FIGURE_TEXTS[name]} of {", ".join(curves)}'] = drawn(curves)
    parts += [heading('Figures'), charts(figures), heading('Thresholds')]
    parts.append(paragraph('They were chosen on open validation, and are applied to the test.'))
    parts.append(table(_thresholds(methods)))
    parts.append(heading('Each class'))
    tables = []
    for method in methods:
        tables += [table(_open_classes(method)), *_called_open(method)]
    return [*parts, beside(tables)]


def _results(methods: Sequence[Method]) -> Table:
    head = ['method', 'AUROC', 'AP', 'AP by chance', 'FPR95', 'AUROC, mean of kinds', 'mIoU (%)']
    rows = []
    for method in methods:
        found = method.summary
        share = share_of_open(found)
        miou = method.report.get('mIoU')
        cells = [found['AUROC'], found['AP'], share, found['FPR95'], found.get('AUROC_kinds')]
        rows.append([method.name, *map(_number, cells), '–' if miou is None else f'{miou:.2f}'])
    return Table('AP by chance is the share of open pixels: what a random score has.', head, rows)


def _thresholds(methods: Sequence[Method]) -> Table:
    rows = []
    for method in methods:
        for rule, point in method.summary['operating_points'].items():
            cells = [_number(point.get(key)) for key in _RATES]
            rows.append([method.name, rule, _number(point['threshold']), *cells])
    return Table('Operating points', ['method', 'rule', 'score at least', *_RATES], rows)


def _open_classes(method: Method) -> Table:
    rows = []
    for name, found in method.summary['per_class'].items():
        if found['num_open']:
            numbers = [_number(found[key]) for key in ('AUROC', 'AP', 'FPR95')]
            rows.append([name, f'{found["num_open"]:,}', *numbers])
    head = ['open class', 'pixels', 'AUROC', 'AP', 'FPR95']
    return Table(f'{method.name}: each open class against all closed pixels', head, rows)


def _called_open(method: Method) -> list[str]:
    found = method.summary.get('called_open')
    if found is None:
        return []
    rows = []
    for name, row in found['classes'].items():
        rows.append([name, f'{row["num_pixels"]:,}', f'{100 * row["fraction"]:.1f} %'])
    caption = f'{method.name}: closed pixels called open where 95 % of the open ones are found'
    return [table(Table(caption, ['closed class', 'pixels', 'called open'], rows))]


def _number(value: float | None) -> str:
    return '–' if value is None or math.isnan(value) else f'{value:.4f}'


def _of_run(run: Path, methods: Sequence[Method], images: int, number: int) -> list[str]:
    report = methods[0].report
    facts = [('work directory', str(run))]
    for key in ('checkpoint', 'segmentor', 'version', 'commit', 'seed'):
        value = report.get(key)
        facts.append((key, '–' if value is None else str(value)))
    parts = [heading(f'Run {run.name}'), table(Table('Made from', ['what', 'value'], facts))]
    tested = tested_images(run, report)
    if tested is None:
        text = 'No score maps: this run was tested without --out, or its files are elsewhere.'
        return [*parts, paragraph(text)]
    return [*parts, slider(slider_of(tested, report, images), number)]
