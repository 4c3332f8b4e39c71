"""Anomaly masks: tiny folders, and the real ones where they are at hand."""

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_opengan.contracts import CLOSED, FIRST_OPEN, GT_OPEN_MAP, IGNORE, VOID
from mmseg_opengan.datasets import transforms  # noqa: F401
from mmseg_opengan.datasets.anomaly import AnomalyMasks

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadOpenSetAnnotations'),
    dict(type='PackOpenSetInputs'),
]


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


@pytest.fixture
def tree(tmp_path):
    for folder in ('images', 'masks'):
        (tmp_path / folder).mkdir()
    for i in (0, 1):
        Image.fromarray(np.full((4, 6, 3), 50 * i, np.uint8)).save(tmp_path / f'images/{i}.jpg')
        Image.fromarray(np.array([[0, 1, 255] * 2] * 4, np.uint8) * (1 - i)).save(
            tmp_path / f'masks/{i}.png'
        )
    return tmp_path


def test_maps_and_metainfo(tree):
    dataset = AnomalyMasks(data_root=tree, pipeline=PIPELINE, test_mode=True)
    assert len(dataset) == 2
    assert dataset.metainfo['classes'][0] == 'road'
    assert len(dataset.metainfo['classes']) == len(dataset.metainfo['palette']) == 19
    assert dataset.metainfo['open_classes'] == ('anomaly',)
    assert dataset.metainfo['label_policy'] == 'anomaly'
    sample = dataset[0]['data_samples']
    assert (sample.gt_sem_seg.data == IGNORE).all()
    assert sample.get(GT_OPEN_MAP).data[0, 0].tolist() == [CLOSED, FIRST_OPEN, VOID] * 2
    assert (dataset[1]['data_samples'].get(GT_OPEN_MAP).data == CLOSED).all()


def test_classes_of_another_network(tree):
    dataset = AnomalyMasks(data_root=tree, classes=('ground', 'sky'))
    assert dataset.metainfo['classes'] == ('ground', 'sky')
    assert len(dataset.metainfo['palette']) == 2
    assert dataset.metainfo['label_policy'] == 'anomaly'
    coloured = AnomalyMasks(
        data_root=tree, classes=('ground', 'sky'), palette=[[1, 2, 3], [4, 5, 6]]
    )
    assert coloured.metainfo['palette'] == [[1, 2, 3], [4, 5, 6]]


def test_other_folder_names(tree):
    (tree / 'masks').rename(tree / 'labels_masks')
    for i in (0, 1):
        (tree / f'labels_masks/{i}.png').rename(tree / f'labels_masks/{i}_labels_semantic.png')
    dataset = AnomalyMasks(
        data_root=tree,
        data_prefix=dict(img_path='images', seg_map_path='labels_masks'),
        seg_map_suffix='_labels_semantic.png',
    )
    assert dataset.get_data_info(1)['seg_map_path'] == str(
        tree / 'labels_masks/1_labels_semantic.png'
    )


def test_errors(tree):
    Image.fromarray(np.full((4, 6), 2, np.uint8)).save(tree / 'masks/0.png')
    with pytest.raises(
        ValueError,
        match=r"0\.png' holds unknown ids: 2 \(24 pixels\).*'anomaly' knows \[0, 1, 255\]",
    ):
        AnomalyMasks(data_root=tree).read_labels(0)
    (tree / 'masks/0.png').unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of 2 images .* have no label: wanted e\.g\. '.*masks/0\.png'"
    ):
        AnomalyMasks(data_root=tree)


@pytest.mark.parametrize(
    ('name', 'images', 'open_percent', 'void_percent'),
    [('RoadAnomaly21', 10, 14.29, 3.48), ('fs_static', 30, 1.17, 15.2)],
)
def test_real_pixel_shares(shared, name, images, open_percent, void_percent):
    dataset = AnomalyMasks(data_root=shared / 'data/road_anomaly' / name)
    counts = sum(
        np.bincount(dataset.read_labels(i)[1].ravel(), minlength=256) for i in range(len(dataset))
    )
    assert len(dataset) == images
    assert 100 * counts[FIRST_OPEN] / counts.sum() == pytest.approx(open_percent, abs=0.006)
    assert 100 * counts[VOID] / counts.sum() == pytest.approx(void_percent, abs=0.06)
