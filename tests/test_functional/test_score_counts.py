import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from mmseg_opengan.contracts import VOID
from mmseg_opengan.functional import detection
from mmseg_opengan.functional.score_counts import ScoreCounts, summarize
from mmseg_opengan.functional.score_layout import CHUNK, NUM_BINS, ScoreLayout

FLOAT_MAX = torch.finfo(torch.float32).max
BOUND_OF = dict(
    AUROC='auroc_error_bound',
    AP='ap_error_bound',
    FPR95='fpr95_error_bound',
)


def _labels(count, seed=0, num_open_classes=1):
    """Labels: 55 % closed, 40 % open (every class), 5 % void."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(count, generator=generator)
    labels = torch.randint(1, num_open_classes + 1, (count,), generator=generator)
    labels[draw < 0.55] = 0
    labels[draw > 0.95] = VOID
    return labels.to(torch.uint8)


def _scores(kind, labels, seed=1):
    """Open-set scores as they come: shifted by one standard deviation where open."""
    z = torch.randn(len(labels), generator=torch.Generator().manual_seed(seed)) + (labels != 0)
    sure = torch.stack(
        [8 - 4 * z, torch.zeros_like(z), z], -1
    )  # three-class logits, mostly confident
    return dict(
        logits=-4 + 4 * z,
        sigmoid=(-4 + 4 * z).sigmoid(),
        entropy=torch.distributions.Categorical(logits=sure).entropy(),
        likelihood=-3000 + 900 * z,
    )[kind]


def _counts(scores, labels, num_open_classes=1, layout=None):
    counts = ScoreCounts(num_open_classes, layout=layout)
    counts.update(scores, labels)
    return counts


def _exact(scores, labels):
    bins = detection.exact_bins(scores.float(), labels)
    functions = (detection.auroc, detection.average_precision, detection.fpr_at_tpr)
    return dict(zip(BOUND_OF, [function(bins) for function in functions], strict=True))


def _require_within_bounds(found, exact):
    for name, bound in BOUND_OF.items():
        assert abs(found[name] - exact[name]) <= found[bound] + 1e-12, name


# ------------------------------------------------------------------ any score

DECADES = st.integers(-30, 30)
SHIFTS = st.sampled_from([0.0, 1.0, -1.0]) | st.integers(-3, 7).map(lambda power: 10.0**power)


@st.composite
def monotone_maps(draw):
    """A monotone map of float64 scores, of which float32 then keeps more or fewer distinct."""
    kind = draw(st.sampled_from(['affine', 'two scales', 'ties', 'sign', 'constant', 'dtype']))
    scale, shift = 10.0 ** draw(DECADES), draw(SHIFTS)
    if kind == 'two scales':
        split, other, gap = draw(st.floats(-1, 2)), 10.0 ** draw(DECADES), abs(draw(SHIFTS))
        return lambda z: torch.where(z < split, scale * (z - 4 - split), gap + other * (z - split))
    if kind == 'ties':
        levels = draw(st.sampled_from([1, 3, 31, 255]))
        return lambda z: (z * levels).round() / levels * scale
    if kind == 'dtype':
        half = draw(st.sampled_from([torch.float16, torch.bfloat16]))
        return lambda z: (4 * z + min(shift, 100.0)).to(half)
    return dict(
        affine=lambda z: scale * z if scale > 1e-3 else shift + scale * z,
        sign=lambda z: torch.where(z > 1, 1.0, torch.where(z > 0, 0.0, -0.0)),
        constant=lambda z: torch.full_like(z, shift),
    )[kind]


def _in_maps(scores, labels, sizes, layout=None):
    """Numbers of pixels that come in maps of these sizes."""
    counts = ScoreCounts(1, layout=layout)
    for some, label in zip(scores.split(sizes), labels.split(sizes), strict=True):
        counts.update(some, label)
    return summarize(counts)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(monotone_maps(), st.integers(0, 9))
def test_any_monotone_map_of_a_score_gives_its_numbers_within_small_bounds(mapped, seed):
    labels = _labels(20_000, seed)
    z = torch.randn(20_000, generator=torch.Generator().manual_seed(seed)) + 1.3 * (labels == 1)
    scores = mapped(z.double())
    scores = scores if scores.dtype in (torch.float16, torch.bfloat16) else scores.float()
    exact = _exact(scores, labels)
    if len(scores.unique()) == len(z.unique()):
        assert exact == pytest.approx(_exact(z, labels), abs=1e-12)
    found = _in_maps(scores, labels, [8000, 2000, 10_000])
    _require_within_bounds(found, exact)
    assert max(found[bound] for bound in BOUND_OF.values()) < 1e-3


@settings(max_examples=40, deadline=None, derandomize=True)
@given(monotone_maps(), monotone_maps(), st.integers(0, 9), st.integers(1, 500))
def test_the_bounds_hold_where_the_first_map_is_unlike_the_others(first, other, seed, number):
    labels = _labels(500, seed)
    z = torch.randn(500, generator=torch.Generator().manual_seed(seed)) + 1.3 * (labels == 1)
    scores = torch.cat([first(z.double()[:number]).float(), other(z.double()[number:]).float()])
    found = _in_maps(scores, labels, [number, 500 - number])
    _require_within_bounds(found, _exact(scores, labels))


def test_the_bounds_hold_for_the_worst_order_inside_a_bin():
    """All pixels in one bin: the counts say ties, and the truth is any order."""
    layout = ScoreLayout.of(torch.zeros(1), torch.zeros(1))
    scores = 1e6 + torch.arange(8) / 16
    assert len(layout.bins(scores).unique()) == 1
    for number in range(1, 255, 2):
        labels = torch.tensor([number >> place & 1 for place in range(8)])
        found = summarize(_counts(scores, labels, layout=layout))
        _require_within_bounds(found, _exact(scores, labels))
    assert found['auroc_error_bound'] == 0.5
    assert found['fpr95_error_bound'] == 1
    assert found['ap_error_bound'] < 0.18  # one closed pixel among seven open ones


@pytest.mark.parametrize('kind', ['logits', 'sigmoid', 'entropy', 'likelihood'])
def test_numbers_agree_with_scikit_learn_within_the_bounds(kind):
    labels = _labels(200_000)
    scores = _scores(kind, labels)
    found, scored = summarize(_counts(scores, labels)), labels != VOID
    is_open, score = (labels[scored] == 1).numpy(), scores[scored].numpy()
    fpr, tpr, _ = metrics.roc_curve(is_open, score, drop_intermediate=False)
    exact = dict(
        AUROC=metrics.roc_auc_score(is_open, score),
        AP=metrics.average_precision_score(is_open, score),
        FPR95=fpr[tpr >= 0.95][0],
    )
    _require_within_bounds(found, exact)
    assert found['auroc_error_bound'] < 1e-5
    assert found['ap_error_bound'] < 2e-4
    assert found['fpr95_error_bound'] < 1e-4
    assert (found['num_closed'], found['num_open']) == (int((~is_open).sum()), int(is_open.sum()))


def test_logits_keep_the_order_that_their_sigmoid_loses():
    labels = _labels(5000)
    logits = 25 + _scores('logits', labels)
    by_logit, by_sigmoid = (
        summarize(_counts(some, labels))['AUROC'] for some in (logits, logits.sigmoid())
    )
    assert by_logit > by_sigmoid + 0.05


def test_float64_scores_that_float32_does_not_keep_apart_are_told():
    labels = _labels(1000)
    scores = 1 + 1e-9 * torch.arange(1000, dtype=torch.float64)
    with pytest.warns(UserWarning, match='keeps 9 of 1000 distinct float64 scores'):
        _counts(scores, labels)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        _counts(_scores('logits', labels).double(), labels)


@pytest.mark.parametrize(
    ('kind', 'dtype'), [('sigmoid', torch.float16), ('likelihood', torch.float32)]
)
def test_thresholds_are_scores_that_reproduce_the_counted_rates(kind, dtype):
    labels = _labels(20_000)
    scores = _scores(kind, labels).to(dtype)
    counts = _counts(scores, labels)
    closed, opened = scores.float()[labels == 0], scores.float()[labels == 1]
    bins = counts.bins()
    threshold = detection.threshold_at_tpr(bins, tpr=0.95)
    assert int((opened >= threshold).sum()) / len(opened) >= 0.95
    assert int((closed >= threshold).sum()) / len(closed) == detection.fpr_at_tpr(bins, tpr=0.95)
    of_bin = counts.layout.bins(opened) == counts.layout.bins(torch.tensor([threshold]))
    assert int(((opened > threshold) & ~of_bin).sum()) / len(opened) < 0.95
    threshold = detection.threshold_at_fpr(bins, fpr=0.05)
    assert int((closed >= threshold).sum()) / len(closed) <= 0.05
    f1, threshold = detection.best_f1(bins)
    tp, fp = int((opened >= threshold).sum()), int((closed >= threshold).sum())
    assert f1 == 2 * tp / (tp + fp + len(opened))
    fpr, tpr, thresholds = detection.roc_points(bins, max_points=20)
    for x, y, t in zip(fpr, tpr, thresholds):
        assert int((closed >= t).sum()) / len(closed) == x
        assert int((opened >= t).sum()) / len(opened) == y


@pytest.mark.parametrize('num_open_classes', [2, 20])
def test_each_open_class_is_compared_with_all_closed_pixels(num_open_classes):
    labels = _labels(40_000, num_open_classes=num_open_classes)
    labels[labels == 2] = 1  # class 1 never occurs
    scores = _scores('logits', labels) + 0.1 * labels
    counts = _counts(scores, labels, num_open_classes)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = summarize(counts)
    assert list(found['per_class']) == [str(i) for i in range(num_open_classes)]
    _require_within_bounds(found, _exact(scores, labels))
    for i, one in enumerate(found['per_class'].values()):
        assert one['num_open'] == int((labels == 1 + i).sum())
        assert one['num_closed'] == int((labels == 0).sum())
        if i == 1:
            assert all(math.isnan(one[name]) for name in detection.NUMBERS)
            continue
        only = torch.where((labels == 0) | (labels == 1 + i), labels, torch.full_like(labels, VOID))
        _require_within_bounds(one, _exact(scores, only))
        assert one['auroc_error_bound'] < 1e-4
    bins = counts.bins(0)
    threshold = detection.threshold_at_tpr(bins)  # shared cells have real edges too
    assert int((scores[labels == 0] >= threshold).sum()) == round(
        detection.fpr_at_tpr(bins) * counts.num_closed
    )


def test_per_class_rows_carry_the_names_given():
    counts = _counts(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0, 1, 2]), 2)
    assert list(summarize(counts, ['Animal', 'Tunnel'])['per_class']) == ['Animal', 'Tunnel']


def test_counts_of_a_billion_pixels():
    counts = _counts(torch.tensor([-2.0, -1.0, 0.5, 3.0]), torch.tensor([0, 1, 0, 1]))
    before = summarize(counts)
    counts.tensor *= 3 * 10**9
    after = summarize(counts)
    assert (after['num_closed'], after['num_open']) == (6 * 10**9, 6 * 10**9)
    for found in (before, after):
        assert [found['AUROC'], found['AP'], found['FPR95']] == pytest.approx(
            [0.75, 5 / 6, 0.5], rel=1e-15
        )


# ------------------------------------------------------------------ what may be counted


def test_the_accumulator_stays_below_40_mib():
    for num_open_classes in (1, 2, 5, 254):
        tensor = ScoreCounts(num_open_classes).tensor
        assert tensor.dtype == torch.int64
        assert tensor.numel() * 8 < 36.1 * 2**20


def test_counting_parts_in_one_layout_and_adding_equals_counting_at_once():
    labels = _labels(30_000, num_open_classes=7)
    scores = _scores('logits', labels)
    streamed = ScoreCounts(7)
    for some, label in zip(scores.split(7001), labels.split(7001)):
        streamed.update(some, label)
    parts = [
        _counts(some, label, 7, layout=streamed.layout)
        for some, label in zip(scores.split(7001), labels.split(7001))
    ]
    reduced = ScoreCounts(7, layout=streamed.layout)
    reduced.tensor += sum(part.tensor for part in parts)  # what an all-reduce does
    whole = _counts(scores, labels, 7, layout=streamed.layout)
    assert summarize(reduced) == summarize(whole) == summarize(streamed)


def test_a_large_map_is_counted_in_chunks_without_a_gap():
    count = 2 * CHUNK + 5
    labels, scores = _labels(count), torch.linspace(-30, 30, count)
    counts = _counts(scores, labels)
    expected = torch.bincount(counts.layout.bins(scores)[labels == 0], minlength=NUM_BINS)
    assert torch.equal(counts.tensor[:NUM_BINS], expected)
    assert counts.num_open == int((labels == 1).sum())


@pytest.mark.parametrize('count', [1, 2000])
def test_sorting_few_pixels_gives_the_bins_of_the_table(count):
    labels = _labels(count, num_open_classes=3)
    scores = _scores('sigmoid', labels)
    scores[::7], scores[::11], scores[::13] = scores[0].clone(), 0.0, 1e-40
    counts = ScoreCounts(3)
    bins, labels = counts.binned(scores, labels)
    counts.add(bins, labels)
    found, wanted = counts.bins_of_few(bins, labels), counts.bins()
    for name, one, other in zip(found._fields, found, wanted, strict=True):
        assert torch.equal(one, other), name
        assert one.dtype == other.dtype, name


@pytest.mark.parametrize('dtype', [torch.bool, torch.int8])
def test_bool_and_integer_labels_count_alike(dtype):
    labels = torch.tensor([0, 1, 1, 0])
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0])
    counts = _counts(scores, labels.to(dtype))
    assert torch.equal(counts.tensor, _counts(scores, labels).tensor)
    assert (counts.num_closed, counts.num_open) == (2, 2)


def test_shape_strides_and_gradients_do_not_matter():
    labels = _labels(600)
    scores = _scores('logits', labels)
    expected = _counts(scores, labels).tensor
    image, label = scores.view(1, 20, 30), labels.view(1, 20, 30)
    assert torch.equal(_counts(image.transpose(1, 2), label.transpose(1, 2)).tensor, expected)
    spread = torch.zeros(1200).index_copy(0, torch.arange(0, 1200, 2), scores)[::2]
    assert not spread.is_contiguous()
    assert torch.equal(_counts(spread.requires_grad_(), labels).tensor, expected)
    untouched = image.clone()
    _counts(image, label)
    assert torch.equal(image, untouched)


@pytest.mark.parametrize(
    ('scores', 'labels', 'sizes'),
    [
        (torch.zeros(0), torch.zeros(0, dtype=torch.long), (0, 0)),
        (torch.randn(9), torch.full((9,), VOID), (0, 0)),
        (torch.tensor(3.0), torch.tensor(1), (0, 1)),
        (torch.tensor([[3.0]]), torch.tensor([[0]]), (1, 0)),
    ],
    ids=['empty', 'all void', 'one open pixel', 'one closed pixel'],
)
def test_too_little_to_score_gives_nan_and_one_warning(scores, labels, sizes):
    counts = _counts(scores, labels)
    with pytest.warns(UserWarning, match=f'{sizes[0]} closed and {sizes[1]} open pixels') as caught:
        found = summarize(counts)
    assert len(caught) == 1
    assert (found['num_closed'], found['num_open']) == sizes
    assert all(math.isnan(found[name]) for name in detection.NUMBERS)


def test_a_map_that_is_all_void_makes_no_layout():
    counts = _counts(torch.randn(9), torch.full((9,), VOID))
    scores, labels = 1e5 + torch.arange(100) / 128, _labels(100)
    counts.update(scores, labels)
    found = summarize(counts)
    assert found['auroc_error_bound'] == 0
    _require_within_bounds(found, _exact(scores, labels))


@pytest.mark.parametrize('bad', [math.nan, -math.inf])
def test_scores_that_are_not_finite_are_counted_in_the_error_and_nothing_else_is(bad):
    scores, labels = torch.tensor([0.0, bad, 1.0, bad, 2.0]), torch.tensor([0, 1, 1, VOID, VOID])
    counts = ScoreCounts(1)
    with pytest.raises(ValueError, match='found NaN or infinity at 1 of 3 scored pixels'):
        counts.update(scores, labels)
    assert not counts.tensor.any()
    counts.update(
        scores, torch.tensor([0, VOID, 1, VOID, VOID])
    )  # void is never scored, so it may hold anything
    assert (counts.num_closed, counts.num_open) == (1, 1)


def test_a_float64_beyond_float32_is_an_error():
    with pytest.raises(ValueError, match='finite in float32'):
        _counts(torch.tensor([1e300, 0.0], dtype=torch.float64), torch.tensor([0, 1]))
    assert _counts(torch.tensor([FLOAT_MAX, -FLOAT_MAX]), torch.tensor([0, 1])).num_open == 1


@pytest.mark.parametrize(
    ('label', 'dtype'),
    [
        (4, torch.uint8),
        (-1, torch.int8),
        (2**40, torch.int64),
    ],
)
def test_labels_out_of_range_are_an_error(label, dtype):
    counts = ScoreCounts(3)
    with pytest.raises(ValueError, match=rf'labels in \[0, 3\] or 255, found label {label} '):
        counts.update(torch.zeros(2), torch.tensor([0, label], dtype=dtype))
    assert not counts.tensor.any()


def test_wrong_arguments_are_named():
    counts = ScoreCounts(1)
    with pytest.raises(ValueError, match=r'the shape of scores, \(2, 3\), found \(3, 2\)'):
        counts.update(torch.zeros(2, 3), torch.zeros(3, 2, dtype=torch.long))
    with pytest.raises(TypeError, match=r'scores: wanted floating point, found torch\.int64'):
        counts.update(torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.long))
    with pytest.raises(TypeError, match='open_map: wanted bool or integer labels'):
        counts.update(torch.zeros(2), torch.zeros(2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_a_gpu_counts_what_a_cpu_counts():
    labels = _labels(300_000, num_open_classes=12)
    scores = _scores('entropy', labels)
    counts = ScoreCounts(12, device='cuda')
    counts.update(scores.cuda(), labels.cuda())
    expected = _counts(scores, labels, 12)
    assert torch.equal(counts.tensor.cpu(), expected.tensor)
    assert summarize(counts) == summarize(expected)
