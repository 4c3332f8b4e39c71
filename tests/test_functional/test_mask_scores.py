"""Scores of mask heads against loops over queries, classes and pixels."""

import math

import pytest
import torch

from mmseg_opengan.functional import mask_scores

N, Q, K, ROWS, COLS = 2, 4, 3, 3, 5


@pytest.fixture
def queries():
    generator = torch.Generator().manual_seed(0)
    return (
        2 * torch.randn(N, Q, K + 1, generator=generator, dtype=torch.float64),
        2 * torch.randn(N, Q, ROWS, COLS, generator=generator, dtype=torch.float64),
    )


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


@pytest.mark.parametrize('dtype', [torch.float16, torch.float64])
def test_a_pixel_of_no_mask_is_undecided_and_finite(dtype):
    logits = mask_scores.as_logits(torch.zeros(1, K, 1, 1, dtype=dtype))
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.softmax(1), torch.full_like(logits, 1 / K))


@pytest.mark.parametrize('scale', [1e-36, 1.0, 100.0])
def test_logits_of_faint_and_bright_pixels_keep_their_ratios(scale):
    shares = torch.tensor([0.6, 0.3, 0.1]).view(1, K, 1, 1)
    logits = mask_scores.as_logits(scale * shares)
    torch.testing.assert_close(logits, shares.log())


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_logits_of_a_class_in_no_mask_are_finite(dtype):
    logits = mask_scores.as_logits(torch.tensor([90.0, 0.0, 1.0], dtype=dtype).view(1, K, 1, 1))
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.softmax(1).flatten(), torch.tensor([90 / 91, 0, 1 / 91]))


def test_ranges(queries):
    found = mask_scores.class_scores(*(10 * value for value in queries))
    rba, anomaly = mask_scores.rba(found), mask_scores.mask2anomaly(found)
    eam = mask_scores.eam(*queries)
    assert ((found >= 0) & (found <= Q)).all()
    assert ((rba >= -K) & (rba <= 0)).all()
    assert ((anomaly >= 1 - Q) & (anomaly <= 1)).all()
    assert ((eam >= 1 - Q) & (eam <= 1)).all()
    assert (mask_scores.as_logits(found) <= 0).all()


def test_a_query_of_no_object_does_not_count():
    """However sure its mask is of the pixel."""
    classes = torch.zeros(1, Q, K + 1)
    classes[..., -1] = 50
    masks = torch.full((1, Q, 1, 1), 50.0)
    assert mask_scores.class_scores(classes, masks).max() < 1e-12
    assert mask_scores.eam(classes, masks).item() == pytest.approx(1)


def test_extreme_queries_give_finite_scores():
    classes, masks = torch.full((1, Q, K + 1), -1e4), torch.tensor([1e4, -1e4]).expand(1, Q, 1, 2)
    classes[:, :, 0] = 1e4
    found = mask_scores.class_scores(classes, masks)
    torch.testing.assert_close(found[0, :, 0], torch.tensor([[Q, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(mask_scores.eam(classes, masks)[0, 0], torch.tensor([1.0 - Q, 1.0]))
    assert mask_scores.as_logits(found).isfinite().all()
