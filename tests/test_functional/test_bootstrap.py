"""Block bootstrap: the pair table gives the pooled AUROC, and resamples equal pooling the drawn
blocks.
"""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mmseg_opengan.functional import bootstrap
from mmseg_opengan.functional.bootstrap import (
    MIN_BLOCKS,
    BlockTable,
    block_table,
    interval,
    resampled_aurocs,
)
from mmseg_opengan.functional.detection import exact_bins


def make_blocks(num_blocks=MIN_BLOCKS, pixels=60, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    blocks = []
    for i in range(num_blocks):
        labels = (torch.rand(pixels, generator=generator) < 0.3).to(torch.uint8)
        scores = (torch.randn(pixels, generator=generator) + labels + spread * i).mul(
            4
        ).round() / 4  # with ties
        blocks.append((scores, labels))
    return blocks


def tables(blocks):
    return [block_table([exact_bins(*block) for block in blocks])]


def test_wins_sum_to_the_pooled_auroc():
    blocks = make_blocks()
    scores, labels = (torch.cat(parts) for parts in zip(*blocks))
    table = tables(blocks)[0]
    assert table.wins.sum() / table.closed.sum() / table.open.sum() == pytest.approx(
        roc_auc_score(labels, scores), abs=1e-12
    )


def test_one_entry_counts_the_pairs_of_two_blocks():
    (closed_scores, closed_labels), (open_scores, open_labels) = make_blocks()[:2]
    closed, opened = closed_scores[closed_labels == 0], open_scores[open_labels == 1]
    slow = sum(
        1.0 if o > c else 0.5 if o == c else 0.0 for c in closed.tolist() for o in opened.tolist()
    )
    table = block_table(
        [exact_bins(closed_scores, closed_labels), exact_bins(open_scores, open_labels)]
    )
    assert table.wins[0, 1] == slow


def test_resamples_equal_pooling_the_drawn_blocks():
    blocks = make_blocks()
    values = resampled_aurocs(tables(blocks))
    draws = np.random.default_rng(0).multinomial(
        MIN_BLOCKS, np.full(MIN_BLOCKS, 1 / MIN_BLOCKS), size=2000
    )
    for value, draw in zip(values[:300], draws):
        scores, labels = (
            torch.cat(parts) for parts in zip(*[b for b, n in zip(blocks, draw) for _ in range(n)])
        )
        assert value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_several_seeds_are_averaged_over_the_same_draws():
    one, two = tables(make_blocks(seed=1)), tables(make_blocks(seed=2))
    both, first, second = (resampled_aurocs(seeds) for seeds in (one + two, one, two))
    assert both == pytest.approx((first + second) / 2)


def test_equal_blocks_have_no_spread():
    low, high = interval(resampled_aurocs(tables(make_blocks(1) * MIN_BLOCKS)))
    assert low == pytest.approx(high, abs=1e-12)


def test_no_open_pixel_gives_nan():
    scores, labels = make_blocks(1)[0]
    low, high = interval(
        resampled_aurocs(tables([(scores, torch.zeros_like(labels))] * MIN_BLOCKS))
    )
    assert math.isnan(low)
    assert math.isnan(high)


def test_fewer_than_eight_blocks_give_no_interval_and_why():
    with pytest.warns(UserWarning, match='wanted 8 blocks of images or more, found 7'):
        low, high = interval(resampled_aurocs(tables(make_blocks(7))))
    assert math.isnan(low)
    assert math.isnan(high)
    low, high = interval(resampled_aurocs(tables(make_blocks(MIN_BLOCKS))))
    assert low < high


def test_a_table_survives_json():
    table = tables(make_blocks())[0]
    again = BlockTable.from_json(table.to_json())
    assert all(np.array_equal(a, b) for a, b in zip(table, again))


def test_a_table_of_many_bins_is_that_of_pairs_written_out(monkeypatch):
    """More bins than are in memory at once; ties, and a block without open pixels."""
    monkeypatch.setattr(bootstrap, '_BINS', 7)
    rng = np.random.default_rng(0)
    blocks = []
    for size in (40, 25, 1):
        scores = torch.from_numpy(rng.integers(0, 30, size) / 4)
        blocks.append((scores, torch.from_numpy(rng.random(size) < 0.4) & (size > 1)))
    table = block_table([exact_bins(*block) for block in blocks])
    for i, (scores, is_open) in enumerate(blocks):
        for j, (others, others_open) in enumerate(blocks):
            above = others[others_open][None] - scores[~is_open][:, None]
            assert table.wins[i, j] == float((above > 0).sum() + (above == 0).sum() / 2)
