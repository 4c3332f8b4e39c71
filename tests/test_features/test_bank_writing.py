"""A bank whose extraction fails or is killed is finished with the same bytes; nothing half written
counts.
"""

import multiprocessing
import resource
import signal
import threading

import numpy as np
import pytest
from tiny_cityscapes import (
    SEGMENTOR,
    built,
    content,
    extract,
    located,
    source,
)

from mmseg_opengan.features import bank as feature_bank
from mmseg_opengan.features import bank_writer, extraction
from mmseg_opengan.features.bank import FeatureBank, FeatureBankError, locked
from mmseg_opengan.features.bank_writer import BankWriter

pytestmark = pytest.mark.usefixtures('two_images_per_shard')
NUM_IMAGES = 6  # of which the bank is built
SHARDS = 3


@pytest.mark.parametrize('images_before', [0, 1, 5])
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


# Of the manifest and five files for each shard: the first, those of the second shard, the last.
@pytest.mark.parametrize('write', [0, *range(6, 11), 15])
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

    def full(path):
        if path.name.startswith('shard-00001'):
            raise OSError(28, 'No space left on device', str(path))
        return replacing(path)

    replacing = bank_writer.replacing
    monkeypatch.setattr(bank_writer, 'replacing', full)
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


@pytest.mark.parametrize('value', [float('nan'), 1e6])
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
