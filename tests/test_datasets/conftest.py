"""What the tests of feature banks and sources share."""

from functools import partial

import pytest
from tiny_cityscapes import write_images

from mmseg_opengan.datasets import bank_parts, extraction
from mmseg_opengan.datasets.bank_writer import BankWriter


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Root of a few images like Cityscapes'."""
    return write_images(tmp_path_factory.mktemp('world'))


@pytest.fixture
def two_images_per_shard(monkeypatch):
    monkeypatch.setattr(extraction, 'BankWriter', partial(BankWriter, images_per_shard=2))
    monkeypatch.setattr(bank_parts, 'IMAGES_PER_SHARD', 2)
