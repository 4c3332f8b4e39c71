"""What hooks ask of a runner."""

from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop


def model_of(runner):
    """The model itself, without the wrapper of distributed training."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def step_of(runner) -> int:
    """Training steps so far; 0 in a test, where ``runner.iter`` would build the training data to find out."""
    return runner.train_loop.iter if isinstance(runner._train_loop, BaseLoop) else 0
