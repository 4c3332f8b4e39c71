"""Jobs of an experiment."""

import subprocess
import sys
import time

from mmseg_opengan import experiment


def test_a_run_counts_as_finished_only_with_its_record(tmp_path):
    job, = experiment.plan({'cls': 'config.py'}, [3], tmp_path)
    assert (job.name, job.work_dir, job.best()) == ('cls_s3', tmp_path / 'cls_s3', None)
    job.work_dir.mkdir()
    (job.work_dir / 'best.json').write_text('{"checkpoint": "best.pth", "step": 5}')
    assert job.best()['step'] == 5


PARENT = """
import multiprocessing, os, sys, time
from pathlib import Path
from mmseg_opengan.experiment import die_with_parent

def child(folder):
    die_with_parent()
    for number in range(3000):
        Path(folder, 'alive').write_text(str(number))
        time.sleep(.02)

if __name__ == '__main__':
    multiprocessing.get_context('spawn').Process(target=child, args=sys.argv[1:]).start()
    while not Path(sys.argv[1], 'alive').exists():
        time.sleep(.02)
    os.kill(os.getpid(), 9)
"""


def test_a_worker_does_not_outlive_a_killed_command(tmp_path):
    (tmp_path / 'parent.py').write_text(PARENT)
    assert subprocess.run([sys.executable, tmp_path / 'parent.py', tmp_path]).returncode == -9
    time.sleep(1)
    before = (tmp_path / 'alive').read_text()
    time.sleep(.5)
    assert (tmp_path / 'alive').read_text() == before
