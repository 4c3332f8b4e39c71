"""A training that is killed (kill -9) at any moment, again and again, ends as one that never was."""

import json
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner.checkpoint import find_latest_checkpoint
from tiny_cityscapes import write_images, write_segmentor
from tiny_training import STEPS, runner

HOOKS = [dict(type='OpenGANHook'), dict(type='FakeVersusRealHook', num_fake=8),
         dict(type='OpenSetEvaluationHook', plot_val=False)]
CLOCK = ('time', 'data_time', 'memory', 'eta')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints')
    write_images(folder / 'world', 7)
    write_segmentor(folder / 'segmentor.pth')
    return folder


def training(root, folder, kind, **options):
    return runner(root, folder, custom_hooks=HOOKS, resume=True, **{
        'train_dataloader.dataset.type': kind, 'default_hooks.checkpoint.interval': 2, 'train_cfg.val_interval': 2,
        'default_hooks.checkpoint.max_keep_ckpts': 1, 'default_hooks.logger.interval': 1, **options})


@pytest.fixture(scope='module')
def uninterrupted(root):
    """kind of source -> work directory of a training that nobody killed."""
    folders = {}

    def trained(kind):
        if kind not in folders:
            folders[kind] = root / f'whole_{kind}'
            training(root, folders[kind], kind).train()
        return folders[kind]
    return trained


# ---------------------------------------------------------------------------------------------- being killed


class Fate(Hook):
    """Counts a step's beginning and every file that is renamed or removed, and kills the process at the n-th."""

    priority = 'HIGHEST'

    def __init__(self, deadline):
        self.left = deadline
        for name in ('replace', 'remove', 'unlink'):
            setattr(os, name, self.counted(getattr(os, name)))

    def counted(self, function):
        def call(*args, **kwargs):
            self.count()
            return function(*args, **kwargs)
        return call

    def count(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.count()


def live(root, folder, kind, deadline) -> bool:
    """One life of a training in a process of its own; True if it came to its end."""
    def train():
        fate = Fate(deadline)
        made = training(root, folder, kind)
        made.register_hook(fate)
        made.train()

    process = multiprocessing.get_context('fork').Process(target=train)
    process.start()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


# ---------------------------------------------------------------------------------------------- comparing


def differences(one, other, place=''):
    """Where two checkpoints differ, clocks and folders aside."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = {key for key in (*one, *other) if str(key).split('/')[-1] not in CLOCK}
        return [found for key in keys for found in (
            differences(one[key], other[key], f'{place}.{key}') if key in one and key in other else [f'{place}.{key}'])]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [f'{place}: {one} and {other}']
        pairs = enumerate(zip(one, other))
        return [found for i, pair in pairs for found in differences(*pair, f'{place}.{i}')]
    if hasattr(one, 'data') and hasattr(one, '_log_history'):
        return [] if np.array_equal(one.data, other.data) else [place]
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [place]
    if isinstance(one, str):
        one, other = os.path.basename(one), os.path.basename(other)
    return [] if one == other or (one != one and other != other) else [place]


def content(folder):
    """name -> content of a checkpoint, of all that lie in a work directory."""
    found = {}
    for path in folder.glob('*.pth'):
        saved = torch.load(path, weights_only=True)
        saved['meta'] = {key: saved['meta'][key] for key in ('iter', 'epoch', 'seed', 'opengan')}
        for name in ('cfg', 'experiment_name', 'iter', 'keep_ckpt_ids'):  # the clock's, and bookkeeping of mmengine
            saved['message_hub']['runtime_info'].pop(name, None)
        found[path.name] = saved
    return found


def logged(folder):
    """(step, key) -> every value that was logged, in whichever life."""
    values = {}
    for path in folder.glob('*/vis_data/scalars.json'):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            for key, value in entry.items():
                if key not in (*CLOCK, 'step'):
                    values.setdefault((entry['step'], key), []).append(value)
    return values


def assert_same_training(folder, reference):
    names = [{path.name for path in place.iterdir() if path.is_file() and path.suffix != '.py'}
             for place in (folder, reference)]
    assert names[0] == names[1]  # nothing is left over either
    assert differences(content(folder), content(reference)) == []
    assert find_latest_checkpoint(str(folder)) == str(folder / f'iter_{STEPS}.pth')
    once, again = logged(reference), logged(folder)
    assert {key for _, key in once} >= {'loss_closed', 'loss_generator', 'opengan/AUROC', 'fake/AUROC'}
    assert once.keys() == again.keys()
    for entry, values in again.items():
        assert set(values) == set(once[entry]), entry


# ---------------------------------------------------------------------------------------------- the tests


@pytest.mark.parametrize(('kind', 'seed'), [('StoreSource', 0), ('StoreSource', 1), ('OnlineSource', 1)])
def test_killed_again_and_again(root, uninterrupted, kind, seed):
    folder, reference = root / f'{kind}_{seed}', uninterrupted(kind)
    rng = np.random.default_rng(seed)
    lives = 1
    while not live(root, folder, kind, deadline=int(rng.integers(3, 25))):
        lives += 1
        assert lives < 30
    assert lives > 1
    assert_same_training(folder, reference)
