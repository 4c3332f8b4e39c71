"""Open validation: the thresholds that it decides, and what its course over a training means."""

from collections.abc import Sequence

from ..contracts import LABEL_POLICY
from ..functional.decisions import Decisions
from .metric import OpenSetMetric, Setting

#: What has to be equal before decisions are used again.
_CONDITIONS = ('resolution', 'mode', 'smoothing')


def decisions_of(
    stored: dict | None, setting: Setting, makers: dict[str, dict]
) -> dict[str, Decisions]:
    """What a checkpoint or report holds, by scorer; nothing where resolution, mode or smoothing
    were others, or the score is made in another way (see :func:`decided.makers_of`).
    """
    if stored is None or any(stored.get(key) != getattr(setting, key) for key in _CONDITIONS):
        return {}
    return {
        name: Decisions.from_json(one)
        for name, one in stored['scorers'].items()
        if stored.get('makers', {}).get(name) == makers.get(name)
    }


def stored_decisions(metric: OpenSetMetric, step: int | None = None) -> dict:
    """The plain values of the last open validation: what ``checkpoint['meta']`` and reports hold,
    see decisions_of.
    """
    report = metric.report
    assert report is not None  # after an evaluation
    first = next(iter(report['scorers'].values()))
    return dict(
        report['open_validation'],
        step=step,
        **{key: report[key] for key in (LABEL_POLICY, *_CONDITIONS, 'num_images')},
        **{key: first[key] for key in ('num_closed', 'num_open')},
    )


def course_text(
    course: Sequence[Sequence[float]], name: str, steps: int, *, larger_is_better: bool
) -> str:
    """What the open validations of a training say of its length.

    Args:
        course: (step, number) of each, in order.
        name: of the number.
        steps: of the whole training.
        larger_is_better: else the smallest number is the best.

    >>> course_text([(50, 0.9), (100, 0.93), (200, 0.91)], 'AUROC', 200, larger_is_better=True)
    'Open validation: AUROC is best (0.9300) at step 100 of 200; the last one has 0.9100.'
    """
    numbers = [number for _, number in course]
    best = max(numbers) if larger_is_better else min(numbers)
    place = numbers.index(best)
    text = f'Open validation: {name} is best ({best:.4f}) at step {course[place][0]} of {steps}'
    if len(course) == 1:
        return f'{text}, the only one. Validate more often (train_cfg.val_interval) to choose.'
    if place == len(course) - 1:
        return f'{text}, the last one: it still improves. Train longer (train_cfg.max_iters).'
    text += f'; the last one has {numbers[-1]:.4f}.'
    if place == 0 and numbers[-1] != best:
        text += (
            ' It got worse from the first one on: lower the learning rates, or validate more often '
            '(train_cfg.val_interval).'
        )
    return text
