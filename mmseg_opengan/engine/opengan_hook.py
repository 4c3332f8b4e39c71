"""What happens around mmengine's training loop: the feature bank before it, lean checkpoints, exact
resuming.
"""

import logging

from mmengine.dist import broadcast, broadcast_object_list, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, IterBasedTrainLoop
from mmseg.registry import HOOKS

from .data_checks import (
    lack_of_pixels,
    require_steps,
    require_whole_images,
    warn_of_another_pipeline,
    warn_of_shared_images,
)
from .running import augments, model_of, step_of

#: In the message hub, and so in checkpoints: the last step that was validated.
_VALIDATED = 'last_validation'


@HOOKS.register_module()
class OpenGANHook(Hook):
    """Prepares what training and evaluation need of the frozen segmentor.

    Before training it builds or opens the feature bank. Checkpoints say which segmentor they belong
    to.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner):
        warn_of_another_pipeline(runner.cfg)
        if any(type(hook) is EMAHook for hook in runner.hooks):
            raise TypeError(
                "custom_hooks: wanted hooks that leave the model's weights alone, found 'EMAHook', "
                'which averages the whole model and could not be resumed'
            )

    def before_train(self, runner):
        loop = runner.train_loop
        model = model_of(runner)
        if not isinstance(loop, IterBasedTrainLoop):
            raise TypeError(
                f"train_cfg: wanted type='IterBasedTrainLoop', found {type(loop).__name__}; "
                'training data is an endless stream of steps.'
            )
        loader = loop.dataloader
        source = loop.dataloader.dataset
        require_steps(loader)
        model.check_segmentor()
        _require_classes(model, source)
        if runner.val_loop is not None:
            _check_validation(source, runner.val_loop.dataloader.dataset)
        if model.discriminator is not None:
            _require_pixels(model, source)
        _require_use_of_pixels(model, source)
        source.prepare(model.extract_image, model.segmentor_identity())
        loader.sampler.num_skipped = loop.iter
        loader.sampler.seed = _seed_of_draws(runner)
        # The loop started its workers when it was built, before there was a bank: let them begin
        # anew.
        loop.dataloader_iterator = type(loop.dataloader_iterator)(loader)

    def before_train_epoch(self, runner):
        """Validate a resumed step once more: its checkpoint is written before its validation, which
        a kill may cost.
        """
        loop = runner.train_loop
        if loop.iter == 0 or loop.iter < loop.val_begin or runner.val_loop is None:
            return
        loop._decide_current_val_interval()  # as after each step, where there are several
        due = loop.iter % loop.val_interval == 0 or loop.iter == loop.max_iters
        validated = runner.message_hub.runtime_info.get(_VALIDATED) == loop.iter
        if due and not validated:
            runner.val_loop.run()

    def before_val(self, runner):
        model = model_of(runner)
        self._prepare(runner, runner.val_loop)
        if get_world_size() > 1:
            # All ranks validate what the main process saves: each has batch statistics of its own.
            for network in filter(None, (model.discriminator, model.generator)):
                for buffer in network.buffers():
                    broadcast(buffer)
        self._measure_fusion(runner)

    @staticmethod
    def _measure_fusion(runner):
        """Standardise a fused score for D as it is now. In a test, the checkpoint has that."""
        model = model_of(runner)
        if model.fusion is not None and isinstance(runner._train_loop, BaseLoop):
            model.measure_fusion(runner.train_loop.dataloader.dataset.closed_sample())

    def after_val_epoch(self, runner, metrics=None):
        runner.message_hub.update_info(_VALIDATED, step_of(runner))

    @staticmethod
    def _prepare(runner, loop):
        """Compare classes, and let a dataset that stores what the segmentor makes of its images do
        so.
        """
        model = model_of(runner)
        dataset = loop.dataloader.dataset
        require_whole_images(dataset)
        if any(getattr(metric, 'closed', False) for metric in loop.evaluator.metrics):
            _require_classes(model, dataset)
        if hasattr(dataset, 'prepare'):
            model.check_segmentor()
            dataset.prepare(model.extract_tap, model.segmentor_identity())

    def before_test(self, runner):
        model = model_of(runner)
        augmentation = augments(runner)
        if augmentation is not None and type(augmentation).__name__ != 'OpenSetTTAModel':
            raise TypeError(
                "tta_model: wanted type='OpenSetTTAModel', which averages score maps, found "
                f"'{type(augmentation).__name__}'"
            )
        model.check_segmentor()
        if model.held.source is None:
            model.held.source = runner._load_from  # the checkpoint of a model without D
        self._prepare(runner, runner.test_loop)
        lacking = lack_of_pixels(runner.test_loop.dataloader.dataset)
        if lacking:
            message = f'test_dataloader: {lacking}. Its AUROC, AP and FPR95 are undefined.'
            print_log(message, logger='current', level=logging.WARNING)
        if model.discriminator is not None and not model.discriminator_loaded:
            raise RuntimeError(
                'The discriminator has random weights. Give a checkpoint that OpenGAN training '
                'wrote, or set model.discriminator=None to evaluate the other scorers alone.'
            )

    def before_save_checkpoint(self, runner, checkpoint):
        model = model_of(runner)
        self._measure_fusion(runner)
        if model.fusion is not None:  # the checkpoint has those of the last validation
            for key, value in model.fusion.state_dict().items():
                checkpoint['state_dict'][f'fusion.{key}'] = value.cpu().clone()
        model.lean_checkpoint(checkpoint)


def _seed_of_draws(runner):
    """The sampler's own seed where the config gives one, else that of the main process: all ranks
    share the steps of one draw, also where each has a seed of its own (``diff_rank_seed``). It is
    the checkpoint's in a run that goes on.
    """
    loader = runner.cfg.get('train_dataloader') or {}
    given = (loader.get('sampler') or {}).get('seed')
    if given is not None:
        return given
    shared = [runner.seed]
    broadcast_object_list(shared)
    return shared[0]


def _require_classes(model, dataset):
    """The classes of the data must be as many as the segmentor has: else every label means another
    class.
    """
    found = model.head.num_classes
    classes = dataset.metainfo['classes']
    of_open = model.has_open_class
    if found != len(classes) + of_open:
        raise ValueError(
            f'{type(dataset).__name__}: wanted the {found - of_open} closed classes of the '
            f'segmentor, found {len(classes)}: {tuple(classes)}. Take a data set class with those '
            'that the segmentor was trained with, in their order.'
        )


def _check_validation(source, validation):
    """Open validation chooses the checkpoint, so it needs both kinds of pixels, and its own."""
    lacking = lack_of_pixels(validation)
    if lacking:
        raise ValueError(f'val_dataloader: {lacking}. Open validation chooses the checkpoint.')
    training = [source.closed_images, source.open_images]
    warn_of_shared_images([one for one in training if one is not None], validation)


def _require_pixels(model, source):
    """Without pixels of a group D learns nothing of it, and G, whose batch norm needs two, nothing
    at all.
    """
    sampler = source.sampler
    if sampler.num_closed < 1:
        raise ValueError(
            f'sampler.num_closed: wanted at least 1 closed pixel a step, found {sampler.num_closed}'
        )
    if model.generator is not None and sampler.num_fake < 2:
        raise ValueError(
            'sampler.num_fake: wanted at least 2 generated pixels a step for the generator, found '
            f'{sampler.num_fake}. CLS has no generator: model.generator=None.'
        )
    if model.generator is None and source.open_images is None:
        raise ValueError(
            'train_dataloader.dataset.open: wanted open images, as there is no generator, found '
            'none (open=None, or sampler.num_open=0): D would see closed pixels alone. OpenGAN-0 '
            'has a generator.'
        )


def _require_use_of_pixels(model, source):
    """Pixels of no weight would still move D, through its batch norm; the fused score is
    standardised on stored closed pixels.
    """
    if model.generator is not None and model.loss_options['lambda_fake'] == 0:
        raise ValueError(
            'lambda_fake: wanted a weight above 0 for what the generator makes, found 0. CLS has '
            'none: model.generator=None.'
        )
    if source.open_images is not None and model.loss_options['lambda_open'] == 0:
        raise ValueError(
            'lambda_open: wanted a weight above 0 for the open pixels of the training data, found '
            '0. OpenGAN-0 has none: train_dataloader.dataset.open=None.'
        )
    if model.fusion is not None and not source.stores_closed:
        raise ValueError(
            "model.fuse: wanted train_dataloader.dataset.type='StoreSource', which stores closed "
            f'pixels, found {type(source).__name__}'
        )
