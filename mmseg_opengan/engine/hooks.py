"""What happens around mmengine's loops: the feature bank before training, lean checkpoints, evaluation reports."""

import subprocess
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from mmengine.dist import broadcast, get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, CheckpointLoader, IterBasedTrainLoop
from mmseg.registry import HOOKS

from .. import __version__
from ..functional.files import replacing, write_json
from .open_metric import OpenSetMetric
from .plots import density_figure, roc_figure

_VALIDATED = 'last_validation'  # in the message hub, and so in checkpoints: the last step that was validated


def _model(runner):
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@HOOKS.register_module()
class OpenGANHook(Hook):
    """Keeps the frozen segmentor apart from what is trained.

    Before training it builds or opens the feature bank; checkpoints are saved without the segmentor, and completed
    with it when they are loaded.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner):
        """``--resume`` goes on from the work directory's last checkpoint, also where ``load_from`` is the segmentor.

        mmengine would take ``load_from`` for the checkpoint to resume from, and a segmentor has no optimizers in it.
        """
        if runner._resume and runner._load_from is not None:
            state = CheckpointLoader.load_checkpoint(runner._load_from, map_location='cpu')
            if not any(key.startswith('discriminator.') for key in state.get('state_dict', state)):
                _model(runner).segmentor_checkpoint = runner._load_from
                runner._load_from = None

    def before_train(self, runner):
        loop, model = runner.train_loop, _model(runner)
        if not isinstance(loop, IterBasedTrainLoop):
            raise TypeError(f"train_cfg: wanted type='IterBasedTrainLoop', found {type(loop).__name__}; training data "
                            'is an endless stream of steps.')
        model.check_segmentor()
        loop.dataloader.dataset.prepare(model.extract_image, model.segmentor_identity())
        loop.dataloader.sampler.skip = loop.iter
        # The loop started its workers when it was built, before there was a bank: let them begin anew.
        loop.dataloader_iterator = type(loop.dataloader_iterator)(loop.dataloader)

    def before_train_epoch(self, runner):
        """Validate a resumed step once more: its checkpoint is written before its validation, which a kill may cost."""
        loop = runner.train_loop
        due = loop.iter > 0 and (loop.iter % loop.val_interval == 0 or loop.iter == loop.max_iters)
        if due and runner.val_loop is not None and runner.message_hub.runtime_info.get(_VALIDATED) != loop.iter:
            runner.val_loop.run()

    def before_val(self, runner):
        self._prepare(runner, runner.val_dataloader)
        self._share_statistics(runner)

    def after_val_epoch(self, runner, metrics=None):
        runner.message_hub.update_info(_VALIDATED, _step(runner))

    @staticmethod
    def _prepare(runner, loader):
        """Let a dataset that stores what the segmentor makes of its images do so."""
        model = _model(runner)
        if hasattr(loader.dataset, 'prepare'):
            model.check_segmentor()
            loader.dataset.prepare(model.extract_tap, model.segmentor_identity())

    @staticmethod
    def _share_statistics(runner):
        """All ranks validate the networks that the main process saves: each has batch statistics of its own pixels."""
        model = _model(runner)
        for network in (model.discriminator, model.generator):
            for buffer in () if network is None or get_world_size() == 1 else network.buffers():
                broadcast(buffer)

    def before_test(self, runner):
        model = _model(runner)
        model.check_segmentor()
        self._prepare(runner, runner.test_dataloader)
        if model.discriminator is not None and not model.discriminator_loaded:
            raise RuntimeError('The discriminator has random weights. Give a checkpoint that OpenGAN training wrote, '
                               'or set model.discriminator=None to evaluate the other scorers alone.')

    def after_load_checkpoint(self, runner, checkpoint):
        _model(runner).complete_checkpoint(checkpoint, runner._load_from)

    def before_save_checkpoint(self, runner, checkpoint):
        _model(runner).strip_checkpoint(checkpoint)


@HOOKS.register_module()
class OpenSetEvaluationHook(Hook):
    """Writes what the last validation or test found.

    ``{work_dir}/open_set_eval/{val,test}/`` gets ``metrics.json`` (every number with its label policy, resolution,
    mode, counts, checkpoint, code version), ``roc.png`` and ``density.png``; the figures go to the visualizer's
    backends too.

    Args:
        folder: name of the folder below the work directory.
        plot_val: draw the figures at every validation, not only in test.
    """

    def __init__(self, *, folder: str = 'open_set_eval', plot_val: bool = True):
        self.folder = folder
        self.plot_val = plot_val

    def after_val_epoch(self, runner, metrics=None):
        self._write(runner, runner.val_evaluator, 'val', self.plot_val)

    def after_test_epoch(self, runner, metrics=None):
        self._write(runner, runner.test_evaluator, 'test', True)

    @master_only
    def _write(self, runner, evaluator, stage, plot):
        for metric in evaluator.metrics:
            if isinstance(metric, OpenSetMetric) and metric.report is not None:
                folder = Path(runner.work_dir) / self.folder / stage
                folder.mkdir(parents=True, exist_ok=True)
                model = _model(runner)
                report = dict(stage=stage, iteration=_step(runner) or None, mode=model.test_cfg.get('mode', 'whole'),
                              checkpoint=runner._load_from, segmentor=model.segmentor_source, version=__version__,
                              commit=_commit(), seed=runner.seed, **metric.report)
                write_json(folder / 'metrics.json', report)
                if plot:
                    title = f"{report['label_policy']}, {report['resolution']} resolution, {stage}"
                    for name, draw in (('roc', roc_figure), ('density', density_figure)):
                        self._save(runner, folder / f'{name}.png', draw(metric.curves, title), f'{stage}_{name}')

    @staticmethod
    def _save(runner, path, figure, tag):
        canvas = FigureCanvasAgg(figure)
        with replacing(path) as file:
            canvas.print_png(file)
        runner.visualizer.add_image(tag, np.asarray(canvas.buffer_rgba())[..., :3], _step(runner))


def _step(runner) -> int:
    """Training steps so far; 0 in a test, where ``runner.iter`` would build the training data to find out."""
    return runner.train_loop.iter if isinstance(runner._train_loop, BaseLoop) else 0


def _commit() -> str | None:
    """The commit of this package's checkout, or None where it is installed without one."""
    checkout = Path(__file__).parents[2]
    if not (checkout / '.git').exists():  # git would name the repository around a virtual environment
        return None
    try:
        return subprocess.run(['git', '-C', checkout, 'describe', '--always', '--dirty'], check=True,
                              capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
