"""Open validation: the thresholds that it decides, and what its course over a training means."""

from collections.abc import Sequence

import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.runner import Runner
from tqdm import tqdm

from ..contracts import LABEL_POLICY
from ..functional.decisions import Decisions
from .metric import OpenSetMetric, Setting

#: What has to be equal before decisions are used again.
_CONDITIONS = ('resolution', 'mode', 'smoothing')


def decisions_of(stored: dict | None, setting: Setting) -> dict[str, Decisions]:
    """What a checkpoint or report holds, by scorer; nothing where resolution, mode or smoothing
    were others.
    """
    if stored is None or any(stored.get(key) != getattr(setting, key) for key in _CONDITIONS):
        return {}
    return {name: Decisions.from_json(one) for name, one in stored['scorers'].items()}


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


def run_open_validation(runner: Runner, setting: Setting, threshold: str) -> dict:
    """Evaluate the model on the config's open validation set, with the scorers of the test.

    Args:
        runner: of a test; its ``val_dataloader`` and ``val_evaluator`` are used.
        setting: of the evaluation.
        threshold: rule to resolve besides the standard ones.

    Returns:
        dict: as :func:`stored_decisions`, on every rank.

    Raises:
        ValueError: the config has no open validation.
    """
    loop = runner.val_loop
    metrics = [] if loop is None else loop.evaluator.metrics
    metrics = [one for one in metrics if isinstance(one, OpenSetMetric)]
    if not metrics:
        raise ValueError(
            f"threshold '{threshold}' is resolved on open validation: wanted val_dataloader, "
            "val_cfg and val_evaluator=dict(type='OpenSetMetric') in the config, found none"
        )
    metric = metrics[0]
    metric.setting, metric.threshold = setting, threshold
    runner.call_hook('before_val')
    runner.model.eval()
    hidden = not is_main_process()
    with torch.no_grad():
        for batch in tqdm(loop.dataloader, desc='Open validation', unit='batch', disable=hidden):
            loop.evaluator.process(data_samples=runner.model.val_step(batch), data_batch=batch)
    loop.evaluator.evaluate(len(loop.dataloader.dataset))
    runner.call_hook('after_val')
    found: list = [stored_decisions(metric) if is_main_process() else None]
    broadcast_object_list(found)
    return found[0]
