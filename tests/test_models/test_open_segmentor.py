"""The frozen segmentor: its closed prediction is mmseg's bit for bit, and score maps travel beside
it.
"""

from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils.misc import stack_batch
from small_models import (
    NUM_CLASSES,
    SEGMENTORS,
    SLIDE,
    batch_of,
    build_open,
    pair,
    raw_image,
)

import mmseg_opengan.models.scorers.kplus1  # noqa: F401
from mmseg_opengan.contracts import OPEN_SCORES, OPENGAN
from mmseg_opengan.functional import scores
from mmseg_opengan.models.networks import discriminate

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'models'
SCORERS = dict(msp=dict(type='MSP'), entropy=dict(type='Entropy'))
VIEWS = {
    'whole': (None, [dict()]),
    # what a pipeline or mmseg's padding in test may do to an image
    'resized': (None, [dict(ori_shape=(90, 70))]),
    'two_images_of_different_original_size': (
        None,
        [dict(ori_shape=(90, 70)), dict(seed=1, ori_shape=(50, 64))],
    ),
    'padded': (None, [dict(height=50, width=60)]),
    'flipped': (
        None,
        [
            dict(flip=True, flip_direction='horizontal'),
            dict(flip=True, flip_direction='vertical', seed=1),
        ],
    ),
    'padded_and_flipped': (
        None,
        [dict(height=50, width=60, flip=True, flip_direction='horizontal')],
    ),
    'slide': (
        SLIDE,
        [
            dict(height=80, width=100),
            dict(
                height=80,
                width=100,
                seed=1,
            ),
        ],
    ),
    'slide_resized': (
        SLIDE,
        [
            dict(
                height=80,
                width=100,
                ori_shape=(160, 200),
            )
        ],
    ),
    'slide_over_a_smaller_image': (SLIDE, [dict(height=32, width=60)]),
}


def predict(model, images):
    """Both predictions through mmengine's own entry, from raw images."""
    with torch.no_grad():
        return model.test_step(batch_of(*(raw_image(**image) for image in images)))


def assert_same_closed_prediction(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.seg_logits.data, other.seg_logits.data)
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)


HEADS_AND_VIEWS = [('FCNHead', view) for view in VIEWS]
HEADS_AND_VIEWS += [(name, view) for name in SEGMENTORS for view in ('padded_and_flipped', 'slide')]


@pytest.mark.parametrize(('name', 'view'), sorted(set(HEADS_AND_VIEWS)))
def test_closed_prediction_is_bit_identical(name, view):
    test_cfg, images = VIEWS[view]
    plain, wrapped = pair(
        name, test_cfg=test_cfg, scorers=SCORERS, size_divisor=32 if 'padded' in view else None
    )
    ours = predict(wrapped, images)
    theirs = predict(plain, images)
    assert_same_closed_prediction(ours, theirs)
    assert len(theirs[0].seg_logits.data.unique()) > 100  # the comparison sees real logits
    for sample in ours:
        maps = sample.get(OPEN_SCORES)
        assert set(maps.keys()) == {OPENGAN, *SCORERS}
        assert maps.shape == tuple(sample.metainfo['ori_shape'])
        assert sample.seg_logits.data.shape[0] == NUM_CLASSES  # no score map is a class channel


@torch.no_grad()
def test_batch_of_images_of_different_sizes():
    """Images padded to one size, as mmseg's stack_batch does it, come back at their own sizes."""
    plain, wrapped = pair(scorers=SCORERS)
    results = []
    for model in (plain, wrapped):
        images, samples = zip(*(raw_image(40 + 8 * i, 64 - 16 * i, seed=i) for i in range(3)))
        inputs, padded = stack_batch([image.float() / 60 for image in images], size_divisor=32)
        for sample, info in zip(samples, padded):
            sample.set_metainfo(info)
        results.append(model.predict(inputs, list(samples)))
    assert_same_closed_prediction(results[1], results[0])
    assert [tuple(s.get(OPEN_SCORES).shape) for s in results[1]] == [(40, 64), (48, 48), (56, 32)]


@torch.no_grad()
def test_prediction_without_data_samples():
    plain, wrapped = pair(scorers=SCORERS)
    inputs = torch.randn(2, 3, 64, 64)
    ours = wrapped.predict(inputs)
    theirs = plain.predict(inputs)
    assert_same_closed_prediction(ours, theirs)
    assert ours[1].get(OPEN_SCORES).shape == (64, 64)


def test_a_trained_hrnet_on_a_photograph(shared):
    """The real weights, under their published names, in the model that the CamVid configs train."""
    weights = str(shared / 'weights' / 'hrnet18s_camvid.pth')
    cfg = Config.fromfile(CONFIGS / 'opengan_fcn_hr18s.py').model
    cfg.segmentor.config.model.decode_head.num_classes = 11
    cfg.segmentor.checkpoint = weights
    wrapped = MODELS.build(cfg).eval()
    plain = MODELS.build(cfg.segmentor.config.model).eval()
    load_checkpoint(plain, weights, map_location='cpu')
    frame = cv2.imread(str(sorted((shared / 'data' / 'camvid' / 'val').glob('*'))[0]))
    image = torch.from_numpy(frame).permute(2, 0, 1)
    size = tuple(image.shape[1:])
    theirs, ours = (
        [
            model.test_step(
                dict(
                    inputs=[image],
                    data_samples=[
                        SegDataSample(
                            metainfo=dict(
                                ori_shape=size,
                                img_shape=size,
                                pad_shape=size,
                            )
                        )
                    ],
                )
            )[0]
        ]
        for model in (plain, wrapped)
    )
    assert_same_closed_prediction(ours, theirs)
    assert len(ours[0].pred_sem_seg.data.unique()) >= 5  # a street, not noise
    assert ours[0].get(OPEN_SCORES).shape == (size[0] // 4, size[1] // 4)


# ------------------------------------------------------------------ score maps


def features_of(model, image):
    """The tap of one raw image, by the direct way."""
    return model.tap_of(model.data_preprocessor(batch_of(image))['inputs'])


@pytest.mark.parametrize('name', SEGMENTORS)
@torch.no_grad()
def test_feature_resolution_is_the_direct_computation_on_the_tap(name):
    model = build_open(name, resolution='feature', scorers=SCORERS)
    image = raw_image(64, 96)
    tap = features_of(model, image)
    maps = model.test_step(batch_of(image))[0].get(OPEN_SCORES)
    assert torch.equal(maps.get(OPENGAN), -discriminate(model.discriminator, tap.features))
    assert torch.equal(maps.msp, scores.msp(tap.logits))
    assert torch.equal(maps.entropy, scores.entropy(tap.logits))


@torch.no_grad()
def test_image_resolution_resizes_features_scores_and_scores_resized_logits():
    model = build_open(scorers=SCORERS)
    image = raw_image(64, 96)
    tap = features_of(model, image)
    sample = model.test_step(batch_of(image))[0]
    maps = sample.get(OPEN_SCORES)
    direct = -discriminate(model.discriminator, tap.features)[:, None]
    assert torch.equal(
        maps.get(OPENGAN),
        resize(
            direct,
            size=(64, 96),
            mode='bilinear',
            align_corners=False,
        )[0],
    )
    assert torch.equal(maps.msp, scores.msp(sample.seg_logits.data[None]))


@pytest.mark.parametrize('direction', ['horizontal', 'vertical'])
def test_a_flipped_image_gives_the_flipped_back_map(direction):
    model = build_open(scorers=SCORERS)
    axis = dict(vertical=1, horizontal=2)[direction]
    image, sample = raw_image(64, 96)
    _, told = raw_image(64, 96, flip=True, flip_direction=direction)
    with torch.no_grad():
        untold, flipped = (
            model.test_step(dict(inputs=[image], data_samples=[s]))[0] for s in (sample, told)
        )
    for name in (OPENGAN, *SCORERS):
        torch.testing.assert_close(
            flipped.get(OPEN_SCORES).get(name), untold.get(OPEN_SCORES).get(name).flip(axis)
        )


@torch.no_grad()
def test_padding_is_cut_off_the_map():
    """The map of a padded image is the top left part of the map over the padded canvas."""
    model = build_open(size_divisor=32)
    image, sample = raw_image(50, 60)
    cut = (
        model.test_step(dict(inputs=[image], data_samples=[sample]))[0]
        .get(OPEN_SCORES)
        .get(OPENGAN)
    )
    canvas = model.data_preprocessor(batch_of(raw_image(50, 60)))['inputs']
    assert canvas.shape[2:] == (64, 64)
    whole = model.predict(canvas)[0].get(OPEN_SCORES).get(OPENGAN)
    torch.testing.assert_close(cut, whole[:, :50, :60])


@pytest.mark.parametrize('size', [(80, 100), (48, 64), (97, 65), (32, 200)])
@torch.no_grad()
def test_slide_score_map_equals_a_written_out_accumulation(size):
    model = build_open(test_cfg=SLIDE, scorers=SCORERS)
    image = raw_image(*size)
    inputs = model.data_preprocessor(batch_of(image))['inputs']
    height, width = size
    rows, cols = SLIDE['crop_size']
    down, right = SLIDE['stride']
    total = torch.zeros(size)
    count = torch.zeros(size)
    last_top = max(height - rows, 0)
    last_left = max(width - cols, 0)
    for top in sorted({min(t, last_top) for t in range(0, height, down)}):
        for left in sorted({min(t, last_left) for t in range(0, width, right)}):
            crop = inputs[:, :, top : top + rows, left : left + cols]
            window = -discriminate(model.discriminator, model.tap_of(crop).features)[:, None]
            window = resize(
                window,
                size=crop.shape[2:],
                mode='bilinear',
                align_corners=False,
            )[0, 0]
            for row in range(window.shape[0]):
                total[top + row, left : left + window.shape[1]] += window[row]
                count[top + row, left : left + window.shape[1]] += 1
    sample = model.test_step(batch_of(image))[0]
    torch.testing.assert_close(sample.get(OPEN_SCORES).get(OPENGAN)[0], total / count)
    assert torch.equal(
        sample.get(OPEN_SCORES).entropy, scores.entropy(sample.seg_logits.data[None])
    )


@pytest.mark.parametrize(
    ('test_cfg', 'image', 'size_divisor'),
    [
        (None, dict(ori_shape=(128, 128)), None),
        (None, dict(flip=True, flip_direction='horizontal'), None),
        (None, dict(height=50, width=60), 32),
        (None, dict(padding_size=[0, 8, 0, 0]), None),
        (None, dict(img_padding_size=[0, 0, 0, 8]), None),
    ],
)
def test_feature_resolution_refuses_other_geometry(test_cfg, image, size_divisor):
    model = build_open(resolution='feature', size_divisor=size_divisor)
    with pytest.raises(
        ValueError, match=r"resolution='feature' needs.*0\.png.*Use resolution='image'"
    ):
        predict(model, [image])


def test_feature_resolution_refuses_slide():
    model = build_open(resolution='feature', test_cfg=SLIDE)
    with pytest.raises(ValueError, match=r"need test_cfg.mode='whole', found 'slide'"):
        predict(model, [dict(height=80, width=100)])


def test_smoothing_averages_every_map_over_the_same_part_of_the_image():
    on_grid = build_open(resolution='feature', scorers=SCORERS)

    def maps(**options):
        model = build_open(scorers=SCORERS, **options)
        model.load_state_dict(on_grid.state_dict())
        return predict(model, [dict()])[0]

    sharp = maps(resolution='feature')
    soft = maps(resolution='feature', smoothing=12.0)
    assert_same_closed_prediction([soft], [sharp])
    size = sharp.metainfo['ori_shape']
    for name, found in soft.get(OPEN_SCORES).items():
        before = sharp.get(OPEN_SCORES).get(name)
        assert torch.equal(
            found,
            scores.smoothed(before, tuple(12 * a / b for a, b in zip(before.shape[1:], size))),
        )
    at_size = maps(resolution='image', smoothing=12.0).get(OPEN_SCORES)
    wanted = resize(
        soft.get(OPEN_SCORES).get(OPENGAN)[None], size=size, mode='bilinear', align_corners=False
    )[0]
    torch.testing.assert_close(at_size.get(OPENGAN), wanted)
    sharp_msp = maps(resolution='image').get(OPEN_SCORES).get('msp')
    assert torch.equal(at_size.get('msp'), scores.smoothed(sharp_msp, (12.0, 12.0)))


def test_smoothing_is_that_of_the_image_also_beside_padding():
    def energy(smoothing):
        model = build_open(
            size_divisor=32, scorers=dict(energy=dict(type='Energy')), smoothing=smoothing
        )
        return predict(model, [dict(height=36, width=40)])[0].get(OPEN_SCORES).get('energy')

    torch.testing.assert_close(energy(4.0), scores.smoothed(energy(0.0), (4.0, 4.0)))


def test_smoothing_is_not_negative():
    with pytest.raises(ValueError, match=r'smoothing: wanted a number in \[0, inf\), found -1'):
        build_open(smoothing=-1)


def test_unknown_resolution():
    with pytest.raises(ValueError, match=r"resolution: wanted one of.*found 'full'"):
        build_open(resolution='full')


def test_a_segmentor_with_an_open_class_predicts_the_best_closed_one():
    _, wrapped = pair('FCNHead', scorers=dict(kplus1=dict(type='OpenClass')))
    (sample,) = predict(wrapped, [dict()])
    logits = sample.seg_logits.data
    found = sample.pred_sem_seg.data
    assert (logits.argmax(0) == NUM_CLASSES - 1).any()
    assert found.shape == (1, *logits.shape[1:])
    best = logits[:-1].gather(0, found)
    assert torch.equal(best[0], logits[:-1].amax(0))


def test_a_model_without_scorers_adds_no_field():
    model = build_open(discriminator=None)
    assert OPEN_SCORES not in predict(model, [dict()])[0]


# ------------------------------------------------------------------ frozen
