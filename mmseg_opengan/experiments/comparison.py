"""Several evaluations side by side: one table and one set of figures from the files that tests have
written.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from ..contracts import LABEL_POLICY, OPENGAN
from ..evaluation.report import describe, share_of_open
from ..pictures.figures import FIGURES, save_figure
from ..pictures.methods import label_of
from .tables import markdown, number, write_text
from .testing import REPORT

#: What has to be equal before numbers may stand in one table.
SAME = (LABEL_POLICY, 'resolution', 'mode', 'num_images')
_COLUMNS = {  # column of the table -> where a summary holds it
    'AUROC': ('AUROC',),
    'AUROC over kinds': ('AUROC_kinds',),
    'AP': ('AP',),
    'AP by chance': (),
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
    def evaluated_on(self) -> tuple:
        """What has to be equal before this method's numbers may be compared with another's."""
        counts = [self.summary[key] for key in ('num_closed', 'num_open')]
        return *(self.report.get(key) for key in SAME), *counts

    def value(self, column: str) -> float | None:
        """Its number in a column of the table, if it has one."""
        if column == 'AP by chance':
            return share_of_open(self.summary)
        found = self.summary
        for key in _COLUMNS[column]:
            found = found.get(key) if found is not None else None
        return found


def compare(
    runs: Sequence[str | Path],
    out_dir: str | Path,
    *,
    mixed: bool = False,
    names: Sequence[str] = (),
    title: str = '',
) -> str:
    """Write ``table.md`` and every figure of ``pictures.figures`` as PNG and PDF.

    Args:
        runs: work directories of tests.
        out_dir: folder to write, made where it is missing.
        mixed: allow evaluations by different protocols; every row then says its own.
        names: of the runs, see :func:`load`.
        title: of the figures; by default it says the protocol.

    Returns:
        str: the table, Markdown.

    Raises:
        FileNotFoundError: a run without a report or curves.
        ValueError: protocols differ and ``mixed`` is False; or ``names`` are not one for each run,
            each another.
    """
    methods = load(runs, names=names)
    text = table(methods, mixed=mixed)
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    write_text(out_dir / 'table.md', text)
    curves = {method.name: method.curves for method in methods}
    if not title and not mixed:
        policy, resolution, mode, *_ = methods[0].evaluated_on
        title = f'{policy}, {resolution} resolution, {mode} mode'
    for name, draw in FIGURES.items():
        save_figure(draw(curves, title), out_dir / name)
    return text


def load(runs: Sequence[str | Path], *, names: Sequence[str] = ()) -> list[Method]:
    """The methods of all runs, in order. Names that occur in several runs get the run's; equal
    methods are one.

    ``names`` are the runs', in their order: the trained D then has its run's name alone. Smoothed
    score maps (``model.smoothing``) may stand beside others, and say so in their names.
    """
    if names and len(set(names)) != len(runs):
        raise ValueError(f'names: wanted {len(runs)} different ones, one a run, found {[*names]}')
    unique: dict[str, Method] = {}
    for run, name in zip_longest(runs, names, fillvalue=''):
        for method in _methods_of(Path(run).absolute(), name):
            # MSP does not depend on D: two tests of one segmentor have the same
            same = json.dumps([method.name, method.summary, method.evaluated_on])
            unique.setdefault(same, method)
    methods = list(unique.values())
    return [_with_its_own_name(method, methods) for method in methods]


def _with_its_own_name(method: Method, methods: list[Method]) -> Method:
    """With the run's path, as far as it differs, where several runs have a method of its name."""
    runs = [other.run for other in methods if other.name == method.name]
    if len(runs) == 1:
        return method
    run = method.run.relative_to(os.path.commonpath(runs))
    return replace(method, name=f'{method.name} ({run})')


def _methods_of(run: Path, run_name: str) -> list[Method]:
    file = run / REPORT
    for needed in (file, file.with_name('curves.json')):
        if not needed.is_file():
            raise FileNotFoundError(
                f"'{run}' holds no evaluation: wanted '{needed}', as tools/test.py writes it"
            )
    report = json.loads(file.read_text())
    curves = json.loads(file.with_name('curves.json').read_text())
    pixels = report.get('smoothing')
    ending = f', smoothed over {pixels:g} pixels' if pixels else ''
    methods = []
    for scorer, summary in report['scorers'].items():
        name = run_name if run_name and scorer == OPENGAN else label_of(scorer)
        methods.append(Method(name + ending, run, summary, curves[scorer], report))
    return methods


def table(methods: Sequence[Method], *, mixed: bool = False) -> str:
    """Markdown: what was evaluated, then one row per method.

    Raises:
        ValueError: protocols differ and ``mixed`` is False.
    """
    head, rows = cells(methods)
    if mixed:
        head.append('evaluated on')
        for row, method in zip(rows, methods):
            row.append(describe(method.report))
        return markdown(head, rows) + '\n'
    found = {method.evaluated_on: method for method in methods}
    if len(found) > 1:
        different = [f'{method.name}: {describe(method.report)}' for method in found.values()]
        raise ValueError(
            f'These numbers cannot be compared, their protocols differ: {"; ".join(different)}'
        )
    return f'{describe(methods[0].report)}.\n\n{markdown(head, rows)}\n'


def cells(methods: Sequence[Method]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table, with the columns that any method has."""
    columns = []
    for column in _COLUMNS:
        if any(method.value(column) is not None for method in methods):
            columns.append(column)
    rows = []
    for method in methods:
        rows.append([method.name, *(number(method.value(column)) for column in columns)])
    return ['method', *columns], rows
