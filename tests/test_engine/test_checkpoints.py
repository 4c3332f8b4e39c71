"""A training that is killed (kill -9) at any moment, again and again, ends as one that never
was.
"""

import functools
import itertools
import json
import math
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner.checkpoint import find_latest_checkpoint
from tiny_cityscapes import write_images, write_segmentor
from tiny_training import STEPS, runner

# What is promised is bits on a CPU, and a forked process cannot use a GPU that this one has used.
pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason='for CPUs: run with CUDA_VISIBLE_DEVICES='
)

HOOKS = [
    dict(type='OpenGANHook'),
    dict(type='FakeVersusRealHook', num_fake=8),
    dict(type='OpenSetEvaluationHook', plot_val=False),
]
FILES = ('replace', 'remove', 'unlink')
KILLS = int(os.environ.get('MMSEG_OPENGAN_KILLS', '2'))
CLOCK = ('time', 'data_time', 'memory', 'eta')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints')
    write_images(folder / 'world', 7)
    write_segmentor(folder / 'segmentor.pth')
    return folder


def training(root, folder, kind, steps=STEPS):
    return runner(
        root,
        folder,
        custom_hooks=HOOKS,
        resume=True,
        **{
            'train_dataloader.dataset.type': kind,
            'train_cfg.max_iters': steps,
            'train_cfg.val_interval': 2,
            'default_hooks.checkpoint.interval': 2,
            'default_hooks.checkpoint.max_keep_ckpts': 1,
            'default_hooks.logger.interval': 1,
            'val_evaluator.closed': False,
        },
    )


@pytest.fixture(scope='module')
def uninterrupted(root):
    """kind of source -> work directory of a training that nobody killed."""

    @functools.cache
    def trained(kind, steps=STEPS):
        folder = root / f'whole_{kind}_{steps}'
        training(root, folder, kind, steps).train()
        return folder

    return trained


# ----------------------------------------------------------------------------------------------
# being killed


class Fate(Hook):
    """Counts a step's beginning and every call of ``functions`` of os, and kills the process at the
    n-th.
    """

    priority = 'HIGHEST'

    def __init__(self, deadline, functions):
        self.left = deadline
        for name in functions:
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


def live(root, folder, kind, deadline=math.inf, functions=FILES, steps=STEPS, seconds=120) -> bool:
    """One life of a training in a process of its own, killed after so many seconds at the latest;
    True if it came to its end.
    """

    def train():
        fate = Fate(deadline, functions)
        made = training(root, folder, kind, steps)
        made.register_hook(fate)
        made.train()

    process = multiprocessing.get_context('fork').Process(target=train)
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


# ----------------------------------------------------------------------------------------------
# comparing


def differences(one, other, place=''):
    """Where two checkpoints differ, clocks and folders aside."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = {key for key in (*one, *other) if str(key).split('/')[-1] not in CLOCK}
        return [
            found
            for key in keys
            for found in (
                differences(one[key], other[key], f'{place}.{key}')
                if key in one and key in other
                else [f'{place}.{key}']
            )
        ]
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
        # The clock's and the git commit's, and bookkeeping of mmengine.
        for name in ('cfg', 'experiment_name', 'mmengine_version', 'iter', 'keep_ckpt_ids'):
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


def assert_same_training(folder, reference, steps=STEPS):
    names = [
        {path.name for path in place.iterdir() if path.is_file() and path.suffix != '.py'}
        for place in (folder, reference)
    ]
    assert names[0] == names[1]  # nothing is left over either
    assert differences(content(folder), content(reference)) == []
    assert find_latest_checkpoint(str(folder)) == str(folder / f'iter_{steps}.pth')
    once, again = logged(reference), logged(folder)
    assert {key for _, key in once} >= {
        'loss_closed',
        'loss_generator',
        'opengan/AUROC',
        'fake/AUROC',
    }
    assert once.keys() == again.keys()
    for entry, values in again.items():
        assert set(values) == set(once[entry]), entry


def assert_resumable(folder):
    """``last_checkpoint`` names a whole checkpoint, and the best one that it knows of is there."""
    if (folder / 'last_checkpoint').exists():
        known = torch.load((folder / 'last_checkpoint').read_text(), weights_only=True)[
            'message_hub'
        ]['runtime_info']
        assert known.get('best_ckpt') is None or os.path.isfile(known['best_ckpt'])


# ---------------------------------------------------------------------------------------------- the
# tests


@pytest.mark.parametrize(
    ('kind', 'seed'), [('StoreSource', 0), ('StoreSource', 1), ('OnlineSource', 1)]
)
def test_killed_again_and_again(root, uninterrupted, kind, seed):
    folder, reference = root / f'{kind}_{seed}', uninterrupted(kind)
    rng = np.random.default_rng(seed)
    lives = 1
    while not live(root, folder, kind, deadline=int(rng.integers(3, 25))):
        lives += 1
        assert lives < 30
    assert lives > 1
    assert_same_training(folder, reference)


@pytest.mark.parametrize('kind', ['StoreSource', 'OnlineSource'])
def test_killed_before_each_step(root, uninterrupted, kind):
    folder, reference = root / f'{kind}_steps', uninterrupted(kind)
    for step in range(1, STEPS + 1):
        resumed = (
            max(0, step - 2) // 2 * 2
        )  # the checkpoint that a life leaves which ends before the last step
        assert not live(root, folder, kind, deadline=step - resumed, functions=())
        assert max((logged_step for logged_step, _ in logged(folder)), default=0) == step - 1
    assert live(root, folder, kind)
    assert_same_training(folder, reference)


def test_killed_at_each_event(root, uninterrupted):
    steps = 4  # to a second checkpoint and a second best one
    reference = uninterrupted('StoreSource', steps)
    for deadline in itertools.count(1):
        folder = root / f'event_{deadline}'
        if live(root, folder, 'StoreSource', deadline, steps=steps):
            break
        assert_resumable(folder)
        assert live(root, folder, 'StoreSource', steps=steps)
        assert_same_training(folder, reference, steps)
    assert deadline > 4 * steps


@pytest.mark.parametrize('noted', [b'', b'\xff\xfe\x00', b'/nowhere/iter_2.pth'])
def test_a_last_checkpoint_that_names_none_is_told(root, noted):
    folder = root / 'noted'
    folder.mkdir(exist_ok=True)
    (folder / 'last_checkpoint').write_bytes(noted)
    with pytest.raises(ValueError, match="last_checkpoint': wanted the path of a checkpoint"):
        training(root, folder, 'StoreSource').train()


def test_a_half_written_last_checkpoint_does_not_outlive_a_resumed_training(root):
    folder = root / 'finished'
    assert live(root, folder, 'StoreSource', steps=2)
    (folder / 'last_checkpoint.tmp').write_bytes(b'/half/of/a/pa')
    assert live(root, folder, 'StoreSource', steps=2)
    assert not (folder / 'last_checkpoint.tmp').exists()


def test_two_runs_do_not_share_a_folder(root):
    """A run that does not go on with the other is refused; what was cut off before its first
    checkpoint begins anew.
    """
    folder = root / 'shared'
    other = folder / 'best_opengan_AUROC_iter_9.pth'
    folder.mkdir()
    other.touch()
    with pytest.raises(FileExistsError, match=r'another run, found best_opengan_AUROC_iter_9\.pth'):
        runner(root, folder, custom_hooks=HOOKS).train()
    assert other.exists()
    training(root, folder, 'StoreSource', steps=2).train()
    (best,) = folder.glob('best_*.pth')
    assert best.name == 'best_opengan_AUROC_iter_2.pth'


def test_killed_at_random_moments(root, uninterrupted):
    """By the clock; ``MMSEG_OPENGAN_KILLS`` says how often, ``benchmarks/stress_data.py`` does it
    more often.
    """
    reference = uninterrupted('StoreSource')
    moments = random.Random(0)
    kills = finished = 0
    start = time.monotonic()
    assert live(root, root / 'timed', 'StoreSource')
    duration = time.monotonic() - start
    folder = root / 'random_0'
    while kills < KILLS:
        if live(root, folder, 'StoreSource', seconds=moments.uniform(0, duration)):
            assert_same_training(folder, reference)
            finished += 1
            folder = root / f'random_{finished}'
        else:
            kills += 1
            assert_resumable(folder)
    assert live(root, folder, 'StoreSource')
    assert_same_training(folder, reference)
    print(f'{kills} kills, {finished + 1} times finished with the same bits')
