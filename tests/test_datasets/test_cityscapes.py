"""Split, draw, errors and mIoU on tiny folders laid out like Cityscapes."""

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import id2label
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_opengan.contracts import FIRST_OPEN, GT_OPEN_MAP, IGNORE, VOID
from mmseg_opengan.datasets import transforms  # noqa: F401
from mmseg_opengan.datasets.cityscapes import CityscapesOpenSet

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadOpenSetAnnotations'),
    dict(type='PackOpenSetInputs'),
]
SIZE = (6, 8)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


def write_tree(root, train=13, val=3, ids=range(34)):
    """Random images and labels; 'train' over two cities. Returns the training stems, sorted."""
    rng = np.random.default_rng(0)
    stems = []
    for folder, count in (('train', train), ('val', val)):
        for i in range(count):
            stem = f'{folder}/{"ulm" if i % 2 else "bonn"}/{i:03d}'
            for kind, end, data in (
                ('leftImg8bit', '_leftImg8bit.png', rng.integers(0, 256, (*SIZE, 3), np.uint8)),
                ('gtFine', '_gtFine_labelIds.png', rng.choice(np.array(ids, np.uint8), SIZE)),
            ):
                path = root / kind / (stem + end)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(data).save(path)
            stems.append(stem)
    return sorted(stem for stem in stems if stem.startswith('train'))


def stems_of(dataset):
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [
        '/'.join(info['img_path'].split('/')[-3:]).removesuffix('_leftImg8bit.png')
        for info in infos
    ]


def test_split(tmp_path):
    stems = write_tree(tmp_path)
    train, val, test = (
        CityscapesOpenSet(data_root=tmp_path, split=s) for s in ('train', 'open_val', 'test')
    )
    assert stems_of(train) == stems[:3]
    assert stems_of(val) == stems[-10:]
    assert [stem.split('/')[0] for stem in stems_of(test)] == ['val'] * 3
    assert len(CityscapesOpenSet(data_root=tmp_path, num_open_val=4)) == 9


def test_data_info_is_what_mmseg_expects(tmp_path):
    write_tree(tmp_path)
    info = CityscapesOpenSet(data_root=tmp_path, split='test').get_data_info(0)
    assert info['img_path'] == str(tmp_path / 'leftImg8bit/val/bonn/000_leftImg8bit.png')
    assert info['seg_map_path'] == str(tmp_path / 'gtFine/val/bonn/000_gtFine_labelIds.png')
    assert info['seg_fields'] == []
    assert info['reduce_zero_label'] is False
    assert info['label_map'] is None
    assert info['label_policy'] == 'cityscapes/paper'


def test_metainfo(tmp_path):
    write_tree(tmp_path)
    meta = CityscapesOpenSet(
        data_root=tmp_path, policy='strict', ignore_open='caravan', lazy_init=True
    ).metainfo
    assert len(meta['classes']) == len(meta['palette']) == 19
    assert meta['palette'][0] == [128, 64, 128]
    assert meta['open_classes'][:2] == ('static', 'dynamic')
    assert meta['label_policy'] == 'cityscapes/strict/ignore:caravan'
    with pytest.raises(ValueError, match='metainfo: wanted the classes of policy'):
        CityscapesOpenSet(data_root=tmp_path, metainfo=dict(classes=('road', 'car')))


def test_draws_are_nested_seeded_and_from_train(tmp_path):
    stems = write_tree(tmp_path, train=30)
    draws = {
        n: stems_of(CityscapesOpenSet(data_root=tmp_path, num_open_images=n)) for n in (5, 10, 20)
    }
    assert [len(draw) for draw in draws.values()] == [5, 10, 20]
    assert set(draws[5]) < set(draws[10]) < set(draws[20]) == set(stems[:20])
    assert draws[10] == sorted(draws[10])
    assert stems_of(CityscapesOpenSet(data_root=tmp_path, num_open_images=10)) == draws[10]
    assert (
        stems_of(
            CityscapesOpenSet(
                data_root=tmp_path,
                num_open_images=10,
                seed=1,
            )
        )
        != draws[10]
    )


def test_lazy_init_indices_and_registry(tmp_path):
    write_tree(tmp_path)
    lazy = DATASETS.build(
        dict(
            type='CityscapesOpenSet',
            data_root=str(tmp_path),
            split='open_val',
            lazy_init=True,
            indices=4,
            pipeline=PIPELINE,
            test_mode=True,
            serialize_data=False,
        )
    )
    assert lazy.data_list == []
    lazy.full_init()
    assert len(lazy) == 4
    assert lazy[3]['data_samples'].gt_sem_seg.data.shape == (1, *SIZE)


def test_read_labels_equals_pipeline(tmp_path):
    write_tree(tmp_path)
    dataset = CityscapesOpenSet(
        data_root=tmp_path,
        split='test',
        pipeline=PIPELINE,
    )
    for i in range(len(dataset)):
        closed, open_map = dataset.read_labels(i)
        sample = dataset[i]['data_samples']
        assert closed.dtype == open_map.dtype == np.uint8
        assert (sample.gt_sem_seg.data[0].numpy() == closed).all()
        assert (sample.get(GT_OPEN_MAP).data[0].numpy() == open_map).all()
        assert sample.label_policy == 'cityscapes/paper'
        assert sample.seg_map_path.endswith('_gtFine_labelIds.png')


def test_images_without_open_pixels_are_normal(tmp_path):
    write_tree(tmp_path, ids=(7, 8, 26))
    dataset = CityscapesOpenSet(data_root=tmp_path, pipeline=PIPELINE)
    assert all((item['data_samples'].get(GT_OPEN_MAP).data == 0).all() for item in dataset)


def test_miou_is_the_ordinary_one(tmp_path):
    """IoUMetric on our gt_sem_seg equals IoUMetric on trainIds made without our code, though open
    ids abound.
    """
    write_tree(tmp_path, val=6)
    dataset = CityscapesOpenSet(
        data_root=tmp_path,
        split='test',
        pipeline=PIPELINE,
    )
    rng = torch.Generator().manual_seed(0)
    ours, plain = IoUMetric(), IoUMetric()
    ours.dataset_meta = plain.dataset_meta = dataset.metainfo
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        raw = np.array(Image.open(sample.seg_map_path)).tolist()
        train_ids = torch.tensor([[id2label[k].trainId for k in row] for row in raw])
        prediction = torch.randint(0, 19, (1, *SIZE), generator=rng)
        guided = torch.rand(prediction.shape, generator=rng) < 0.5
        prediction = torch.where(guided & (train_ids != 255), train_ids, prediction)
        sample.pred_sem_seg = PixelData(data=prediction)
        ours.process({}, [sample.to_dict()])
        plain.process(
            {}, [dict(pred_sem_seg=dict(data=prediction), gt_sem_seg=dict(data=train_ids[None]))]
        )
    found, wanted = ours.compute_metrics(ours.results), plain.compute_metrics(plain.results)
    assert found == wanted
    assert 20 < wanted['mIoU'] < 80


def test_ignore_open_reaches_the_maps(tmp_path):
    write_tree(tmp_path)
    every = CityscapesOpenSet(data_root=tmp_path, split='open_val')
    fewer = CityscapesOpenSet(
        data_root=tmp_path,
        split='open_val',
        ignore_open=['caravan'],
    )
    value = FIRST_OPEN + every.metainfo['open_classes'].index('caravan')
    before = np.stack([every.read_labels(i)[1] for i in range(10)])
    after = np.stack([fewer.read_labels(i)[1] for i in range(10)])
    assert (before == value).any()
    assert (after == np.where(before == value, VOID, before)).all()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(split='val'), "split must be one of .*got 'val'"),
        (dict(policy='loose'), "policy must be one of .*got 'loose'"),
        (
            dict(num_open_images=4),
            r'num_open_images must be None or between 1 and the 3 images there are, but got 4',
        ),
        (dict(num_open_val=13), 'must hold more than num_open_val=13 images, but holds 13'),
        (dict(num_open_val=0), 'num_open_val must be at least 1'),
        (dict(img_suffix='.tif'), r"holds no images: wanted files that end in '\.tif', found none"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    write_tree(tmp_path)
    with pytest.raises(ValueError, match=message):
        CityscapesOpenSet(data_root=tmp_path, **options)


def test_missing_root_and_missing_label(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"needs the folder '.*nowhere/leftImg8bit/train', which does not"
    ):
        CityscapesOpenSet(data_root=tmp_path / 'nowhere')
    write_tree(tmp_path)
    (tmp_path / 'gtFine/val/bonn/002_gtFine_labelIds.png').unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of 3 images .* no label: .*002_gtFine_labelIds\.png'.*2 files"
    ):
        CityscapesOpenSet(data_root=tmp_path, split='test')


@pytest.mark.parametrize('content', [b'', b'not an image', None])
def test_unreadable_image_is_named(tmp_path, content):
    write_tree(tmp_path)
    path = tmp_path / 'leftImg8bit/val/bonn/000_leftImg8bit.png'
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    dataset = CityscapesOpenSet(
        data_root=tmp_path,
        split='test',
        pipeline=PIPELINE,
    )
    size = path.stat().st_size
    with pytest.raises(
        ValueError, match=rf"Image '.*000_leftImg8bit\.png' cannot be decoded.*found {size} bytes"
    ):
        dataset[0]


def test_failure_of_another_step_is_not_blamed_on_the_image(tmp_path):
    write_tree(tmp_path)
    dataset = CityscapesOpenSet(
        data_root=tmp_path,
        split='test',
        pipeline=PIPELINE[:1],
    )

    def fail(results):
        raise AssertionError('another step')

    dataset.pipeline.transforms.append(fail)
    with pytest.raises(AssertionError, match='another step'):
        dataset[0]


def test_policy_changes_the_open_map_only(tmp_path):
    write_tree(tmp_path)
    maps = {
        p: CityscapesOpenSet(
            data_root=tmp_path,
            split='test',
            policy=p,
        ).read_labels(0)
        for p in ('paper', 'strict', 'all')
    }
    raw = np.array(Image.open(tmp_path / 'gtFine/val/bonn/000_gtFine_labelIds.png'))
    assert all((closed == maps['paper'][0]).all() for closed, _ in maps.values())
    assert ((maps['paper'][1] == VOID) == np.isin(raw, (1, 2, 3))).all()
    assert ((maps['strict'][1] == VOID) == np.isin(raw, (0, 1, 2, 3))).all()
    assert not (maps['all'][1] == VOID).any()
    assert ((maps['all'][1] > 0) == (maps['all'][0] == IGNORE)).all()
