"""Exact nearest neighbours of a few features among many.

Shape letters: Q queries, B rows of a block, C channels.
"""

import math

import torch
from torch import Tensor

METRICS = ('l1', 'cosine')


class NearestRows:
    """The nearest row of each query among rows that come a block at a time; brute force, so exact.

    Memory is that of the queries and of one (Q, B) block of distances, however many rows there are.

    Args:
        queries: (Q, C) floating point.
        metric: ``'l1'``, the sum of absolute differences (the paper's), or ``'cosine'``, 1 - cos in
            [0, 2].
        images: (Q,) image of each query, >= 0: rows of the same image are passed over, because the
            neighbour of a pixel is otherwise the pixel beside it. A query with -1 is compared with
            all rows.

    Attributes:
        distance: (Q,) float32, inf while no row qualified.
        row: (Q,) int64 id of the nearest row, the earliest of equally near ones; -1 while no row
            qualified.
    """

    def __init__(self, queries: Tensor, *, metric: str = 'l1', images: Tensor | None = None):
        self.metric = metric
        self.images = images
        self._queries = self._prepare(queries)
        self.distance = torch.full((len(queries),), math.inf, device=queries.device)
        self.row = torch.full((len(queries),), -1, device=queries.device)

    def _prepare(self, features):
        features = features.float()
        return features if self.metric == 'l1' else torch.nn.functional.normalize(features, dim=1)

    def update(self, rows: Tensor, ids: Tensor, images: Tensor | None = None) -> None:
        """Compare all queries with a block of rows.

        Args:
            rows: (B, C).
            ids: (B,) int64, what ``row`` shall call them.
            images: (B,) image of each row; needed where the queries have images.
        """
        rows = self._prepare(rows)
        if self.metric == 'l1':
            distance = torch.cdist(self._queries, rows, p=1)
        else:
            distance = 1 - self._queries @ rows.T
        if self.images is not None and images is not None:
            same = self.images[:, None] == images
            distance[same & (self.images[:, None] >= 0)] = math.inf
        nearest, at = distance.min(1)
        better = nearest < self.distance
        self.distance[better] = nearest[better]
        self.row[better] = ids[at[better]]


def quartiles(values: Tensor) -> dict[str, float]:
    """The 25 %, 50 % and 75 % quantiles of a non-empty vector: ``q25``, ``median``, ``q75``."""
    found = torch.quantile(
        values.double(), torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64, device=values.device)
    )
    return dict(zip(('q25', 'median', 'q75'), found.tolist()))
