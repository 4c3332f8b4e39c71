"""Tables and figures of several evaluations, from the files of made-up tests."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmseg_opengan.evaluation.scorer_counts import GroundTruth, ScorerCounts
from mmseg_opengan.experiments import comparison
from mmseg_opengan.experiments.comparison import compare, load, table
from mmseg_opengan.files import write_json
from mmseg_opengan.functional.score_layout import ScoreLayout
from mmseg_opengan.pictures.figures import FIGURES, roc_figure


def evaluation(shift, *, shape=(20, 30), seed=0):
    """Summary and curves of a scorer that separates by ``shift``."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(shape, generator=generator) < 0.2).to(torch.uint8)
    truth = torch.randint(3, shape, generator=generator)
    scores = torch.randn(shape, generator=generator) + shift * labels
    layout = ScoreLayout.of(scores, labels)
    counts = ScorerCounts(
        layout,
        num_open_classes=1,
        num_classes=3,
        thresholds={'macro_f1': 0.5},
    )
    counts.update(scores, GroundTruth.on_grid(shape, labels, truth, truth, num_classes=3))
    decided = counts.decide(['f1'])
    summary, curves = counts.compute(
        classes='abc', open_classes=['thing'], open_logit=True, calibration=decided.calibration
    )
    return summary, dict(
        {key: summary[key] for key in ('AUROC', 'AP', 'FPR95', 'per_class')}, **curves
    )


def write_run(folder, scorers, **options):
    """A work directory as a test leaves it."""
    report = dict(
        label_policy='toy',
        resolution='feature',
        mode='whole',
        num_images=1,
        mIoU=50.0,
        scorers={name: summary for name, (summary, _) in scorers.items()},
        **options,
    )
    place = folder / 'open_set_eval' / 'test'
    place.mkdir(parents=True)
    write_json(place / 'metrics.json', report)
    write_json(place / 'curves.json', {name: curves for name, (_, curves) in scorers.items()})
    return folder


@pytest.fixture
def runs(tmp_path):
    msp = evaluation(0.5)
    return [
        write_run(tmp_path / 'cls', dict(msp=msp, opengan=evaluation(2.0))),
        write_run(tmp_path / 'full', dict(msp=msp, opengan=evaluation(3.0))),
    ]


def test_names(runs):
    """What both have under one name gets the run's name too; what is the same is shown once."""
    methods = load(runs)
    assert [method.name for method in methods] == ['MSP', 'OpenGAN (cls)', 'OpenGAN (full)']
    assert [method.name for method in load(runs[:1])] == ['MSP', 'OpenGAN']


def test_names_of_runs_are_those_of_their_discriminators(tmp_path, runs):
    methods = load(runs, names=['CLS', 'OpenGAN'])
    assert [method.name for method in methods] == ['MSP', 'CLS', 'OpenGAN']
    assert [method.run for method in methods[1:]] == [run.absolute() for run in runs]
    for names in (['CLS'], ['CLS', 'CLS']):
        with pytest.raises(ValueError, match='names: wanted 2 different ones, one a run, found'):
            load(runs, names=names)


def test_the_path_as_far_as_it_differs_tells_runs_apart(tmp_path):
    places = [
        tmp_path / end
        for end in ('a/seed/test_feature', 'b/seed/test_feature', 'b/seed/test_image')
    ]
    found = load(
        [write_run(place, dict(opengan=evaluation(i))) for i, place in enumerate(places, 1)]
    )
    assert [method.name for method in found] == [
        f'OpenGAN ({end})'
        for end in ('a/seed/test_feature', 'b/seed/test_feature', 'b/seed/test_image')
    ]
    assert len({method.summary['AUROC'] for method in found}) == 3


def test_smoothed_maps_say_so_in_their_names(tmp_path, runs):
    smooth = write_run(tmp_path / 'smooth', dict(opengan=evaluation(2.0)), smoothing=8.0)
    assert [method.name for method in load([runs[0], smooth])] == [
        'MSP',
        'OpenGAN',
        'OpenGAN, smoothed over 8 pixels',
    ]


def test_table(runs):
    methods = load(runs)
    lines = table(methods).splitlines()
    summary = methods[1].summary
    assert lines[0] == (
        f'toy, feature resolution, whole, pooled over {summary["num_closed"]} '
        f'closed and {summary["num_open"]} open pixels of 1 images.'
    )
    assert lines[2] == (
        '| method | AUROC | AUROC over kinds | AP | AP by chance | FPR95 | AUROC, mean of images | '
        'macro-F1 | ECE |'
    )
    cells = [cell.strip() for cell in lines[5].strip('|').split('|')]
    assert cells[0] == 'OpenGAN (cls)'
    numbers = [
        summary['AUROC'],
        summary['AUROC_kinds'],
        summary['AP'],
        summary['num_open'] / (summary['num_open'] + summary['num_closed']),
        summary['FPR95'],
        summary['per_image']['AUROC'],
        summary['recognition']['macro_F1'],
        summary['calibration']['ECE_mass']['after'],
    ]
    assert cells[1:] == [f'{number:.4f}' for number in numbers]


@pytest.mark.parametrize(
    ('pixels', 'changed'), [({}, dict(label_policy='other')), (dict(seed=1), {})]
)
def test_other_protocols_are_refused_unless_asked_for(tmp_path, runs, pixels, changed):
    """Another label policy; other pixels."""
    other = write_run(tmp_path / 'other', dict(opengan=evaluation(2.0, **pixels)))
    file = other / 'open_set_eval/test/metrics.json'
    write_json(file, dict(json.loads(file.read_text()), **changed))
    methods = load([*runs, other])
    refused = r'their protocols differ: OpenGAN \(full\): toy, .*; OpenGAN \(other\): '
    with pytest.raises(ValueError, match=refused + changed.get('label_policy', 'toy')):
        table(methods)
    lines = table(methods, mixed=True).splitlines()
    assert lines[0].endswith('| evaluated on |')
    assert lines[-1].split('|')[-2] != lines[-2].split('|')[-2]


def test_figures_and_table_by_the_tool(runs, tmp_path):
    out = tmp_path / 'out'
    tool = Path(__file__).resolve().parents[2] / 'tools' / 'compare.py'
    done = subprocess.run(
        [
            *(sys.executable, tool, *map(str, runs), '--out-dir', str(out)),
            *('--names', 'CLS', 'mine', '--title', 'A slide'),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={'PYTHONPATH': str(tool.parents[1]), 'PATH': '/usr/bin:/bin'},
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip()
        == (out / 'table.md').read_text().strip()
        == table(load(runs, names=['CLS', 'mine'])).strip()
    )
    assert {path.name for path in out.iterdir()} == {'table.md'} | {
        f'{name}.{kind}' for name in FIGURES for kind in ('png', 'pdf')
    }
    for name in FIGURES:
        assert len(np.unique(np.array(Image.open(out / f'{name}.png')))) > 20
        assert (out / f'{name}.pdf').read_bytes().startswith(b'%PDF')


def test_figures_have_the_title_that_is_given_or_the_protocol(runs, tmp_path, monkeypatch):
    titles = []

    def save(figure, stem):
        titles.append(figure.axes[0].get_title())

    monkeypatch.setattr(comparison, 'save_figure', save)
    monkeypatch.setattr(comparison, 'FIGURES', dict(roc=roc_figure))
    compare(runs, tmp_path / 'out', title='A slide')
    compare(runs, tmp_path / 'out')
    assert titles == ['A slide', 'toy, feature resolution, whole mode']


def test_nothing_to_compare(runs, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r'holds no evaluation: wanted .*open_set_eval/test/metrics\.json'
    ):
        load([tmp_path / 'nowhere'])
    (runs[0] / 'open_set_eval/test/curves.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'holds no evaluation: wanted .*curves\.json'):
        load(runs)
