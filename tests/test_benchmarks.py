"""The benchmarks run, on small images: what they call is still there. What they measure is not
looked at.
"""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tiny_camvid import write_checkpoints, write_config, write_images
from tool_calls import environment

from mmseg_opengan.models.frozen_segmentor import FrozenSegmentor

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ('command', 'printed'),
    [
        ('scorers_speed.py --size 64 128 --repetitions 1', 'one pass with all twelve: '),
        ('find_memory.py --frames 3', '| 3 | '),
        ('metric_overhead.py --size 64 128 --repetitions 1', 'image resolution: forward '),
        (
            'training_speed.py --parts step memory --repetitions 1 --store-gb 0.01',
            'training from a store of 0.01 GB: ',
        ),
        (
            'training_speed.py --parts test --test-size 64 128 --repetitions 1',
            'bit-identical: True',
        ),
        (
            'training_speed.py --parts store --size 256 512 --images 1 --repetitions 1',
            'online step on one image',
        ),
    ],
)
def test_it_runs(command, printed):
    assert printed in printed_by(command.split())


def test_exported_files_are_timed(tmp_path):
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name, reason='needs the extra "export"')
    config = write_config(tmp_path, write_images(tmp_path / 'data'))
    trained, _ = write_checkpoints(tmp_path, config)
    text = printed_by(['export.py', config, trained, '--repetitions', '1'])
    rows = [line for line in text.splitlines() if line.startswith('| ')]
    assert [row.split(' | ')[0] for row in rows[1:]] == [
        '| torch',
        '| onnxruntime',
        '| torch.export',
    ]


def test_the_search_trains_without_each_kind(tmp_path, monkeypatch, capsys):
    root = write_images(tmp_path / 'camvid')
    for split in ('closed_train', 'open_train', 'open_val'):
        (root / f'splits/{split}.txt').write_text('a\nc')
    monkeypatch.setenv('CAMVID_ROOT', str(root))
    monkeypatch.setenv('CAMVID_SEGMENTOR', str(tmp_path / 'segmentor.pth'))
    config = Config.fromfile(ROOT / 'configs/opengan/opengan_hr18s_camvid.py')
    network = FrozenSegmentor(config.model.segmentor.config).network
    torch.save(dict(state_dict=network.state_dict()), tmp_path / 'segmentor.pth')

    script, out = ROOT / 'benchmarks/leave_out_search.py', tmp_path / 'out'
    options = ['--seeds', '3', '--steps', '2', '--interval', '1', '--open-pixels', '8']
    command = [str(script), 'generators', '--out', str(out), '--bank', str(tmp_path), *options]
    monkeypatch.setattr(sys, 'argv', command)
    monkeypatch.syspath_prepend(script.parent)
    runpy.run_path(str(script), run_name='__main__')
    lines = (out / 'generators_8x2.jsonl').read_text().splitlines()
    found = [json.loads(line) for line in lines]
    kinds = {one['left'] for one in found}
    assert len(kinds) > 1
    assert len(found) == 5 * len(kinds)
    for one in found:
        assert one['step'] in (1, 2)
        assert all(0 < number < 1 for own in one['chosen'].values() for number in own.values())
    assert '| null-space G | 1 |' in capsys.readouterr().out
    runpy.run_path(str(script), run_name='__main__')  # has nothing left to do
    assert (out / 'generators_8x2.jsonl').read_text().splitlines() == lines


def printed_by(command) -> str:
    """What a benchmark prints on one thread."""
    name, *arguments = command
    done = subprocess.run(
        [sys.executable, ROOT / 'benchmarks' / name, *arguments, '--threads', '1'],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
