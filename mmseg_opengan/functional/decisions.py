"""What is decided on open validation, never on test data: thresholds and a calibration, for one
score map.
"""

import math
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from .calibration import Calibration, fit_platt
from .detection import ScoreBins, parse_rule, resolve_threshold
from .recognition import RecognitionCounts

#: Rules that are applied at every open validation, as in ``detection.resolve_threshold``.
STANDARD_RULES = ('fpr=0.05', 'tpr=0.95', 'f1')
#: The rule that needs closed classes too: the threshold of the largest macro-F1 over the K + 1
#: classes.
MACRO_F1 = 'macro_f1'


class Decisions(NamedTuple):
    """Attributes:
    thresholds: by rule, in the units of the score; a rule that the pixels leave undefined is
    missing.
    calibration: None where none could be fitted (open pixels do not score higher, or one kind is
    missing).
    """

    thresholds: dict[str, float]
    calibration: Calibration | None = None

    def to_json(self) -> dict:
        """Plain values: what a checkpoint or report holds. JSON has no infinity, which becomes
        null.
        """
        return dict(
            thresholds=dict(self.thresholds),
            calibration=None if self.calibration is None else self.calibration.to_json(),
        )

    @classmethod
    def from_json(cls, stored: dict) -> 'Decisions':
        """The inverse of :meth:`to_json`, also of what has been through a JSON file."""
        thresholds = {
            rule: math.inf if value is None else value
            for rule, value in stored['thresholds'].items()
        }
        calibration = stored['calibration']
        return cls(thresholds, None if calibration is None else Calibration.from_json(calibration))


def is_rule(threshold: float | str | None) -> bool:
    """Whether a threshold has to be resolved on open validation: it is neither a number nor
    None.
    """
    try:
        return threshold is not None and math.isnan(float(threshold))
    except (TypeError, ValueError):
        return True


def check_threshold(threshold: float | str | None) -> None:
    """Raise a ValueError for what is neither a number nor a rule."""
    if is_rule(threshold) and threshold != MACRO_F1:
        parse_rule(str(threshold))


def decide(
    bins: ScoreBins,
    recognition: RecognitionCounts | None = None,
    *,
    rules: Sequence[str] = STANDARD_RULES,
) -> Decisions:
    """Apply rules to the scores of open validation, and calibrate them.

    Args:
        bins: the scores.
        recognition: the same pixels with their closed classes: gives the rule ``'macro_f1'`` too.
        rules: rules to apply.

    Raises:
        ValueError: no such rule.
    """
    thresholds, fitted = {}, None
    for rule in rules:
        check_threshold(rule)
        if rule != MACRO_F1:
            with suppress(ValueError):  # pixels that the rule needs are missing
                thresholds[rule] = resolve_threshold(rule, bins)
    if recognition is not None:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # undefined: left out
            value, threshold = recognition.best_macro_f1()
        if not math.isnan(value):
            thresholds[MACRO_F1] = threshold
    with suppress(ValueError):  # the score does not separate the groups, or one is empty
        fitted = fit_platt(bins)
    return Decisions(thresholds, fitted)
