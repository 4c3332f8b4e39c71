"""What may choose the best checkpoint is settled before the first step."""

import numpy as np
import pytest
from PIL import Image
from tiny_cityscapes import write_images, write_segmentor
from tiny_training import runner

from mmseg_opengan.evaluation.best_checkpoint import check_save_best

KNOWN = r"\['opengan/AUROC', 'opengan/AP', 'opengan/FPR95', 'opengan/AUROC_kinds'\] or auto"


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('best')
    write_images(folder / 'world', 7)
    write_segmentor(folder / 'segmentor.pth')
    return folder


def training(root, work_dir, save_best, rule=None, **options):
    choice = {
        'default_hooks.checkpoint.save_best': save_best,
        'default_hooks.checkpoint.rule': rule,
    }
    return runner(root, work_dir, **choice, **options)


@pytest.mark.parametrize(('fuse', 'score'), [(None, 'opengan'), ({}, 'hybrid')])
def test_auto_means_the_auroc_of_the_trained_score(fuse, score, root):
    made = training(root, root / score, 'auto', **{'model.fuse': fuse})
    made.train()
    (best,) = (root / score).glob('best_*.pth')
    assert best.name.startswith(f'best_{score}_AUROC_iter_')
    assert made.message_hub.get_info('best_ckpt') == str(best)


@pytest.mark.parametrize(
    ('save_best', 'rule', 'message'),
    [
        ('msp/AUROC', 'greater', rf"{KNOWN}, found 'msp/AUROC', which D does not change"),
        ('opengan/AUC', 'greater', rf"{KNOWN}, found 'opengan/AUC'$"),
        ('opengan/FPR95', 'greater', "rule: wanted 'less' for opengan/FPR95, found 'greater'"),
    ],
)
def test_what_cannot_choose_is_refused_before_the_first_step(root, save_best, rule, message):
    made = training(root, root / 'refused', save_best, rule)
    with pytest.raises(ValueError, match=message):
        made.train()
    assert not list((root / 'refused').glob('*.pth'))


def test_another_evaluation_is_not_judged(root):
    made = training(root, root / 'other', 'mIoU', 'greater')
    made.val_evaluator.metrics.clear()
    check_save_best(made)


def write_world(folder, cells):
    """Images; on the grid of open validation's one are 9 cells of the kind 'unlabeled', so many of
    'static', and closed ones.
    """
    write_images(folder, 7)
    grid = np.full(6 * 8, 7)
    grid[:9] = 0
    grid[9 : 9 + cells] = 4
    labels = np.full((24, 32), 26)
    labels[::4, ::4] = grid.reshape(6, 8)
    labels[1, :9] = 4  # which the grid does not see
    path = folder / 'gtFine/train/ulm/006_gtFine_labelIds.png'
    Image.fromarray(labels.astype(np.uint8)).save(path)


@pytest.fixture
def few(root, tmp_path):
    """Trains with so many cells of 'static' in open validation, and chooses by the AUROC over
    kinds; returns the best checkpoints.
    """
    world = str(tmp_path / 'world')
    places = ['train_dataloader.dataset.closed', 'train_dataloader.dataset.open']
    places += ['val_dataloader.dataset', 'test_dataloader.dataset']
    data = {f'{place}.data_root': world for place in places}

    def train(cells, score='opengan', **options):
        write_world(tmp_path / 'world', cells)
        options = {**data, 'train_cfg.max_iters': 3, **options}
        training(root, tmp_path / 'run', f'{score}/AUROC_kinds', 'greater', **options).train()
        return list((tmp_path / 'run').glob('best_*'))

    return train


@pytest.mark.parametrize('score', ['opengan', 'hybrid'])
def test_kinds_of_too_few_pixels_are_told_before_the_bank_is_built(few, tmp_path, score):
    """Pixels count on the grid of the score maps, where the metric counts them."""
    fuse = {'model.fuse': {} if score == 'hybrid' else None}
    found = r"found \{'unlabeled': 9, 'static': 9\}"
    with pytest.raises(ValueError, match=rf"save_best: .* 10 pixels .* {found}. Take '{score}/AUR"):
        few(9, score, **fuse)
    assert not (tmp_path / 'bank').exists()


def test_a_kind_of_ten_pixels_is_enough(few):
    assert len(few(10)) == 1


def test_at_image_resolution_all_pixels_count(few):
    assert len(few(1, **{'model.resolution': 'image'})) == 1
