"""What is wrong with the data is said before the first step, and score maps lie on their images."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS, init_default_scope
from mmseg.registry import DATASETS
from PIL import Image
from tiny_cityscapes import PIPELINE, images, source_config, write_images, write_segmentor
from tiny_training import config, runner

from mmseg_opengan.engine import data_checks
from mmseg_opengan.features.sources import one_step
from mmseg_opengan.inference.inferencer import OpenSetInferencer

LOAD, LABELS, PACK = PIPELINE
FLIP = dict(type='RandomFlip', prob=1.0, direction='horizontal')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checks')
    for kind, number in (('train', 5), ('val', 3)):
        write_images(folder / 'world', number, folder=kind)
    write_segmentor(folder / 'segmentor.pth')
    return folder


@pytest.fixture
def warnings(monkeypatch):
    """What is logged."""
    found = []
    monkeypatch.setattr(data_checks, 'print_log', lambda text, **options: found.append(text))
    return found


# ----------------------------------------------------------------------------------------------
# pipelines of evaluations


@TRANSFORMS.register_module()
class OwnLetterbox(BaseTransform):
    """A step of a user that pads and says nothing of it."""

    def transform(self, results):
        results['img'] = np.pad(results['img'], ((0, 8), (0, 0), (0, 0)))
        return results


def auroc(root, *steps, **options):
    """Of a scorer without training, after a test with these steps between loading and packing."""
    made = runner(
        root,
        root / 'test',
        custom_hooks=[dict(type='OpenGANHook')],
        **{
            'model.discriminator': None,
            'model.generator': None,
            'model.resolution': 'image',
            'test_dataloader.dataset.pipeline': [LOAD, *steps, PACK],
            **options,
        },
    )
    return made.test()['msp/AUROC']


@pytest.mark.parametrize('direction', ['horizontal', 'vertical'])
def test_a_flip_before_the_labels_changes_nothing(root, tmp_path, direction):
    """Scores of these images grow along both axes, and open pixels lie in one corner."""
    world = tmp_path / 'world'
    shutil.copytree(root / 'world', world)
    ids = np.full((24, 32), 7, np.uint8)
    ids[:12, :16] = 4
    for path in world.rglob('*labelIds.png'):
        Image.fromarray(ids).save(path)
    options = {'test_dataloader.dataset.data_root': str(world)}
    plain = auroc(root, LABELS, **options)
    assert abs(plain - 0.5) > 0.2
    flipped = auroc(root, dict(FLIP, direction=direction), LABELS, **options)
    assert flipped == pytest.approx(plain, abs=0.03)


@pytest.mark.parametrize(
    'steps',
    [
        [LABELS, FLIP],
        [FLIP, FLIP, LABELS],
        [dict(FLIP, direction='diagonal'), LABELS],
        [dict(type='Pad', size=(48, 32)), LABELS],
        [
            dict(type='Resize', scale=(48, 32), keep_ratio=True),
            dict(type='Pad', size=(48, 48)),
            LABELS,
        ],
        [LABELS, dict(type='RandomCrop', crop_size=(16, 16))],
        [dict(type='CenterCrop', crop_size=(16, 16)), LABELS],
        [LABELS, dict(type='RandomRotate', prob=1.0, degree=20)],
        [LABELS, dict(type='RandomRotFlip', rotate_prob=1.0)],
        [dict(type='RandomChoice', transforms=[[dict(type='CenterCrop', crop_size=16)]]), LABELS],
    ],
    ids=lambda steps: ' '.join(step['type'] for step in steps),
)
def test_steps_that_move_an_image_are_named_before_it_is_read(root, steps):
    moving = [step for step in steps if step['type'] not in ('Resize', 'LoadOpenSetAnnotations')]
    name = moving[0].get('transforms', [moving])[0][0]['type']
    with pytest.raises(ValueError, match=rf"CityscapesOpenSet of '.*', pipeline: .* '{name}'"):
        auroc(root, *steps)


def test_the_inferencer_refuses_them_too(root, tmp_path):
    steps = [LOAD, dict(type='Pad', size=(48, 32)), LABELS, PACK]
    weights = torch.load(root / 'segmentor.pth')['state_dict']
    torch.save(weights, tmp_path / 'segmentor.pth')  # without its one class name
    options = {
        'model.segmentor.checkpoint': str(tmp_path / 'segmentor.pth'),
        'model.discriminator': None,
        'model.generator': None,
        'test_dataloader.dataset.pipeline': steps,
    }
    cfg = config(root, tmp_path / 'work', **options)
    with pytest.raises(ValueError, match=r"test_dataloader\.dataset\.pipeline: .* 'Pad'"):
        OpenSetInferencer(cfg)


def test_a_step_of_ones_own_that_pads_is_found_by_sizes(root):
    wanted = r"000_.*': wanted the whole image of 24x32 as 24x32, .* found 32x32"
    with pytest.raises(ValueError, match=wanted):
        auroc(root, dict(type='OwnLetterbox'), LABELS)


@pytest.mark.parametrize(
    'steps',
    [
        [dict(type='Resize', scale=(64, 48), keep_ratio=True)],
        [dict(type='Resize', scale=(40, 20), keep_ratio=False)],
        [dict(type='ResizeToMultiple', size_divisor=20)],
        [dict(type='ResizeShortestEdge', scale=36, max_size=64)],
    ],
    ids=lambda steps: steps[0]['type'],
)
def test_images_may_be_resized_in_any_way(root, steps):
    assert 0 < auroc(root, *steps, LABELS) < 1


def test_another_pipeline_for_mmsegs_inference_is_told(root, tmp_path, warnings):
    """A config that changes the test's pipeline alone; ``inference_model`` reads the other."""
    options = {'test_pipeline': PIPELINE, 'test_dataloader.dataset.pipeline': PIPELINE}
    runner(root, tmp_path / 'work', **options).call_hook('before_run')
    assert warnings == []
    resized = [LOAD, dict(type='Resize', scale=(64, 48)), LABELS, PACK]
    options['test_dataloader.dataset.pipeline'] = resized
    runner(root, tmp_path / 'work', **options).call_hook('before_run')
    (message,) = warnings
    assert message.startswith(
        'test_pipeline: wanted the pipeline of test_dataloader, found another'
    )


def test_images_of_two_sizes_in_a_batch_are_named(root, tmp_path):
    shutil.copytree(root / 'world', tmp_path / 'world')
    write_images(tmp_path / 'world', 1, size=(32, 32), folder='val')
    with pytest.raises(ValueError, match=r'batch_size: .* one size .*\(24, 32\), \(32, 32\)\]'):
        auroc(
            root,
            LABELS,
            **{
                'test_dataloader.batch_size': 3,
                'test_dataloader.dataset.data_root': str(tmp_path / 'world'),
            },
        )


# ----------------------------------------------------------------------------------------------
# before the first step


def test_open_validation_without_an_open_pixel(root, tmp_path):
    world = tmp_path / 'world'
    shutil.copytree(root / 'world', world)
    for path in world.rglob('004_*labelIds.png'):  # the last of training validates
        Image.fromarray(np.full((24, 32), 7, np.uint8)).save(path)
    made = runner(root, tmp_path / 'work', **{'val_dataloader.dataset.data_root': str(world)})
    with pytest.raises(
        ValueError, match=r"val_dataloader: .* found no open one in 1 images of 'ci"
    ):
        made.train()
    assert not (tmp_path / 'bank').exists()


def test_masks_of_0_and_255(tmp_path):
    for folder, value in (('images', 0), ('masks', 255)):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.array([[0, value]], np.uint8)).save(tmp_path / folder / 'a.png')
    init_default_scope('mmseg')
    dataset = DATASETS.build(
        dict(
            type='AnomalyMasks',
            data_root=str(tmp_path),
            img_suffix='.png',
            pipeline=PIPELINE,
        )
    )
    lacking = data_checks.lack_of_pixels(dataset)
    assert lacking.endswith(
        "no open one in 1 images of 'anomaly'. In these masks 1 is open and 255 is void"
    )
    Image.fromarray(np.array([[0, 1]], np.uint8)).save(tmp_path / 'masks' / 'a.png')
    assert data_checks.lack_of_pixels(dataset) == ''


@pytest.mark.parametrize('copied', [False, True], ids=['the same file', 'the same bytes'])
def test_images_that_train_and_validate(root, tmp_path, warnings, copied):
    init_default_scope('mmseg')
    source = DATASETS.build(source_config(root / 'world', tmp_path / 'bank', held_out=2))
    held_out = DATASETS.build(images(root / 'world', split='open_val', num_open_val=2))
    sets = [source.closed_images, source.open_images]
    data_checks.warn_of_shared_images(sets, held_out)
    assert warnings == []
    world = root / 'world'
    if copied:
        world = tmp_path / 'world'
        shutil.copytree(root / 'world', world)
    more = DATASETS.build(
        dict(type='ConcatDataset', datasets=[images(world, split='open_val', num_open_val=4)])
    )
    data_checks.warn_of_shared_images(sets, more)
    (message,) = warnings
    assert '2 images of open validation are trained on' in message
    assert '001_leftImg8bit.png' in message


@pytest.mark.parametrize(
    ('option', 'name'), [('sampler', 'InfiniteSampler'), ('collate_fn', 'pseudo_collate')]
)
def test_a_loader_that_gives_no_steps_is_named(option, name):
    class StepSampler: ...

    class InfiniteSampler: ...

    def pseudo_collate(): ...

    loader = SimpleNamespace(sampler=StepSampler(), collate_fn=one_step)
    data_checks.require_steps(loader)
    wrong = dict(sampler=InfiniteSampler(), collate_fn=pseudo_collate)
    setattr(loader, option, wrong[option])
    with pytest.raises(ValueError, match=rf"train_dataloader\.{option}: wanted .*, found '{name}'"):
        data_checks.require_steps(loader)
