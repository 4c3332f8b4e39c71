"""Extraction that is killed at random moments, and resumed, ends with the same bytes.

``MMSEG_OPENGAN_KILLS`` says how often; ``benchmarks/stress_data.py`` does it more often.
"""

import multiprocessing
import os
import random
import shutil
import signal
import time

import pytest
from mmengine.registry import init_default_scope
from tiny_cityscapes import SEGMENTOR, content, extract, images, source, write_images

from mmseg_opengan.features.bank import FeatureBank, read_manifest
from mmseg_opengan.features.stored_taps import StoredTaps

KILLS = int(os.environ.get('MMSEG_OPENGAN_KILLS', '3'))
NUM_IMAGES = 30
pytestmark = pytest.mark.usefixtures('two_images_per_shard')


def slow(image, sample):
    time.sleep(0.004)
    return extract(image, sample)


def slow_tap(image, sample):
    features = slow(image, sample)[None]
    return features, features[:, :2]


def build_bank(world, folder):
    source(world, folder, closed_per_image=7).prepare(slow, SEGMENTOR)


def build_taps(world, folder):
    init_default_scope('mmseg')
    made = StoredTaps(root=str(folder), images=images(world, split='train'))
    made.prepare(slow_tap, SEGMENTOR)


def check_bank(folder):
    """What is there after a kill is whole."""
    if read_manifest(folder) is not None:
        FeatureBank(folder).verify()


@pytest.mark.parametrize(
    ('build', 'check'),
    [(build_bank, check_bank), (build_taps, read_manifest)],
    ids=['bank', 'taps'],
)
def test_killed_at_random_moments(tmp_path, build, check):
    world = write_images(tmp_path / 'world', NUM_IMAGES + 1)
    start = time.monotonic()
    build(world, tmp_path / 'whole')
    duration = time.monotonic() - start
    whole = content(tmp_path / 'whole')
    moments = random.Random(0)
    fork = multiprocessing.get_context('fork')
    kills = finished = 0
    while kills < KILLS:
        process = fork.Process(target=build, args=(world, tmp_path / 'killed'))
        process.start()
        process.join(moments.uniform(0, duration))
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join(60)
        if process.exitcode == -signal.SIGKILL:
            kills += 1
            check(tmp_path / 'killed')
        else:
            assert process.exitcode == 0
            finished += 1
            assert content(tmp_path / 'killed') == whole
            shutil.rmtree(tmp_path / 'killed')
    build(world, tmp_path / 'killed')
    assert content(tmp_path / 'killed') == whole
    print(f'{kills} kills, {finished + 1} times finished with the same bytes')
