"""tools/dist_train.sh with two processes on the CPU: one training, not two."""

import os
import subprocess

import pytest
import torch
from mmengine.config import Config
from tiny_cityscapes import write_images, write_segmentor
from tiny_training import config, runner
from tool_calls import REPO, call

from mmseg_opengan.engine.launch import start_processes

RANKS = range(2)
HOOKS = [
    dict(type='OpenGANHook'),
    dict(type='FakeVersusRealHook', num_fake=8),
    dict(type='OpenSetEvaluationHook', plot_val=False),
]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('distributed')
    write_images(folder / 'world', 7)
    write_segmentor(folder / 'segmentor.pth')
    return folder


@pytest.fixture(scope='module')
def trained(root):
    """Work directory of a training with two processes, and what each process saw."""
    made = config(
        root,
        root / 'run',
        custom_hooks=[*HOOKS, dict(type='RankSpy')],
        **{'val_dataloader.dataset.num_open_val': 3},
    )
    made.custom_imports = dict(imports=['tiny_cityscapes', 'rank_spy'])
    made.model_wrapper_cfg = dict(type='MMSeparateDistributedDataParallel', broadcast_buffers=True)
    made.dump(root / 'tiny.py')
    call('dist_train.sh', root / 'tiny.py', 2, '--work-dir', root / 'run')
    return root / 'run', [
        torch.load(root / f'run/rank{rank}.pth', weights_only=True) for rank in RANKS
    ]


def test_networks_are_equal_on_all_ranks(trained):
    folder, (one, other) = trained
    assert len(one['networks']) == 2
    for mine, theirs in zip(one['networks'], other['networks'], strict=True):
        assert any('running_mean' in key for key in mine)
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    saved = torch.load(folder / 'iter_6.pth', weights_only=True)['state_dict']
    last = {key.replace('.module.', '.'): value for key, value in one['networks'][-1].items()}
    assert saved.keys() == last.keys() | {'segmentor_digest'}
    assert all(torch.equal(saved[key], last[key]) for key in last)


def test_ranks_draw_different_pixels(trained):
    _, (one, other) = trained
    assert one['steps'] == list(range(0, 12, 2))
    assert other['steps'] == list(range(1, 12, 2))
    for mine, theirs in zip(one['closed'], other['closed'], strict=True):
        assert mine.shape != theirs.shape or not torch.equal(mine, theirs)
    assert all(a != b for a, b in zip(one['losses'], other['losses'], strict=True))


def test_one_bank_is_shared(root, trained):
    manifests = list(root.rglob('manifest.json'))
    assert manifests == [root / 'bank' / 'manifest.json']
    assert not list(root.rglob('*.tmp'))


def test_metrics_are_those_of_one_process(root, trained):
    folder, (one, other) = trained
    assert one['metrics'] == other['metrics']
    single = runner(
        root,
        root / 'single',
        load_from=str(folder / 'iter_6.pth'),
        custom_hooks=HOOKS,
        **{'val_dataloader.dataset.num_open_val': 3},
    )
    assert single.val() == one['metrics'][-1]


# ----------------------------------------------------------------------------------------------
# starting


def test_one_process_starts_nothing():
    start_processes(Config(dict(launcher='none')))
    assert not torch.distributed.is_initialized()


def test_launchers_that_need_a_gpu_say_so(monkeypatch):
    monkeypatch.setattr('mmseg_opengan.engine.launch.get_device', lambda: 'cpu')
    monkeypatch.delenv('RANK', raising=False)
    for launcher in ('slurm', 'pytorch'):
        with pytest.raises(
            RuntimeError, match=rf'--launcher {launcher} without an accelerator: wanted .*torchrun'
        ):
            start_processes(Config(dict(launcher=launcher)))


def test_a_gpu_is_left_to_mmengine(monkeypatch):
    monkeypatch.setattr('mmseg_opengan.engine.launch.get_device', lambda: 'cuda')
    start_processes(Config(dict(launcher='pytorch')))
    assert not torch.distributed.is_initialized()


def test_scripts_say_how_to_use_them():
    for script in ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'):
        path = REPO / 'tools' / script
        done = subprocess.run(
            [path, 'one'],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        assert done.stderr.startswith(f'usage: {path} ')


def test_slurm_scripts_call_srun(tmp_path):
    """A stand-in for srun prints its arguments."""
    (tmp_path / 'srun').write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / 'srun').chmod(0o755)
    environment = dict(
        os.environ,
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        GPUS='8',
        GPUS_PER_NODE='2',
        PYTHON='python3',
        SRUN_ARGS='--exclusive --mem=0',
    )
    for name, given in (
        ('train', ['part', 'job', 'a config.py', '--amp']),
        ('test', ['part', 'job', 'a config.py', 'best.pth', '--out', 'x']),
    ):
        printed = subprocess.run(
            [REPO / f'tools/slurm_{name}.sh', *given],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.splitlines()
        assert {
            '--partition=part',
            '--job-name=job',
            '--ntasks=8',
            '--ntasks-per-node=2',
            '--gres=gpu:2',
            '--exclusive',
            '--mem=0',
        } <= set(printed)
        place = printed.index(f'{REPO}/tools/{name}.py')
        rest = given[3:] if name == 'train' else given[4:]
        between = given[2:3] if name == 'train' else given[2:4]
        assert printed[place + 1 :] == [*between, '--launcher', 'slurm', *rest]
