"""Validation on stored feature maps finds what validation with the segmentor finds, and the
segmentor does not run.
"""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_cityscapes import SEGMENTOR, STRIDE, content, images, write_images
from tiny_training import runner, write_root

from mmseg_opengan.contracts import TAP_FEATURES, TAP_LOGITS
from mmseg_opengan.features.bank import FeatureBankError
from mmseg_opengan.features.stored_taps import StoredTaps

HOOKS = [
    dict(type='OpenGANHook'),
    dict(type='OpenSetEvaluationHook', plot_val=False, plot_test=False),
]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp('taps'))


def taps_of(image, sample):
    """A segmentor: (3, H, W) raw image -> features (1, 3, h, w), logits (1, 2, h, w)."""
    features = image[None, :, ::STRIDE, ::STRIDE].float() / 3
    return features, features[:, :2] - 1


def stored(root, folder, split='test'):
    return StoredTaps(root=str(folder), images=images(root / 'world', split=split))


# ----------------------------------------------------------------------------------------------
# through the runner


@pytest.mark.parametrize('resolution', ['feature', 'image'])
def test_validation_and_test_find_the_same_numbers(root, resolution):
    found = {}
    for name in ('ordinary', 'stored'):
        options = {
            'model.resolution': resolution,
            'train_cfg.max_iters': 2,
            'train_cfg.val_interval': 2,
        }
        if name == 'stored':
            for stage, split in (('val', 'open_val'), ('test', 'test')):
                options[f'{stage}_dataloader.dataset'] = dict(
                    _delete_=True,
                    type='StoredTaps',
                    root=str(root / f'taps_{stage}'),
                    images=images(root / 'world', split=split),
                )
        made = runner(root, root / f'{name}_{resolution}', custom_hooks=HOOKS, **options)
        if name == 'stored':
            made.model.segmentor.backbone.register_forward_hook(_count)
        made.train()
        _count.calls = 0
        made.test()
        reports = {
            stage: json.loads(
                (root / f'{name}_{resolution}/open_set_eval/{stage}/metrics.json').read_text()
            )
            for stage in ('val', 'test')
        }
        scalars = (
            next((root / f'{name}_{resolution}').glob('*/vis_data/scalars.json'))
            .read_text()
            .splitlines()
        )
        history = [line for line in map(json.loads, scalars) if 'opengan/AUROC' in line]
        found[name] = (
            reports,
            [{k: v for k, v in line.items() if not k.endswith('time')} for line in history],
        )
    assert len(found['stored'][1]) == 1
    assert found['ordinary'] == found['stored']
    # Extraction alone: the three test images the first time, none where the maps are there.
    assert _count.calls == (3 if resolution == 'feature' else 0)


def _count(*args):
    _count.calls += 1


_count.calls = 0


# ---------------------------------------------------------------------------------------------- the
# folder


def test_items_are_the_images_with_their_taps(root, tmp_path):
    made = stored(root, tmp_path)
    made.prepare(taps_of, SEGMENTOR)
    assert len(made) == 3
    assert made.metainfo == made.images.metainfo
    for index in range(3):
        item, plain = made[index], made.images[index]
        features, logits = taps_of(plain['inputs'], None)
        assert torch.equal(item[TAP_FEATURES], features[0])
        assert torch.equal(item[TAP_LOGITS], logits[0])
        assert torch.equal(item['inputs'], plain['inputs'])
        assert item['data_samples'].img_path == plain['data_samples'].img_path


def test_a_folder_is_completed_and_read_again(root, tmp_path):
    calls = []

    def failing(image, sample):
        calls.append(sample.img_path)
        if len(calls) == 3:
            raise RuntimeError('out of memory')
        return taps_of(image, sample)

    with pytest.raises(RuntimeError, match='out of memory'):
        stored(root, tmp_path).prepare(failing, SEGMENTOR)
    for _ in range(2):
        made = stored(root, tmp_path)
        made.prepare(failing, SEGMENTOR)
        assert len(calls) == 4  # the third image again, no other
    assert torch.equal(made[2][TAP_FEATURES], taps_of(made.images[2]['inputs'], None)[0][0])
    stored(root, tmp_path, split='open_val').prepare(taps_of, SEGMENTOR)  # other images join them
    assert len(list(tmp_path.glob('*.pt'))) == 4


@pytest.mark.parametrize(
    'write', [0, 1, 3, 5]
)  # a file of each of three images, each time with a new manifest
def test_killed_before_any_rename_it_is_built_again_to_the_same_bytes(
    root, tmp_path, killed_before_rename, write
):
    folders = whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    killed_before_rename(write, lambda: stored(root, killed).prepare(taps_of, SEGMENTOR))
    assert (killed / 'manifest.json').exists() == (write > 1)
    for folder in folders:
        stored(root, folder).prepare(taps_of, SEGMENTOR)
    assert content(killed) == content(whole)


def test_what_does_not_belong_is_refused(root, tmp_path):
    with pytest.raises(RuntimeError, match='read before OpenGANHook prepared them'):
        stored(root, tmp_path)[0]
    stored(root, tmp_path).prepare(taps_of, SEGMENTOR)
    with pytest.raises(FeatureBankError, match=r'segmentor\.sha256: wanted .bbb'):
        stored(root, tmp_path).prepare(taps_of, dict(SEGMENTOR, sha256='b' * 64))


def test_a_flipped_bit_or_a_pickle_is_named_when_it_is_read(root, tmp_path):
    made = stored(root, tmp_path)
    made.prepare(taps_of, SEGMENTOR)
    path = tmp_path / '00001.pt'
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)
    with pytest.raises(FeatureBankError, match=r'00001\.pt.* is damaged'):
        made[1]
    assert TAP_LOGITS in made[0]
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(FeatureBankError, match=r'00001\.pt.* is damaged'):
        made[1]


def test_an_image_that_was_changed_in_place_is_refused(root, tmp_path):
    world = write_images(tmp_path / 'world', 3, folder='val')
    path = next(world.rglob('001_leftImg8bit.png'))
    pixels = np.array(Image.open(path))
    Image.fromarray(pixels).save(path, compress_level=0)
    for folder in ('once', 'again'):
        made = StoredTaps(root=str(tmp_path / 'taps'), images=images(world, split='test'))
        if folder == 'again':
            Image.fromarray(pixels[::-1]).save(path, compress_level=0)
            with pytest.raises(
                FeatureBankError, match=r'another .*001_.*: wanted its image of sha'
            ):
                made.prepare(taps_of, SEGMENTOR)
        else:
            made.prepare(taps_of, SEGMENTOR)


def test_nan_features_are_named_and_not_stored(root, tmp_path):
    def broken(image, sample):
        features, logits = taps_of(image, sample)
        features[0, 0, 0, 0] = math.nan
        return features, logits

    with pytest.raises(
        ValueError, match=r"1 of 144 features of '.*000_leftImg8bit\.png' are NaN or infinite"
    ):
        stored(root, tmp_path).prepare(broken, SEGMENTOR)
    assert [path.name for path in tmp_path.iterdir()] == ['.lock']


def test_windows_have_no_stored_features(root):
    made = runner(
        root,
        root / 'slide',
        **{
            'model.test_cfg': dict(
                mode='slide',
                crop_size=(16, 16),
                stride=(8, 8),
            )
        },
    )
    item = stored(root, root / 'slide_taps')
    item.prepare(taps_of, SEGMENTOR)
    batch = {key: [value] for key, value in item[0].items()}
    with pytest.raises(ValueError, match=r"need test_cfg\.mode='whole', found 'slide'"):
        made.model.val_step(batch)
    assert np.isfinite(item[0][TAP_FEATURES]).all()
