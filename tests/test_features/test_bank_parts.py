"""A bank that is extracted in parts and joined is the bank of one process, byte for byte, or is
refused.
"""

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from tiny_cityscapes import SEGMENTOR, built, content, extract, source, stored_images

from mmseg_opengan import files
from mmseg_opengan.features import bank as feature_bank
from mmseg_opengan.features import bank_parts
from mmseg_opengan.features.bank import FeatureBank, FeatureBankError

pytestmark = pytest.mark.usefixtures('two_images_per_shard')
OPTIONS = dict(closed_per_image=7)
SHARDS = 3  # of two images
FILES = SHARDS * 5  # without the manifest


def never(image, sample):
    raise AssertionError('nothing is to be extracted')


def extract_parts(world, root, parts, **options):
    for number in range(1, parts + 1):
        built(world, root, part=(number, parts), **OPTIONS | options)


def join(world, root, parts, **options):
    source(world, root, join=parts, **OPTIONS | options).prepare(never, SEGMENTOR)


@pytest.fixture
def one(world, tmp_path):
    """Content of the bank that one process writes."""
    built(world, tmp_path / 'one', **OPTIONS)
    return content(tmp_path / 'one')


@pytest.fixture
def root(world, tmp_path):
    """Root of a bank of which there are two parts, of one and two shards."""
    extract_parts(world, tmp_path / 'bank', 2)
    return tmp_path / 'bank'


# ---------------------------------------------------------------------------------------------- the
# same bytes


@pytest.mark.parametrize(
    ('parts', 'options'),
    [
        pytest.param(1, {}, id='one part'),
        pytest.param(SHARDS, {}, id='a shard each'),
        pytest.param(2, dict(held_out=4, open_held_out=1), id='more open images'),
        pytest.param(SHARDS, dict(open_held_out=4), id='fewer open images'),
        pytest.param(2, dict(open_=False), id='no open images'),
        pytest.param(2, dict(kind='OnlineSource'), id='open pixels only'),
        pytest.param(2, dict(held_out=2), id='last shard not full'),
    ],
)
def test_a_joined_bank_is_that_of_one_process(world, tmp_path, parts, options):
    built(world, tmp_path / 'one', **OPTIONS | options)
    extract_parts(world, tmp_path / 'bank', parts, **options)
    assert not (tmp_path / 'bank').exists()
    join(world, tmp_path / 'bank', parts, **options)
    assert content(tmp_path / 'bank') == content(tmp_path / 'one')
    assert len(list((tmp_path / 'one').glob('shard-*.json'))) == SHARDS
    FeatureBank(tmp_path / 'bank').verify()
    source(world, tmp_path / 'bank', **OPTIONS | options).prepare(
        never, SEGMENTOR
    )  # nothing is missing


def test_order_and_copies_do_not_matter(world, tmp_path, one, monkeypatch):
    """Parts are extracted at any time, and a file system may know no hard links."""
    for number in (3, 1, 2):
        built(world, tmp_path / 'bank', part=(number, 3), **OPTIONS)

    def no_links(old, new):
        raise PermissionError(1, 'Operation not permitted', str(old), None, str(new))

    monkeypatch.setattr(os, 'link', no_links)
    join(world, tmp_path / 'bank', 3)
    assert content(tmp_path / 'bank') == one


def test_a_failed_part_resumes(world, tmp_path, one):
    calls = []

    def failing(image, sample):
        calls.append(1)
        if (
            len(calls) == 5
        ):  # the first asked for the grid, two images are stored, one of the second shard is not
            raise RuntimeError('out of memory')
        return extract(image, sample)

    with pytest.raises(RuntimeError, match='out of memory'):
        source(world, tmp_path / 'bank', part=(2, 2), **OPTIONS).prepare(failing, SEGMENTOR)
    part = tmp_path / 'bank.part-2-of-2'
    assert sorted(path.name for path in part.glob('*.json')) == [
        'manifest.json',
        'shard-00001.json',
    ]
    extract_parts(world, tmp_path / 'bank', 2)
    assert len(list(part.glob('shard-*.json'))) == 2
    join(world, tmp_path / 'bank', 2)
    assert content(tmp_path / 'bank') == one


def test_a_part_is_a_bank(world, root, tmp_path):
    built(world, tmp_path / 'one', **OPTIONS)
    whole, part = FeatureBank(tmp_path / 'one'), FeatureBank(root.with_name('bank.part-2-of-2'))
    assert part.manifest['images'] == whole.manifest['images'][2:]
    for group in feature_bank.GROUPS:
        rows, wanted = (
            bank.gather(
                group,
                bank.pool(group, stored_images(part, group)).rows(
                    np.arange(part.num_pixels(group))
                ),
            )
            for bank in (part, whole)
        )
        assert rows.tolist() == wanted.tolist()
        assert part.pixels(group)['image'].min() >= 0
        assert all(
            part.manifest['images'][pixel['image']].endswith(f'{int(row[0]):03d}_leftImg8bit.png')
            for pixel, row in zip(part.pixels(group), rows)
        )


# ----------------------------------------------------------------------------------------------
# interrupted joins


# Files removed, files linked, the manifest renamed: the first and the last of each, and between.
@pytest.mark.parametrize('operation', [0, 7, FILES - 1, FILES, 22, 2 * FILES - 1, 2 * FILES])
def test_a_join_killed_at_any_file_and_repeated(world, root, one, operation):
    """Another killed join has left files there: they are removed, those of the parts linked, the
    manifest renamed.
    """
    root.mkdir()
    for name in one:
        if name.startswith('shard'):
            (root / name).write_bytes(b'of another bank')
    before = {part: content(part) for part in root.parent.glob('bank.part-*')}
    assert len(before) == 2

    def killed():
        operations = iter(range(FILES + FILES + 1))

        def dying(work):
            def work_or_die(*arguments, **options):
                if next(operations) == operation:
                    os.kill(os.getpid(), signal.SIGKILL)
                return work(*arguments, **options)

            return work_or_die

        files.os.replace, bank_parts.os.link = dying(os.replace), dying(os.link)
        Path.unlink = dying(Path.unlink)
        join(world, root, 2)

    process = multiprocessing.get_context('fork').Process(target=killed)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert {part: content(part) for part in before} == before
    with pytest.raises(FileNotFoundError, match=r'There is no feature bank in'):
        FeatureBank(root)
    join(world, root, 2)
    assert content(root) == one


def test_a_finished_join_is_left_alone(world, root, one):
    join(world, root, 2)
    for part in root.parent.glob('bank.part-*'):
        shutil.rmtree(part)
    join(world, root, 2)
    assert content(root) == one


def test_extraction_after_a_killed_join_uses_none_of_its_files(world, root, tmp_path):
    join(world, root, 2)
    (root / 'manifest.json').unlink()
    other = dict(SEGMENTOR, sha256='b' * 64)

    def failing(image, sample):
        if image[0, 0, 0] == 3:
            raise RuntimeError('out of memory')
        return extract(image, sample) + 1

    with pytest.raises(RuntimeError, match='out of memory'):
        source(world, root, **OPTIONS).prepare(failing, other)
    for folder in (root, tmp_path / 'anew'):
        source(world, folder, **OPTIONS).prepare(
            lambda image, sample: extract(image, sample) + 1, other
        )
    assert content(root) == content(tmp_path / 'anew')


# ----------------------------------------------------------------------------------------------
# what is refused


def refused(world, root, error, message, parts=2, **options):
    with pytest.raises(error, match=message):
        join(world, root, parts, **options)
    assert not list(root.glob('[!.]*'))


def test_a_missing_part(world, root):
    shutil.rmtree(root.with_name('bank.part-1-of-2'))
    refused(world, root, FileNotFoundError, r"'.*bank\.part-1-of-2' \(manifest\.json is missing")
    refused(
        world,
        root,
        FileNotFoundError,
        r"'.*bank\.part-1-of-3' \(manifest\.json is missing",
        parts=3,
    )


def test_an_unfinished_part(world, root):
    (root.with_name('bank.part-2-of-2') / 'shard-00002.json').unlink()
    refused(
        world, root, FeatureBankError, r"part-2-of-2' is not finished: wanted 2 shards, found 1"
    )


@pytest.mark.parametrize(
    ('segmentor', 'options', 'message'),
    [
        (dict(SEGMENTOR, sha256='b' * 64), {}, r"segmentor_sha256: wanted 'aaa.*', found 'bbb"),
        (
            dict(SEGMENTOR, preprocessor=dict(mean=[1.0])),
            {},
            r'preprocessor\.mean: wanted None, found \[1\.0\]',
        ),
        (SEGMENTOR, dict(closed_per_image=8), 'closed_per_image: wanted 7, found 8'),
        (SEGMENTOR, dict(open_held_out=3), r"part\.images_sha256: wanted '.*', found"),
    ],
)
def test_a_part_of_something_else(world, root, segmentor, options, message):
    shutil.rmtree(root.with_name('bank.part-2-of-2'))
    source(world, root, part=(2, 2), **OPTIONS | options).prepare(extract, segmentor)
    refused(
        world,
        root,
        FeatureBankError,
        rf"'.*bank\.part-2-of-2' was made from something else \({message}",
    )
    with pytest.raises(FeatureBankError, match=message):  # and it is not completed with what fits
        built(world, root, part=(2, 2), **OPTIONS)


@pytest.mark.parametrize('name', ['shard-00001.closed.npy', 'shard-00002.open.pixels.npy'])
def test_a_damaged_shard(world, root, name):
    shard = root.with_name('bank.part-2-of-2') / name
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    refused(
        world,
        root,
        FeatureBankError,
        rf'bank\.part-2-of-2/{name}.* is damaged: sha256 wanted \w+, found \w+',
    )


def test_a_truncated_shard(world, root):
    shard = root.with_name('bank.part-1-of-2') / 'shard-00000.closed.npy'
    size = shard.stat().st_size
    os.truncate(shard, size - 1)
    refused(
        world,
        root,
        FeatureBankError,
        rf'shard-00000\.closed\.npy.*wanted {size} bytes, found {size - 1}',
    )


@pytest.mark.parametrize('part', [(0, 2), (3, 2), (1, SHARDS + 1)])
def test_a_part_that_there_is_not(world, tmp_path, part):
    with pytest.raises(
        FeatureBankError, match='3 shards: wanted a part .*1/1 and 3/3, found {}/{}'.format(*part)
    ):
        source(world, tmp_path / 'bank', part=part).prepare(never, SEGMENTOR)
    assert not list(tmp_path.iterdir())


def test_a_join_of_no_parts(world, tmp_path):
    refused(world, tmp_path / 'bank', FeatureBankError, 'found 1/0', parts=0)


def test_another_bank_in_place(world, root):
    built(world, root, held_out=4, **OPTIONS)
    before = content(root)
    with pytest.raises(FeatureBankError, match=r'lacks the closed pixels of 3 images'):
        join(world, root, 2)
    assert content(root) == before
