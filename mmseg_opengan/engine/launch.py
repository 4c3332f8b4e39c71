"""Several processes: those that ``torchrun`` starts, also without a GPU, and pools of them for many
jobs.
"""

import atexit
import gc
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed


def start_processes(cfg: Config) -> None:
    """Join the processes that ``torchrun`` started, with gloo where there is no accelerator.

    mmengine does the same with the backend of the config, but only after it has picked a GPU, and
    gives its model wrapper a GPU too. Where there is one, this does nothing and leaves it to
    mmengine.

    Args:
        cfg: the runner's config with ``launcher`` set, as by MMSegmentation's tools; its model
            wrapper is told to stay on the CPU.

    Raises:
        RuntimeError: another launcher than ``torchrun`` without an accelerator.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none' or get_device() != 'cpu' or is_distributed():
        return
    if launcher != 'pytorch' or 'RANK' not in os.environ:
        raise RuntimeError(
            f'--launcher {launcher} without an accelerator: wanted processes started by '
            f'torchrun, with '
            '--launcher pytorch; see tools/dist_train.sh'
        )
    if cfg.get('model_wrapper_cfg'):
        cfg.model_wrapper_cfg.device_ids = None
    torch.distributed.init_process_group('gloo')
    atexit.register(_leave_processes)


def _leave_processes() -> None:
    """End gloo's threads before the interpreter goes: one that still runs then aborts the process,
    now and then.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def workers(processes: int, context=None, **options):
    """A pool of processes that end with this one. After an error, Ctrl-C for one, what has not
    begun never does.
    """
    context = context or multiprocessing.get_context('spawn')
    options = {'initializer': die_with_parent, **options}
    free_memory()  # on a GPU that one of them may share
    with ProcessPoolExecutor(processes, mp_context=context, **options) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def die_with_parent() -> None:
    """End this process, a child of multiprocessing, when its parent does, even by ``kill -9``.

    It would otherwise go on writing into a work directory that the next start of the command
    resumes.
    """
    parent = multiprocessing.parent_process()

    def watch():
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def free_memory() -> None:
    """Let go of what is no longer used, on a GPU too."""
    gc.collect()
    torch.cuda.empty_cache()


def use_gpu(place: int) -> None:
    """Let this process use one of the GPUs, if there are any; equal places mean equal ones."""
    if torch.cuda.is_available():
        torch.cuda.set_device(place % torch.cuda.device_count())
