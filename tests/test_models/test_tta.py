"""Test-time augmentation: score maps are averaged over the versions of an image."""

import pytest
import torch
from mmseg.models.segmentors import SegTTAModel
from small_models import batch_of, build_open, pair, raw_image

import mmseg_opengan.models.scorers.kplus1  # noqa: F401
from mmseg_opengan.contracts import GT_OPEN_MAP, OPEN_SCORES, OPENGAN
from mmseg_opengan.models.tta import OpenSetTTAModel

SCORERS = dict(msp=dict(type='MSP'))
FLIPPED = dict(flip=True, flip_direction='horizontal')
ORIGINAL = (64, 80)


def version(scale=1.0, flip=False, **options):
    """A version of one image, as a pipeline with TestTimeAug makes it."""
    image, sample = raw_image(*ORIGINAL, **options)
    size = tuple(int(scale * length) for length in ORIGINAL)
    image = torch.nn.functional.interpolate(image[None].float(), size=size, mode='bilinear')[
        0
    ].byte()
    factor = (size[1] / ORIGINAL[1], size[0] / ORIGINAL[0])
    meta = dict(
        ori_shape=ORIGINAL,
        img_shape=size,
        pad_shape=size,
        scale_factor=factor,
    )
    sample.set_metainfo({**meta, **FLIPPED} if flip else meta)
    return (image.flip(dims=(2,)) if flip else image), sample


def merged(model, *versions):
    parts = [batch_of(one) for one in versions]
    data = dict(
        inputs=[part['inputs'] for part in parts],
        data_samples=[part['data_samples'] for part in parts],
    )
    with torch.no_grad():
        return model.test_step(data)[0]


def test_maps_are_means_and_the_closed_prediction_is_mmsegs():
    plain, ours = pair(scorers=SCORERS)
    versions = [(1.0,), (1.0, True), (1.5,), (0.75, True)]
    found = merged(OpenSetTTAModel(ours), *(version(*one) for one in versions))
    with torch.no_grad():
        alone = [ours.test_step(batch_of(version(*one)))[0] for one in versions]
    for name in (OPENGAN, 'msp'):
        maps = torch.stack([one.get(OPEN_SCORES).get(name) for one in alone])
        torch.testing.assert_close(found.get(OPEN_SCORES).get(name), maps.mean(dim=0))
        assert maps.std(dim=0).max() > 0.1 * maps.std()  # versions do differ
    assert found.get(OPEN_SCORES).shape == ORIGINAL
    theirs = merged(SegTTAModel(plain), *(version(*one) for one in versions))
    assert torch.equal(found.pred_sem_seg.data.squeeze(), theirs.pred_sem_seg.data.squeeze())


def test_a_single_version_is_the_plain_result():
    model = build_open(scorers=SCORERS)
    found = merged(OpenSetTTAModel(model), version())
    with torch.no_grad():
        wanted = model.test_step(batch_of(version()))[0]
    for name, scores in wanted.get(OPEN_SCORES).items():
        assert torch.equal(found.get(OPEN_SCORES).get(name), scores)
    assert torch.equal(found.pred_sem_seg.data, wanted.pred_sem_seg.data)


def test_an_open_class_of_the_segmentor_is_never_predicted():
    model = build_open(scorers=dict(open=dict(type='OpenClass')))
    last = len(merged(OpenSetTTAModel(model), version()).seg_logits.data) - 1
    with torch.no_grad():
        model.head.head.conv_seg.bias[last] = 1e3
    assert (
        merged(OpenSetTTAModel(model), version(), version(flip=True)).pred_sem_seg.data.max() < last
    )


def test_labels_loaded_before_a_flip_are_refused():
    labels = torch.zeros(ORIGINAL, dtype=torch.uint8)
    labels[:, :20] = 1
    model = OpenSetTTAModel(build_open())
    kept = merged(model, version(open_map=labels), version(flip=True, open_map=labels))
    assert torch.equal(kept.get(GT_OPEN_MAP).data[0], labels)
    with pytest.raises(
        ValueError, match=r"wanted 'LoadOpenSetAnnotations' behind resizing and flipping"
    ):
        merged(model, version(open_map=labels), version(flip=True, open_map=labels.flip(dims=(1,))))
