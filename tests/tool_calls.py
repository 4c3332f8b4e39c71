"""Scripts and tools started as a user would start them, on the CPU."""

import os
import socket
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def free_port() -> str:
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return str(found.getsockname()[1])


def call(name, *arguments):
    """Run a script (.sh) or a tool (.py) of tools/."""
    interpreter, path = (
        ([], []) if name.endswith('.sh') else ([sys.executable], [str(REPO)])
    )  # a script finds both
    environment = dict(
        os.environ,
        PYTHON=sys.executable,
        PYTHONPATH=':'.join([*path, str(REPO / 'tests')]),
        OMP_NUM_THREADS='1',
        PORT=free_port(),
        CUDA_VISIBLE_DEVICES='',
    )
    done = subprocess.run(
        [*interpreter, REPO / 'tools' / name, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
