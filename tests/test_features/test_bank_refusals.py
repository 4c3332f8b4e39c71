"""What does not belong to a bank, or is damaged, is refused and named."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from tiny_cityscapes import (
    SEGMENTOR,
    built,
    content,
    extract,
    source,
    source_config,
)

from mmseg_opengan.features import sources as feature_source
from mmseg_opengan.features.bank import FeatureBank, FeatureBankError

pytestmark = pytest.mark.usefixtures('two_images_per_shard')


@pytest.mark.parametrize(
    ('segmentor', 'options', 'message'),
    [
        (dict(SEGMENTOR, sha256='b' * 64), {}, "segmentor_sha256: wanted 'bbb.*', found 'aaa"),
        (
            dict(SEGMENTOR, preprocessor=dict(mean=[1.0])),
            {},
            r'preprocessor\.mean: wanted \[1\.0\], found ',
        ),
        (SEGMENTOR, dict(closed_per_image=8), 'closed_per_image: wanted 8, found 7'),
        (SEGMENTOR, dict(bank_seed=1), 'seed: wanted 1, found 0'),
    ],
)
def test_bank_of_something_else_is_refused(world, tmp_path, segmentor, options, message):
    built(world, tmp_path, closed_per_image=7)
    before = content(tmp_path)
    with pytest.raises(FeatureBankError, match=message) as error:
        source(world, tmp_path, **{'closed_per_image': 7, **options}).prepare(extract, segmentor)
    assert str(tmp_path) in str(error.value)
    assert content(tmp_path) == before


def test_bank_of_another_policy_is_refused(world, tmp_path):
    built(world, tmp_path)
    other = source(world, tmp_path)
    for dataset in (other.closed_images, other.open_images):
        dataset._metainfo['label_policy'] = 'cityscapes/strict'
    with pytest.raises(
        FeatureBankError,
        match=r"label_policy: wanted \['cityscapes/strict'\], found \['cityscapes/paper'\]",
    ):
        other.prepare(extract, SEGMENTOR)


def test_bank_of_another_pipeline_is_refused(world, tmp_path):
    built(world, tmp_path)
    other = source(world, tmp_path)
    other.pipeline = [*other.pipeline[:1], dict(type='Resize', scale=(16, 12)), *other.pipeline[1:]]
    with pytest.raises(
        FeatureBankError, match=r"pipeline: wanted .*'Resize', 'scale': \[16, 12\].*, found"
    ):
        other.prepare(extract, SEGMENTOR)


def test_closed_and_open_images_share_a_pipeline(world, tmp_path):
    config = source_config(world, tmp_path)
    config['open']['pipeline'] = config['open']['pipeline'][:1]
    with pytest.raises(ValueError, match=r'open\.pipeline: wanted that of closed'):
        feature_source.StoreSource(**{key: value for key, value in config.items() if key != 'type'})


def test_reader_refuses_too(world, tmp_path):
    bank = built(world, tmp_path).bank
    assert FeatureBank(tmp_path, bank.manifest['identity']).channels == 3
    with pytest.raises(FeatureBankError, match='channels: wanted 720, found 3'):
        FeatureBank(tmp_path, dict(channels=720))


def test_no_bank(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r'There is no feature bank in .*manifest\.json is missing'
    ):
        FeatureBank(tmp_path)


def test_another_version_is_refused(world, tmp_path):
    built(world, tmp_path)
    manifest = json.loads((tmp_path / 'manifest.json').read_text())
    (tmp_path / 'manifest.json').write_text(json.dumps(dict(manifest, version=0)))
    for attempt in (lambda: FeatureBank(tmp_path), lambda: built(world, tmp_path)):
        with pytest.raises(FeatureBankError, match=r'manifest\.json.*wanted version 4, found 0'):
            attempt()


def test_a_missing_record_is_named(world, tmp_path):
    built(world, tmp_path)
    (tmp_path / 'shard-00001.json').unlink()
    for attempt in (lambda: FeatureBank(tmp_path), lambda: built(world, tmp_path)):
        with pytest.raises(
            FeatureBankError, match=r"there is 'shard-00002\.json', but no 'shard-00001\.json'"
        ):
            attempt()


def test_unreadable_manifest_is_named(tmp_path):
    (tmp_path / 'manifest.json').write_text('{"version": 1,')
    with pytest.raises(FeatureBankError, match=r'manifest\.json.* is not readable JSON'):
        FeatureBank(tmp_path)


def test_truncated_shard_is_named(world, tmp_path):
    built(world, tmp_path)
    shard = tmp_path / 'shard-00001.open.npy'
    size = shard.stat().st_size
    os.truncate(shard, size - 1)
    with pytest.raises(
        FeatureBankError, match=rf'shard-00001\.open\.npy.*wanted {size} bytes, found {size - 1}'
    ):
        FeatureBank(tmp_path)
    shard.unlink()
    with pytest.raises(FeatureBankError, match=r'shard-00001\.open\.npy.*found no file'):
        FeatureBank(tmp_path)


@pytest.mark.parametrize('end', ['.npy', '.pixels.npy'])
def test_flipped_bit_of_a_shard_is_named(world, tmp_path, end):
    FeatureBank(built(world, tmp_path).root).verify()
    shard = tmp_path / f'shard-00002.closed{end}'
    flip(shard, 8 * (shard.stat().st_size - 5))
    with pytest.raises(
        FeatureBankError, match=rf'shard-00002\.closed{end}.* is damaged: sha256 wanted'
    ):
        FeatureBank(tmp_path).verify()


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.mark.parametrize('name', ['manifest.json', 'shard-00001.json'])
def test_every_flipped_bit_of_a_record_is_named(world, tmp_path, name):
    built(world, tmp_path)
    path = tmp_path / name
    for bit in range(0, 8 * path.stat().st_size, 7):
        flip(path, bit)
        with pytest.raises(FeatureBankError, match=name):
            FeatureBank(tmp_path)
        flip(path, bit)
    FeatureBank(tmp_path)


class Malicious:
    """A pickle that runs code when it is read."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickle_in_place_of_pixels_is_not_read(world, tmp_path):
    bank = built(world, tmp_path / 'bank').bank
    path = bank.root / bank.manifest['shards'][0]['groups']['open']['pixels_file']
    np.save(path, np.array([Malicious(tmp_path / 'run')], object), allow_pickle=True)
    with pytest.raises(FeatureBankError, match=r"open\.pixels\.npy': wanted \d+ bytes, found"):
        bank.pixels('open')
    size = bank.manifest['shards'][0]['groups']['open']['pixels_bytes']
    path.write_bytes(pickle.dumps(Malicious(tmp_path / 'run')).ljust(size, b'.'))
    bank.pixels('open')
    with pytest.raises(FeatureBankError, match=r"open\.pixels\.npy' is damaged"):
        bank.verify()
    assert not (tmp_path / 'run').exists()
