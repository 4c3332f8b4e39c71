"""The bank says what every row is, and knows the files that it was made from."""

import os
import pickle
import shutil
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import id2label
from PIL import Image
from tiny_cityscapes import (
    NO_CLOSED,
    NO_OPEN,
    SIZE,
    STRIDE,
    built,
    content,
    label_ids,
    located,
    stored_images,
    write_images,
)

from mmseg_opengan.features import bank as feature_bank
from mmseg_opengan.features import extraction
from mmseg_opengan.features.bank import FeatureBank, FeatureBankError
from mmseg_opengan.features.bank_writer import BankWriter
from mmseg_opengan.files import sha256_of

pytestmark = pytest.mark.usefixtures('two_images_per_shard')
NUM_IMAGES = 6  # of which the bank is built
VOID_IDS = (1, 2, 3)
SHARDS = 3


def is_open(label_id):
    return label_id not in VOID_IDS and id2label[label_id].trainId in (255, -1)


@pytest.mark.parametrize('group', ['closed', 'open'])
def test_rows_are_the_features_of_the_recorded_pixels(world, tmp_path, group):
    bank = built(world, tmp_path, closed_per_image=None).bank
    rows = bank.gather(group, np.arange(bank.num_pixels(group)))
    assert rows.dtype == torch.float16
    pixels = located(bank, group)
    assert rows.tolist() == [[image, STRIDE * row, STRIDE * col] for image, row, col, _ in pixels]
    for image, row, col, label in pixels:
        label_id = label_ids(world, image)[row, col]
        if group == 'closed':
            assert id2label[label_id].trainId == label
        else:
            assert id2label[label_id].name == bank.manifest['identity']['open_classes'][label]


def test_every_closed_and_open_pixel_is_there_once_and_no_void_one(world, tmp_path):
    bank = built(world, tmp_path, closed_per_image=None).bank
    ids = {
        (i, row, col): label_ids(world, i)[row, col]
        for i in range(NUM_IMAGES)
        for row in range(SIZE[0] // STRIDE)
        for col in range(SIZE[1] // STRIDE)
    }
    assert any(label_id in VOID_IDS for label_id in ids.values())
    wanted = {'open': [place for place, label_id in ids.items() if is_open(label_id)]}
    wanted['closed'] = [
        place for place, label_id in ids.items() if id2label[label_id].trainId not in (255, -1)
    ]
    for group, places in wanted.items():
        assert sorted(pixel[:3] for pixel in located(bank, group)) == sorted(places)
        assert len(places) == bank.num_pixels(group)


def test_images_that_lack_a_group_have_zero_rows(world, tmp_path):
    bank = built(world, tmp_path).bank
    assert len(stored_images(bank, 'closed')) == len(stored_images(bank, 'open')) == NUM_IMAGES
    for group, number in (('open', NO_OPEN), ('closed', NO_CLOSED)):
        lengths = bank.pool(group, stored_images(bank, group)).lengths
        assert lengths[number] == 0
        assert (np.delete(lengths, number) > 0).all()


def test_closed_per_image_is_a_limit(world, tmp_path):
    bank = built(world, tmp_path, closed_per_image=5).bank
    numbers = [pixel[0] for pixel in located(bank, 'closed')]
    assert [numbers.count(i) for i in range(NUM_IMAGES)] == [
        0 if i == NO_CLOSED else 5 for i in range(NUM_IMAGES)
    ]


def test_chosen_closed_pixels_depend_on_seed_and_name_only(world, tmp_path):
    def chosen(folder, **options):
        pixels = located(
            built(world, tmp_path / folder, closed_per_image=5, **options).bank, 'closed'
        )
        return {i: {p for p in pixels if p[0] == i} for i in range(NUM_IMAGES)}

    full, half = chosen('full'), chosen('half', held_out=4)
    assert half[0]
    assert all(half[i] in (full[i], set()) for i in range(NUM_IMAGES))
    assert chosen('other', bank_seed=1) != full


def test_gather_equals_indexing_the_concatenated_shards(world, tmp_path):
    bank = built(world, tmp_path).bank
    files = sorted(tmp_path.glob('shard-*.closed.npy'))
    assert len(files) == SHARDS
    everything = np.concatenate([np.load(file) for file in files])
    rng = np.random.default_rng(0)
    for rows in (
        rng.integers(len(everything), size=200),
        np.arange(len(everything))[::-1],
        np.array([3, 3, 0]),
    ):
        assert np.array_equal(bank.gather('closed', rows).numpy(), everything[rows])
    assert bank.gather('closed', np.empty(0, np.int64)).shape == (0, 3)


def test_pool_of_some_images(world, tmp_path):
    bank = built(world, tmp_path).bank
    names = [stored_images(bank, 'closed')[i] for i in (4, NO_CLOSED, 0)]
    pool = bank.pool('closed', names)
    rows = bank.gather('closed', pool.rows(np.arange(len(pool))))
    assert rows[:, 0].unique_consecutive().tolist() == [4, 0]
    assert len(pool) == sum(p[0] in (0, 4) for p in located(bank, 'closed'))
    with pytest.raises(
        FeatureBankError, match=r'lacks the open pixels of 1 images, such as elsewhere\.png'
    ):
        bank.pool('open', ['elsewhere.png'])


def stored_file(root, what):
    return next(root.rglob('001_leftImg8bit.png' if what == 'image' else '001_*labelIds.png'))


@pytest.mark.parametrize('what', ['image', 'label'])
def test_files_that_were_corrected_in_place_are_refused(tmp_path, what):
    """Of the same size and with the time of the old one, as a copy keeps it."""
    world = write_images(tmp_path / 'world', 3)
    path = stored_file(world, what)
    pixels = np.array(Image.open(path))
    Image.fromarray(pixels).save(path, compress_level=0)
    before = path.stat()
    built(world, tmp_path / 'bank')
    bank = content(tmp_path / 'bank')
    Image.fromarray(pixels[::-1]).save(path, compress_level=0)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(
        FeatureBankError,
        match=rf"features of another '.*001_leftImg8bit.png': wanted its {what} of sha256 "
        r'[0-9a-f]{12}, found one of [0-9a-f]{12}',
    ):
        built(world, tmp_path / 'bank')
    assert content(tmp_path / 'bank') == bank


def test_images_that_nobody_has_touched_since_are_not_read_again(world, tmp_path, monkeypatch):
    """A copy of them is read, and is the same."""
    built(world, tmp_path / 'bank')
    shutil.copytree(world, tmp_path / 'copy')
    for path in (tmp_path / 'bank').glob('*.json'):
        later = time.time() + 60
        os.utime(path, (later, later))
    read = []

    def digest(path):
        read.append(path)
        return sha256_of(path)

    monkeypatch.setattr(extraction, 'sha256_of', digest)
    built(world, tmp_path / 'bank')
    assert len(read) == NUM_IMAGES
    assert all('labelIds' in path for path in read)
    built(tmp_path / 'copy', tmp_path / 'bank')
    assert len(read) == 3 * NUM_IMAGES


def test_files_of_a_source_are_its_own_however_the_bank_grows(world, tmp_path):
    before = built(world, tmp_path / 'bank', open_=False).files_sha256()
    assert built(world, tmp_path / 'bank').files_sha256() != before
    assert built(world, tmp_path / 'bank', open_=False).files_sha256() == before


def test_images_of_another_folder_are_refused_however_old_they_are(world, tmp_path):
    """Of the same names, labels and size in bytes: the same streets in fog, for one."""
    fog = tmp_path / 'fog'
    shutil.copytree(world, fog)
    path = stored_file(fog, 'image')
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b'!')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    built(world, tmp_path / 'bank')
    for record in (tmp_path / 'bank').glob('*.json'):
        later = time.time() + 60
        os.utime(record, (later, later))
    with pytest.raises(FeatureBankError, match=r'features of another .* wanted its image of sha'):
        built(fog, tmp_path / 'bank')


def test_images_of_several_sizes(tmp_path, monkeypatch):
    world = write_images(tmp_path / 'world', 2)
    (tmp_path / 'larger').mkdir()
    for path in write_images(tmp_path / 'larger', 4, size=(32, 48)).rglob('00[23]_*.png'):
        path.rename(world / path.relative_to(tmp_path / 'larger'))
    needed = []
    monkeypatch.setattr(extraction, 'require_space', lambda root, size: needed.append(size))
    bank = built(world, tmp_path / 'bank', closed_per_image=None).bank
    everywhere = sum(np.isin(label_ids(world, i), VOID_IDS, invert=True).sum() for i in range(3))
    assert bank.num_pixels('closed') + bank.num_pixels('open') == everywhere
    assert needed == [everywhere * (2 * bank.channels + 9)]
    rows = bank.gather('closed', np.arange(bank.num_pixels('closed')))
    assert rows.tolist() == [
        [i, STRIDE * row, STRIDE * col] for i, row, col, _ in located(bank, 'closed')
    ]


@pytest.mark.parametrize('lock', [True, False], ids=['with a lock file', 'without a lock file'])
def test_a_whole_bank_may_be_for_reading_only(world, tmp_path, monkeypatch, lock):
    built(world, tmp_path / 'bank', held_out=2)
    if not lock:
        (tmp_path / 'bank' / '.lock').unlink()
    opened = open

    def reading_only(path, mode='r', *args, **kwargs):
        if set(mode) & set('wax+') and Path(path).is_relative_to(tmp_path / 'bank'):
            raise PermissionError(13, 'Permission denied', str(path))
        return opened(path, mode, *args, **kwargs)

    monkeypatch.setattr('builtins.open', reading_only)
    assert built(world, tmp_path / 'bank', held_out=2).bank.num_pixels('closed')
    with pytest.raises(PermissionError):
        built(world, tmp_path / 'bank', held_out=1)


def test_shards_are_mapped_for_reading_where_memory_cannot_be_committed(
    world, tmp_path, monkeypatch
):
    bank = built(world, tmp_path).bank
    rows = np.arange(bank.num_pixels('open'))
    expected = bank.gather('open', rows)

    def refused(*args, **kwargs):
        raise RuntimeError('unable to mmap 13000000 bytes: Cannot allocate memory (12)')

    monkeypatch.setattr(torch, 'from_file', refused)
    assert torch.equal(FeatureBank(tmp_path).gather('open', rows), expected)


def sparse_bank(folder, rows, channels):
    """A bank of one image whose features are a hole of rows * channels * 2 bytes, but for the last
    row.
    """
    writer = BankWriter(folder, dict(channels=channels))
    writer.add('image', dict(closed=(np.ones((1, channels), np.float16), np.zeros((1, 3), int))))
    writer.flush()
    path = folder / 'shard-00000.closed.npy'
    np.lib.format.open_memmap(
        path,
        mode='w+',
        dtype=np.float16,
        shape=(rows, channels),
    )[-1] = 7
    record = feature_bank.read_record(folder / 'shard-00000.json')
    record['groups']['closed'].update(bytes=path.stat().st_size, images={'image': rows})
    feature_bank.write_record(folder / 'shard-00000.json', record)
    return FeatureBank(folder)


def test_opening_and_gathering_read_no_more_than_the_rows(tmp_path):
    rows = 2_000_000  # 1 GB
    tracemalloc.start()
    bank = sparse_bank(tmp_path, rows, 256)
    found = bank.gather('closed', np.array([rows - 1, 0]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[:, 0].tolist() == [7, 0]
    assert peak < 1e7


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='no /proc')
def test_anonymous_memory_does_not_grow_with_what_was_read(tmp_path):
    def anonymous():
        lines = Path('/proc/self/status').read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith('RssAnon'))

    rows = 400_000
    bank = sparse_bank(tmp_path, rows, 512)  # 410 MB
    bank.gather('closed', np.arange(0, 20_000, 4))
    before = anonymous()
    for start in range(0, rows, 20_000):
        bank.gather(
            'closed', np.arange(start, start + 20_000, 4)
        )  # four rows a page: every page of the file
    assert anonymous() - before < 30e6


def test_more_shards_than_may_be_mapped(world, tmp_path, monkeypatch):
    bank = built(world, tmp_path).bank
    everything = np.arange(bank.num_pixels('closed'))
    expected = bank.gather('closed', everything)
    monkeypatch.setattr(feature_bank, 'MAX_MAPPED', 1)
    few = FeatureBank(tmp_path)
    assert torch.equal(few.gather('closed', everything), expected)
    assert few._open.cache_info().currsize == 1


@pytest.mark.skipif(not os.path.isdir('/proc/self/fd'), reason='counts file descriptors in /proc')
def test_mapped_shards_hold_no_file_descriptor(world, tmp_path):
    bank = built(world, tmp_path).bank
    before = len(os.listdir('/proc/self/fd'))
    bank.gather('closed', np.arange(bank.num_pixels('closed')))
    assert bank._open.cache_info().currsize == len(bank.manifest['shards']) > 1
    assert len(os.listdir('/proc/self/fd')) == before


def test_a_pickled_source_opens_the_bank_anew(world, tmp_path):
    made = built(world, tmp_path)
    batch = made[0, 3]
    data = pickle.dumps(made)
    assert b'memmap' not in data
    again = pickle.loads(data)[0, 3]
    assert torch.equal(again['closed'], batch['closed'])
    assert torch.equal(again['open'], batch['open'])
