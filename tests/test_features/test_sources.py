"""Both sources yield the documented batch as a pure function of (seed, step)."""

import itertools
import threading

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import name2label
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from PIL import Image
from tiny_cityscapes import (
    MODEL,
    NO_CLOSED,
    NO_OPEN,
    PIPELINE,
    SEGMENTOR,
    built,
    extract,
    images,
    label_ids,
    pixel_ids,
    same,
    source,
    source_config,
    store,
    stored_images,
    write_images,
)
from torch.utils.data import DataLoader

from mmseg_opengan.datasets import anomaly  # noqa: F401
from mmseg_opengan.datasets.label_map import cityscapes_labels
from mmseg_opengan.engine.optim import OpenGANOptimWrapperConstructor
from mmseg_opengan.features import sources as feature_source
from mmseg_opengan.features.bank import FeatureBankError
from mmseg_opengan.features.sources import one_step
from mmseg_opengan.features.stored_taps import StoredTaps

CLOSED_IDS = set(np.flatnonzero(cityscapes_labels('paper').open_lut == 0))
OPEN_IDS = set(
    np.flatnonzero(
        (cityscapes_labels('paper').open_lut > 0) & (cityscapes_labels('paper').open_lut < 255)
    )
)
WITH_CLOSED = [i for i in range(6) if i != NO_CLOSED]


def online(world, bank, **sampler):
    return built(
        world,
        bank,
        closed_per_image=None,
        sampler=sampler,
        kind='OnlineSource',
    )


def image_numbers(features):
    return set(features[:, 0].long().tolist())


# ---------------------------------------------------------------------------------------------- the
# batch


def test_store_batch(world, bank):
    batch = store(world, bank)[0, 0]
    assert sorted(batch) == ['closed', 'draw', 'open']
    assert (batch['draw'].seed, batch['draw'].step) == (0, 0)
    for key, shape in (('closed', (12, 3)), ('open', (6, 3))):
        assert batch[key].shape == shape
        assert batch[key].dtype == torch.float16
        assert len(batch[key].unique(dim=0)) == len(batch[key])  # enough pixels: none twice


def test_pixels_are_of_their_group_and_never_void(world, bank):
    made = store(world, bank, closed_images_per_batch=3)
    for step in range(6):
        batch = made[0, step]
        assert set(pixel_ids(world, batch['closed'])) <= CLOSED_IDS
        assert set(pixel_ids(world, batch['open'])) <= OPEN_IDS


def test_online_batch(world, bank):
    batch = online(world, bank)[0, 0]
    assert sorted(batch) == ['data_samples', 'draw', 'inputs', 'open']
    assert len(batch['inputs']) == len(batch['data_samples']) == 1
    assert batch['inputs'][0].shape == (3, 24, 32)
    assert batch['inputs'][0].dtype == torch.uint8
    assert f'{int(batch["inputs"][0][0, 0, 0]):03d}_' in batch['data_samples'][0].img_path


@pytest.mark.parametrize('make', [store, online])
def test_batch_is_a_pure_function_of_seed_and_step(world, bank, make):
    first, second = make(world, bank), make(world, bank)
    late_first = second[0, 9]
    for step in range(9):
        assert same(first[0, step], second[0, step])
    assert same(first[0, 9], late_first)
    assert not torch.equal(first[0, 9]['open'], first[1, 9]['open'])
    assert not torch.equal(first[0, 9]['open'], first[0, 8]['open'])


def test_workers_yield_what_one_process_yields(world, bank):
    made = store(world, bank)
    loader = DataLoader(
        made,
        num_workers=2,
        sampler=[(0, step) for step in range(6)],
        collate_fn=one_step,
        multiprocessing_context='fork',
    )
    assert all(same(batch, made[0, step]) for step, batch in enumerate(loader))


# ----------------------------------------------------------------------------------------------
# which images


def test_a_loader_that_would_drop_steps_is_refused(world, tmp_path):
    made = built(world, tmp_path)
    loader = DataLoader(
        made, batch_size=2, sampler=[(0, step) for step in range(4)], collate_fn=one_step
    )
    with pytest.raises(ValueError, match=r'train_dataloader\.batch_size: wanted 1, .* found 2'):
        next(iter(loader))


def test_one_image_gives_all_closed_pixels_and_each_image_has_its_turn(world, bank):
    made = store(world, bank)
    turns = [image_numbers(made[0, step]['closed']) for step in range(6)]
    assert sorted(map(len, turns)) == [0, 1, 1, 1, 1, 1]  # one image has no closed pixels
    assert set().union(*turns) == set(WITH_CLOSED)
    assert len(made) == 6


def test_three_images_per_batch(world, bank):
    made = store(world, bank, closed_images_per_batch=3, num_closed=40)
    first, second = (image_numbers(made[0, step]['closed']) for step in (0, 1))
    assert first | second == set(WITH_CLOSED)
    assert not first & second
    assert len(online(world, bank, closed_images_per_batch=3)[0, 0]['inputs']) == 3


def test_all_images_in_every_batch(world, bank):
    made = store(world, bank, closed_images_per_batch='all', num_closed=60)
    assert (
        image_numbers(made[0, 0]['closed'])
        == image_numbers(made[0, 1]['closed'])
        == set(WITH_CLOSED)
    )
    with pytest.raises(ValueError, match="closed_images_per_batch='all' needs type='StoreSource'"):
        online(world, bank, closed_images_per_batch='all')


def test_an_image_without_closed_pixels_gives_an_empty_group(world, bank):
    made = store(world, bank)
    batch = next(b for b in (made[0, step] for step in range(6)) if not len(b['closed']))
    assert batch['closed'].shape == (0, 3)
    assert batch['open'].shape == (6, 3)


def test_fewer_pixels_than_asked(world, bank):
    made = store(world, bank, num_closed=500, num_open=900)
    batch = next(b for b in (made[0, step] for step in range(6)) if len(b['closed']))
    number = image_numbers(batch['closed']).pop()
    available = sum(label_id in CLOSED_IDS for label_id in label_ids(world, number).flat)
    assert len(batch['closed']) == 500
    assert len(batch['closed'].unique(dim=0)) == available  # every one of them is there
    assert len(batch['open']) == 900


@pytest.mark.parametrize('kind', ['StoreSource', 'OnlineSource'])
def test_a_kind_that_the_open_images_alone_ignore_is_not_stored(world, tmp_path, kind):
    """Though the same images give closed pixels, where nothing is ignored."""
    config = source_config(world, tmp_path, kind=kind)
    config['open']['ignore_open'] = ('trailer',)
    made = getattr(feature_source, config.pop('type'))(**config)
    made.prepare(extract, SEGMENTOR)
    pool = made.pool('open')
    found = pixel_ids(world, made.bank.gather('open', pool.rows(np.arange(len(pool)))))
    trailer = name2label['trailer'].id
    everything = np.concatenate([label_ids(world, i) for i in range(6)])
    assert sorted(found) == sorted(everything[np.isin(everything, [*OPEN_IDS - {trailer}])])
    assert trailer in everything
    with pytest.raises(
        FeatureBankError,
        match=r"label_policy: wanted \['cityscapes/paper'\], found \{'closed': "
        r"'cityscapes/paper', 'open': 'cityscapes/paper/ignore:trailer'\}",
    ):
        built(world, tmp_path, kind=kind)


def test_open_pixels_come_from_the_open_images_only(world, bank):
    made = built(
        world,
        bank,
        closed_per_image=None,
        sampler=dict(num_open=30),
        open_held_out=4,
    )
    assert image_numbers(torch.cat([made[0, step]['open'] for step in range(9)])) == set(
        range(3)
    ) - {NO_OPEN}


# ----------------------------------------------------------------------------------------------
# without open pixels


@pytest.mark.parametrize('options', [dict(open_=False), dict(sampler=dict(num_open=0))])
def test_without_open_pixels(world, tmp_path, options):
    made = built(world, tmp_path / 'store', **options)
    assert made[0, 0]['open'] is None
    assert stored_images(made.bank, 'open') == []
    made = built(world, tmp_path / 'online', kind='OnlineSource', **options)
    assert made[0, 0]['open'] is None
    assert not (tmp_path / 'online').exists()  # nothing to cache


def test_online_source_caches_open_pixels_only(world, tmp_path):
    made = built(world, tmp_path, kind='OnlineSource')
    assert made.bank.num_pixels('closed') == 0
    assert made.bank.num_pixels('open') > 0


@pytest.mark.parametrize('kind', ['ConcatDataset', 'RepeatDataset'])
def test_wrapped_data_sets_are_named(world, tmp_path, kind):
    config = source_config(world, tmp_path)
    inner = config['open']
    options = dict(
        ConcatDataset=dict(datasets=[inner, inner]),
        RepeatDataset=dict(dataset=inner, times=2),
    )
    config['open'] = dict(type=kind, **options[kind])
    with pytest.raises(TypeError, match=rf'open: wanted one data set .* found {kind}\. Take one'):
        DATASETS.build(config)


@pytest.mark.parametrize(
    ('place', 'step'),
    [
        (1, dict(type='RandomFlip', prob=1.0)),
        (1, dict(type='Pad', size=(64, 64))),
        (2, dict(type='RandomApply', transforms=[dict(type='CenterCrop', crop_size=8)])),
    ],
)
def test_a_pipeline_that_moves_images_is_refused(world, tmp_path, place, step):
    """Features of a flipped image would stand beside the labels of the unflipped one."""
    config = source_config(world, tmp_path)
    pipeline = [*PIPELINE[:place], step, *PIPELINE[place:]]
    for group in ('closed', 'open'):
        config[group]['pipeline'] = pipeline
    name = step.get('transforms', [step])[0]['type']
    with pytest.raises(ValueError, match=rf"CityscapesOpenSet of '.*', pipeline: .*'{name}'"):
        DATASETS.build(config)
    with pytest.raises(ValueError, match=name):
        StoredTaps(root=str(tmp_path), images=images(world, pipeline=pipeline))


def test_two_files_of_one_name_are_refused(world, tmp_path):
    write_images(tmp_path / 'others')
    config = source_config(world, tmp_path / 'bank')
    config['open']['data_root'] = str(tmp_path / 'others')
    with pytest.raises(
        ValueError, match=rf"an image 'leftImg8bit/.*000_.*': '{world}/.*' and '{tmp_path}/others/"
    ):
        DATASETS.build(config).prepare(extract, SEGMENTOR)
    (tmp_path / 'link').symlink_to(world)
    config['open']['data_root'] = str(tmp_path / 'link')
    DATASETS.build(config).prepare(extract, SEGMENTOR)


def test_the_readers_end_with_a_segmentor_that_fails(world, tmp_path):
    """Not when the error is forgotten, which holds every frame that it came through."""

    def fail(image, sample):
        if next(calls) == 3:
            raise RuntimeError('out of memory')
        return extract(image, sample)

    calls = itertools.count()
    with pytest.raises(RuntimeError) as error:
        source(world, tmp_path).prepare(fail, SEGMENTOR)
    assert str(error.value) == 'out of memory'
    assert [
        thread.name for thread in threading.enumerate() if thread.name.startswith('reader')
    ] == []


@pytest.mark.parametrize(('group', 'number'), [('open', NO_OPEN), ('closed', NO_CLOSED)])
def test_a_bank_without_a_single_pixel_of_a_group_is_refused(world, tmp_path, group, number):
    made = source(world, tmp_path)
    everything = made._requests
    made._requests = lambda: {**everything(), group: everything()[group][number : number + 1]}
    made.prepare(extract, SEGMENTOR)
    hint = r'\. OpenGAN-0 needs none: open=None, sampler\.num_open=0' if group == 'open' else ''
    with pytest.raises(
        ValueError, match=rf"No {group} pixel to train on: the 1 images .* have none .*'{hint}$"
    ):
        made[0, 0]


def test_mmsegs_own_packing_is_named(world, tmp_path):
    made = source(world, tmp_path)
    for dataset in (made.closed_images, made.open_images):
        dataset.pipeline = Compose([*PIPELINE[:2], dict(type='PackSegInputs')])
    with pytest.raises(
        ValueError,
        match=r'000_leftImg8bit\.png: no open map\. Wanted LoadOpenSetAnnotations and Pack',
    ):
        made.prepare(extract, SEGMENTOR)


def test_open_classes_are_those_of_the_open_images(world, tmp_path):
    for kind, folder in (('leftImg8bit', 'images'), ('gtFine', 'masks')):
        (tmp_path / folder).mkdir()
        (path,) = (world / kind / 'train' / 'ulm').glob(
            '000_*s.png' if kind == 'gtFine' else '000_*'
        )
        picture = np.array(Image.open(path))
        Image.fromarray(picture if folder == 'images' else (picture % 2).astype(np.uint8)).save(
            tmp_path / folder / 'anomaly.png'
        )
    made = source(world, tmp_path / 'bank')
    made.open_images = DATASETS.build(
        dict(
            type='AnomalyMasks',
            data_root=str(tmp_path),
            img_suffix='.png',
            pipeline=PIPELINE,
        )
    )
    made.prepare(extract, SEGMENTOR)
    assert made.identity['open_classes'] == ['anomaly']
    assert made.identity['label_policy'] == dict(closed='cityscapes/paper', open='anomaly')


# ----------------------------------------------------------------------------------------------
# training


@pytest.fixture
def model():
    torch.manual_seed(0)
    init_default_scope('mmseg')
    return MODELS.build(MODEL)


def test_online_and_store_train_on_the_same_pixels(world, bank, model):
    one, other = store(world, bank), online(world, bank)
    for step in range(4):
        batches = one[0, step], other[0, step]
        closed, tapped = (model._closed_pixels(batch) for batch in batches)
        assert torch.equal(closed, tapped.half())
        assert torch.equal(batches[0]['open'], batches[1]['open'])


def test_online_images_feed_the_train_step(world, bank, model):
    optimizers = OpenGANOptimWrapperConstructor(
        dict(
            discriminator=dict(optimizer=dict(type='Adam', lr=1e-3)),
            generator=dict(optimizer=dict(type='Adam', lr=1e-3)),
        )
    )
    before = [p.clone() for p in model.discriminator.parameters()]
    log = model.train_step(online(world, bank)[0, 0], optimizers(model.train()))
    assert {'loss_closed', 'loss_open', 'loss_fake', 'loss_generator'} <= log.keys()
    assert any(
        not torch.equal(p, q) for p, q in zip(before, model.discriminator.parameters(), strict=True)
    )
