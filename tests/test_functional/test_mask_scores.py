"""Scores of mask heads against loops over queries, classes and pixels."""

import math

import pytest
import torch

from mmseg_opengan.functional import mask_scores

N, Q, K, ROWS, COLS = 2, 4, 3, 3, 5


@pytest.fixture
def queries():
    generator = torch.Generator().manual_seed(0)
    return (2 * torch.randn(N, Q, K + 1, generator=generator, dtype=torch.float64),
            2 * torch.randn(N, Q, ROWS, COLS, generator=generator, dtype=torch.float64))


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def by_hand(queries):
    """(class scores L, EAM) of every pixel."""
    classes, masks = queries
    found, sure = torch.zeros(N, K, ROWS, COLS).double(), torch.ones(N, ROWS, COLS).double()
    for n in range(N):
        for row in range(ROWS):
            for col in range(COLS):
                for q in range(Q):
                    powers = [math.exp(value) for value in classes[n, q].tolist()]
                    inside = sigmoid(masks[n, q, row, col].item())
                    for k in range(K):
                        found[n, k, row, col] += powers[k] / sum(powers) * inside
                    sure[n, row, col] -= max(powers[:K]) / sum(powers) * inside
    return found, sure


def test_class_scores_and_eam_are_the_written_out_sums(queries):
    wanted, sure = by_hand(queries)
    torch.testing.assert_close(mask_scores.class_scores(*queries), wanted)
    torch.testing.assert_close(mask_scores.eam(*queries), sure)


def test_rba_and_mask2anomaly(queries):
    found = mask_scores.class_scores(*queries)
    rba, anomaly = mask_scores.rba(found), mask_scores.mask2anomaly(found)
    for pixel in [(0, 0, 0), (1, 2, 4)]:
        values = found[pixel[0], :, pixel[1], pixel[2]].tolist()
        assert rba[pixel].item() == pytest.approx(-sum(map(math.tanh, values)))
        assert anomaly[pixel].item() == pytest.approx(1 - max(values))


def test_logits_have_the_normalised_scores_as_softmax(queries):
    found = mask_scores.class_scores(*queries)
    probabilities = mask_scores.as_logits(found).softmax(1)
    torch.testing.assert_close(probabilities, found / found.sum(1, keepdim=True))


def test_a_pixel_of_no_mask_is_undecided_and_finite():
    logits = mask_scores.as_logits(torch.zeros(1, K, 1, 1))
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.softmax(1), torch.full((1, K, 1, 1), 1 / K))
