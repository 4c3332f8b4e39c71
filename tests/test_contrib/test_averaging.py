"""The average of D against one written out step by step, in validation, checkpoints, resuming and
tests.
"""

import copy
import shutil

import pytest
import torch
from mmengine.hooks import Hook
from tiny_training import INTERVAL, STEPS, runner, write_root

MOMENTUM, GAMMA = 0.3, 2
HOOKS = [
    dict(type='OpenGANHook'),
    dict(type='DiscriminatorAverageHook', momentum=MOMENTUM, gamma=GAMMA),
]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp('averaging'))


def load(path):
    return torch.load(path, weights_only=True)


def equal_states(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[key], other[key]) for key in one)


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


class Recorder(Hook):
    """D after every training step, and as validation and test see it."""

    priority = 'LOWEST'

    def __init__(self):
        self.steps, self.validated, self.tested = [], [], []

    def after_train_iter(self, runner, *args, **kwargs):
        self.steps.append(state_of(runner.model.discriminator))

    def before_val_epoch(self, runner):
        self.validated.append(state_of(runner.model.discriminator))

    def before_test_epoch(self, runner):
        self.tested.append(state_of(runner.model.discriminator))


def slow_average(states):
    """In float64, one number after the other: the first state, then a share of the way to each that
    follows.
    """
    average = {name: value.double() for name, value in states[0].items()}
    for step, state in enumerate(states[1:], 1):
        share = max(MOMENTUM, GAMMA / (GAMMA + step))
        average = {
            name: value + share * (state[name].double() - value) for name, value in average.items()
        }
    return average


def assert_is_average(found, states):
    for name, value in slow_average(states).items():
        if 'num_batches' not in name:
            torch.testing.assert_close(
                found[name].double(), value, rtol=1e-4, atol=1e-6, check_device=False
            )


def discriminator_part(state):
    return {
        name.removeprefix('discriminator.'): value
        for name, value in state.items()
        if 'discriminator.' in name
    }


@pytest.fixture(scope='module')
def averaged(root):
    """Work directory, runner and records of a training with the hook, and a test in the same
    process.
    """
    made, recorder = runner(root, root / 'averaged', custom_hooks=copy.deepcopy(HOOKS)), Recorder()
    made.register_hook(recorder)
    made.train()
    made.test()
    return root / 'averaged', made, recorder


def test_training_is_what_it_is_without_the_hook(root, averaged):
    made, recorder = runner(root, root / 'not_averaged', custom_hooks=HOOKS[:1]), Recorder()
    made.register_hook(recorder)
    made.train()
    assert len(recorder.steps) == STEPS
    assert all(equal_states(one, other) for one, other in zip(recorder.steps, averaged[2].steps))


def test_validation_and_test_see_the_average(averaged):
    _, made, recorder = averaged
    assert_is_average(recorder.validated[0], recorder.steps[:INTERVAL])
    assert_is_average(recorder.validated[1], recorder.steps)
    assert_is_average(recorder.tested[0], recorder.steps)
    assert equal_states(state_of(made.model.discriminator), recorder.steps[-1])
    assert not torch.equal(
        recorder.tested[0]['layers.0.weight'], recorder.steps[-1]['layers.0.weight']
    )


def test_checkpoints_hold_the_average_under_ds_name_and_d_beside_it(averaged):
    folder, made, recorder = averaged
    saved = load(folder / f'iter_{STEPS}.pth')
    assert_is_average(discriminator_part(saved['state_dict']), recorder.steps)
    assert equal_states(
        discriminator_part(saved['discriminator_average']['source']), recorder.steps[-1]
    )
    best = made.message_hub.get_info('best_ckpt')
    step = int(best.rpartition('_')[2].removesuffix('.pth'))
    assert equal_states(
        discriminator_part(load(best)['state_dict']), recorder.validated[step // INTERVAL - 1]
    )


def test_resuming_is_exact(root, averaged):
    folder = root / 'averaged_resumed'
    folder.mkdir()
    shutil.copy(averaged[0] / f'iter_{INTERVAL}.pth', folder)
    (folder / 'last_checkpoint').write_text(str(folder / f'iter_{INTERVAL}.pth'))
    runner(root, folder, resume=True, custom_hooks=HOOKS).train()
    one, other = (load(path / f'iter_{STEPS}.pth') for path in (folder, averaged[0]))
    assert equal_states(one['state_dict'], other['state_dict'])
    assert equal_states(
        one['discriminator_average']['source'], other['discriminator_average']['source']
    )


@pytest.mark.parametrize('hooks', [HOOKS, HOOKS[:1]], ids=['with the hook', 'without'])
def test_a_test_of_its_checkpoint_sees_the_average(root, averaged, hooks):
    folder, _, records = averaged
    made, recorder = (
        runner(
            root,
            root / f'test_{len(hooks)}',
            load_from=str(folder / f'iter_{STEPS}.pth'),
            custom_hooks=hooks,
        ),
        Recorder(),
    )
    made.register_hook(recorder)
    made.test()
    assert equal_states(recorder.tested[0], records.tested[0])


def test_a_model_without_discriminator_is_left_alone(root):
    made = runner(
        root,
        root / 'no_d',
        custom_hooks=HOOKS,
        load_from=None,
        **{
            'model.discriminator': None,
            'model.generator': None,
            'model.segmentor.checkpoint': str(root / 'segmentor.pth'),
        },
    )
    assert 'msp/AUROC' in made.test()


def test_a_checkpoint_of_opengan_is_fine_where_there_is_no_discriminator(root, averaged):
    made = runner(
        root,
        root / 'other_scorers',
        custom_hooks=HOOKS,
        load_from=str(averaged[0] / f'iter_{STEPS}.pth'),
        **{'model.discriminator': None, 'model.generator': None},
    )
    assert 'msp/AUROC' in made.test()


def test_all_ranks_validate_the_main_processs_average(root, averaged, monkeypatch):
    """Each rank's own has batch statistics of its own pixels."""
    shared = []
    monkeypatch.setattr(
        'mmseg_opengan.contrib.averaging.broadcast', lambda buffer: shared.append(buffer.zero_())
    )
    recorder = Recorder()
    made = runner(
        root, root / 'ranks', custom_hooks=copy.deepcopy(HOOKS), **{'train_cfg.max_iters': INTERVAL}
    )
    made.register_hook(recorder)
    made.train()
    means = [value for name, value in recorder.validated[0].items() if 'running_mean' in name]
    assert means
    assert shared
    assert not any(value.any() for value in means)
