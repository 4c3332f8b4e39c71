"""What hooks ask of a runner."""

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop

#: The test-time augmentation that averages score maps.
AVERAGES_SCORES = 'OpenSetTTAModel'


def model_of(runner):
    """The model itself, without the wrapper of distributed training or of test-time
    augmentation.
    """
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def augments(runner) -> bool:
    """The test averages over versions of each image."""
    return isinstance(_without_ddp(runner), BaseTTAModel)


def require_averaged_scores(runner) -> None:
    """Raise where test-time augmentation would keep the score maps of one version alone."""
    model = _without_ddp(runner)
    if isinstance(model, BaseTTAModel) and type(model).__name__ != AVERAGES_SCORES:
        raise TypeError(
            f"tta_model: wanted type='{AVERAGES_SCORES}', which averages score maps, found "
            f"'{type(model).__name__}'"
        )


def _without_ddp(runner):
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def step_of(runner) -> int:
    """Training steps so far; 0 in a test, where ``runner.iter`` would build the training data to
    find out.
    """
    return runner.train_loop.iter if isinstance(runner._train_loop, BaseLoop) else 0
