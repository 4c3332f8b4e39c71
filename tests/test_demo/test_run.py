import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from mmengine.config import Config

from demo.open_things import VAL_ONLY
from demo.run import METHODS, METRICS, QUICK, TRAINED, _Stages, choose_pictures, run_demo, table
from demo.world import MANIFEST
from mmseg_opengan.pictures.visualizer import WIDTH

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs' / 'demo'


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Two quick demos: the command with parallel processes, and all in this one."""
    outs = [tmp_path_factory.mktemp('demo') / name for name in ('first', 'second')]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    command = [sys.executable, '-m', 'demo', '--quick', '--processes', '2', '--out', str(outs[0])]
    result = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, cwd=outs[0].parent
    )
    assert result.returncode == 0, result.stdout + result.stderr
    run_demo(CONFIGS, outs[1], settings=QUICK)
    return outs, result


def test_quick_demo_leaves_every_file(runs):
    out = runs[0][0]
    for name in (
        'closed/segmentor.pth',
        'closed/features/manifest.json',
        'metrics.json',
        'table.md',
        'demo.log',
        'pictures/roc.png',
        'pictures/density.png',
        *(f'{name}/best.pth' for name in TRAINED),
    ):
        assert (out / name).stat().st_size > 0, name
    panels = sorted((out / 'pictures').glob('panel_*.png'))
    assert len(panels) == 2
    for panel in panels:
        assert cv2.imread(str(panel)).shape[1] == WIDTH
        assert any(kind.replace(' ', '-') in panel.stem for kind in VAL_ONLY)


def test_quick_demo_prints_stages_table_and_pictures_and_little_else(runs):
    (out, _), result = runs
    assert re.findall(r'^\[(\d)/4\]', result.stdout, re.MULTILINE) == list('1234')
    assert (out / 'table.md').read_text() in result.stdout
    for picture in (out / 'pictures').iterdir():
        assert str(picture) in result.stdout
    assert len(result.stdout.splitlines()) < 50
    for chatter in ('mmengine', 'Warning', 'Traceback'):
        assert chatter not in result.stdout + result.stderr


def test_quick_demo_table_is_complete_and_in_range(runs):
    out = runs[0][0]
    report = json.loads((out / 'metrics.json').read_text())
    rows = re.findall(
        r'^\| (\S+) +\| (\S+) +\| (\S+) +\| (\S+) +\|$',
        (out / 'table.md').read_text(),
        re.MULTILINE,
    )[1:]
    assert [row[0] for row in rows] == list(METHODS) == list(report['scorers'])
    for method, *numbers in rows:
        for metric, number in zip(METRICS, numbers):
            assert 0 < float(number) < 1
            assert float(number) == pytest.approx(report['scorers'][method][metric], abs=5e-5)
    assert 0 < report['mIoU'] < 100
    assert (report['label_policy'], report['resolution'], report['num_images']) == (
        'cityscapes/paper',
        'feature',
        3,
    )
    assert {found['step'] for found in report['open_validation'].values()} == {2}


def test_another_run_gives_the_same_numbers_in_one_process_or_several(runs):
    reports = [json.loads((out / 'metrics.json').read_text()) for out in runs[0]]
    assert reports[0]['scorers'] == reports[1]['scorers']
    assert reports[0]['mIoU'] == reports[1]['mIoU']
    assert reports[0]['open_validation'] == reports[1]['open_validation']


def test_finished_stages_are_not_run_again(runs, capsys):
    out = runs[0][1]
    before = {file: file.stat().st_mtime_ns for file in out.rglob('*.p*')}
    run_demo(CONFIGS, out, settings=QUICK)
    printed = capsys.readouterr().out
    assert printed.count('done before') == 3
    assert {file: file.stat().st_mtime_ns for file in out.rglob('*.p*')} == before
    assert (out / 'table.md').read_text() in printed


def test_a_stage_runs_again_when_its_or_an_earlier_config_changes(tmp_path):
    ran = []

    def go(first, second):
        ran.clear()
        stages = _Stages('world', 1, lambda line: None)
        for name, value in (('a', first), ('b', second)):
            folder = tmp_path / name

            def work(folder=folder, value=value):
                assert not folder.exists()  # what an unfinished stage has left is gone
                folder.mkdir()
                ran.append((folder.name, value))
                return {'value': value}

            assert (
                stages.run(name, work, Config(dict(work_dir=str(folder), value=value)))['value']
                == value
            )
        return ran

    assert go(1, 1) == [('a', 1), ('b', 1)]
    assert go(1, 1) == []
    assert go(1, 2) == [('b', 2)]
    assert go(2, 2) == [('a', 2), ('b', 2)]


def test_an_unfinished_stage_runs_again(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path / 'a')))

    def killed():
        Path(cfg.work_dir).mkdir()
        raise KeyboardInterrupt

    def work():
        Path(cfg.work_dir).mkdir()
        return {'done': True}

    with pytest.raises(KeyboardInterrupt):
        _Stages('world', 1, lambda line: None).run('a', killed, cfg)
    assert _Stages('world', 1, lambda line: None).run('a', work, cfg)['done']


def test_pictures_show_as_many_unseen_kinds_as_they_can(tmp_path):
    kinds = {
        'val/z/z_0': ['bench', 'statue', 'cones'],
        'val/z/z_1': ['statue'],
        'val/z/z_2': ['dog'],
        'val/z/z_3': ['tunnel', 'statue'],
        'train/a/a_0': ['bench'],
    }
    (tmp_path / MANIFEST).write_text(json.dumps({'open_kinds': kinds}))
    assert choose_pictures(tmp_path, 2) == {
        'z_0_leftImg8bit.png': 'panel_01_statue_cones',
        'z_3_leftImg8bit.png': 'panel_02_tunnel_statue',
    }


def test_pictures_of_fewer_images_than_wanted(tmp_path):
    (tmp_path / MANIFEST).write_text(json.dumps({'open_kinds': {'val/z/z_0': ['tunnel']}}))
    assert list(choose_pictures(tmp_path, 9)) == ['z_0_leftImg8bit.png']


def test_another_folder_is_left_alone(tmp_path):
    (tmp_path / 'closed').mkdir()
    with pytest.raises(FileExistsError, match='holds no demo'):
        run_demo(CONFIGS, tmp_path)
    assert (tmp_path / 'closed').is_dir()


def test_table_says_what_belongs_beside_the_numbers():
    scorers = {
        method: dict(AUROC=0.5, AP=0.25, FPR95=0.125, num_closed=12345, num_open=678)
        for method in METHODS
    }
    text = table(
        dict(
            scorers=scorers,
            mIoU=51.23,
            num_images=7,
            label_policy='cityscapes/paper',
            resolution='feature',
            open_validation={'CLS': dict(step=300, AUROC=0.9)},
        )
    )
    assert text.count('| 0.5000 | 0.2500 | 0.1250 |') == len(METHODS)
    for wanted in (
        '51.2 %',
        '7 test images',
        '12,345 closed',
        '678 open',
        'cityscapes/paper',
        'feature resolution',
        'CLS 0.9000 at step 300',
    ):
        assert wanted in text
