"""tools/extract_features.py: a bank in parts, and --verify."""

import runpy
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_training
from tiny_cityscapes import write_images, write_segmentor

from mmseg_opengan.features import bank_parts, extraction
from mmseg_opengan.features.bank import FeatureBankError
from mmseg_opengan.features.bank_writer import BankWriter

TOOL = Path(__file__).parents[2] / 'tools' / 'extract_features.py'


@pytest.fixture
def run(monkeypatch):
    """The tool, in this process, with these arguments."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        runpy.run_path(str(TOOL), run_name='__main__')

    return run


def test_parts_are_joined_to_the_bank_of_one_process(tmp_path, monkeypatch, run):
    monkeypatch.setattr(extraction, 'BankWriter', partial(BankWriter, images_per_shard=2))
    monkeypatch.setattr(bank_parts, 'IMAGES_PER_SHARD', 2)
    write_images(tmp_path / 'world')
    write_segmentor(tmp_path / 'segmentor.pth')
    for folder, calls in (
        ('one', [()]),
        ('parts', [('--part', '1/2'), ('--part', '2/2'), ('--join', '2')]),
    ):
        for i, call in enumerate(calls):
            config = tiny_training.config(tmp_path, tmp_path / folder / f'work{i}')
            config.dump(tmp_path / 'config.py')
            run(tmp_path / 'config.py', *call, '--work-dir', tmp_path / folder / f'work{i}')
    one, joined = (
        {path.name: path.read_bytes() for path in (tmp_path / folder / 'bank').iterdir()}
        for folder in ('one', 'parts')
    )
    assert joined == one
    assert 'shard-00002.json' in one


def test_a_part_that_is_no_part(tmp_path, capsys, run):
    for part in ('2', '1/2/3', 'one/2'):
        with pytest.raises(SystemExit):
            run(tmp_path / 'config.py', '--part', part)
        assert f"--part: wanted I/N, such as 2/8, found '{part}'" in capsys.readouterr().err


def test_verify_names_a_damaged_shard(tmp_path, capsys, run):
    root, config = tmp_path / 'bank', tmp_path / 'config.py'
    config.write_text(f"train_dataloader = dict(dataset=dict(root='{root.as_posix()}'))\n")
    with BankWriter(root, dict(channels=3), images_per_shard=1) as writer:
        for name in 'ab':
            writer.add(name, dict(closed=(np.ones((4, 3), np.float16), np.zeros((4, 3), int))))
    run(config, '--verify')
    assert '2 shards, every byte as it was written' in capsys.readouterr().out
    shard = root / 'shard-00001.closed.npy'
    shard.write_bytes(shard.read_bytes()[:-1] + b'\1')
    with pytest.raises(FeatureBankError, match=r'shard-00001\.closed\.npy.* is damaged'):
        run(config, '--verify')
