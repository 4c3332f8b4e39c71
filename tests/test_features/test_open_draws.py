"""Which open pixels a source draws: none of the kinds that are left out."""

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
