"""Checkpoints on a command line."""

import runpy
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[1] / 'tools'


@pytest.mark.parametrize(
    ('tool', 'more', 'paths', 'found'),
    [
        ('test.py', [], ['best_1.pth', 'best_2.pth'], 'found 2: best_1.pth, best_2.pth'),
        (
            'look_inside.py',
            ['--out', 'out'],
            ['best_*.pth'],
            "found none that matches 'best_*.pth'",
        ),
        (
            'visualize.py',
            ['--split', 'test', '--out-dir', 'out'],
            ['best_1.pth', 'best_2.pth', 'best_3.pth'],
            'found 3: best_1.pth, best_2.pth, best_3.pth',
        ),
    ],
)
def test_a_pattern_that_names_not_one_file_is_told(tool, more, paths, found, monkeypatch, capsys):
    """Two trainings in one folder, or none."""
    monkeypatch.setattr(sys, 'argv', [tool, 'config.py', *paths, *more])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOLS / tool), run_name='__main__')
    assert f'CHECKPOINT: wanted one file, {found}' in capsys.readouterr().err
