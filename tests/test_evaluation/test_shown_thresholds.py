"""What a test's pictures whiten: the score, and the thresholds."""

from types import SimpleNamespace

import pytest

from mmseg_opengan.evaluation import evaluation_hook
from mmseg_opengan.evaluation.metric import Setting
from mmseg_opengan.functional.calibration import Calibration
from mmseg_opengan.functional.decisions import Decisions
from mmseg_opengan.pictures.overlay import LogitThreshold
from mmseg_opengan.pictures.visualizer import OpenSetVisualizer

CALIBRATED = Decisions({}, Calibration(slope=2.0, intercept=-1.0))
AT_HALF = (LogitThreshold(0.5, 0.5),)


@pytest.mark.parametrize(
    ('names', 'shown', 'threshold', 'wanted'),
    [
        (('msp', 'opengan', 'hybrid'), 'opengan', 'f1', ('hybrid', (2.0,))),
        (('msp', 'opengan'), 'opengan', 'f1', ('opengan', (1.0,))),
        (('msp', 'hybrid'), 'msp', 'f1', ('msp', (3.0,))),
        (('msp', 'entropy'), 'opengan', 'f1', ('msp', (3.0,))),
        ((), 'opengan', 'f1', ('opengan', (0.5,))),
        (('msp', 'opengan', 'hybrid'), 'opengan', None, ('hybrid', AT_HALF)),
        (('msp', 'opengan'), 'opengan', None, ('opengan', (0.5,))),
        (('msp', 'opengan', 'hybrid'), 'msp', None, ('msp', (0.5,))),
    ],
)
def test_pictures_threshold_the_fused_score_where_there_is_one(names, shown, threshold, wanted):
    metric = SimpleNamespace(
        threshold=threshold,
        threshold_of=dict(opengan=1.0, hybrid=2.0, msp=3.0).get,
        setting=Setting(decisions=dict.fromkeys(('opengan', 'hybrid'), CALIBRATED)),
    )
    visualizer = OpenSetVisualizer(thresholds=(0.5,), threshold_of=shown)
    visualizer.thresholds = (LogitThreshold(7.0, 0.5),)  # of an earlier test
    for _ in range(2):
        evaluation_hook._show_thresholds(visualizer, metric, names)
        assert (visualizer.threshold_of, visualizer.thresholds) == wanted
        assert [getattr(one, 'probability', None) for one in visualizer.thresholds] == [
            getattr(one, 'probability', None) for one in wanted[1]
        ]


def test_pictures_of_a_fused_score_that_nothing_calibrates_whiten_that_of_d():
    metric = SimpleNamespace(threshold=None, setting=Setting())
    visualizer = OpenSetVisualizer(thresholds=(0.5,))
    evaluation_hook._show_thresholds(visualizer, metric, ('hybrid', 'opengan'))
    assert (visualizer.threshold_of, visualizer.thresholds) == ('opengan', (0.5,))


def test_a_checkpoint_that_is_loaded_after_a_training_brings_its_own_decisions():
    hook = evaluation_hook.OpenSetEvaluationHook()
    hook.after_train_iter(None, 0)
    hook._decided = dict(step=500)
    stored = dict(opengan=dict(open_validation=dict(step=400)))
    hook.after_load_checkpoint(None, dict(meta=stored))
    assert (hook._loaded, hook._decided) == (dict(step=400), None)
