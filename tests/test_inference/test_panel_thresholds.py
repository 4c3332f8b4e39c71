"""Which pixels of a panel are white: probabilities, rules, numbers, and of which score."""

import pickle

import numpy as np
import pytest
import torch

from mmseg_opengan.contracts import CLOSED, OPENGAN, VOID
from mmseg_opengan.evaluation.decided import makers_of
from mmseg_opengan.functional.detection import exact_bins, threshold_at_tpr
from mmseg_opengan.inference.inferencer import PROBABILITIES, OpenSetInferencer
from mmseg_opengan.pictures.overlay import LogitThreshold, threshold_map


def run(inferencer, inputs, **options):
    return inferencer(inputs, show_progress=False, **options)


def test_scorers_and_thresholds_are_chosen(inferencer, frames):
    (result,) = run(inferencer, frames[0], scorers=['msp', OPENGAN], thresholds=(0.5,))
    assert list(result.scores) == ['msp', OPENGAN]
    assert result.logits == {OPENGAN}
    (four,) = run(inferencer, frames[0], scorers=['msp', OPENGAN])
    assert not np.array_equal(four.picture, result.picture)


def test_a_rule_is_resolved_on_open_validation(tiny, frames):
    """At the resolution of the scores; on the tiny data set it has one frame."""
    options = {'model.resolution': 'feature'}
    made = OpenSetInferencer(tiny[2], tiny[3], device='cpu', cfg_options=options)
    scores = run(made, frames[0])[0].scores[OPENGAN]
    labels = made.dataset('open_val').read_labels(0)[1][::4, ::4]
    closed = scores[labels == CLOSED]
    threshold = made.threshold('fpr=0.1')
    assert (closed >= threshold).mean() <= 0.1
    assert (closed >= threshold - 1e-2 * np.ptp(closed)).mean() > 0.1 - 0.05
    bins = exact_bins(torch.from_numpy(scores), torch.from_numpy(labels))  # void is left out
    assert (labels == VOID).any()
    assert made.threshold('tpr=0.9') == pytest.approx(
        threshold_at_tpr(bins, tpr=0.9), abs=1e-3 * float(np.ptp(scores))
    )
    (ruled,) = run(made, frames[0], thresholds=['fpr=0.1', '.9'])
    assert ruled.thresholded()['thresholds'] == [LogitThreshold(threshold), 0.9]
    assert isinstance(ruled.thresholded()['thresholds'][0], LogitThreshold)
    assert ruled.picture.ndim == 3
    with pytest.raises(ValueError, match="threshold: wanted a number, 'fpr=RATE'"):
        run(made, frames[0], thresholds=['nonsense'])


def test_a_rule_that_the_checkpoint_holds_needs_no_data(tiny, frames, tmp_path):
    options = {'model.resolution': 'feature', 'val_dataloader': None}
    plain = OpenSetInferencer(tiny[2], tiny[3], device='cpu', cfg_options=options)
    content = torch.load(tiny[3], weights_only=True)
    decided = dict(thresholds={'fpr=0.05': 1.5}, calibration=None)
    content['meta']['opengan']['open_validation'] = dict(
        resolution='feature',
        mode='whole',
        makers=makers_of(plain.model),
        scorers={OPENGAN: decided, 'msp': decided},
    )
    torch.save(content, tmp_path / 'with.pth')
    made = OpenSetInferencer(tiny[2], tmp_path / 'with.pth', device='cpu', cfg_options=options)
    assert made.threshold('fpr=0.05') == made.threshold('fpr=0.05', 'msp') == 1.5
    # another score of that name
    options |= {'model.scorers.msp.type': 'GEN'}
    other = OpenSetInferencer(tiny[2], tmp_path / 'with.pth', device='cpu', cfg_options=options)
    assert other.threshold('fpr=0.05') == 1.5
    with pytest.raises(ValueError, match=r'fpr=0\.05: wanted val_dataloader'):
        other.threshold('fpr=0.05', 'msp')


@pytest.fixture
def fused(tiny, tmp_path):
    """Makes an inferencer of a fused score; ``calibration``: what its checkpoint holds of it."""

    def make(calibration):
        options = {'model.fuse': dict(weight=0.5), 'val_dataloader': None}
        plain = OpenSetInferencer(tiny[2], tiny[3], device='cpu', cfg_options=options)
        content = torch.load(tiny[3], weights_only=True)
        decided = dict(thresholds={'fpr=0.05': 1.5}, calibration=calibration)
        makers = makers_of(plain.model)
        content['meta']['opengan']['open_validation'] = dict(
            resolution='image', mode='whole', makers=makers, scorers=dict(hybrid=decided)
        )
        torch.save(content, tmp_path / 'fused.pth')
        made = OpenSetInferencer(tiny[2], tmp_path / 'fused.pth', device='cpu', cfg_options=options)
        features = torch.rand(50, 12, generator=torch.Generator().manual_seed(0))
        made.model.measure_fusion(features)
        return made

    return make


def test_pictures_whiten_the_calibrated_probability_of_a_fused_score(fused, frames):
    made = fused(dict(slope=2.0, intercept=-1.0))
    (shown,) = run(made, frames[0])
    assert shown.thresholded()['threshold_of'] == 'hybrid'
    probability = made.calibration().probability(torch.from_numpy(shown.scores['hybrid'])).numpy()
    for wanted, threshold in zip(PROBABILITIES, shown.thresholded()['thresholds'], strict=True):
        assert threshold.probability == wanted
        is_open = threshold_map(shown.scores['hybrid'], threshold)
        assert np.array_equal(is_open, probability >= np.float32(wanted))
    assert is_open.any()
    assert not is_open.all()
    (ruled,) = run(made, frames[0], thresholds=['fpr=0.05', 0.5])
    assert ruled.thresholded()['thresholds'] == [1.5, 0.5]
    assert [one.probability for one in ruled.thresholded()['thresholds']] == [None, 0.5]
    with pytest.raises(ValueError, match=r'probability: wanted one in \(0, 1\), found 1.5'):
        run(made, frames[0], thresholds=[1.5])


def test_a_fused_score_is_calibrated_only_where_a_probability_is_wanted(fused, frames, monkeypatch):
    made = fused(dict(slope=2.0, intercept=-1.0))
    monkeypatch.setattr(type(made), 'calibration', lambda self: 1 / 0)
    for wanted in ((), [LogitThreshold(0.5)], ['fpr=0.05']):
        (shown,) = run(made, frames[0], thresholds=wanted)
        assert len(shown.thresholded()['thresholds']) == len(wanted)
    (shown,) = run(made, frames[0])  # None is drawn yet.
    with pytest.raises(ZeroDivisionError):
        assert shown.picture is None


def test_a_result_can_be_pickled_with_what_its_picture_needs(fused, frames):
    (shown,) = run(fused(dict(slope=2.0, intercept=-1.0)), frames[0])
    found = pickle.loads(pickle.dumps(shown))
    assert np.array_equal(found.picture, shown.picture)
    assert found.thresholded()['threshold_of'] == 'hybrid'


def test_pictures_of_a_fused_score_without_calibration_whiten_that_of_d(fused, frames):
    (shown,) = run(fused(None), frames[0])
    assert shown.thresholded()['threshold_of'] == OPENGAN
    assert tuple(shown.thresholded()['thresholds']) == PROBABILITIES
