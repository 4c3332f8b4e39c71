"""The bank says what every row is, survives being killed, and refuses what does not belong to
it.
"""

import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import threading
import time
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import id2label
from PIL import Image
from tiny_cityscapes import (
    NO_CLOSED,
    NO_OPEN,
    SEGMENTOR,
    SIZE,
    STRIDE,
    built,
    content,
    extract,
    label_ids,
    source,
    source_config,
    stored_images,
    write_images,
)

from mmseg_opengan.features import bank as feature_bank
from mmseg_opengan.features import bank_writer, extraction
from mmseg_opengan.features import sources as feature_source
from mmseg_opengan.features.bank import FeatureBank, FeatureBankError, locked
from mmseg_opengan.features.bank_writer import BankWriter
from mmseg_opengan.files import sha256_of

pytestmark = pytest.mark.usefixtures('two_images_per_shard')
NUM_IMAGES = 6  # of which the bank is built
VOID_IDS = (1, 2, 3)
SHARDS = 3


def located(bank, group):
    """(image number, row, col, label) of all rows of a group."""
    numbers = [int(name.split('/')[-1][:3]) for name in bank.manifest['images']]
    return [
        (numbers[p['image']], int(p['row']), int(p['col']), int(p['label']))
        for p in bank.pixels(group)
    ]


def is_open(label_id):
    return label_id not in VOID_IDS and id2label[label_id].trainId in (255, -1)


# ----------------------------------------------------------------------------------------------
# content


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
        assert bank.manifest['counts'][group] == len(places) == bank.num_pixels(group)


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


# ----------------------------------------------------------------------------------------------
# files


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


def test_a_copy_of_the_data_is_the_same(world, tmp_path, monkeypatch):
    """And images that nobody has touched since are not read again."""
    built(world, tmp_path / 'bank')
    copy = tmp_path / 'copy'
    shutil.copytree(world, copy)
    built(copy, tmp_path / 'bank')
    for path in (tmp_path / 'bank').glob('*.json'):
        later = time.time() + 60
        os.utime(path, (later, later))
    read = []

    def digest(path):
        read.append(path)
        return sha256_of(path)

    monkeypatch.setattr(extraction, 'sha256_of', digest)
    built(copy, tmp_path / 'bank')
    assert len(read) == NUM_IMAGES
    assert all('labelIds' in path for path in read)


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


# ----------------------------------------------------------------------------------------------
# kill and resume


@pytest.fixture(scope='module')
def uninterrupted(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp('uninterrupted')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, 'BankWriter', partial(BankWriter, images_per_shard=2))
        built(world, folder, closed_per_image=7)
    return content(folder)


@pytest.mark.parametrize('images_before', range(NUM_IMAGES))
def test_failed_extraction_resumes_to_the_same_bytes(world, tmp_path, uninterrupted, images_before):
    calls = []

    def failing(image, sample):
        calls.append(1)
        if len(calls) == images_before + 2:  # the first call only asks for the grid
            raise RuntimeError('out of memory')
        return extract(image, sample)

    with pytest.raises(RuntimeError, match='out of memory'):
        source(world, tmp_path, closed_per_image=7).prepare(failing, SEGMENTOR)
    built(world, tmp_path, closed_per_image=7)
    assert content(tmp_path) == uninterrupted


@pytest.mark.parametrize(
    'write', range(1 + 5 * SHARDS)
)  # the manifest, and five files for each shard
def test_killed_before_any_rename_resumes_to_the_same_bytes(
    world, tmp_path, uninterrupted, killed_before_rename, write
):
    killed_before_rename(write, lambda: built(world, tmp_path, closed_per_image=7))
    assert content(tmp_path) != uninterrupted
    built(world, tmp_path, closed_per_image=7)
    assert content(tmp_path) == uninterrupted


def test_more_images_extend_the_bank_without_touching_the_old_shards(world, tmp_path):
    seen = []

    def counting(image, sample):
        seen.append(int(image[0, 0, 0]))
        return extract(image, sample)

    built(world, tmp_path, held_out=4, closed_per_image=7, open_=False)
    before = content(tmp_path)
    grown = source(world, tmp_path, closed_per_image=7)
    grown.prepare(counting, SEGMENTOR)
    after = content(tmp_path)
    assert all(after[name] == data for name, data in before.items() if name.startswith('shard'))
    # The old images are read again for their open pixels; none twice, but the first, which also
    # gives the grid.
    assert sorted(seen) == sorted([*range(NUM_IMAGES), seen[0]])
    whole = built(world, tmp_path.with_name('whole'), closed_per_image=7).bank
    for group in ('closed', 'open'):
        assert sorted(located(grown.bank, group)) == sorted(located(whole, group))
    seen.clear()
    source(world, tmp_path, closed_per_image=7).prepare(counting, SEGMENTOR)
    assert seen == []  # nothing is missing, so no image is read
    assert content(tmp_path) == after


def test_two_builders_take_turns(world, tmp_path, uninterrupted):
    fork = multiprocessing.get_context('fork')
    start = fork.Event()

    def build_later():
        start.wait(60)
        built(world, tmp_path, closed_per_image=7)

    other = fork.Process(target=build_later, daemon=True)
    other.start()  # before the lock is taken: a fork would inherit it
    with locked(tmp_path):
        start.set()
        other.join(1)
        assert other.is_alive()
        assert list(tmp_path.glob('shard*')) == []
    other.join(60)
    assert other.exitcode == 0
    assert content(tmp_path) == uninterrupted


# ----------------------------------------------------------------------------------------------
# what is refused


@pytest.mark.parametrize(
    ('segmentor', 'options', 'message'),
    [
        (dict(SEGMENTOR, sha256='b' * 64), {}, "segmentor_sha256: wanted 'bbb.*', found 'aaa"),
        (dict(SEGMENTOR, name='Other'), {}, "segmentor: wanted 'Other', found 'Lookup'"),
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
        with pytest.raises(FeatureBankError, match=r'manifest\.json.*wanted version 3, found 0'):
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


def test_full_disk_is_refused_before_anything_is_written(world, tmp_path, monkeypatch):
    monkeypatch.setattr(
        feature_bank.shutil, 'disk_usage', lambda path: type('Usage', (), {'free': 1000})
    )
    with pytest.raises(FeatureBankError, match=r'needs 0\.00 GB, and the disk has 0\.00 GB free'):
        built(world, tmp_path / 'bank')
    assert [path.name for path in (tmp_path / 'bank').iterdir()] == ['.lock']


def test_announced_bytes_are_the_bytes_written(world, tmp_path, monkeypatch):
    announced = []
    monkeypatch.setattr(extraction, 'require_space', lambda root, needed: announced.append(needed))
    built(world, tmp_path, closed_per_image=7)
    assert announced == [sum(np.load(file).nbytes for file in tmp_path.glob('*.npy'))]


def test_no_shard_is_begun_by_a_writer_that_failed(world, tmp_path, monkeypatch):
    """A full disk, met by the thread that writes, ends the extraction; nothing half written
    counts.
    """

    def full(path, *arguments):
        if path.name.startswith('shard-00001'):
            raise OSError(28, 'No space left on device', str(path))
        return write_rows(path, *arguments)

    write_rows = bank_writer._write_rows
    monkeypatch.setattr(bank_writer, '_write_rows', full)
    with pytest.raises(OSError, match=r'No space left on device.*shard-00001'):
        built(world, tmp_path, closed_per_image=7)
    assert [path.name for path in sorted(tmp_path.glob('*.json'))] == [
        'manifest.json',
        'shard-00000.json',
    ]
    monkeypatch.undo()
    assert FeatureBank(tmp_path).num_pixels('closed') > 0


def test_writing_overlaps_extraction(world, tmp_path, monkeypatch):
    """While a shard is being written the next images are extracted, and no more than a shard of
    them.
    """
    order, release = [], threading.Event()
    write_shard = BankWriter._write_shard

    def slow(self, pending):
        release.wait(60)
        order.append(f'write {len(pending)}')
        write_shard(self, pending)

    def watched(image, sample):
        order.append('extract')
        if (
            len(order) == 5
        ):  # the first asked for the grid; two are being written, and this is the next shard's last
            release.set()
        return extract(image, sample)

    monkeypatch.setattr(BankWriter, '_write_shard', slow)
    source(world, tmp_path).prepare(watched, SEGMENTOR)
    assert order[:5] == ['extract'] * 5
    assert [entry for entry in order if entry != 'extract'] == ['write 2'] * SHARDS


def test_the_next_image_is_read_before_one_is_extracted_and_not_all_of_them(
    world, tmp_path, monkeypatch
):
    monkeypatch.setattr(extraction, 'READERS', 2)
    made = source(world, tmp_path)
    read = [threading.Event() for _ in range(NUM_IMAGES)]
    seen, pipeline = [], made.closed_images.pipeline

    def reading(info):
        item = pipeline(info)
        read[info['sample_idx']].set()
        return item

    def watched(image, sample):
        number = int(image[0, 0, 0])
        if seen:  # the first asked for the grid
            assert number + 1 == NUM_IMAGES or read[number + 1].wait(30)
            assert not any(event.is_set() for event in read[number + 1 + extraction.READERS :])
        seen.append(number)
        return extract(image, sample)

    made.closed_images.pipeline = reading
    made.prepare(watched, SEGMENTOR)
    assert seen == [0, *range(NUM_IMAGES)]


@pytest.mark.parametrize('value', [float('nan'), float('-inf'), 1e6])
def test_features_that_fp16_cannot_hold_are_named_and_not_stored(
    world, tmp_path, uninterrupted, value
):
    def broken(image, sample):
        features = extract(image, sample)
        if image[0, 0, 0] == 3:
            features[1] = value
        return features

    with pytest.raises(
        ValueError, match=r"closed features of '.*003_leftImg8bit\.png' are NaN or beyond float16"
    ):
        source(world, tmp_path, closed_per_image=7).prepare(broken, SEGMENTOR)
    whole = [name for name in uninterrupted if not name.startswith(('shard-00001', 'shard-00002'))]
    assert content(tmp_path) == {name: uninterrupted[name] for name in whole}
    built(world, tmp_path, closed_per_image=7)
    assert content(tmp_path) == uninterrupted


def test_a_disk_that_is_full_keeps_whole_files_only(world, tmp_path):
    """The system refuses the last byte of a file in the second shard, the largest of all."""

    def build(name):
        source(world, tmp_path / name, closed_per_image=7).prepare(
            lambda image, sample: image.float(), SEGMENTOR
        )
        return content(tmp_path / name)

    def refused():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, size - 1))
        with pytest.raises(OSError, match=f'while it was written.*{largest}'):
            build('bank')

    whole = build('whole')
    size, largest = max((len(data), name) for name, data in whole.items())
    assert largest == 'shard-00001.open.pixels.npy'
    process = multiprocessing.get_context('fork').Process(target=refused)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    kept = content(tmp_path / 'bank')
    assert kept.items() < whole.items()
    assert 'shard-00000.json' in kept
    assert 'shard-00001.json' not in kept
    assert build('bank') == whole


# ----------------------------------------------------------------------------------------------
# memory and processes


def sparse_bank(folder, rows, channels):
    """A bank of one image whose features are a hole of rows * channels * 2 bytes, but for the last
    row.
    """
    writer = BankWriter(folder, dict(channels=channels))
    writer.add('image', dict(closed=(np.ones((1, channels), np.float16), np.zeros((1, 3), int))))
    writer.flush()
    path = folder / 'shard-00000.closed.npy'
    np.lib.format.open_memmap(path, mode='w+', dtype=np.float16, shape=(rows, channels))[-1] = 7
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
    assert peak < 2e6


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
