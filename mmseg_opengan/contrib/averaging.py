"""Weight averaging of D: what is validated, selected and saved is a running mean of the
discriminators on the way.
"""

from mmengine.dist import broadcast
from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmseg.registry import HOOKS, MODELS
from torch import nn

from ..engine.running import model_of

_PREFIX = 'discriminator.'
_AVERAGED = 'discriminator_average'


@HOOKS.register_module()
class DiscriminatorAverageHook(EMAHook):
    r"""mmengine's :class:`EMAHook` for D alone; the frozen segmentor needs no average, and G is not
    evaluated.

    After step t the average moves towards D by a share m of the distance, weights and batch-norm
    statistics alike:

    .. math:: m = \max(\text{momentum}, \gamma / (\gamma + t))

    D moves much from step to step, and with it its AUROC on open kinds that training does not hold;
    which step open validation picks is then half luck. The average is taken of weights, so
    inference costs what it did. Training goes
    on with D itself: the losses, the log and G meet the D of the step. Validation sees the average,
    and checkpoints hold it under D's name, so that whoever reads them needs to know nothing of it;
    D itself, which a resumed training goes on with, is kept beside the model's weights.

    Args:
        momentum: share of the newest D; about the last 1 / momentum steps count.
        gamma: how quickly the first steps are forgotten.
    """

    def __init__(self, *, momentum: float = 0.02, gamma: int = 10):
        super().__init__(
            ema_type='MomentumAnnealingEMA', momentum=momentum, gamma=gamma, update_buffers=True
        )

    def before_run(self, runner):
        discriminator = (
            getattr(model_of(runner), 'discriminator', None) or nn.Module()
        )  # nothing to average: other scorers only
        discriminator = discriminator.module if is_model_wrapper(discriminator) else discriminator
        if (
            getattr(self, 'src_model', None) is not discriminator
        ):  # a test after training is a run of its own
            self.src_model = discriminator
            self.ema_model = MODELS.build(self.ema_cfg, default_args=dict(model=discriminator))

    def before_val_epoch(self, runner):
        for buffer in self.ema_model.module.buffers():
            broadcast(buffer)  # all ranks validate the average that the main process saves
        super().before_val_epoch(runner)

    def before_save_checkpoint(self, runner, checkpoint):
        if not self._has_discriminator():
            return
        state = checkpoint['state_dict']
        names = [name for name in state if name.startswith(_PREFIX)]
        average = self.ema_model.module.state_dict()
        checkpoint[_AVERAGED] = dict(
            steps=int(self.ema_model.steps), source={name: state[name] for name in names}
        )
        state.update({name: average[name.removeprefix(_PREFIX)].cpu() for name in names})

    def _has_discriminator(self):
        return next(self.src_model.parameters(), None) is not None

    def after_load_checkpoint(self, runner, checkpoint):
        if not self._has_discriminator():
            return
        state = checkpoint.get('state_dict', checkpoint)
        average = {
            name.removeprefix(_PREFIX): value
            for name, value in state.items()
            if name.startswith(_PREFIX)
        }
        if not average:
            return  # a segmentor alone; the average begins at D's initialisation
        self.ema_model.module.load_state_dict(average)
        kept = checkpoint.get(_AVERAGED)
        if runner._resume and kept is not None:
            self.ema_model.steps.fill_(kept['steps'])
            state.update(kept['source'])
