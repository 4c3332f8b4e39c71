"""What happens around an evaluation: thresholds from open validation before it, a report and
figures after it.
"""

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process, master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from mmseg.registry import HOOKS

from .. import __version__
from ..contracts import HYBRID, OPENGAN
from ..engine.running import augments, model_of, step_of
from ..files import write_json
from ..functional.decisions import is_rule
from ..models.fusion import main_score
from ..pictures.figures import FIGURES, save_figure
from ..pictures.overlay import LogitThreshold
from .best_checkpoint import check_save_best, choice_of
from .decided import OpenValidation, makers_of
from .metric import OpenSetMetric, Setting
from .open_validation import course_text, decisions_of, stored_decisions
from .report import headline

#: Key of ``checkpoint['meta']['opengan']`` under which the thresholds and calibrations of open
#: validation lie.
OPEN_VALIDATION = 'open_validation'
#: Key of the message hub, which checkpoints keep: [step, number] of each open validation so far.
COURSE = 'open_validation_course'


@HOOKS.register_module()
class OpenSetEvaluationHook(Hook):
    """Ties the evaluations of a run together.

    - Every validation decides thresholds and calibrations; the checkpoint that is saved for it
      (``save_best``) keeps them in ``meta['opengan']['open_validation']``.
    - A test uses those of its checkpoint. A rule (``threshold`` of the metric) that they do not
      have for every scorer is found once and kept: see :class:`OpenValidation`.
    - Before a training, ``save_best`` is checked: see :func:`check_save_best`. After it, a sentence
      says how its number went on: see :func:`course_text`.
    - ``{work_dir}/open_set_eval/{val,test}/`` gets ``metrics.json`` (every number with its label
      policy, resolution, mode, counts, checkpoint, code version), ``curves.json`` (thinned) and
      figures as PNG and PDF; the figures go to the visualizer's backends too. A validation has the
      ROC curves and densities only.
    - A test ends with the short table of its numbers.

    Args:
        plot_val: draw figures at every validation.
        plot_test: draw figures after a test.
    """

    priority = 'LOW'  # after the logger: the table is the last of a test

    def __init__(self, *, plot_val: bool = True, plot_test: bool = True):
        self.plot_val, self.plot_test = plot_val, plot_test
        # By open validation, until the next training step: what the checkpoint holds, and the last.
        self._loaded: dict | None = None
        self._decided: dict | None = None
        self._trained = False

    def before_run(self, runner: Runner) -> None:
        if isinstance(runner._train_loop, BaseLoop) and runner.val_loop is not None:
            check_save_best(runner)

    def after_train(self, runner: Runner) -> None:
        course = runner.message_hub.runtime_info.get(COURSE)
        key, rule = choice_of(runner)
        if course and key is not None:
            text = course_text(course, key, runner.max_iters, larger_is_better=rule == 'greater')
            runner.logger.info(text)

    # ------------------------------------------------------------------ checkpoints

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._loaded = checkpoint.get('meta', {}).get(OPENGAN, {}).get(OPEN_VALIDATION)
        self._decided = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._decided is not None:
            meta = checkpoint.setdefault('meta', {}).setdefault(OPENGAN, {})
            meta[OPEN_VALIDATION] = self._decided

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._loaded = self._decided = None  # D has changed
        self._trained = True

    # ------------------------------------------------------------------ before an evaluation

    def before_val_epoch(self, runner: Runner) -> None:
        for metric in _metrics(runner.val_evaluator):
            metric.setting = _setting(runner, 'val')

    def before_test_epoch(self, runner: Runner) -> None:
        for metric in _metrics(runner.test_evaluator):
            rule = metric.threshold
            if is_rule(rule) and augments(runner):
                raise ValueError(
                    'threshold: wanted a number with test-time augmentation, as open validation '
                    f"runs without it, found the rule '{rule}'"
                )
            stored = self._decided or self._loaded
            if is_rule(rule):
                stored = _decided_with(str(rule), runner, stored)
            setting = _setting(runner, 'test')
            decisions = decisions_of(stored, setting, makers_of(model_of(runner)))
            if stored and decisions:
                apart = ('scorers', 'makers')
                source = {key: value for key, value in stored.items() if key not in apart}
                setting = replace(setting, decisions=decisions, source=source)
            metric.setting = setting
            _show_thresholds(runner.visualizer, metric, model_of(runner).score_names)

    # ------------------------------------------------------------------ after an evaluation

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        for metric in _metrics(runner.val_evaluator):
            if metric.report is not None:
                decided = stored_decisions(metric, step_of(runner))
                self._decided = dict(decided, makers=makers_of(model_of(runner)))
        key, _ = choice_of(runner)
        metrics = metrics or {}
        if key in metrics:
            course = runner.message_hub.runtime_info.get(COURSE, [])
            runner.message_hub.update_info(COURSE, [*course, [step_of(runner), metrics[key]]])
        figures = ('roc', 'density') if self.plot_val else ()
        self._write(runner, runner.val_evaluator, 'val', figures)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        figures = tuple(FIGURES) if self.plot_test else ()
        self._write(runner, runner.test_evaluator, 'test', figures)
        for metric in _metrics(runner.test_evaluator):
            if metric.report is not None:
                file = _folder(runner, 'test') / 'metrics.json'
                runner.logger.info(f'\n{headline(metric.report)}\nAll numbers: {file}')

    @master_only
    def _write(
        self, runner: Runner, evaluator: Evaluator, stage: str, figures: Sequence[str]
    ) -> None:
        folder = _folder(runner, stage)
        for metric in _metrics(evaluator):
            if metric.report is None:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            report = dict(
                metric.report,
                stage=stage,
                iteration=step_of(runner) or None,
                checkpoint=None if self._trained else runner._load_from,
                segmentor=model_of(runner).held.source,
                version=__version__,
                commit=_commit(),
                seed=runner.seed,
            )
            (folder / 'metrics.json').unlink(missing_ok=True)
            write_json(folder / 'curves.json', metric.curves)
            title = f'{report["label_policy"]}, {report["resolution"]} resolution, {stage}'
            for name in figures:
                picture = save_figure(FIGURES[name](metric.curves, title), folder / name)
                runner.visualizer.add_image(f'{stage}_{name}', picture, step_of(runner))
            write_json(folder / 'metrics.json', report)  # last: where it is, everything is


def _folder(runner: Runner, stage: str) -> Path:
    return Path(runner.work_dir, 'open_set_eval', stage)


def _metrics(evaluator: Evaluator) -> list[OpenSetMetric]:
    return [metric for metric in evaluator.metrics if isinstance(metric, OpenSetMetric)]


def _decided_with(rule: str, runner: Runner, stored: dict | None) -> dict:
    """What open validation decides, a rule among it: the main process finds it for all."""
    found: list = [None]
    if is_main_process():
        model = model_of(runner)
        checkpoint = runner._load_from or str(model.held.source)
        validation = OpenValidation(model, checkpoint, stored, runner.cfg.get('val_dataloader'))
        found = [validation.find(model.score_names, [rule])]
    broadcast_object_list(found)
    return found[0]


def _setting(runner: Runner, stage: str) -> Setting:
    model = model_of(runner)
    mode = model.test_cfg.get('mode', 'whole')
    if augments(runner):
        mode += ', test-time augmentation'
    return Setting(
        stage=stage,
        resolution=model.resolution,
        mode=mode,
        smoothing=model.smoothing,
        open_logits=frozenset(name for name, is_logit in model.score_names.items() if is_logit),
    )


def _show_thresholds(visualizer, metric, names):
    """Let pictures whiten what the metric's threshold calls open. Without one they whiten p(open)
    of the fused score where open validation has calibrated it, else of D's.
    """
    configured = getattr(visualizer, 'configured', None)
    if configured is None:  # mmseg's own
        return
    name, wanted = configured
    visualizer.threshold_of, visualizer.thresholds = configured
    if name == OPENGAN and names:
        name = main_score(names)
    if name not in names:
        return
    decided = metric.setting.decisions.get(name)
    if metric.threshold is not None:
        thresholds = [LogitThreshold(metric.threshold_of(name))]
    elif name == HYBRID and decided and decided.calibration:
        score_of = decided.calibration.score_of
        thresholds = [LogitThreshold(score_of(one), one) for one in wanted]
    else:
        return
    visualizer.threshold_of, visualizer.thresholds = name, tuple(thresholds)


def _commit() -> str | None:
    """The commit of this package's checkout, or None where it is installed without one."""
    checkout = Path(__file__).parents[2]
    if not (checkout / '.git').exists():  # git would name a repository around it
        return None
    command = ['git', '-C', str(checkout), 'describe', '--always', '--dirty']
    with suppress(OSError):
        found = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
        )
        return found.stdout.strip() or None
    return None
