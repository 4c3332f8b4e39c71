"""Shared fixtures: the placeholder for mmcv's ops before any mmseg import, and the optional real
data.
"""

import os
import threading
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope
from tqdm import tqdm

from mmseg_opengan import compat

compat.install()
# tqdm's own lock is one for all forked processes: a child killed while it draws a bar would hold it
# for ever.
tqdm.monitor_interval = 0
tqdm.set_lock(threading.RLock())
init_default_scope('mmseg')
torch.set_num_threads(1)


@pytest.fixture(scope='session')
def shared() -> Path:
    """Folder with ``data/camvid``, ``data/road_anomaly`` and ``weights`` (real data, not ours to
    ship).
    """
    named = os.environ.get('MMSEG_OPENGAN_DATA')
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / 'shared'
    if not (folder / 'data' / 'camvid').is_dir():
        pytest.skip(
            f'real data is absent: set MMSEG_OPENGAN_DATA to a folder with data/camvid and weights '
            f'(looked in {folder})'
        )
    return folder
