"""tools/dist_test.sh with two processes gives exactly the report of one, though they do not share
the images evenly.
"""

import json

import pytest
from tiny_cityscapes import MODEL, images, write_images, write_segmentor
from tool_calls import REPO, call

NUMBER = 5  # of images, for two processes


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """A config that tests MSP and Entropy, with its data and segmentor."""
    folder = tmp_path_factory.mktemp('distributed')
    for kind, number in (('train', 4), ('val', NUMBER)):
        write_images(folder / 'world', number, folder=kind)
    scorers = dict(msp=dict(type='MSP'), entropy=dict(type='Entropy'))
    model = dict(MODEL, discriminator=None, generator=None, scorers=scorers)
    write_segmentor(folder / 'segmentor.pth')
    loader = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    )
    settings = dict(
        custom_imports=dict(
            imports=['mmseg_opengan.register', 'tiny_cityscapes'], allow_failed_imports=False
        ),
        model=model,
        custom_hooks=[
            dict(type='OpenGANHook'),
            dict(type='OpenSetEvaluationHook', plot_test=False),
        ],
        val_dataloader=dict(loader, dataset=images(folder / 'world', split='open_val', held_out=2)),
        test_dataloader=dict(loader, dataset=images(folder / 'world', split='test')),
    )
    base = REPO / 'configs/_base_/default_runtime.py'
    (folder / 'tiny.py').write_text(
        '\n'.join(
            [
                f'_base_ = [{str(base)!r}]',
                *(f'{name} = {value!r}' for name, value in settings.items()),
            ]
        )
    )
    return folder


def evaluated(root, name, tool, *processes):
    """Report and curves of a test."""
    call(
        tool,
        root / 'tiny.py',
        root / 'segmentor.pth',
        *processes,
        '--work-dir',
        root / name,
        '--threshold',
        'fpr=0.2',
        '--components',
        'obstacle',
    )
    return [
        json.loads((root / name / 'open_set_eval/test' / file).read_text())
        for file in ('metrics.json', 'curves.json')
    ]


def test_two_processes_give_the_numbers_of_one(root):
    one = evaluated(root, 'one', 'test.py')
    two = evaluated(root, 'two', 'dist_test.sh', 2)
    assert two == one
    (log,) = (root / 'two').glob('*/*.log')
    assert 'GPU number: 2' in log.read_text()  # mmengine's word for processes
    report = one[0]
    assert report['num_images'] == NUMBER
    assert report['open_validation']['num_images'] == 2
    for numbers in report['scorers'].values():  # there was something to differ
        assert 0 < numbers['AUROC'] < 1
        assert numbers['per_image']['num_images'] > 1
        assert numbers['components']['num_ground_truth'] > 0
        assert next(iter(numbers['operating_points'])) == 'fpr=0.2'
        assert 0 < numbers['recognition']['macro_F1'] < 1
