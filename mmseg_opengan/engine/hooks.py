"""What happens around mmengine's loops: the feature bank before training, lean checkpoints, evaluation reports."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmseg.registry import HOOKS


def _model(runner):
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@HOOKS.register_module()
class OpenGANHook(Hook):
    """Keeps the frozen segmentor apart from what is trained.

    Before training it builds or opens the feature bank; checkpoints are saved without the segmentor, and completed
    with it when they are loaded.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner):
        model = _model(runner)
        model.check_segmentor()
        runner.train_dataloader.dataset.prepare(model.extract_image, dict(
            name=f'{type(model.backbone).__name__}+{type(model.tap_head.head).__name__}',
            sha256=model.segmentor_sha256(), channels=model.tap_head.feature_channels))

    def before_test(self, runner):
        model = _model(runner)
        model.check_segmentor()
        if model.discriminator is not None and not model.discriminator_loaded:
            raise RuntimeError('The discriminator has random weights. Give a checkpoint that OpenGAN training wrote, '
                               'or set model.discriminator=None to evaluate the other scorers alone.')

    def after_load_checkpoint(self, runner, checkpoint):
        _model(runner).complete_checkpoint(checkpoint, runner._load_from)

    def before_save_checkpoint(self, runner, checkpoint):
        _model(runner).strip_checkpoint(checkpoint)
