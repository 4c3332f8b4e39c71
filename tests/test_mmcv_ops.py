"""mmseg can be imported with mmcv-lite, by whatever module of the package comes first."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.utils.dl_utils.misc import mmcv_full_available

from mmseg_opengan import mmcv_ops

REPO = Path(__file__).resolve().parents[1]
HAS_COMPILED_OPS = importlib.util.find_spec('mmcv._ext') is not None
without_ops = pytest.mark.skipif(HAS_COMPILED_OPS, reason='this mmcv has its own compiled ops')


def test_all_of_mmseg_imports():
    import mmseg.apis
    import mmseg.datasets
    import mmseg.models  # noqa: F401


@without_ops
def test_a_placeholder_raises_when_called_and_says_what_to_install():
    from mmcv.ops import RoIAlign, sigmoid_focal_loss

    with pytest.raises(
        mmcv_ops.MissingCompiledOp, match=r"'roi_align_forward' is a compiled operator.*full 'mmcv'"
    ):
        RoIAlign(2)(torch.zeros(1, 1, 8, 8), torch.tensor([[0.0, 0, 0, 4, 4]]))
    with pytest.raises(mmcv_ops.MissingCompiledOp, match='sigmoid_focal_loss_forward'):
        sigmoid_focal_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))


@without_ops
def test_mmengine_still_sees_that_there_are_no_ops():
    assert not mmcv_full_available()
    assert 'mmcv._ext' not in sys.modules
    with pytest.raises(ImportError):
        importlib.import_module('mmcv._ext')


def test_a_full_mmcv_is_left_alone(tmp_path):
    """Python finds its ops by itself, as it does every other module."""
    for name in ('ops/__init__.py', '_ext.py'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('')
    assert mmcv_ops.OpsFinder.find_spec('mmcv.ops', [str(tmp_path)]) is None
    (tmp_path / '_ext.py').unlink()
    assert mmcv_ops.OpsFinder.find_spec('mmcv.ops', [str(tmp_path)]) is not None
    assert mmcv_ops.OpsFinder.find_spec('mmcv.image', [str(tmp_path)]) is None


def test_installed_once():
    mmcv_ops.install()
    assert sys.meta_path.count(mmcv_ops.OpsFinder) == 1


ALONE = """
import importlib, multiprocessing, pathlib, sys
root = pathlib.Path({root!r})
package = root / 'mmseg_opengan'
rooms = ['mmseg_opengan.' + path.stem for path in sorted(package.iterdir())
         if path.stem[0] not in '_.' and (path.suffix == '.py' or (path / '__init__.py').exists())]
every = ['.'.join(path.relative_to(root).with_suffix('').parts)
         for path in sorted(package.rglob('*.py')) if path.stem[0] != '_']
# What takes long; none of it imports mmcv.
import torch, mmengine, cv2, scipy, sklearn.mixture, matplotlib.pyplot
assert not any(name.startswith(('mmcv', 'mmseg')) for name in sys.modules)

def load(names):
    for name in names:
        importlib.import_module(name)

context = multiprocessing.get_context('fork')
for names in [*([room] for room in rooms), every]:
    child = context.Process(target=load, args=(names,))
    child.start()
    child.join()
    if child.exitcode:
        print('FAILED', names)
print(len(rooms), len(every))
"""


def test_each_room_can_be_imported_first():
    """As a worker started by spawn does, which begins with the module of what it unpickles: that
    imports the face of its room first.
    """
    done = subprocess.run(
        [sys.executable, '-c', ALONE.format(root=str(REPO))],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert 'FAILED' not in done.stdout, done.stdout + done.stderr[-3000:]
    rooms, every = map(int, done.stdout.split())
    assert rooms > 12, done.stderr[-3000:]
    assert every > 90
