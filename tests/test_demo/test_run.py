import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config
from tool_calls import environment

from demo.open_kinds import VAL_ONLY
from demo.run import QUICK, TRAINED, _Stages, run_demo
from demo.segmentor import WEIGHTS, make_segmentor
from demo.table import CITIES, METHODS, METRICS, choose_pictures, table
from demo.world import MANIFEST
from mmseg_opengan.pictures.panel import WIDTH

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs' / 'demo'


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Two quick demos: the command with parallel processes, and all in this one."""
    outs = [tmp_path_factory.mktemp('demo') / name for name in ('first', 'second')]
    command = [sys.executable, '-m', 'demo', '--quick', '--processes', '2', '--out', str(outs[0])]
    result = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env=environment(),
        cwd=outs[0].parent,
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
        *(f'pictures/{figure}_{kinds}.png' for figure in ('roc', 'density') for kinds in CITIES),
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
    for picture in (out / 'pictures').glob('*.png'):
        assert str(picture) in result.stdout
    assert len(result.stdout.splitlines()) < 50
    for chatter in ('mmengine', 'Warning', 'Traceback'):
        assert chatter not in result.stdout + result.stderr


def test_quick_demo_table_is_complete_and_in_range(runs):
    out = runs[0][0]
    report = json.loads((out / 'metrics.json').read_text())
    lines = (out / 'table.md').read_text().splitlines()
    head, _, *rows = [
        [cell.strip() for cell in line.strip('|').split('|')] for line in lines if '|' in line
    ]
    wanted = [f'{metric}, {kinds}' for kinds in ('seen', 'unseen') for metric in METRICS]
    assert head == ['method', *wanted]
    assert [row[0] for row in rows] == list(METHODS.values())
    for method, *numbers in rows:
        found = [report[kinds]['scorers'][method][name] for kinds in CITIES for name in METRICS]
        assert [float(number) for number in numbers] == pytest.approx(found, abs=5e-5)
        assert all(0 < number < 1 for number in found)
    for kinds in CITIES:
        assert 0 < report[kinds]['mIoU'] < 100
        found = [report[kinds][key] for key in ('label_policy', 'resolution', 'num_images')]
        assert found == ['cityscapes/paper', 'feature', 2]
    assert {found['step'] for found in report['open_validation'].values()} == {2}


def test_another_run_gives_the_same_numbers_in_one_process_or_several(runs):
    reports = [json.loads((out / 'metrics.json').read_text()) for out in runs[0]]
    for kinds in CITIES:
        assert reports[0][kinds]['scorers'] == reports[1][kinds]['scorers']
        assert reports[0][kinds]['mIoU'] == reports[1][kinds]['mIoU']
    assert reports[0]['open_validation'] == reports[1]['open_validation']


def test_the_segmentor_that_comes_along_fits_and_is_small(runs):
    assert WEIGHTS.stat().st_size <= 3.5e6
    state = torch.load(WEIGHTS, weights_only=True)['state_dict']
    assert {value.dtype for value in state.values()} == {torch.float16, torch.int64}
    taken = torch.load(runs[0][0] / 'closed/segmentor.pth', weights_only=True)['state_dict']
    assert all(torch.equal(value, taken[name]) for name, value in state.items())


def test_from_scratch(tmp_path, monkeypatch):
    """The other stages are those of every demo."""

    def stop(*args):
        raise InterruptedError

    monkeypatch.setattr('demo.run._train_open', stop)
    with pytest.raises(InterruptedError):
        run_demo(CONFIGS, tmp_path / 'out', settings=replace(QUICK, from_scratch=True))
    taken = torch.load(tmp_path / 'out/closed/segmentor.pth', weights_only=True)['state_dict']
    assert {value.dtype for value in taken.values()} == {torch.float32, torch.int64}
    own = torch.load(WEIGHTS, weights_only=True)['state_dict']
    assert own.keys() == taken.keys()
    assert not all(torch.equal(value.half(), own[name].half()) for name, value in taken.items())


def test_a_segmentor_is_made_stored_in_half_precision_and_measured(tmp_path):
    found = make_segmentor(
        tmp_path, tmp_path / 'made.pth', num_train=12, num_val=2, steps=2, processes=1
    )
    whole = torch.load(tmp_path / 'closed/segmentor.pth', weights_only=True)['state_dict']
    stored = torch.load(tmp_path / 'made.pth', weights_only=True)['state_dict']
    assert stored.keys() == whole.keys()
    for name, value in whole.items():
        assert torch.equal(stored[name], value.half() if value.is_floating_point() else value)
    assert 0 <= found < 100


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
        method: dict(
            AUROC=0.5,
            AP=0.25,
            FPR95=0.125,
            num_closed=9000,
            num_open=1000,
        )
        for method in METHODS.values()
    }
    tested = dict(
        scorers=scorers,
        mIoU=51.23,
        num_images=7,
        label_policy='cityscapes/paper',
        resolution='feature',
    )
    text = table(
        dict(
            seen=tested,
            unseen=dict(tested, mIoU=43.21),
            open_validation={'CLS': dict(step=300, AUROC=0.9)},
        )
    )
    assert len(re.findall(r'0\.5000 .*0\.2500 .*0\.1250 .*0\.5000', text)) == len(METHODS)
    for wanted in (
        'kinds unseen in training: 7 test images',
        '51.2 %',
        '43.2 %',
        '9,000 closed and 1,000 open pixels (10.0 %)',
        'cityscapes/paper',
        'feature resolution',
        'CLS 0.9000 at step 300',
    ):
        assert wanted in text
