"""Several evaluations side by side: one table and one set of figures from the files that tests have
written.
"""

import json
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
    def evaluated_on(self) -> dict:
        """What has to be equal before this method's numbers may be compared with another's."""
        counts = {key: self.summary[key] for key in ('num_closed', 'num_open')}
        return {**{key: self.report.get(key) for key in SAME}, **counts}

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
        runs: work directories of tests, folders that hold a ``metrics.json``, or such files; each
            with the ``curves.json`` of its evaluation beside it.
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
        found = methods[0].evaluated_on
        title = f'{found[LABEL_POLICY]}, {found["resolution"]} resolution, {found["mode"]} mode'
    for name, draw in FIGURES.items():
        save_figure(draw(curves, title), out_dir / name)
    return text


def load(
    runs: Sequence[str | Path],
    *,
    scorers: Sequence[str] | None = None,
    names: Sequence[str] = (),
) -> list[Method]:
    """The methods of all runs, in order. Names that occur in several runs get the run's; equal
    methods are one. ``scorers`` names those to take; None takes all.

    ``names`` are the runs', in their order: the trained D then has its run's name alone. Smoothed
    score maps (``model.smoothing``) may stand beside others, and say so in their names.
    """
    if names and len(set(names)) != len(runs):
        raise ValueError(f'names: wanted {len(runs)} different ones, one a run, found {[*names]}')
    unique: dict[str, Method] = {}
    for run, name in zip_longest(runs, names, fillvalue=''):
        for method in _methods_of(_report_file(Path(run).absolute()), scorers, name):
            # MSP does not depend on D: two tests of one segmentor have the same
            same = json.dumps([method.name, method.summary, method.evaluated_on])
            unique.setdefault(same, method)
    if not unique:
        raise ValueError(f'scorers: wanted some that the runs have, found {scorers}')
    return [_with_its_own_name(method, list(unique.values())) for method in unique.values()]


def _with_its_own_name(method: Method, methods: list[Method]) -> Method:
    """A method whose name no other has: where several runs have it, with as much of the run's path
    as tells them apart.
    """
    runs = [other.run for other in methods if other.name == method.name]
    if len(runs) == 1:
        return method
    depth = 1
    while len({run.parts[-depth:] for run in runs}) < len(set(runs)):
        depth += 1
    return replace(method, name=f'{method.name} ({"/".join(method.run.parts[-depth:])})')


def _report_file(run: Path) -> Path:
    for file in (run / REPORT, run / REPORT.name, run):
        if not file.is_file():
            continue
        if not file.with_name('curves.json').is_file():
            raise FileNotFoundError(
                f"'{file}' has no curves.json beside it: test again to write it"
            )
        return file
    raise FileNotFoundError(
        f"'{run}' holds no evaluation: wanted {REPORT} in it, as tools/test.py writes it"
    )


def _methods_of(file: Path, scorers, run_name) -> list[Method]:
    report = json.loads(file.read_text())
    curves = json.loads(file.with_name('curves.json').read_text())
    in_work_dir = file.parts[-len(REPORT.parts) :] == REPORT.parts
    run = file.parents[len(REPORT.parts) - 1 if in_work_dir else 0]
    pixels = report.get('smoothing')
    ending = f', smoothed over {pixels:g} pixels' if pixels else ''
    methods = []
    for scorer, summary in report['scorers'].items():
        if scorers is None or scorer in scorers:
            name = run_name if run_name and scorer == OPENGAN else label_of(scorer)
            methods.append(Method(name + ending, run, summary, curves[scorer], report))
    return methods


def table(methods: Sequence[Method], *, mixed: bool = False) -> str:
    """Markdown: what was evaluated, then one row per method with the columns that any method
    has.
    """
    if not mixed:
        _require_one_protocol(methods)
    columns = []
    for column in _COLUMNS:
        if any(method.value(column) is not None for method in methods):
            columns.append(column)
    rows = []
    for method in methods:
        row = [method.name, *(number(method.value(column)) for column in columns)]
        rows.append([*row, describe(method.report)] if mixed else row)
    head = ['method', *columns, *(['evaluated on'] if mixed else [])]
    parts = [] if mixed else [describe(methods[0].report) + '.']
    parts += [markdown(head, rows), *_rules(methods)]
    return '\n\n'.join(parts) + '\n'


def _require_one_protocol(methods):
    first = methods[0].evaluated_on
    different = []
    for key, value in first.items():
        if any(method.evaluated_on[key] != value for method in methods):
            different.append(key)
    if different:
        found = []
        for method in methods:
            own = ', '.join(f'{key} {method.evaluated_on[key]}' for key in different)
            found.append(f'{method.name}: {own}')
        raise ValueError(
            f'These numbers cannot be compared, their protocols differ: {"; ".join(found)}'
        )


def _rules(methods):
    """A sentence on how the thresholds of macro-F1 were chosen, where there are any."""
    rules = []
    for method in methods:
        rule = method.summary.get('recognition', {}).get('rule')
        if rule:
            rules.append(f'{method.name} by {rule}')
    if not rules:
        return []
    return [f'macro-F1 at the threshold chosen on open validation: {", ".join(rules)}.']
