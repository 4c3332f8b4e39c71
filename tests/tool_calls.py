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


def environment(*path, **variables) -> dict[str, str]:
    """Variables of a process on one thread of the CPU that imports this checkout, or from ``path``,
    and like the tests no yapf.
    """
    path = [*(path or [REPO]), REPO / 'tests/stand_ins']
    plain = dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    return {**os.environ, 'PYTHONPATH': ':'.join(map(str, path)), **plain, **variables}


def call(name, *arguments):
    """Run a script (.sh) or a tool (.py) of tools/."""
    is_script = name.endswith('.sh')  # which finds the interpreter and the checkout
    path = [REPO / 'tests'] if is_script else [REPO, REPO / 'tests']
    done = subprocess.run(
        [*([] if is_script else [sys.executable]), REPO / 'tools' / name, *map(str, arguments)],
        env=environment(*path, PYTHON=sys.executable, PORT=free_port()),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
