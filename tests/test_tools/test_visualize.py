import os
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_camvid import SIZES, write_checkpoints, write_config, write_images

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    root = tmp_path_factory.mktemp('tiny')
    config = write_config(root, write_images(root / 'data'))
    return root, config, write_checkpoints(root, config)[0]


def call(tool, *arguments):
    """Run a tool as a user does."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'CUDA_VISIBLE_DEVICES': ''}
    environment['OMP_NUM_THREADS'] = '1'  # as in this process: sums depend on it
    return subprocess.run(
        [sys.executable, ROOT / 'tools' / tool, *map(str, arguments)],
        text=True,
        check=False,
        capture_output=True,
        env=environment,
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
    assert '3 panels' in drawn.stdout
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


@pytest.mark.parametrize('arguments', [(), ('street.jpg', '--split', 'test'), ('--split', 'train')])
def test_wrong_arguments_are_told(tiny, monkeypatch, capsys, arguments):
    root, config, checkpoint = tiny
    with pytest.raises(SystemExit) as stopped:
        main(monkeypatch, 'visualize.py', config, checkpoint, *arguments, '--out-dir', root / 'no')
    assert stopped.value.code == 2
    assert '--split' in capsys.readouterr().err
