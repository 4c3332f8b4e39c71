"""One page about the tests of one or several runs: protocol, tables, figures, and score maps whose
threshold a reader moves.
"""

from collections.abc import Sequence
from pathlib import Path

from ..evaluation.report import describe
from ..files import replacing
from ..pictures.figures import FIGURES
from ..pictures.html_page import beside, charts, heading, page, paragraph, table
from .comparison import Method, cells, load
from .scored_images import slider_of, tested_images
from .tables import number

LARGEST = 10e6
_RATES = ('TPR', 'FPR', 'precision', 'F1', 'macro_F1')
_FIGURE_TEXTS = dict(
    roc='ROC curves',
    pr='Precision-recall curves',
    density='Densities of closed and open pixels over the score',
    per_class='AUROC of each open class',
)


def write_report(runs: Sequence[str | Path], path: str | Path, *, images: int = 6) -> str:
    """Write a page that needs no other file and no network.

    Score maps are shown of runs that were tested with ``--out``: those of D, or else of the scorer
    with the best AUROC.

    Args:
        runs: work directories of tests.
        path: the HTML file.
        images: the worst false alarms, and the worst misses, of all runs together.

    Returns:
        str: what was written.

    Raises:
        FileNotFoundError: a run without a report, or without images that its test had.
        ValueError: the page would be larger than 10 MB.
    """
    methods = load(runs)
    of_run: dict[Path, list[Method]] = {}
    for method in methods:
        of_run.setdefault(method.run, []).append(method)
    parts = _overview(methods)
    shown = max(1, images // len(of_run))
    for place, (run, own) in enumerate(of_run.items()):
        parts += _of_run(run, own[0].report, shown, place)
    text = page('Open-set evaluation', parts).encode()
    if len(text) > LARGEST:
        raise ValueError(
            f"'{path}': wanted at most {LARGEST / 1e6:g} MB, found {len(text) / 1e6:.1f}. Take "
            'fewer runs or images.'
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
    caption = 'AP by chance is the share of open pixels: what a random score has.'
    parts += [heading('Results'), table(caption, *cells(methods))]
    curves = {method.name: method.curves for method in methods}
    figures = {}
    for name, drawn in FIGURES.items():
        figures[f'{_FIGURE_TEXTS[name]} of {", ".join(curves)}'] = drawn(curves)
    parts += [heading('Figures'), charts(figures), heading('Thresholds')]
    parts.append(paragraph('They were chosen on open validation, and are applied to the test.'))
    parts += [_thresholds(methods), heading('Each class')]
    classes = []
    for method in methods:
        classes += [_open_classes(method), _called_open(method)]
    return [*parts, beside(classes)]


def _thresholds(methods: Sequence[Method]) -> str:
    rows = []
    for method in methods:
        for rule, point in method.summary['operating_points'].items():
            numbers = [number(point.get(key)) for key in ('threshold', *_RATES)]
            rows.append([method.name, rule, *numbers])
    return table('Operating points', ['method', 'rule', 'score at least', *_RATES], rows)


def _open_classes(method: Method) -> str:
    rows = []
    for name, found in method.summary['per_class'].items():
        if found['num_open']:
            numbers = [number(found[key]) for key in ('AUROC', 'AP', 'FPR95')]
            rows.append([name, f'{found["num_open"]:,}', *numbers])
    head = ['open class', 'pixels', 'AUROC', 'AP', 'FPR95']
    return table(f'{method.name}: each open class against all closed pixels', head, rows)


def _called_open(method: Method) -> str:
    found = method.summary.get('called_open')
    if found is None:
        return ''
    rows = []
    for name, row in found['classes'].items():
        rows.append([name, f'{row["num_pixels"]:,}', f'{100 * row["fraction"]:.1f} %'])
    caption = f'{method.name}: closed pixels called open where 95 % of the open ones are found'
    return table(caption, ['closed class', 'pixels', 'called open'], rows)


def _of_run(run: Path, report: dict, images: int, place: int) -> list[str]:
    facts = [['work directory', str(run)]]
    for key in ('checkpoint', 'segmentor', 'version', 'commit', 'seed'):
        facts.append([key, str(report.get(key))])
    facts.append(['mIoU (%)', number(report.get('mIoU'), '.2f')])
    parts = [heading(f'Run {run.name}'), table('Made from', ['what', 'value'], facts)]
    tested = tested_images(run, report)
    if tested is None:
        text = 'No score maps: this run was tested without --out, or its files are elsewhere.'
        return [*parts, paragraph(text)]
    return [*parts, slider_of(tested, report, images, place)]
