"""Hand-made images first; then the definitions, written out slowly and independently, on random
blobs.
"""

import math

import numpy as np
import pytest
import torch

from mmseg_opengan.contracts import VOID
from mmseg_opengan.functional.components import SIOU_THRESHOLDS, TRACKS, ComponentCounts, MinSizes

ANY_SIZE = MinSizes(predicted=1, ground_truth=1)


def _picture(*rows, letters):
    return torch.tensor([[letters[c] for c in row] for row in rows])


def _truth(*rows):
    return _picture(*rows, letters={'.': 0, '#': 1, '2': 2, 'v': VOID}).to(torch.uint8)


def _mask(*rows):
    return _picture(*rows, letters={'.': False, '#': True})


def _computed(mask, truth, min_sizes=ANY_SIZE):
    counts = ComponentCounts(0.5, min_sizes=min_sizes)
    counts.update(mask.float(), truth)
    return counts.compute()


def _numbers(result):
    return result['sIoU'], result['PPV'], result['F1']


# By hand.


def test_a_perfect_prediction_scores_one():
    truth = _truth('##..', '....', '..##')
    assert _numbers(_computed(truth == 1, truth)) == (1, 1, 1)


def test_one_prediction_over_two_objects_is_not_punished_for_the_other_object():
    """The adjustment: 2 of 2 pixels, the union without the other object is 2 + 1 background
    pixel.
    """
    result = _computed(_mask('#####'), _truth('##.##'))
    assert result['sIoU'] == pytest.approx(2 / 3, abs=1e-9)
    assert result['PPV'] == pytest.approx(4 / 5, abs=1e-9)
    assert (result['num_ground_truth'], result['num_predicted']) == (2, 1)
    # 2/3 passes .25 ... .65 (9 thresholds, F1 = 1 with no false positive), fails .70 and .75.
    assert result['F1'] == pytest.approx(9 / 11)


def test_two_predictions_on_one_object_count_together_for_it_and_apart_for_ppv():
    result = _computed(_mask('###.##'), _truth('.####.'))
    assert result['sIoU'] == pytest.approx(3 / 6, abs=1e-9)  # 3 shared, object 4, background 1 + 1
    assert result['PPV'] == pytest.approx((2 / 3 + 1 / 2) / 2, abs=1e-9)


def test_f1_counts_missed_objects_and_invented_ones():
    truth, mask = _truth('##...##', '.......', '.......'), _mask('##.....', '.......', '...##..')
    result = _computed(mask, truth)
    assert result['F1'] == pytest.approx(2 / (2 + 1 + 1))
    assert _numbers(result)[:2] == (0.5, 0.5)


def test_corners_connect():
    assert _computed(_mask('#.', '.#'), _truth('#.', '.#'))['num_predicted'] == 1


def test_open_classes_are_not_told_apart():
    assert _computed(_mask('####'), _truth('##22'))['num_ground_truth'] == 1


def test_void_cuts_predictions_and_never_counts():
    result = _computed(_mask('##.##', '#####', '.....'), _truth('##v##', 'vvvvv', '.....'))
    assert result['num_predicted'] == 2
    assert _numbers(result) == (1, 1, 1)


def test_small_components_are_dropped_on_either_side():
    """A small prediction is no error; a small object becomes void, with the predicted pixels on
    it.
    """
    sizes = MinSizes(predicted=3, ground_truth=3)
    truth, mask = _truth('###..##', '.......'), _mask('###..##', '.......')
    result = _computed(mask, truth, sizes)
    assert (result['num_ground_truth'], result['num_predicted']) == (1, 1)
    assert _numbers(result) == (1, 1, 1)
    result = _computed(
        _mask('###.###'), _truth('###..##'), sizes
    )  # one of three pixels is left, on background
    assert (result['num_ground_truth'], result['num_predicted']) == (1, 2)
    assert result['PPV'] == 0.5
    result = _computed(
        _mask('###..####'), _truth('###..####'), MinSizes(predicted=3, ground_truth=4)
    )
    assert _numbers(result) == (1, 1, 1)  # a prediction that lies on a small object only is gone
    assert (result['num_ground_truth'], result['num_predicted']) == (1, 1)


def test_sizes_of_the_tracks_are_those_of_the_benchmark():
    assert (TRACKS['anomaly'], TRACKS['obstacle']) == ((500, 100), (50, 10))
    truth = torch.zeros(40, 40, dtype=torch.uint8)
    truth[:10, :10] = 1  # exactly 100 pixels: counts
    truth[20:29, :11] = 1  # 99: does not
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[15:35, 15:40] = True  # exactly 500
    mask[:10, 20:39] = True  # 190
    with pytest.warns(UserWarning, match='0 predicted'):
        none = _computed(torch.zeros_like(mask), truth, TRACKS['anomaly'])
    assert none['num_ground_truth'] == 1
    assert _computed(mask, truth, TRACKS['anomaly'])['num_predicted'] == 1
    assert _computed(mask, truth, TRACKS['obstacle'])['num_predicted'] == 2


def test_thresholds_are_the_eleven_of_the_benchmark():
    np.testing.assert_allclose(
        SIOU_THRESHOLDS, [0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75], atol=1e-12
    )


def test_sizes_count_exactly_at_a_threshold():
    """sIoU 1/2 passes .25 ... .50, and PPV is 1: six of eleven thresholds have F1 = 1."""
    assert _computed(_mask('#...'), _truth('##..'))['F1'] == pytest.approx(6 / 11)


# Against the definitions.


def _flood(mask):
    """Components as sets of pixels, 8-connected, by walking."""
    left, components = {tuple(p) for p in np.argwhere(mask)}, []
    while left:
        component, front = set(), [left.pop()]
        while front:
            y, x = front.pop()
            component.add((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            front.extend(near)
        components.append(component)
    return components


def _slow(mask, truth, sizes):
    """sIoU of every object and PPV of every prediction, straight from the definitions, on sets of
    pixels.
    """
    mask, truth = mask.numpy(), truth.numpy()
    objects = _flood((truth != 0) & (truth != VOID))
    predictions = [p for p in _flood(mask & (truth != VOID)) if len(p) >= sizes.predicted]
    void = set().union(*(k for k in objects if len(k) < sizes.ground_truth))
    objects = [k for k in objects if len(k) >= sizes.ground_truth]
    predictions = [p - void for p in predictions if p - void]
    every = set().union(*objects)
    siou = []
    for k in objects:
        touching = set().union(*(p for p in predictions if p & k))
        siou.append(len(k & touching) / len((k | touching) - (every - k)))
    return siou, [len(p & every) / len(p) for p in predictions]


def _slow_f1(siou, ppv):
    values = []
    for t in np.linspace(0.25, 0.75, 11):
        tp, fp = sum(s >= t for s in siou), sum(p < t for p in ppv)
        values.append(2 * tp / (2 * tp + len(siou) - tp + fp))
    return sum(values) / len(values)


def _blobs(seed, shape=(40, 60)):
    """Smooth random scores and labels with a void strip; objects and predictions overlap in many
    ways.
    """
    generator = torch.Generator().manual_seed(seed)
    fields = torch.nn.functional.avg_pool2d(
        torch.randn(2, 1, *shape, generator=generator), 5, 1, 2
    )[:, 0]
    scores = fields[0] + 0.7 * fields[1]
    truth = (fields[1] > 0.15).to(torch.uint8) * (1 + (torch.arange(shape[1]) > 30)).to(torch.uint8)
    truth[:, 25:28] = VOID
    return scores, truth


@pytest.mark.parametrize('sizes', [ANY_SIZE, MinSizes(12, 5), MinSizes(5, 30)])
def test_random_blobs_agree_with_the_definitions_summed_over_images(sizes):
    counts, siou, ppv = ComponentCounts(threshold=0.15, min_sizes=sizes), [], []
    for seed in range(6):
        scores, truth = _blobs(seed)
        counts.update(scores, truth)
        slow = _slow(scores >= 0.15, truth, sizes)
        siou += slow[0]
        ppv += slow[1]
    found = counts.compute()
    assert len(siou) > 20
    assert (found['num_ground_truth'], found['num_predicted']) == (len(siou), len(ppv))
    assert found['sIoU'] == pytest.approx(np.mean(siou), abs=1e-9)
    assert found['PPV'] == pytest.approx(np.mean(ppv), abs=1e-9)
    assert found['F1'] == pytest.approx(_slow_f1(siou, ppv), abs=1e-12)


def test_ranks_add_to_exactly_what_one_process_counts():
    whole, ranks = ComponentCounts(threshold=0.1, min_sizes=ANY_SIZE), []
    for seed in range(5):
        one = ComponentCounts(threshold=0.1, min_sizes=ANY_SIZE)
        for counts in (whole, one):
            counts.update(*_blobs(seed))
        ranks.append(one)
    assert torch.equal(whole.tensor, sum(one.tensor for one in ranks))


# Edges and errors.


def test_no_object_no_prediction_and_neither():
    for mask, truth, undefined in (
        (_mask('..'), _truth('#.'), {'PPV'}),
        (_mask('#.'), _truth('..'), {'sIoU'}),
        (_mask('..'), _truth('..'), {'PPV', 'sIoU', 'F1'}),
    ):
        with pytest.warns(UserWarning, match='components were counted'):
            result = _computed(mask, truth)
        assert {name for name in ('sIoU', 'PPV', 'F1') if math.isnan(result[name])} == undefined
        assert math.isnan(result['F1']) or result['F1'] == 0


def test_scores_are_called_open_at_the_threshold_and_above():
    counts = ComponentCounts(threshold=0.6, min_sizes=ANY_SIZE)
    counts.update(torch.tensor([[0.59, 0.6, 0.1, math.nan]]), _truth('.#.v'))
    assert _numbers(counts.compute()) == (1, 1, 1)
