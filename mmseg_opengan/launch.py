"""Starting several processes where there is no GPU."""

import os

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed


def start_processes(cfg: Config) -> None:
    """Join the processes that ``torchrun`` started, with gloo where there is no accelerator.

    mmengine does the same with the backend of the config, but only after it has picked a GPU, and gives its model
    wrapper a GPU too. Where there is one, this does nothing and leaves it to mmengine.

    Args:
        cfg: the runner's config with ``launcher`` set, as by MMSegmentation's tools; its model wrapper is told to stay
            on the CPU.

    Raises:
        RuntimeError: another launcher than ``torchrun`` without an accelerator.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none' or get_device() != 'cpu' or is_distributed():
        return
    if launcher != 'pytorch' or 'RANK' not in os.environ:
        raise RuntimeError(f'--launcher {launcher} without an accelerator: wanted processes started by torchrun, with '
                           '--launcher pytorch; see tools/dist_train.sh')
    if cfg.get('model_wrapper_cfg'):
        cfg.model_wrapper_cfg.device_ids = None
    torch.distributed.init_process_group('gloo')
