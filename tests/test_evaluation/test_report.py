"""Sentences of a report that only rare numbers give."""

import math

from mmseg_opengan.evaluation.report import details


def test_a_threshold_that_nothing_reaches_is_a_sentence():
    point = dict(threshold=math.inf, TPR=0.0, FPR=0.0, precision=math.nan, F1=0.0)
    low = dict(threshold=-1.5, TPR=0.9, FPR=0.1, precision=0.5, F1=0.64, macro_F1=0.7)
    found = dict(
        per_class={},
        per_image=dict(num_images=0, AUROC=None, AP=None, FPR95=None),
        operating_points={'macro_f1': point, 'fpr=0.001': point, 'f1': low},
    )
    lines = details(dict(scorers=dict(msp=found))).splitlines()
    assert lines[-3:] == [
        'At macro_f1 nothing is called open: on open validation every threshold lowers macro-F1',
        'At fpr=0.001 nothing is called open: no threshold has so few false alarms',
        'At f1 (score >= -1.5): TPR 0.9000, FPR 0.1000, precision 0.5000, F1 0.6400, macro_F1 0.7000',
    ]
