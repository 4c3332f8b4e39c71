"""Load checkpoints safely, and reuse memory.

Two facts of the stack below us are handled here and nowhere else. The first is handled where the
package is registered, through what torch and mmengine offer for it. The second changes a process
as a whole, so a command asks for it (:func:`install`):

* torch >= 2.6 unpickles checkpoints with ``weights_only=True``. Checkpoints written by mmengine
  hold a few harmless classes (the logged history, numpy scalars), which are allow-listed.
  mmengine's http loader does not use the safe loader, so both loaders are replaced by ones that do.
* glibc gives the memory of a large tensor back when it is freed, and the kernel clears the next
  one's page by page: a tenth to a fifth of a D/G step or of a forward pass on the CPU. It is told
  to keep it.
"""

import ctypes
import os
import pickle
import platform
import zipfile

import numpy as np
import torch

#: Words of torch where a file wants code to be run.
_CODE = ('GLOBAL', 'Unsupported global', 'Unsupported class', 'is not allowed')


def allow_mmengine_checkpoints() -> None:
    """Tell torch's safe unpickler about the few classes that mmengine stores in checkpoints."""
    from mmengine.logging import HistoryBuffer

    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    # HistoryBuffer pickles references to its own statistics methods, which pickle spells as
    # getattr(class, name).
    allowed = [HistoryBuffer, np.ndarray, np.dtype, (_history_buffer_method, 'builtins.getattr')]
    for function in (multiarray._reconstruct, multiarray.scalar):
        for package in ('numpy.core', 'numpy._core'):
            allowed.append((function, f'{package}.multiarray.{function.__name__}'))
    for kind in (np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_):
        allowed.append(type(np.dtype(kind)))
    torch.serialization.add_safe_globals(allowed)


def _history_buffer_method(owner, name):
    """``getattr`` as far as a pickled HistoryBuffer needs it, and no further."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r}) in a checkpoint is not allowed')
    return getattr(owner, name)


def load_checkpoint_file(filename: str, map_location=None):
    """``torch.load`` of a local file that never runs code from it.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: the file holds something other than tensors and plain values, is damaged, or
            is no checkpoint.
    """
    filename = os.path.expanduser(filename)
    if not os.path.isfile(filename):
        raise FileNotFoundError(f"Checkpoint '{filename}' does not exist.")
    _require_checkpoint(filename)
    try:
        return torch.load(filename, map_location=map_location, weights_only=True)
    except Exception as error:  # damaged bytes end in errors of many kinds
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        refused = [line for line in lines if any(sign in line for sign in _CODE)]
        if isinstance(error, pickle.UnpicklingError) and refused:
            raise RuntimeError(
                f"Checkpoint '{filename}' holds more than tensors and plain values and was "
                f'refused, because loading it would run code from the file: {refused[0]} If you '
                'trust whoever made it, load it once in a sandbox with torch.load(..., '
                "weights_only=False) and save only its 'state_dict' with torch.save; that file "
                'loads here.'
            ) from error
        reason = [line for line in lines if 'weights_only' not in line] or [type(error).__name__]
        raise RuntimeError(
            f"'{filename}' could not be read as a checkpoint ({reason[0]}). Is it complete? Copy "
            'or download it again.'
        ) from error


def _require_checkpoint(filename: str) -> None:
    """Raise a RuntimeError of files that are often found in a checkpoint's place, and of damaged
    ones.
    """
    with open(filename, 'rb') as file:
        start = file.read(512)
    found = None
    if not start:
        found = 'an empty file'
    elif start.startswith(b'version https://git-lfs'):
        found = "a Git LFS pointer: 'git lfs pull' fetches the file"
    elif start.lstrip()[:5].lower() in (b'<!doc', b'<html', b'<?xml'):
        found = 'a web page: download the file itself'
    elif start[8:9] == b'{' and int.from_bytes(start[:8], 'little') < os.path.getsize(filename):
        found = (
            'a safetensors file: torch.save(safetensors.torch.load_file(...), PATH) makes a '
            'checkpoint of it'
        )
    elif start.startswith(b'PK'):
        found = _damage(filename)
    if found is not None:
        raise RuntimeError(
            f"'{filename}': wanted a checkpoint that torch.save wrote, found {found}"
        )


def _damage(filename: str) -> str | None:
    """What is wrong with the parts of a zip file, whose checksums torch does not compare."""
    try:
        with zipfile.ZipFile(filename) as parts:
            damaged = parts.testzip()
    except Exception as error:  # damaged bytes end in errors of many kinds
        return f'a damaged file ({error}). Is it complete? Copy or download it again.'
    return damaged and f"a damaged file: the checksum of its part '{damaged}' is another"


def _load_from_http(filename, map_location=None, model_dir=None, progress=True):
    """Download once per node (local rank 0, by what torchrun and mmengine's launchers set), then
    load safely.
    """
    from mmengine.dist import barrier

    folder = model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints')
    target = os.path.join(folder, os.path.basename(filename.split('?')[0]))
    if os.environ.get('LOCAL_RANK', '0') == '0' and not os.path.exists(target):
        os.makedirs(folder, exist_ok=True)
        torch.hub.download_url_to_file(filename, target, progress=progress)
    barrier()
    return load_checkpoint_file(target, map_location)


def keep_freed_memory() -> bool:
    """Let glibc keep the memory of freed tensors below 1 GiB for the next ones, up to 2 GiB at the
    end of its heap.

    Returns:
        bool: False, and nothing is changed, where the C library has no such setting or the
            environment has set it
        (``MALLOC_MMAP_THRESHOLD_`` or ``MALLOC_TRIM_THRESHOLD_``, see ``man mallopt``).
    """
    set_by_user = {'MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_'} & set(os.environ)
    if set_by_user or platform.libc_ver()[0] != 'glibc':
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    return bool(mallopt(mmap_threshold, 2**30) and mallopt(trim_threshold, 2**31 - 1))


def load_safely() -> None:
    """Let every checkpoint be read by torch's safe loader; may be called again."""
    allow_mmengine_checkpoints()
    from mmengine.runner.checkpoint import CheckpointLoader

    CheckpointLoader.register_scheme(
        prefixes='',
        loader=load_checkpoint_file,
        force=True,
    )
    CheckpointLoader.register_scheme(
        prefixes=('http://', 'https://'), loader=_load_from_http, force=True
    )


def install() -> None:
    """Everything above, for a process that is ours: a command's, or a worker's of one."""
    load_safely()
    keep_freed_memory()
