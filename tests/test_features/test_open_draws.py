"""Which open pixels a source draws: without kinds that are left out, or of every kind alike."""

import numpy as np
import pytest
from tiny_cityscapes import built

from mmseg_opengan.datasets import anomaly  # noqa: F401


def test_classes_that_are_left_out_are_never_drawn(world, bank):
    """Their pixels stay in the bank, which is the same one."""
    full = built(world, bank, closed_per_image=None)
    labels = full.bank.pixels('open')['label']
    names = full.open_images.metainfo['open_classes']
    gone = int(np.bincount(labels).argmax())
    kept = built(world, bank, closed_per_image=None, leave_out=[names[gone]])
    pool = kept.pool('open')
    rows = pool.rows(np.arange(len(pool)))
    assert set(rows) == set(np.flatnonzero(labels != gone))
    assert 0 < len(rows) < len(labels)
    with pytest.raises(
        ValueError, match=r"leave_out: wanted some of the open classes .*found \['x'"
    ):
        built(world, bank, closed_per_image=None, leave_out=['x']).pool('open')


def test_kinds_are_drawn_alike_where_the_sampler_says_so(world, bank):
    """Batches hold pixels of every kind that is not left out, each as often as any other."""
    sampler = dict(type='PixelSampler', num_closed=1, num_open=600, num_fake=0)
    sampler['open_draws'] = 'kinds'
    source = built(world, bank, closed_per_image=None, sampler=sampler)
    labels = source.bank.pixels('open')['label']
    rows = {row.tobytes(): label for row, label in zip(all_open(source), labels)}
    drawn = [rows[row.numpy().tobytes()] for row in source[0, 3]['open']]
    counts = np.bincount(drawn)[np.unique(labels)]
    expected = 600 / len(counts)
    assert len(counts) > 1
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert np.ptp(np.bincount(labels)[np.unique(labels)]) > 0  # kinds are not of one size


def all_open(source):
    number = len(source.bank.pixels('open'))
    return source.bank.gather('open', np.arange(number)).numpy()
