"""What is decided on open validation, never on test data: thresholds and a calibration, for one
score map.
"""

import math
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from .calibration import Calibration, fit_platt
from .detection import ScoreBins, best_f1, threshold_at_fpr, threshold_at_tpr
from .recognition import RecognitionCounts

#: Rules that are applied at every open validation; see :func:`parse_rule`.
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
        return cls(thresholds, None if calibration is None else Calibration(**calibration))


def is_rule(threshold: float | str | None) -> bool:
    """Whether a threshold has to be resolved on open validation: it is neither a number nor
    None.
    """
    try:
        return threshold is not None and math.isnan(float(threshold))
    except (TypeError, ValueError):
        return True


def parse_rule(rule: str) -> tuple[str, float]:
    """A rule for a threshold as its kind and its rate, nan where it has none.

    ``'fpr=0.05'`` is the smallest threshold with such an FPR at most, ``'tpr=0.95'`` the largest
    with such a TPR at least, ``'f1'`` that of the largest F1 and ``'macro_f1'`` of the largest
    macro-F1.

    Raises:
        ValueError: no such rule, or a rate out of range.
    """
    kind, _, value = rule.partition('=')
    if rule in ('f1', MACRO_F1):
        return kind, math.nan
    with suppress(ValueError):
        rate = float(value)
        if (kind == 'fpr' and 0 <= rate <= 1) or (kind == 'tpr' and 0 < rate <= 1):
            return kind, rate
    raise ValueError(
        "threshold: wanted a number, 'fpr=RATE', 'tpr=RATE' (rates from 0 to 1), 'f1' or "
        f"'macro_f1', found {rule!r}"
    )


def plain_rule(rule: str) -> str:
    """A rule as it is kept: ``'fpr=.05'`` is ``'fpr=0.05'``; errors as of :func:`parse_rule`."""
    kind, rate = parse_rule(rule)
    return kind if math.isnan(rate) else f'{kind}={rate:g}'


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
        rules: rules to apply. One that the pixels leave undefined is left out.

    Raises:
        ValueError: no such rule.
    """
    found, fitted = {}, None
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # undefined: left out
        for rule in rules:
            kind, rate = parse_rule(rule)
            if kind == 'fpr':
                found[rule] = threshold_at_fpr(bins, fpr=rate)
            elif kind == 'tpr':
                found[rule] = threshold_at_tpr(bins, tpr=rate)
            elif kind == 'f1':
                found[rule] = best_f1(bins)[1]
        if recognition is not None:
            found[MACRO_F1] = recognition.best_macro_f1()[1]
    with suppress(ValueError):  # the score does not separate the groups, or one is empty
        fitted = fit_platt(bins)
    thresholds = {rule: value for rule, value in found.items() if not math.isnan(value)}
    return Decisions(thresholds, fitted)
