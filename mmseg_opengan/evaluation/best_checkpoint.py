"""By which number training may keep its best checkpoint: one that D changes, the right way up."""

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ..contracts import HYBRID, OPENGAN
from ..engine.data_checks import lack_of_kinds
from ..engine.running import model_of
from .metric import NAMES, OVER_KINDS, OpenSetMetric

_RULES = {**dict.fromkeys(NAMES, 'greater'), 'FPR95': 'less', OVER_KINDS: 'greater'}


def check_save_best(runner: Runner) -> None:
    """Read ``save_best='auto'`` as the AUROC of the trained score (the fused one, where there is
    one), and refuse what cannot select.

    Raises:
        ValueError: a name that no validation gives, a number that D does not change (it would keep
            the first D for ever), one that is compared the wrong way round, or that over kinds
            where open validation has too few pixels of each.
    """
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best is not None:
            for key in hook.save_best:
                _check(runner, hook, key)


def choice_of(runner: Runner) -> tuple[str | None, str | None]:
    """The number by which training keeps its best checkpoint, and its rule; None of one that keeps
    none.
    """
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best is not None:
            return hook.key_indicators[0], hook.rules[0]
    return None, None


def _check(runner, hook, key):
    known = _selecting(runner)
    if not known:
        return  # another evaluation than ours
    if key == 'auto':
        score = HYBRID if HYBRID in model_of(runner).score_names else OPENGAN
        hook.save_best = [f'{score}/AUROC']
        hook._init_rule(['greater'], hook.save_best)
        return
    score, _, number = key.partition('/')
    if key not in known:
        fixed = score in set(model_of(runner).score_names) - {OPENGAN, HYBRID} or not number
        why = ', which D does not change' if fixed else ''
        raise ValueError(f'save_best: wanted one of {known} or auto, found {key!r}{why}')
    rule = hook.rules[hook.key_indicators.index(key)]
    if rule != _RULES[number]:
        raise ValueError(f"rule: wanted '{_RULES[number]}' for {key}, found {rule!r}")
    if number == OVER_KINDS:
        _require_kinds(runner, score)


def _require_kinds(runner, score):
    """The mean over kinds is of those alone that have pixels enough."""
    model = model_of(runner)

    def grid_of(item):
        if model.resolution == 'image':
            return None
        return model.extract_tap(item['inputs'], item['data_samples']).logits.shape[2:]

    lacking = lack_of_kinds(runner.val_dataloader.dataset, grid_of)
    if lacking:
        raise ValueError(f"save_best: {lacking}. Take '{score}/AUROC'.")


def _selecting(runner):
    """Names of the numbers of a validation that D changes."""
    metrics = [one for one in runner.val_evaluator.metrics if isinstance(one, OpenSetMetric)]
    if not metrics:
        return []
    several = len(runner.val_dataloader.dataset.metainfo['open_classes']) > 1
    numbers = [*NAMES, OVER_KINDS] if several else NAMES
    trained = [name for name in (OPENGAN, HYBRID) if name in model_of(runner).score_names]
    return [f'{name}/{number}' for name in trained for number in numbers]
