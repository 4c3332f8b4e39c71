"""A work directory holds the best checkpoint of one run, by one metric."""

import time

import pytest
from tiny_training import runner, write_root

KEPT = 'best_opengan_AUROC_iter_2_kept.pth'  # a user's copy
NO_PLOTS = [dict(type='OpenGANHook'), dict(type='OpenSetEvaluationHook', plot_val=False)]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp('bests'))


def training(root, name, save_best, **options):
    """A training of two steps, of an experiment of its own."""
    often = {'train_cfg.val_interval': 1, 'default_hooks.checkpoint.interval': 1}
    choice = {'default_hooks.checkpoint.save_best': save_best, 'train_cfg.max_iters': 2}
    options = {'experiment_name': f'{name}_{time.time_ns()}', **often, **choice, **options}
    return runner(root, root / name, custom_hooks=NO_PLOTS, **options)


def bests(folder):
    return [path.name for path in folder.glob('best_*')]


@pytest.mark.parametrize('save_best', ['opengan/AUROC', 'opengan/AP', 'opengan/AUROC_kinds'])
def test_a_second_run_is_refused_by_whatever_metric_it_chooses(root, save_best):
    folder = root / f'second_{save_best[8:]}'
    folder.mkdir()
    (folder / 'best_opengan_AUROC_iter_9.pth').touch()
    with pytest.raises(FileExistsError, match=r'found best_opengan_AUROC_iter_9\.pth\. Add --resu'):
        # with pixels enough of a kind
        training(root, folder.name, save_best, **{'val_dataloader.dataset.num_open_val': 3}).train()
    assert bests(folder) == ['best_opengan_AUROC_iter_9.pth']


def test_a_run_that_is_resumed_keeps_its_metric(root):
    """The numbers of two do not compare."""
    training(root, 'resumed', 'opengan/AUROC').train()
    before = bests(root / 'resumed')
    assert len(before) == 1
    more = {'train_cfg.max_iters': 3, 'resume': True}
    text = rf"that of the run to go on with, .* '{before[0]}', found 'opengan/AP'"
    with pytest.raises(ValueError, match=text):
        training(root, 'resumed', 'opengan/AP', **more).train()
    assert bests(root / 'resumed') == before
    training(root, 'resumed', 'opengan/AUROC', **more).train()
    assert len(bests(root / 'resumed')) == 1


def test_a_run_that_is_resumed_leaves_the_best_of_another_metric_alone(root):
    """It cannot be its own: the moment of a kill leaves those of its metric only."""
    folder = root / 'leftover'
    training(root, 'leftover', 'opengan/AUROC').train()
    for name in ('best_opengan_AUROC_iter_9.pth', 'best_opengan_AP_iter_9.pth', KEPT):
        (folder / name).touch()
    more = {'train_cfg.max_iters': 3, 'resume': True}
    with pytest.raises(FileExistsError, match=r'found best_opengan_AP_iter_9\.pth\. Choose anothe'):
        training(root, 'leftover', 'opengan/AUROC', **more).train()
    (folder / 'best_opengan_AP_iter_9.pth').unlink()
    training(root, 'leftover', 'opengan/AUROC', **more).train()
    assert (folder / KEPT).exists()
    (best,) = {*bests(folder)} - {KEPT}
    assert best != 'best_opengan_AUROC_iter_9.pth'


def test_a_run_that_goes_on_elsewhere_leaves_the_best_of_its_beginning_where_it_is(root):
    training(root, 'begun', 'opengan/AUROC').train()
    (best,) = bests(root / 'begun')
    from_there = dict(load_from=str(root / 'begun/iter_2.pth'), resume=True)
    more = {'train_cfg.max_iters': 3, **from_there}
    made = training(root, 'elsewhere', 'opengan/AUROC', **more)
    made.val_evaluator.metrics[0].evaluate = lambda size: {'opengan/AUROC': 1.5}
    made.train()
    assert bests(root / 'elsewhere') == ['best_opengan_AUROC_iter_3.pth']
    assert bests(root / 'begun') == [best]


def test_a_number_that_a_validation_lacks_is_named(root):
    made = training(root, 'lacking', 'opengan/AUROC')
    metric = made.val_evaluator.metrics[0]
    metric.evaluate = lambda size: {'msp/AUROC': 0.5}
    with pytest.raises(ValueError, match=r"\['msp/AUROC'\], found 'opengan/AUROC'"):
        made.train()
