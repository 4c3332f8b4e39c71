"""The benchmarks run, on small images: what they call is still there. What they measure is not
looked at.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_camvid import write_checkpoints, write_config, write_images
from tool_calls import environment

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
