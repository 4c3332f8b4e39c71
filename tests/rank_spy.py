"""A hook that writes down what each process of a distributed training sees and has."""

from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmseg.registry import HOOKS


@HOOKS.register_module()
class RankSpy(Hook):
    """Leaves ``rank{r}.pth`` in the work directory: steps, pixels, losses, and the networks at each
    validation.
    """

    priority = 'VERY_LOW'

    def __init__(self):
        self.seen = dict(
            steps=[],
            closed=[],
            losses=[],
            networks=[],
            metrics=[],
        )

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen['steps'].append(data_batch['draw'].step)
        self.seen['closed'].append(data_batch['closed'].clone())
        self.seen['losses'].append({key: float(value) for key, value in outputs.items()})

    def after_val_epoch(self, runner, metrics=None):
        state = runner.model.module.state_dict()
        self.seen['networks'].append(
            {
                key: value.clone()
                for key, value in state.items()
                if key.startswith(('discriminator', 'generator'))
            }
        )
        self.seen['metrics'].append(dict(metrics))

    def after_train(self, runner):
        torch.save(self.seen, Path(runner.work_dir) / f'rank{get_rank()}.pth')
