"""Training, resuming and testing a tiny model through mmengine's runner: checkpoints, bank,
reports.
"""

import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop
from mmengine.runner.checkpoint import find_latest_checkpoint
from tiny_cityscapes import StoreSource
from tiny_training import INTERVAL, STEPS, runner, write_root

from mmseg_opengan.engine.opengan_hook import OpenGANHook
from mmseg_opengan.experiments.testing import REPORT

NO_PLOTS = [dict(type='OpenGANHook'), dict(type='OpenSetEvaluationHook', plot_val=False)]


def load(path):
    return torch.load(path, weights_only=True)


def equal_states(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[key].cpu(), other[key].cpu()) for key in one)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp('hooks'))


@pytest.fixture(scope='module')
def trained(root):
    """Work directory of an uninterrupted training, and its runner."""
    made = runner(root, root / 'trained')
    made.train()
    return root / 'trained', made


# ----------------------------------------------------------------------------------------------
# checkpoints


def test_checkpoints_hold_discriminator_and_generator_only(trained):
    folder, made = trained
    saved = load(folder / f'iter_{STEPS}.pth')
    assert {key.split('.')[0] for key in saved['state_dict']} == {
        'discriminator',
        'generator',
        'segmentor_digest',
    }
    assert saved['state_dict'].keys() == {
        key for key in made.model.state_dict() if not key.startswith('scorers')
    }
    assert sorted(saved['optimizer']) == ['discriminator', 'generator']
    segmentor = saved['meta']['opengan']['segmentor']
    assert segmentor['checkpoint'] == str(folder.parent / 'segmentor.pth')
    assert segmentor['sha256'] == made.model.segmentor_sha256()
    assert segmentor['config']['model']['decode_head']['type'] == 'PlainHead'


def test_segmentor_is_untouched_by_training(trained):
    folder, made = trained
    assert equal_states(
        made.model.segmentor.state_dict(), load(folder.parent / 'segmentor.pth')['state_dict']
    )


def test_a_checkpoint_gives_the_same_model(root, trained):
    folder, made = trained
    other = runner(root, root / 'completed', load_from=str(folder / f'iter_{STEPS}.pth'))
    other.load_or_resume()
    assert equal_states(other.model.state_dict(), made.model.state_dict())


def test_best_checkpoint_is_the_one_with_the_best_auroc(trained):
    folder, made = trained
    best = made.message_hub.get_info('best_ckpt')
    assert [str(path) for path in folder.glob('best_*.pth')] == [best]
    log = [
        json.loads(line)
        for line in next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()
    ]
    scores = {entry['step']: entry['opengan/AUROC'] for entry in log if 'opengan/AUROC' in entry}
    assert sorted(scores) == [3, 6]
    assert f'best_opengan_AUROC_iter_{max(scores, key=scores.get)}.pth' in best


def test_logged_terms(trained):
    folder, _ = trained
    log = [
        json.loads(line)
        for line in next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()
    ]
    terms = {
        'loss_closed',
        'loss_open',
        'loss_fake',
        'loss_discriminator',
        'loss_generator',
        'D_closed',
        'D_open',
        'D_fake',
        'empty_groups',
    }
    assert terms <= {key for entry in log for key in entry}


# ----------------------------------------------------------------------------------------------
# resuming


def interrupted(root, trained, name):
    """A work directory as a kill after the first checkpoint leaves it."""
    folder = root / name
    folder.mkdir()
    shutil.copy(trained[0] / f'iter_{INTERVAL}.pth', folder)
    (folder / 'last_checkpoint').write_text(str(folder / f'iter_{INTERVAL}.pth'))
    return folder


@pytest.mark.parametrize('seed', [3, None], ids=['the same seed', 'no seed'])
def test_resuming_is_exact(root, trained, monkeypatch, seed):
    loaded = []
    batch = StoreSource._batch
    monkeypatch.setattr(
        StoreSource, '_batch', lambda self, draw: loaded.append(draw.step) or batch(self, draw)
    )
    folder = interrupted(root, trained, f'resumed_{seed}')
    made = runner(
        root, folder, resume=True, custom_hooks=NO_PLOTS, randomness=dict(seed=seed, _delete_=True)
    )
    made.train()
    assert loaded == list(range(INTERVAL, STEPS))  # nothing is loaded for the steps trained before
    one, other = (load(path / f'iter_{STEPS}.pth') for path in (folder, trained[0]))
    assert equal_states(one['state_dict'], other['state_dict'])
    for name in ('discriminator', 'generator'):
        states = [saved['optimizer'][name]['state'] for saved in (one, other)]
        assert states[0].keys() == states[1].keys()
        assert all(
            torch.equal(states[0][i][key], states[1][i][key])
            for i in states[0]
            for key in states[0][i]
        )
    hubs = [r.message_hub for r in (made, trained[1])]
    assert hubs[0].get_info('best_score') == hubs[1].get_info('best_score')


@pytest.mark.parametrize('how', ['moved', 'copied'])
def test_a_run_goes_on_in_the_folder_where_it_is(root, trained, how):
    """Checkpoints and what they say of one another name files by whole paths."""
    before = root / f'before_{how}'
    runner(root, before, custom_hooks=NO_PLOTS, **{'train_cfg.max_iters': INTERVAL}).train()
    folder = root / how
    shutil.copytree(before, folder)
    if how == 'moved':
        shutil.rmtree(before)
    left = {path: path.read_bytes() for path in before.glob('*.pth')}
    made = runner(root, folder, resume=True, custom_hooks=NO_PLOTS)
    made.train()
    one, other = (load(path / f'iter_{STEPS}.pth') for path in (folder, trained[0]))
    assert equal_states(one['state_dict'], other['state_dict'])
    assert Path(made.message_hub.get_info('best_ckpt')).parent == folder
    assert len(list(folder.glob('best_*.pth'))) == 1
    assert {path: path.read_bytes() for path in before.glob('*.pth')} == left


def test_validation_lost_to_a_kill_is_made_up_for(root, trained):
    """A run killed between the checkpoint and the validation of a step."""
    folder = interrupted(root, trained, 'lost')
    saved = load(folder / f'iter_{INTERVAL}.pth')
    for key in ('best_score', 'best_ckpt', 'last_validation'):
        saved['message_hub']['runtime_info'].pop(key, None)
    torch.save(saved, folder / f'iter_{INTERVAL}.pth')
    made = runner(root, folder, resume=True, custom_hooks=NO_PLOTS)
    scores = []
    made.register_hook(Spy(scores))
    made.train()
    assert [step for step, _ in scores] == [3, 6]
    assert made.message_hub.get_info('best_score') == max(score for _, score in scores)


class Spy(Hook):
    def __init__(self, scores):
        self.scores = scores

    def after_val_epoch(self, runner, metrics=None):
        self.scores.append((runner.iter, metrics['opengan/AUROC']))


def test_resume_with_nothing_to_resume_starts_from_the_segmentor(root):
    made = runner(
        root, root / 'fresh', resume=True, custom_hooks=NO_PLOTS, **{'train_cfg.max_iters': 2}
    )
    made.train()
    assert made.iter == 2
    assert find_latest_checkpoint(str(root / 'fresh')).endswith('iter_2.pth')


def test_resume_from_a_named_checkpoint(root, trained):
    made = runner(
        root,
        root / 'named',
        resume=True,
        load_from=str(trained[0] / f'iter_{INTERVAL}.pth'),
        custom_hooks=NO_PLOTS,
        **{'train_dataloader.num_workers': 1},
    )
    made.train()
    assert equal_states(
        load(root / 'named' / f'iter_{STEPS}.pth')['state_dict'],
        load(trained[0] / f'iter_{STEPS}.pth')['state_dict'],
    )


# ----------------------------------------------------------------------------------------------
# before running


@pytest.mark.parametrize('closed_before', [False, True])
def test_loader_workers_see_the_bank_that_is_built_after_they_start(root, closed_before):
    """Nothing of the bank is there before, or the closed pixels only."""
    folder = root / f'workers_{closed_before}'
    if closed_before:
        runner(
            root,
            folder / 'before',
            custom_hooks=NO_PLOTS,
            **{'train_dataloader.dataset.open': None, 'train_cfg.max_iters': 0},
        ).train()
    made = runner(
        root,
        folder / 'run',
        custom_hooks=NO_PLOTS,
        **{
            'train_dataloader.num_workers': 1,
            'train_dataloader.persistent_workers': True,
            'train_cfg.max_iters': 2,
        },
    )
    made.train()
    assert made.iter == 2


@pytest.mark.parametrize('name', ['lambda_open', 'lambda_fake'])
def test_pixels_of_no_weight_are_refused(root, name):
    with pytest.raises(ValueError, match=f'{name}: wanted a weight above 0'):
        runner(root, root / 'weightless', **{f'model.{name}': 0.0}).train()


def test_every_checkpoint_standardises_the_fused_score_for_its_own_d(root):
    options = {'model.fuse': {}, 'train_cfg.val_interval': 4}
    made = runner(root, root / 'fused', custom_hooks=NO_PLOTS, **options)
    made.train()
    pixels = made.train_loop.dataloader.dataset.closed_sample()
    for step in (INTERVAL, STEPS):  # before the first validation, and after the last
        state = torch.load(root / f'fused/iter_{step}.pth', weights_only=True)['state_dict']
        made.model.load_state_dict(state, strict=False)
        made.model.measure_fusion(pixels)
        for name in ('mean', 'deviation'):
            assert torch.equal(getattr(made.model.fusion, name), state[f'fusion.{name}'])


def test_random_segmentor_is_refused(root):
    with pytest.raises(RuntimeError, match='The frozen segmentor has random weights'):
        runner(root, root / 'random', **{'model.segmentor.checkpoint': None}).train()


def test_random_discriminator_is_refused_in_test(root):
    with pytest.raises(RuntimeError, match='The discriminator has random weights'):
        runner(root, root / 'random_d').test()


def test_other_loops_are_refused():
    made = Mock(train_loop=EpochBasedTrainLoop.__new__(EpochBasedTrainLoop))
    with pytest.raises(
        TypeError, match="wanted type='IterBasedTrainLoop', found EpochBasedTrainLoop"
    ):
        OpenGANHook().before_train(made)


def test_an_average_of_the_whole_model_is_refused(root):
    """It could not be resumed: its copy of the state has other names."""
    hooks = [*NO_PLOTS, dict(type='EMAHook')]
    with pytest.raises(TypeError, match=r"wanted hooks that leave .* alone, found 'EMAHook'"):
        runner(root, root / 'ema', custom_hooks=hooks).train()


# ----------------------------------------------------------------------------------------------
# classes


@pytest.mark.parametrize('loop', ['train', 'val', 'test'])
def test_another_number_of_classes_than_the_segmentors_is_refused(root, trained, loop):
    """Before anything is extracted or trained: each label would mean another class."""
    options = {} if loop == 'train' else {'load_from': str(trained[0] / f'iter_{STEPS}.pth')}
    made = runner(root, root / f'classes_{loop}', **options)
    made.model.head.head.num_classes = 5
    with pytest.raises(
        ValueError, match=r'wanted the 5 closed classes of the segmentor, found 19: \(.road.'
    ):
        getattr(made, loop)()


def test_classes_do_not_matter_where_they_are_not_evaluated(root, trained):
    made = runner(
        root,
        root / 'classes_off',
        load_from=str(trained[0] / f'iter_{STEPS}.pth'),
        **{'test_evaluator.closed': False},
    )
    made.model.head.head.num_classes = 5
    assert 'opengan/AUROC' in made.test()


# ----------------------------------------------------------------------------------------------
# resized images


def test_images_that_the_network_wants_resized(root):
    """The two pipelines of docs/datasets.md: labels of training are resized too, those of
    evaluations are not.
    """
    size = dict(
        type='Resize',
        scale=(48, 48),
        keep_ratio=True,
    )  # 24 x 32 becomes 36 x 48
    load, labels, pack = (
        dict(type=name)
        for name in ('LoadImageFromFile', 'LoadOpenSetAnnotations', 'PackOpenSetInputs')
    )
    train, test = [load, labels, size, pack], [load, size, labels, pack]
    options = {f'train_dataloader.dataset.{group}.pipeline': train for group in ('closed', 'open')}
    options.update({f'{loop}_dataloader.dataset.pipeline': test for loop in ('val', 'test')})
    made = runner(root, root / 'resized' / 'trained', **{**options, 'model.resolution': 'image'})
    made.train()
    assert (
        made.train_loop.dataloader.dataset.bank.pixels('closed')['row'].max() == 8
    )  # of a grid of 9 x 12
    assert 0 < made.test()['opengan/AUROC'] < 1
    report = json.loads((root / 'resized' / 'trained' / REPORT).read_text())
    counted = report['scorers']['opengan']
    assert (
        counted['num_closed'] + counted['num_open'] > 0.6 * 3 * 24 * 32
    )  # pixels of the original images, but void
