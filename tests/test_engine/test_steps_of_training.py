"""Which pixels a training must draw, by which seed, and at which steps a resumed one validates."""

import multiprocessing
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmseg.registry import HOOKS
from tiny_training import runner, write_root

from mmseg_opengan.engine import opengan_hook

NO_PLOTS = [dict(type='OpenGANHook'), dict(type='OpenSetEvaluationHook', plot_val=False)]
SAMPLER = 'train_dataloader.dataset.sampler'
COURSE = 'open_validation_course'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp('steps'))


# ----------------------------------------------------------------------------------------------
# pixels


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({f'{SAMPLER}.num_fake': 0}, r'sampler\.num_fake: wanted at least 2 .*, found 0\. CLS has'),
        ({f'{SAMPLER}.num_fake': 1}, r'sampler\.num_fake: wanted at least 2 .*, found 1\. CLS has'),
        ({f'{SAMPLER}.num_closed': 0}, r'sampler\.num_closed: wanted at least 1 .*, found 0'),
        (
            {'model.generator': None, 'train_dataloader.dataset.open': None},
            r'dataset\.open: wanted open images, as there is no generator, found none',
        ),
        (
            {'model.generator': None, f'{SAMPLER}.num_open': 0},
            r'dataset\.open: wanted open images, as there is no generator, found none',
        ),
    ],
)
def test_a_training_without_pixels_of_a_group_is_refused(root, options, message):
    """Before the bank is built: D or G would learn nothing of the group, and say nothing."""
    made = runner(root, root / 'refused' / 'run', custom_hooks=NO_PLOTS, **options)
    with pytest.raises(ValueError, match=message):
        made.train()
    assert not (root / 'refused' / 'bank').exists()


@pytest.mark.parametrize(
    'options',
    [
        {'model.generator': None, f'{SAMPLER}.num_fake': 0},
        {f'{SAMPLER}.num_open': 0},
        {f'{SAMPLER}.num_fake': 2, f'{SAMPLER}.num_closed': 1},
    ],
    ids=['CLS', 'OpenGAN-0', 'the least'],
)
def test_methods_of_fewer_groups_train(root, options):
    folder = root / '_'.join(options)
    made = runner(root, folder, custom_hooks=NO_PLOTS, **options, **{'train_cfg.max_iters': 1})
    made.train()
    assert made.iter == 1


# ----------------------------------------------------------------------------------------------
# resuming


class Cut(BaseException):
    """The end of a run that is cut off."""


@HOOKS.register_module()
class CutOff(Hook):
    """Ends a run before a step, once."""

    priority = 'LOWEST'

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.step:
            raise Cut


def run_of_8(root, folder, cut=None, **options):
    """The runner of a training that ended, or was cut off, after 8 steps at the latest."""
    often = {'train_cfg.max_iters': 8, 'train_cfg.val_interval': 2}
    often['default_hooks.checkpoint.interval'] = 2
    hooks = NO_PLOTS if cut is None else [*NO_PLOTS, dict(type='CutOff', step=cut)]
    made = runner(root, folder, custom_hooks=hooks, resume=True, **{**often, **options})
    if cut is None:
        made.train()
    else:
        with pytest.raises(Cut):
            made.train()
    return made


@pytest.mark.parametrize(
    ('options', 'steps'),
    [
        ({'train_cfg.val_begin': 5}, [6, 8]),
        ({'train_cfg.val_begin': 4}, [4, 6, 8]),
        ({'train_cfg.dynamic_intervals': [(4, 3)]}, [2, 3, 6, 8]),
    ],
)
def test_a_resumed_run_validates_at_the_steps_of_an_uninterrupted_one(root, options, steps):
    name = '_'.join(map(str, steps))
    whole = run_of_8(root, root / f'whole_{name}', **options)
    run_of_8(root, root / f'cut_{name}', cut=4, **options)
    resumed = run_of_8(root, root / f'cut_{name}', experiment_name=f'again_{name}', **options)
    course = whole.message_hub.runtime_info[COURSE]
    assert [step for step, _ in course] == steps
    assert resumed.message_hub.runtime_info[COURSE] == course


# ----------------------------------------------------------------------------------------------
# seeds


@pytest.mark.parametrize('seed', [3, 4])
@pytest.mark.parametrize('differs', [False, True])
def test_draws_follow_the_seed_of_the_config(root, seed, differs):
    options = {'randomness': dict(seed=seed, diff_rank_seed=differs), 'train_cfg.max_iters': 0}
    made = runner(root, root / f'{seed}{differs}', custom_hooks=NO_PLOTS, **options)
    made.train()
    assert made.train_loop.dataloader.sampler.seed == seed


def test_a_seed_of_the_samplers_own_goes_first(root):
    """When the run is resumed too."""
    for name in ('first', 'resumed'):
        options = {'train_dataloader.sampler.seed': 8, 'train_cfg.max_iters': 2}
        made = run_of_8(root, root / 'own', experiment_name=f'own_{name}', **options)
        assert made.train_loop.dataloader.sampler.seed == 8
        assert made.seed == 3


def _draw_as_rank(rank, rendezvous, seeds):
    where = f'file://{rendezvous}'
    torch.distributed.init_process_group('gloo', init_method=where, rank=rank, world_size=2)
    own = SimpleNamespace(seed=5 + rank, cfg=Config())
    seeds.put((rank, opengan_hook._seed_of_draws(own)))


@pytest.mark.skipif(torch.cuda.is_available(), reason='forks a process that may have used a GPU')
def test_ranks_with_seeds_of_their_own_share_one_draw(tmp_path):
    fork = multiprocessing.get_context('fork')
    seeds = fork.Queue()
    processes = []
    for rank in range(2):
        arguments = (rank, tmp_path / 'rendezvous', seeds)
        processes.append(fork.Process(target=_draw_as_rank, args=arguments, daemon=True))
        processes[-1].start()
    assert dict(seeds.get(timeout=60) for _ in processes) == {0: 5, 1: 5}
    for process in processes:
        process.join(60)
