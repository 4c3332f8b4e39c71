import math

import pytest
import torch

from mmseg_opengan.contracts import VOID
from mmseg_opengan.functional.score_layout import NUM_BINS, ScoreLayout

FLOAT_MAX = torch.finfo(torch.float32).max


def _floats_of_every_kind():
    """Random bit patterns of all finite floats, the neighbours of every power of two, and a crowd
    below 1.
    """
    bits = torch.randint(0, 0x7F800000, (200_000,), generator=torch.Generator().manual_seed(0))
    powers = torch.arange(1, 255)[:, None] * 2**23 + torch.arange(-3, 4)
    crowd = 127 * 2**23 - torch.arange(20_000)
    magnitude = torch.cat(
        [bits, powers.flatten(), crowd, torch.tensor([0, 1, 0x7FFFFF, 0x7F7FFFFF])]
    )
    positive = magnitude.int().view(torch.float32)
    return torch.cat([positive, -positive])


def _layout(scores):
    return ScoreLayout.of(scores, torch.zeros(len(scores), dtype=torch.uint8))


FIRST_MAPS = dict(
    one=torch.tensor([0.3]),
    logits=torch.linspace(-8, 9, 30_011),
    levels=(torch.arange(50_000) % 256) / 255,  # each of them is cut out of its bin
    shifted=1e5 + torch.linspace(0, 1, 30_011),
)


@pytest.fixture(params=FIRST_MAPS)
def layout(request):
    return _layout(FIRST_MAPS[request.param])


def test_bins_rise_with_the_score_and_cover_the_range(layout):
    scores = _floats_of_every_kind().sort().values
    bins = layout.bins(scores)
    assert (bins.diff() >= 0).all()
    assert (bins[0], bins[-1]) == (0, layout.num_bins - 1)
    assert layout.num_bins <= NUM_BINS


def test_the_lower_edge_is_the_smallest_score_of_its_bin(layout):
    """For every bin: the edge lies in it, and the next smaller float lies in a bin below."""
    bins = torch.arange(layout.num_bins)
    edges, single = layout.edges(bins)
    found = layout.bins(edges)
    filled = found == bins  # an edge that a cut repeats leaves a bin without a score
    assert (~filled).sum() <= 256
    assert torch.equal(layout.edges(found)[0], edges)
    below = torch.nextafter(edges[1:], torch.tensor(-math.inf))
    assert (layout.bins(below) < found[1:]).all()
    above = torch.nextafter(edges, torch.tensor(math.inf))
    assert (layout.bins(above) > found)[single].all()
    assert edges[0] == -FLOAT_MAX


def test_minus_zero_is_zero_and_nothing_else(layout):
    zero, minus, above, below = layout.bins(torch.tensor([0.0, -0.0, 1e-45, -1e-45])).tolist()
    assert zero == minus
    assert below < zero < above
    assert layout.edges(torch.tensor([zero]))[1].all()


def test_scores_of_the_first_map_are_told_apart_where_they_crowd():
    for scores in (
        1 - torch.arange(8193) * 2.0**-24,  # a softmax that saturates
        torch.arange(1, 1024) * 2.0**-24,  # the steps of 1 - p
        1e6 + torch.arange(1000) / 16,
        1e-38 + torch.arange(1000) * 2.0**-149,
    ):
        for signed in (scores, -scores):
            assert len(_layout(signed).bins(signed).unique()) == len(scores)


def test_a_score_that_pixels_share_has_a_bin_of_its_own():
    levels = torch.randn(999, generator=torch.Generator().manual_seed(0))
    for scores, wanted in (
        (levels, False),
        (levels.repeat(2), True),
        (torch.cat([levels.repeat(7), torch.zeros(2**17)]), False),  # a chance in so many
        (torch.cat([levels.repeat(9), torch.zeros(2**17 - 9 * 999)]), True),
    ):
        layout = _layout(scores)
        _, single = layout.edges(layout.bins(levels))
        assert single.all() == wanted


def test_few_open_pixels_weigh_as_much_as_all_closed_ones():
    scores = torch.cat([torch.linspace(-4, 4, 100_000), 1e4 + torch.linspace(0, 1, 50)])
    labels = (torch.arange(len(scores)) >= 100_000).to(torch.uint8)
    crowd = 1e4 + torch.arange(1024) * 2.0**-10
    found = [
        len(ScoreLayout.of(scores, some).bins(crowd).unique())
        for some in (labels, torch.zeros_like(labels), labels * VOID)
    ]
    assert found == [1024, 4, 1]


def test_of_a_map_that_is_all_void_the_scores_count_all_the_same():
    scores = 1e4 + torch.linspace(0, 1, 50)
    void = torch.full((50,), VOID, dtype=torch.uint8)
    assert len(ScoreLayout.of(scores, void).bins(scores).unique()) == 50
