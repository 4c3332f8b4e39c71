import csv
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_camvid import SIZES, write_checkpoints, write_config, write_images
from tool_calls import environment

from mmseg_opengan.inference.inferencer import OpenSetInferencer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    root = tmp_path_factory.mktemp('tiny')
    config = write_config(root, write_images(root / 'data'))
    return root, config, write_checkpoints(root, config)[0]


def call(tool, *arguments):
    """Run a tool as a user does."""
    return subprocess.run(
        [sys.executable, ROOT / 'tools' / tool, *map(str, arguments)],
        text=True,
        check=False,
        capture_output=True,
        env=environment(),
    )


def test_a_split_is_drawn_with_the_scores_of_the_test_tool(tiny, monkeypatch):
    root, config, checkpoint = tiny
    drawn = call(
        'visualize.py',
        config,
        checkpoint,
        '--split',
        'test',
        '--out-dir',
        root / 'out',
        '--limit',
        3,
        '--scorers',
        'msp',
        'opengan',
        '--thresholds',
        0.5,
        0.9,
        '--device',
        'cpu',
    )
    assert drawn.returncode == 0, drawn.stderr
    assert '3 images' in drawn.stdout
    wanted = {
        f'{name}{end}'
        for name in list(SIZES)[:3]
        for end in ('.png', '.panel.png', '.msp.npy', '.msp.png', '.opengan.npy', '.opengan.png')
    }
    assert {path.name for path in (root / 'out').iterdir()} == wanted
    assert cv2.imread(str(root / 'out/a.panel.png')).shape[1] == 1200

    tested = (
        'test.py',
        config,
        checkpoint,
        '--work-dir',
        root / 'work',
        '--out',
        root / 'tested',
        '--show-dir',
        root / 'shown',
        '--cfg-options',
        'model.resolution=image',
        'default_hooks.visualization.interval=1',
        'visualizer.name=test_visualize',
    )
    if torch.cuda.is_available():  # which a process of its own does not see
        assert call(*tested).returncode == 0
    else:
        main(monkeypatch, *tested)
    for name in list(SIZES)[:3]:
        for scorer in ('msp', 'opengan'):
            ours, theirs = (
                np.load(root / folder / f'{name}.{scorer}.npy') for folder in ('out', 'tested')
            )
            assert ours.std() > 0
            assert np.array_equal(ours, theirs), (name, scorer)
        labels = (cv2.imread(str(root / folder / f'{name}.png'), 0) for folder in ('out', 'tested'))
        assert np.array_equal(*labels)
    names = sorted(path.name for path in (root / 'shown').rglob('*.jpg_0.png'))
    assert names == [f'test_{name}.jpg_0.png' for name in SIZES]


def main(monkeypatch, tool, *arguments):
    """The tool in this process, which has imported everything already."""
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')


def test_a_folder_is_drawn(tiny, monkeypatch):
    root, config, checkpoint = tiny
    main(
        monkeypatch,
        'visualize.py',
        config,
        checkpoint,
        root / 'data/val',
        '--out-dir',
        root / 'folder',
        '--pictures-only',
        '--batch-size',
        3,
    )
    assert {path.name for path in (root / 'folder').iterdir()} == {
        f'{name}{end}' for name in SIZES for end in ('.png', '.panel.png')
    }


def test_unknown_pixels_overlays_a_video_and_a_list_of_failures(tiny, monkeypatch, capsys):
    root, config, checkpoint = tiny
    shutil.copytree(root / 'data/val', root / 'mixed')
    (root / 'mixed/b2.jpg').write_text('no image')
    with pytest.raises(SystemExit) as stopped:
        main(
            monkeypatch,
            'visualize.py',
            config,
            checkpoint,
            root / 'mixed',
            '--out-dir',
            root / 'unknown',
            '--video',
            root / 'out.mp4',
            '--threshold',
            'fpr=0.05',
            '--unknown-id',
            200,
            '--overlay',
            '--skip-bad',
            '--pictures-only',
            '--device',
            'cpu',
        )
    assert stopped.value.code == 1
    assert 'b2.jpg' in capsys.readouterr().err
    rows = list(csv.reader((root / 'unknown/failures.csv').open()))
    assert [row[0] for row in rows] == ['name', 'b2']
    threshold = OpenSetInferencer(config, checkpoint, device='cpu').threshold('fpr=0.05')
    for result in OpenSetInferencer(config, checkpoint, device='cpu').stream(root / 'data/val'):
        stored = root / 'unknown' / result.name
        ids = np.asarray(Image.open(f'{stored}.unknown.png'))
        is_open = result.scores['opengan'] >= threshold
        assert 0 < is_open.mean() < 1
        assert (ids == np.where(is_open, 200, result.labels)).all()
        palette = Image.open(f'{stored}.colour.png')
        assert (np.asarray(palette) == ids).all()
        assert (np.asarray(palette.convert('RGB'))[is_open] == 255).all()
        assert cv2.imread(f'{stored}.overlay.png').shape == result.image.shape
    video = cv2.VideoCapture(str(root / 'out.mp4'))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == len(SIZES)
    assert video.read()[1].shape == (64, 96, 3)


def test_failures_are_those_of_the_last_run(tiny, tmp_path, monkeypatch, capsys):
    """Also where no file can be read, and so nothing else is written."""
    root, config, checkpoint = tiny
    (tmp_path / 'in').mkdir()
    arguments = (config, checkpoint, tmp_path / 'in', '--out-dir', tmp_path / 'out', '--skip-bad')
    image = (root / 'data/val/a.jpg').read_bytes()
    failures = tmp_path / 'out/failures.csv'
    for contents, wanted in (((b'no', b'no'), 'ab'), ((b'no', image), 'a'), ((image, image), '')):
        for name, content in zip('ab', contents):
            (tmp_path / f'in/{name}.jpg').write_bytes(content)
        if wanted:
            with pytest.raises(SystemExit, match='1'):
                main(monkeypatch, 'visualize.py', *arguments)
            rows = list(csv.reader(failures.open(encoding='utf-8', newline='')))
            assert [row[0] for row in rows] == ['name', *wanted]
        else:
            main(monkeypatch, 'visualize.py', *arguments)
            assert not failures.exists()
        assert capsys.readouterr().err.count('cannot be decoded') == len(wanted)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'either one INPUT or --split'),
        (('street.jpg', '--split', 'test'), 'either one INPUT or --split'),
        (('--split', 'train'), '--split'),
        (('second.py', 'street.jpg'), 'the model: wanted a config'),
        (('street.jpg', '--threshold', '--overlay'), '--threshold'),
    ],
)
def test_wrong_arguments_are_told(tiny, monkeypatch, capsys, arguments, message):
    root, config, checkpoint = tiny
    with pytest.raises(SystemExit) as stopped:
        main(monkeypatch, 'visualize.py', config, checkpoint, *arguments, '--out-dir', root / 'no')
    assert stopped.value.code == 2
    assert re.search(message, capsys.readouterr().err)
