"""Images for a D that reads them: which pixels may be trained on, crops, and a pure function of
(seed, step).
"""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from tiny_cityscapes import images, write_images

from mmseg_opengan.contracts import CLOSED, VOID


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Root of a few images like Cityscapes'."""
    return write_images(tmp_path_factory.mktemp('world'))


def source(world, open_=(), **sampler):
    """``open_`` are options of the open dataset; None for no open images at all."""
    init_default_scope('mmseg')
    sampler = (
        dict(
            type='PatchSampler',
            num_closed=12,
            num_open=6,
            num_fake=4,
        )
        | sampler
    )
    return DATASETS.build(
        dict(
            type='ImageSource',
            sampler=sampler,
            closed=images(world),
            open=None if open_ is None else images(world, **dict(open_)),
        )
    )


def numbers(batch):
    """The blue channel of the tiny images is their number."""
    return [int(image[0, 0, 0]) for image in batch['inputs']]


def has_open(labels):
    return bool(((labels != CLOSED) & (labels != VOID)).any())


def test_a_batch_is_one_image_of_all_and_one_with_open_pixels(world):
    made = source(world)
    assert len(made) == 6
    epoch = [made[0, step] for step in range(6)]
    assert sorted(numbers(batch)[0] for batch in epoch) == list(
        range(6)
    )  # every image once an epoch
    for batch in epoch:
        assert sorted(batch) == ['draw', 'inputs', 'open_maps']
        assert [image.shape for image in batch['inputs']] == [(3, 24, 32)] * 2
        assert [labels.shape for labels in batch['open_maps']] == [(24, 32)] * 2
        for number, labels in zip(numbers(batch), batch['open_maps']):
            wanted = made.closed_images.read_labels(number)[1]
            assert np.array_equal(labels, wanted)  # all images may give open pixels here


def test_open_pixels_come_from_the_open_images_alone(world):
    made = source(world, dict(num_open_images=2, seed=3))
    allowed = {numbers(dict(inputs=[made.open_images[i]['inputs']]))[0] for i in range(2)}
    for step in range(12):
        batch = made[0, step]
        assert numbers(batch)[1] in allowed
        for number, labels in zip(numbers(batch), batch['open_maps']):
            true = made.closed_images.read_labels(number)[1]
            assert np.array_equal(labels == CLOSED, true == CLOSED)
            assert has_open(labels) == (number in allowed and has_open(true))


def test_without_open_images_no_open_pixel_is_seen(world):
    made = source(world, None, closed_images_per_batch=3)
    for step in range(6):
        batch = made[0, step]
        assert len(batch['inputs']) == 3
        assert not any(has_open(labels) for labels in batch['open_maps'])


def test_crops_are_of_image_and_labels_alike(world):
    made = source(world, crop_size=(8, 12))
    for step in range(6):
        batch = made[0, step]
        for i, (image, labels) in enumerate(zip(batch['inputs'], batch['open_maps'])):
            number, row, col = image[:, 0, 0].tolist()  # images tell where a pixel came from
            whole = made.closed_images.read_labels(number)[1]
            assert image.shape == (3, 8, 12)
            assert np.array_equal(labels, whole[row : row + 8, col : col + 12])
            assert i == 0 or has_open(labels) == has_open(
                whole
            )  # drawn for its open pixels: the crop holds one


def test_a_batch_is_a_pure_function_of_seed_and_step(world):
    first = source(world, crop_size=(8, 12))
    second = source(world, crop_size=(8, 12))
    late = second[0, 4]
    for step in range(5):
        one = first[0, step]
        other = second[0, step] if step < 4 else late
        assert all(
            torch.equal(a, b)
            for key in ('inputs', 'open_maps')
            for a, b in zip(one[key], other[key])
        )


def test_a_skipped_step_costs_nothing(world):
    assert source(world)[None] == {}


def test_labels_of_another_size_than_the_image_are_refused(world):
    made = source(world, None)
    made.closed_images.pipeline.transforms.insert(
        1,
        lambda results: {
            **results,
            'img': results['img'].repeat(2, 0).repeat(2, 1),
            'img_shape': (48, 64),
        },
    )
    with pytest.raises(
        ValueError, match=r"_leftImg8bit.png': wanted labels of the image's size, \(48, 64\), found"
    ):
        made._closed_item(0)
