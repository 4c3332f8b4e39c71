"""Jobs of an experiment."""

import subprocess
import sys
import time

import pytest

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


def finish(out, name='cls_s0'):
    (out / name).mkdir(parents=True, exist_ok=True)
    (out / name / 'best.json').write_text('{}')


def test_a_folder_belongs_to_one_config_and_its_options(tmp_path):
    experiment.claim(tmp_path, '{}_a.py', {'train_cfg.max_iters': 5})
    finish(tmp_path)
    experiment.claim(tmp_path, '{}_a.py', {'train_cfg.max_iters': 5})
    with pytest.raises(ValueError, match=rf"'{tmp_path}' .*\(options: wanted {{'train_cfg.max_iters': 6}}, found "
                                         r"{'train_cfg.max_iters': 5}\)\. Choose another folder"):
        experiment.claim(tmp_path, '{}_a.py', {'train_cfg.max_iters': 6})
    with pytest.raises(ValueError, match=r'\(config: wanted {}_b\.py, found {}_a\.py\)'):
        experiment.claim(tmp_path, '{}_b.py', {'train_cfg.max_iters': 5})


def test_methods_join_a_folder_and_keep_their_configs(tmp_path):
    experiment.claim(tmp_path, {'cls': 'cls_a.py'})
    finish(tmp_path)
    experiment.claim(tmp_path, {'opengan': 'opengan_a.py'})
    experiment.claim(tmp_path, {'cls': 'cls_a.py'})
    for other in ({'cls': 'cls_b.py'}, {'opengan': 'opengan_b.py'}):
        with pytest.raises(ValueError, match=r'config: wanted .*_b\.py'):
            experiment.claim(tmp_path, other)


def test_a_folder_without_settings_or_without_results_is_anyones(tmp_path):
    finish(tmp_path / 'old')
    experiment.claim(tmp_path / 'old', 'a.py')
    experiment.claim(tmp_path / 'failed', 'a.py', {'model.typo': 1})
    experiment.claim(tmp_path / 'failed', 'a.py')
    finish(tmp_path / 'failed')
    with pytest.raises(ValueError, match='something else'):
        experiment.claim(tmp_path / 'failed', 'a.py', {'model.typo': 1})
