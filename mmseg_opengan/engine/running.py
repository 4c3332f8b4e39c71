"""What hooks ask of a runner."""

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop


def model_of(runner):
    """The model itself, without the wrapper of distributed training or of test-time
    augmentation.
    """
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def augments(runner) -> BaseTTAModel | None:
    """The test-time augmentation that a test runs under; None without."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model if isinstance(model, BaseTTAModel) else None


def step_of(runner) -> int:
    """Training steps so far; 0 in a test, where ``runner.iter`` would build the training data to
    find out.
    """
    return runner.train_loop.iter if isinstance(runner._train_loop, BaseLoop) else 0
