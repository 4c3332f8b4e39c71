"""Starting several processes where there is no GPU."""

import os

import torch
from mmengine.device import get_device
from mmengine.dist import is_distributed


def start_processes(launcher: str) -> None:
    """Join the processes that ``torchrun`` started, with gloo where there is no accelerator.

    mmengine does the same with the backend of the config, but only after it has picked a GPU. Where there is one, this
    does nothing and leaves it to mmengine.

    Args:
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``, as of MMSegmentation's tools.

    Raises:
        RuntimeError: another launcher than ``torchrun`` without an accelerator.
    """
    if launcher == 'none' or get_device() != 'cpu' or is_distributed():
        return
    if launcher != 'pytorch' or 'RANK' not in os.environ:
        raise RuntimeError(f'--launcher {launcher} without an accelerator: wanted processes started by torchrun, with '
                           '--launcher pytorch; see tools/dist_train.sh')
    torch.distributed.init_process_group('gloo')
