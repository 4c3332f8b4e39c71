"""Nearest rows against a slow search written out pair by pair."""

import math

import numpy as np
import pytest
import torch

from mmseg_opengan.functional.neighbours import METRICS, NearestRows, quartiles


def slow_distance(a, b, metric):
    if metric == 'l1':
        return sum(abs(x - y) for x, y in zip(a, b))
    return 1 - sum(x * y for x, y in zip(a, b)) / math.sqrt(
        sum(x * x for x in a) * sum(y * y for y in b)
    )


def search(queries, rows, *, block, row_images=None, **options):
    """All rows, ``block`` at a time, under the ids 100, 101, ..."""
    nearest = NearestRows(queries, **options)
    ids = torch.arange(100, 100 + len(rows))
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        nearest.update(rows[part], ids[part], None if row_images is None else row_images[part])
    return nearest


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize(('block', 'with_images'), [(7, False), (1000, True)])
def test_agrees_with_a_search_pair_by_pair(metric, block, with_images):
    random = torch.Generator().manual_seed(0)
    queries, rows = torch.randn(9, 5, generator=random), torch.randn(40, 5, generator=random)
    row_images = torch.arange(40) % 3
    images = torch.tensor([0, 1, 2, 0, 1, 2, 0, -1, -1]) if with_images else None
    nearest = search(
        queries, rows, block=block, row_images=row_images, metric=metric, images=images
    )
    for i, query in enumerate(queries.double().tolist()):
        allowed = [j for j in range(40) if not with_images or row_images[j] != images[i]]
        distances = {j: slow_distance(query, rows[j].double().tolist(), metric) for j in allowed}
        best = min(distances, key=distances.get)
        assert nearest.row[i] == 100 + best
        assert nearest.distance[i] == pytest.approx(distances[best], abs=1e-5)


def test_half_precision_rows_are_compared_in_single():
    rows = torch.tensor([[2049.0, 0.0], [1.0, 1.0]]).half()
    assert search(torch.tensor([[2048.5, 0.5]]), rows, block=2).distance.item() == pytest.approx(
        1.0
    )


def test_ties_go_to_the_earliest_row_within_and_across_blocks():
    rows = torch.tensor([[3.0], [1.0], [1.0], [-1.0]])
    for block in (1, 2, 4):
        assert search(torch.zeros(1, 1), rows, block=block).row.tolist() == [101]


def test_a_query_without_a_permitted_row_has_none():
    nearest = search(
        torch.zeros(1, 2),
        torch.ones(3, 2),
        block=2,
        row_images=torch.zeros(3),
        images=torch.zeros(1),
    )
    assert nearest.row.tolist() == [-1]
    assert nearest.distance.tolist() == [math.inf]


def test_a_zero_feature_has_cosine_distance_one():
    assert search(
        torch.zeros(1, 2), torch.ones(1, 2), block=1, metric='cosine'
    ).distance.tolist() == [1.0]


def test_quartiles_are_those_of_numpy():
    values = np.random.default_rng(0).normal(size=11)
    expected = np.quantile(values, [0.25, 0.5, 0.75])
    assert list(quartiles(torch.from_numpy(values)).values()) == pytest.approx(expected.tolist())
    assert quartiles(torch.tensor([2.0])) == dict(q25=2.0, median=2.0, q75=2.0)
