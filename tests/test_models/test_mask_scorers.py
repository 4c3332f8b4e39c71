"""Scorers of mask heads: the contract of ``test_scorers.py``, on class scores and queries."""

import math

import pytest
import torch

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.functional import mask_scores
from mmseg_opengan.models.scorers.base import SCORERS

NAMES = ['EAM', 'Mask2Anomaly', 'RbA']
N = 2
Q = 5
K = 3
ROWS = 4
COLS = 6


def build(name):
    return SCORERS.build(dict(type=name)).eval()


def score(scorer, classes, masks):
    """By whichever of its methods a scorer has."""
    if scorer.reads == 'queries':
        return scorer.score_queries(classes, masks)
    return scorer(None, mask_scores.class_scores(classes, masks))


@pytest.fixture
def queries():
    """Queries 0 to 2 hold a class each, 3 and 4 "no object", whose masks are the right half."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randn(N, Q, K + 1, generator=generator)
    masks = torch.randn(N, Q, ROWS, COLS, generator=generator) - 6
    for q in range(Q):
        classes[:, q, min(q, K)] += 6
    for row in range(ROWS):
        masks[:, row % K, row, : COLS // 2] += 12
    masks[:, K:, :, COLS // 2 :] += 12
    return classes, masks


def slow(name, classes, masks):
    """One pixel's score from its queries: Q lists of K + 1 class logits, and Q mask logits."""
    held = [0.0] * K
    sure = 0.0
    for logits, mask in zip(classes, masks, strict=True):
        powers = [math.exp(value) for value in logits]
        inside = 1 / (1 + math.exp(-mask))
        shares = [power / math.fsum(powers) for power in powers[:K]]
        sure += max(shares) * inside
        held = [before + share * inside for before, share in zip(held, shares, strict=True)]
    rejected = -math.fsum(map(math.tanh, held))
    return {'RbA': rejected, 'Mask2Anomaly': 1 - max(held), 'EAM': 1 - sure}[name]


def test_every_scorer_of_the_module_is_tested_here():
    own = [
        name
        for name, cls in SCORERS.module_dict.items()
        if cls.__module__.endswith('.mask_scorers')
    ]
    assert sorted(own) == NAMES


@pytest.mark.parametrize('name', NAMES)
def test_equals_the_slow_formula(name, queries):
    classes, masks = queries
    found = score(build(name), classes, masks)
    assert found.shape == (N, ROWS, COLS)
    assert found.dtype == torch.float32
    for n in range(N):
        for row in range(ROWS):
            for col in range(COLS):
                wanted = slow(name, classes[n].tolist(), masks[n, :, row, col].tolist())
                assert found[n, row, col].item() == pytest.approx(wanted, abs=2e-6)


@pytest.mark.parametrize('name', NAMES)
def test_a_pixel_of_no_class_is_more_open(name, queries):
    found = score(build(name), *queries)
    assert found[..., COLS // 2 :].min() > found[..., : COLS // 2].max()


@pytest.mark.parametrize('name', NAMES)
def test_half_precision_is_scored_in_float32_and_input_is_left_alone(name, queries):
    scorer = build(name)
    is_eam = scorer.reads == 'queries'
    given = queries if is_eam else [mask_scores.class_scores(*queries)]
    half = [value.half() for value in given]
    before = [value.clone() for value in half]
    function = scorer.score_queries if is_eam else lambda scores: scorer(None, scores)
    found = function(*half)
    assert found.dtype == torch.float32
    assert torch.equal(found, function(*(value.float() for value in before)))
    assert all(torch.equal(value, old) for value, old in zip(half, before, strict=True))


@pytest.mark.parametrize('name', NAMES)
def test_a_pixel_scores_alike_alone_and_in_a_batch(name, queries):
    scorer = build(name)
    alone = score(scorer, *(value[1:] for value in queries))
    torch.testing.assert_close(alone[0], score(scorer, *queries)[1])


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('value', [3e4, -3e4])
def test_constant_and_saturated_input_gives_finite_scores(name, value):
    classes = torch.full((N, Q, K + 1), value)
    masks = torch.full((N, Q, ROWS, COLS), value)
    found = score(build(name), classes, masks)
    assert found.isfinite().all()
    torch.testing.assert_close(found, found.flatten()[0].expand_as(found))


# ------------------------------------------------------------------ what scorers read


def test_what_each_reads():
    for name in ('RbA', 'Mask2Anomaly'):
        scorer = SCORERS.get(name)
        assert (scorer.class_scores, scorer.reads) == ('raw', 'logits')
    assert SCORERS.get('EAM').reads == 'queries'


def test_eam_of_logits_is_refused():
    with pytest.raises(TypeError, match="EAM needs a mask head's queries"):
        build('EAM')(None, torch.zeros(1, K, 2, 2))


def test_which_scorers_are_refused():
    own = {
        name: cls.class_scores
        for name, cls in SCORERS.module_dict.items()
        if cls.__module__.startswith('mmseg_opengan')
    }
    assert set(own.values()) == {'as_logits', 'raw', 'refused'}
    assert {name for name, how in own.items() if how == 'refused'} == {'Energy', 'MaxLogit'}


def test_why_they_are_refused(queries):
    """Of log(L / sum L) the energy is constant, and the largest logit orders pixels as MSP does."""
    logits = mask_scores.as_logits(mask_scores.class_scores(*queries))
    energy, largest, msp = (build(name)(None, logits) for name in ('Energy', 'MaxLogit', 'MSP'))
    torch.testing.assert_close(energy, torch.zeros_like(energy), rtol=0, atol=1e-5)
    torch.testing.assert_close(largest, -torch.log1p(-msp))
