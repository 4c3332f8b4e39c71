"""Several evaluations side by side: one table and one set of figures from the files that tests have
written.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..contracts import LABEL_POLICY
from ..files import replacing
from ..pictures.figures import FIGURES, save_figure
from ..provenance import REPORT

#: What has to be equal before numbers may stand in one table.
SAME = (LABEL_POLICY, 'resolution', 'mode', 'num_images')
_COLUMNS = {  # column of the table -> where a summary holds it
    'AUROC': ('AUROC',),
    'AP': ('AP',),
    'FPR95': ('FPR95',),
    'AUROC, mean of images': ('per_image', 'AUROC'),
    'macro-F1': ('recognition', 'macro_F1'),
    'sIoU': ('components', 'sIoU'),
    'PPV': ('components', 'PPV'),
    'component F1': ('components', 'F1'),
    'ECE': ('calibration', 'ECE_mass', 'after'),
}


@dataclass(frozen=True)
class Method:
    """One scorer of one evaluation.

    Attributes:
        name: in table and legends.
        run: the work directory.
        summary: its entry in ``metrics.json``.
        curves: its entry in ``curves.json``.
        report: the whole ``metrics.json``.
    """

    name: str
    run: Path
    summary: dict
    curves: dict
    report: dict

    @property
    def evaluated_on(self) -> dict:
        """What has to be equal before this method's numbers may be compared with another's."""
        return {
            **{key: self.report.get(key) for key in SAME},
            **{key: self.summary[key] for key in ('num_closed', 'num_open')},
        }


def compare(
    runs: Sequence[str | Path],
    out_dir: str | Path,
    *,
    scorers: Sequence[str] | None = None,
    mixed: bool = False,
) -> str:
    """Write ``table.md`` and every figure of ``pictures.figures`` as PNG and PDF.

    Args:
        runs: work directories of tests, folders that hold a ``metrics.json``, or such files; each
            with the ``curves.json`` of its evaluation beside it.
        out_dir: folder to write, made where it is missing.
        scorers: names of the scorers to take from each run; None takes all.
        mixed: allow evaluations by different protocols; every row then says its own.

    Returns:
        str: the table, Markdown.

    Raises:
        FileNotFoundError: a run without a report or curves.
        ValueError: no method found, or protocols differ and ``mixed`` is False.
    """
    methods = load(runs, scorers=scorers)
    text = table(methods, mixed=mixed)
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    with replacing(out_dir / 'table.md') as file:
        file.write(text.encode())
    curves = {method.name: method.curves for method in methods}
    found = methods[0].evaluated_on
    title = (
        ''
        if mixed
        else f'{found[LABEL_POLICY]}, {found["resolution"]} resolution, {found["mode"]} mode'
    )
    for name, draw in FIGURES.items():
        save_figure(draw(curves, title), out_dir / name, ('png', 'pdf'))
    return text


def load(runs: Sequence[str | Path], *, scorers: Sequence[str] | None = None) -> list[Method]:
    """The methods of all runs, in order. Names that occur in several runs get the run's; equal
    methods are one.

    Smoothed score maps (``model.smoothing``) may stand beside others, and say so in their names.
    """
    found = []
    for file in (_report_file(Path(run).absolute()) for run in runs):
        report, curves = (
            json.loads(path.read_text()) for path in (file, file.with_name('curves.json'))
        )
        run = file.parents[2 if file.parts[-3:] == REPORT.parts else 0]
        smoothing = report.get('smoothing')
        ending = f', smoothed over {smoothing:g} pixels' if smoothing else ''
        found += [
            Method(f'{name}{ending}', run, summary, curves[name], report)
            for name, summary in report['scorers'].items()
            if scorers is None or name in scorers
        ]
    if not found:
        raise ValueError(f'scorers: wanted some that the runs have, found {scorers}')
    unique = []
    for method in found:  # MSP does not depend on D: two tests of one segmentor have the same
        if not any(
            (method.name, method.summary, method.evaluated_on)
            == (other.name, other.summary, other.evaluated_on)
            for other in unique
        ):
            unique.append(method)
    return [
        _with_its_own_name(method, [other.run for other in unique if other.name == method.name])
        for method in unique
    ]


def _with_its_own_name(method: Method, runs: list[Path]) -> Method:
    """A method whose name is that of one run only: with as much of the run's path as tells the runs
    apart.
    """
    if len(runs) == 1:
        return method
    for depth in range(1, max(len(run.parts) for run in runs) + 1):
        if len({run.parts[-depth:] for run in runs}) == len(runs):
            break
    return replace(method, name=f'{method.name} ({"/".join(method.run.parts[-depth:])})')


def table(methods: Sequence[Method], *, mixed: bool = False) -> str:
    """Markdown: what was evaluated, then one row per method with the columns that any method
    has.
    """
    different = [
        key
        for key, value in methods[0].evaluated_on.items()
        if any(method.evaluated_on[key] != value for method in methods)
    ]
    if different and not mixed:
        found = '; '.join(
            f'{method.name}: ' + ', '.join(f'{key} {method.evaluated_on[key]}' for key in different)
            for method in methods
        )
        raise ValueError(f'These numbers cannot be compared, their protocols differ: {found}')
    columns = [
        column
        for column, place in _COLUMNS.items()
        if any(_value(method.summary, place) is not None for method in methods)
    ]
    head = ['method', *columns, *(['evaluated on'] if mixed else [])]
    lines = [] if mixed else [_protocol(methods[0]) + '.', '']
    lines += ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    for method in methods:
        cells = [
            method.name,
            *(_cell(_value(method.summary, _COLUMNS[column])) for column in columns),
        ]
        lines.append('| ' + ' | '.join([*cells, *([_protocol(method)] if mixed else [])]) + ' |')
    rules = {method.name: method.summary.get('recognition', {}).get('rule') for method in methods}
    if any(rules.values()):
        lines += [
            '',
            'macro-F1 at the threshold chosen on open validation: '
            + ', '.join(f'{name} by {rule}' for name, rule in rules.items() if rule)
            + '.',
        ]
    return '\n'.join(lines) + '\n'


def _report_file(run):
    candidates = [run / REPORT, run / REPORT.name, run]
    for file in candidates:
        if file.is_file():
            if not file.with_name('curves.json').is_file():
                raise FileNotFoundError(
                    f"'{file}' has no curves.json beside it: test again to write it"
                )
            return file
    raise FileNotFoundError(
        f"'{run}' holds no evaluation: wanted {REPORT} in it, as tools/test.py writes it"
    )


def _protocol(method):
    found = method.evaluated_on
    return (
        f'label policy `{found[LABEL_POLICY]}`, {found["resolution"]} resolution, '
        f'{found["mode"]} mode, '
        f'pooled over {found["num_closed"]:,} closed and {found["num_open"]:,} open pixels of '
        f'{found["num_images"]} images'
    )


def _value(summary, place):
    for key in place:
        summary = summary.get(key) if summary is not None else None
    return summary


def _cell(value):
    return '' if value is None or math.isnan(value) else f'{value:.4f}'
