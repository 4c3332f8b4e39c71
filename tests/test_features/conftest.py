"""What the tests of feature banks and sources share."""

import multiprocessing
import os
import signal
from functools import partial

import pytest
from tiny_cityscapes import built, content, write_images

from mmseg_opengan.features import bank_parts, extraction
from mmseg_opengan.features.bank_writer import BankWriter


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Root of a few images like Cityscapes'."""
    return write_images(tmp_path_factory.mktemp('world'))


@pytest.fixture(scope='module')
def bank(world, tmp_path_factory):
    """Folder of the bank of those images, with every closed pixel."""
    folder = tmp_path_factory.mktemp('bank')
    built(world, folder, closed_per_image=None)
    return folder


@pytest.fixture
def two_images_per_shard(monkeypatch):
    monkeypatch.setattr(extraction, 'BankWriter', partial(BankWriter, images_per_shard=2))
    monkeypatch.setattr(bank_parts, 'IMAGES_PER_SHARD', 2)


@pytest.fixture(scope='module')
def uninterrupted(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp('uninterrupted')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, 'BankWriter', partial(BankWriter, images_per_shard=2))
        built(world, folder, closed_per_image=7)
    return content(folder)


@pytest.fixture
def killed_before_rename():
    """Does some work in a process of its own that is killed before it renames a file for the n-th
    time, from 0.
    """

    def run(number, work):
        def killed():
            renamed, rename = [], os.replace

            def replace(old, new):
                if len(renamed) == number:
                    with open(old, 'r+b') as file:  # not everything had reached the disk
                        file.truncate(os.path.getsize(old) // 2)
                    os.kill(os.getpid(), signal.SIGKILL)
                renamed.append(new)
                rename(old, new)

            os.replace = replace
            work()

        process = multiprocessing.get_context('fork').Process(target=killed)
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL

    return run
