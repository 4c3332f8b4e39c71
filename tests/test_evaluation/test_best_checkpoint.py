"""What may choose the best checkpoint is settled before the first step."""

import pytest
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
