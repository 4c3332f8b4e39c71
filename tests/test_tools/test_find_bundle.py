"""tools/find.py and tools/bundle.py, as a user calls them."""

import csv
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_camvid import SIZES, write_checkpoints, write_config, write_images

from mmseg_opengan.inference.find import frame_score
from mmseg_opengan.inference.inferencer import OpenSetInferencer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """(folder, config, checkpoint of D and G, segmentor)."""
    root = tmp_path_factory.mktemp('tiny')
    config = write_config(root, write_images(root / 'data'))
    return root, config, *write_checkpoints(root, config)


def call(monkeypatch, tool, *arguments):
    """The exit status of a tool."""
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
    try:
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    except SystemExit as end:
        return end.code or 0
    return 0


def test_a_bundle_finds_what_its_parts_find(tiny, monkeypatch, capsys):
    root, config, checkpoint, _ = tiny
    bundle = root / 'bundle.pth'
    assert call(monkeypatch, 'bundle.py', config, checkpoint, '--out', bundle) == 0
    assert 'entropy, msp, opengan of 11 classes' in capsys.readouterr().out
    (root / 'list.txt').write_text('\n'.join(f'data/val/{name}.jpg' for name in SIZES))
    for model, out_dir in (((config, checkpoint), 'parts'), ((bundle,), 'whole')):
        arguments = (*model, root / 'list.txt', '--out-dir', root / out_dir, '--top', 2)
        assert call(monkeypatch, 'find.py', *arguments, '--device', 'cpu') == 0
    assert '4 frames ranked, 4 of them new' in capsys.readouterr().out
    for name in ('ranking.csv', 'objects.coco.json', 'contact_sheet.png'):
        assert (root / 'parts' / name).read_bytes() == (root / 'whole' / name).read_bytes()
    with open(root / 'whole/ranking.csv', newline='') as file:
        rows = {row['file']: row for row in csv.DictReader(file)}
    inferencer = OpenSetInferencer(bundle, device='cpu')
    threshold = np.float32(inferencer.threshold('fpr=0.01'))
    for result in inferencer.stream(root / 'data/val'):
        share = (result.scores['opengan'] >= threshold).mean()
        assert float(rows[result.source]['unknown_share']) == pytest.approx(share, abs=1e-6)


def test_a_plain_model_without_labels_gives_a_ranking(tiny, monkeypatch, capsys):
    """A bad file is skipped where that is asked for, and the status says so."""
    root, config, _, segmentor = tiny
    (root / 'plain.py').write_text(f'model = {plain_model(config)!r}\n')
    (root / 'bad').mkdir()
    (root / 'bad/a.jpg').write_bytes((root / 'data/val/a.jpg').read_bytes())
    (root / 'bad/b.jpg').write_text('no image')
    arguments = ('find.py', root / 'plain.py', segmentor, root / 'bad', '--device', 'cpu')
    arguments += ('--scorers', 'energy', '--out-dir', root / 'plain')
    with pytest.raises(ValueError, match=r'b\.jpg'):
        call(monkeypatch, *arguments)
    assert call(monkeypatch, *arguments, '--skip-bad') == 1
    told = capsys.readouterr()
    assert 'No objects are written' in told.out
    assert '1. a' in told.out
    assert 'b.jpg' in told.err
    assert not (root / 'plain/objects.coco.json').exists()


def test_the_score_is_the_one_asked_for(tiny, monkeypatch, tmp_path):
    """As ``visualize`` takes it: D's where it is among them, else the first."""
    root, config, checkpoint, _ = tiny
    inferencer = OpenSetInferencer(config, checkpoint, device='cpu')
    results = list(inferencer.stream(root / 'data/val'))
    for asked, score in ((('entropy', 'msp'), 'entropy'), (('msp', 'opengan'), 'opengan')):
        arguments = (config, checkpoint, root / 'data/val', '--out-dir', tmp_path / score)
        assert call(monkeypatch, 'find.py', *arguments, '--scorers', *asked, '--top', 1) == 0
        with open(tmp_path / score / 'ranking.csv', newline='') as file:
            rows = {row['file']: row for row in csv.DictReader(file)}
        threshold = np.float32(inferencer.threshold('fpr=0.01', score))
        for result in results:
            found = rows[result.source]
            assert float(found['score']) == pytest.approx(frame_score(result.score(score)), 1e-3)
            share = (result.scores[score] >= threshold).mean()
            assert float(found['unknown_share']) == pytest.approx(share, abs=2e-3)


def plain_model(config):
    from mmengine.config import Config

    return Config.fromfile(config).model.segmentor.config.model.to_dict()


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('find.py', ('--out-dir', 'x'), 'wanted one INPUT'),
        ('find.py', ('a', 'b', '--out-dir', 'x'), 'wanted one INPUT'),
        ('bundle.py', ('street.jpg', '--out', 'x.pth'), 'wanted a model alone'),
    ],
)
def test_wrong_arguments_are_told(tiny, monkeypatch, capsys, tool, arguments, message):
    _, config, checkpoint, _ = tiny
    assert call(monkeypatch, tool, config, checkpoint, *arguments) == 2
    assert message in capsys.readouterr().err
