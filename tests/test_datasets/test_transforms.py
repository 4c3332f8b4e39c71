"""Loading and packing of the two ground-truth maps, and mmseg's transforms on both."""

import mmcv
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_opengan.contracts import GT_OPEN_MAP
from mmseg_opengan.datasets import transforms
from mmseg_opengan.datasets.label_file import ORIENTATION
from mmseg_opengan.datasets.label_map import cityscapes_labels

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadOpenSetAnnotations')]
PACK = dict(type='PackOpenSetInputs')


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


@pytest.fixture
def sample(tmp_path):
    """What a dataset hands to the pipeline: a 12x16 image and label, all 34 ids."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).save(tmp_path / 'a.png')
    Image.fromarray(rng.integers(0, 34, (12, 16), np.uint8)).save(tmp_path / 'a_ids.png')
    return dict(
        img_path=str(tmp_path / 'a.png'),
        seg_map_path=str(tmp_path / 'a_ids.png'),
        seg_fields=[],
        label_map=None,
        reduce_zero_label=False,
        label_policy='cityscapes/paper',
        open_labels=cityscapes_labels(),
    )


def loaded(sample):
    return Compose(LOAD)(dict(sample, seg_fields=[]))


def test_load_and_pack(sample):
    packed = Compose([*LOAD, PACK])(sample)
    raw = np.array(Image.open(sample['seg_map_path']))
    gt, open_map = (
        packed['data_samples'].gt_sem_seg.data,
        packed['data_samples'].get(GT_OPEN_MAP).data,
    )
    assert packed['inputs'].shape == (3, 12, 16)
    assert (open_map.dtype, open_map.shape, gt.shape) == (torch.uint8, (1, 12, 16), (1, 12, 16))
    assert (gt[0].numpy() == cityscapes_labels().closed_lut[raw]).all()
    assert (open_map[0].numpy() == cityscapes_labels().open_lut[raw]).all()
    assert packed['data_samples'].ori_shape == packed['data_samples'].img_shape == (12, 16)
    assert packed['data_samples'].label_policy == 'cityscapes/paper'
    assert 'open_labels' not in packed['data_samples'].metainfo


def test_samples_collate(sample):
    batch = pseudo_collate([Compose([*LOAD, PACK])(dict(sample, seg_fields=[])) for _ in range(2)])
    assert [s.get(GT_OPEN_MAP).data.shape for s in batch['data_samples']] == [(1, 12, 16)] * 2


@pytest.mark.parametrize('direction', ['horizontal', 'diagonal'])
def test_flip_moves_both_maps(sample, direction):
    before = loaded(sample)
    after = Compose(
        [
            *LOAD,
            dict(
                type='RandomFlip',
                prob=1.0,
                direction=direction,
            ),
            PACK,
        ]
    )(sample)['data_samples']
    axes = {'horizontal': (1,), 'vertical': (0,), 'diagonal': (0, 1)}[direction]
    assert (after.gt_sem_seg.data[0].numpy() == np.flip(before['gt_seg_map'], axes)).all()
    assert (after.get(GT_OPEN_MAP).data[0].numpy() == np.flip(before[GT_OPEN_MAP], axes)).all()
    assert (after.flip, after.flip_direction) == (True, direction)


@pytest.mark.parametrize('scale', [(32, 24), (9, 7)])
def test_resize_is_nearest_on_both_maps(sample, scale):
    before = loaded(sample)
    after = Compose(
        [
            *LOAD,
            dict(
                type='Resize',
                scale=scale,
                keep_ratio=False,
            ),
            PACK,
        ]
    )(sample)['data_samples']
    for found, key in ((after.gt_sem_seg, 'gt_seg_map'), (after.get(GT_OPEN_MAP), GT_OPEN_MAP)):
        assert found.data.shape == (1, scale[1], scale[0])
        assert (
            found.data[0].numpy() == mmcv.imresize(before[key], scale, interpolation='nearest')
        ).all()


def test_crop_cuts_the_same_window_of_both_maps(sample):
    np.random.seed(0)  # noqa: NPY002 - mmseg's RandomCrop draws from numpy's global state
    before = loaded(sample)
    after = Compose([*LOAD, dict(type='RandomCrop', crop_size=(5, 6)), PACK])(sample)[
        'data_samples'
    ]
    gt, open_map = after.gt_sem_seg.data[0].numpy(), after.get(GT_OPEN_MAP).data[0].numpy()
    places = [
        (y, x)
        for y in range(8)
        for x in range(11)
        if (before['gt_seg_map'][y : y + 5, x : x + 6] == gt).all()
    ]
    assert len(places) == 1
    y, x = places[0]
    assert (before[GT_OPEN_MAP][y : y + 5, x : x + 6] == open_map).all()


def test_labels_may_be_loaded_after_a_resize_of_the_image(sample):
    """mmseg's test pipelines do so: ground truth keeps the original size."""
    resize = dict(type='Resize', scale=(32, 24), keep_ratio=False)
    packed = Compose([LOAD[0], resize, LOAD[1], PACK])(sample)
    assert packed['inputs'].shape == (3, 24, 32)
    assert packed['data_samples'].get(GT_OPEN_MAP).data.shape == (1, 12, 16)


def test_transform_that_forgets_the_open_map_is_found(sample):
    with pytest.raises(
        ValueError, match=r'no longer fit: gt_seg_map \(20, 20\), gt_open_map \(12, 16\)'
    ):
        Compose([*LOAD, dict(type='Pad', size=(20, 20)), PACK])(sample)
    flipped = loaded(sample)
    flipped['gt_seg_map'] = flipped['gt_seg_map'][:, ::-1]
    with pytest.raises(ValueError, match='no longer fit'):
        transforms.PackOpenSetInputs()(flipped)


def test_pack_without_labels(sample):
    packed = Compose([LOAD[0], PACK])(sample)
    assert 'gt_sem_seg' not in packed['data_samples']
    assert GT_OPEN_MAP not in packed['data_samples']


def test_size_mismatch_names_both_files_and_sizes(sample, tmp_path):
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / 'a_ids.png')
    with pytest.raises(
        ValueError, match=r"'.*a\.png' and label '.*a_ids\.png' .* image is 12x16 and label is 6x8"
    ):
        Compose(LOAD)(sample)


def test_missing_label_file(sample, tmp_path):
    (tmp_path / 'a_ids.png').unlink()
    with pytest.raises(FileNotFoundError, match=r"Label file '.*a_ids\.png' does not exist"):
        Compose(LOAD)(sample)


def test_unknown_id_names_file_and_ids(sample, tmp_path):
    Image.fromarray(np.full((12, 16), 77, np.uint8)).save(tmp_path / 'a_ids.png')
    with pytest.raises(
        ValueError, match=r"'.*a_ids\.png' holds unknown ids: 77 \(192 pixels\).* knows \[0, 1,"
    ):
        Compose(LOAD)(sample)


def test_an_image_alone_has_no_labels(sample):
    """As mmseg's own inference hands it over."""
    packed = Compose([*LOAD, PACK])(dict(img_path=sample['img_path']))
    assert GT_OPEN_MAP not in packed['data_samples']


def test_results_of_a_foreign_dataset(sample):
    del sample['open_labels']
    with pytest.raises(ValueError, match="needs 'open_labels' from an open-set dataset"):
        Compose(LOAD)(sample)


@pytest.mark.parametrize(
    ('kind', 'orientation'), [('JPEG', 3), ('PNG', 3), ('TIFF', 3), ('WEBP', 3), ('PNG', 1)]
)
def test_an_image_that_is_turned_by_its_orientation_is_named_once(
    sample, tmp_path, monkeypatch, kind, orientation
):
    """OpenCV turns the image as it reads it; its label stays as it lies."""
    logged = []
    monkeypatch.setattr(transforms, 'print_log', lambda text, **options: logged.append(text))
    image = Image.open(sample['img_path'])
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    image.save(tmp_path / 'turned', kind, exif=exif)
    sample['img_path'] = str(tmp_path / 'turned')
    pipeline = Compose(LOAD)
    for _ in range(2):
        loaded_image = pipeline(dict(sample, seg_fields=[]))['img'][..., ::-1]
    if orientation == 1:
        assert logged == []
        return
    (message,) = logged
    assert f"'{tmp_path / 'turned'}' is turned by its EXIF orientation 3" in message
    if kind in ('PNG', 'TIFF'):  # which keep every bit
        assert (loaded_image == np.asarray(image)[::-1, ::-1]).all()
    if kind == 'PNG':
        kept = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
        unturned = Compose([kept])(dict(sample))['img'][..., ::-1]
        assert (unturned == np.asarray(image)).all()
