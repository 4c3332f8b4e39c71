"""tools/extract_features.py --verify."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from mmseg_opengan.datasets.bank_writer import BankWriter
from mmseg_opengan.datasets.feature_bank import FeatureBankError

TOOL = Path(__file__).parents[2] / 'tools' / 'extract_features.py'


def test_verify_names_a_damaged_shard(tmp_path, monkeypatch, capsys):
    root, config = tmp_path / 'bank', tmp_path / 'config.py'
    config.write_text(f"train_dataloader = dict(dataset=dict(root='{root.as_posix()}'))\n")
    with BankWriter(root, dict(channels=3), images_per_shard=1) as writer:
        for name in 'ab':
            writer.add(name, dict(closed=(np.ones((4, 3), np.float16), np.zeros((4, 3), int))))
    monkeypatch.setattr(sys, 'argv', [str(TOOL), str(config), '--verify'])
    runpy.run_path(str(TOOL), run_name='__main__')
    assert '2 shards, every byte as it was written' in capsys.readouterr().out
    shard = root / 'shard-00001.closed.npy'
    shard.write_bytes(shard.read_bytes()[:-1] + b'\1')
    with pytest.raises(FeatureBankError, match=r'shard-00001\.closed\.npy.* is damaged'):
        runpy.run_path(str(TOOL), run_name='__main__')
