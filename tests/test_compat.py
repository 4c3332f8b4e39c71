"""Safe loading of every checkpoint the OpenMMLab stack writes."""

import builtins
import os
import pickle
import platform
import subprocess
import sys
import types
from collections import OrderedDict

import mmengine
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import CheckpointLoader, load_checkpoint

from mmseg_opengan import compat


def load(path, **options):
    return CheckpointLoader.load_checkpoint(str(path), **options)


def test_install_more_than_once():
    compat.install()
    compat.install()
    assert CheckpointLoader._schemes[''] is compat.load_checkpoint_file


FAULTS = """
import resource, torch
from mmseg_opengan.compat import keep_freed_memory
print(keep_freed_memory())
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(5000, 4096)  # 20,000 pages of 4 KiB
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='a setting of glibc')
@pytest.mark.parametrize('set_by_user', [False, True])
def test_memory_of_freed_tensors_is_kept_unless_the_user_has_set_it(set_by_user):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith('MALLOC_')
    }
    if set_by_user:
        environment['MALLOC_TRIM_THRESHOLD_'] = '131072'
    printed = subprocess.run(
        [sys.executable, '-c', FAULTS], env=environment, check=True, stdout=subprocess.PIPE
    )
    done, *faults = printed.stdout.decode().split()
    assert done == str(not set_by_user)
    if set_by_user:
        assert min(map(int, faults)) > 100  # however large a page is
    else:
        assert int(faults[-1]) < 20


# ------------------------------------------------------------------ checkpoints that load


def test_mmengine_training_checkpoint(tmp_path):
    """History buffers, numpy scalars and arrays, optimizer state, config text: what
    Runner.save_checkpoint writes.
    """
    hub = MessageHub.get_instance('test_compat')
    for step in range(5):
        hub.update_scalar('train/loss', torch.tensor(float(step)))
        hub.update_scalar('train/lr', np.float64(0.1 * step))
    hub.update_info('iter', np.int64(5))
    hub.update_info('best', np.float32(0.5))
    hub.update_info('palette', np.arange(6, dtype=np.uint8).reshape(2, 3))
    hub.update_info('counts', np.arange(3))
    hub.update_info('done', np.bool_(True))
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])
    path = tmp_path / 'iter_5.pth'
    torch.save(
        dict(
            meta=dict(
                epoch=0,
                iter=5,
                cfg='model = dict()',
                seed=0,
                mmengine_version=mmengine.__version__,
                dataset_meta=dict(classes=('a',), palette=[[0, 0, 0]]),
            ),
            state_dict=OrderedDict(weight=torch.ones(2)),
            message_hub=hub.state_dict(),
            optimizer=optimizer.state_dict(),
            param_schedulers=[dict(last_step=3)],
        ),
        path,
    )
    checkpoint = load(path)
    buffer = checkpoint['message_hub']['log_scalars']['train/loss']
    assert isinstance(buffer, HistoryBuffer)
    assert buffer.mean() == 2
    assert buffer.statistics('current') == 4
    info = checkpoint['message_hub']['runtime_info']
    assert (info['iter'], info['best'], info['done']) == (5, 0.5, True)
    assert info['palette'].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert info['counts'].tolist() == [0, 1, 2]


def test_published_checkpoint_of_the_0_x_series(tmp_path):
    """CLASSES and PALETTE lists, mmseg_version and env_info, as the model zoo's files have them."""
    path = tmp_path / 'fcn_hr48.pth'
    meta = dict(
        env_info='sys.platform: linux\nPyTorch: 1.5.0',
        mmseg_version='0.5.0+1',
        config='norm_cfg = dict()\n',
        seed=0,
        exp_name='fcn.py',
        epoch=1,
        iter=160000,
        hook_msgs=dict(last_ckpt='a'),
        CLASSES=('road', 'sidewalk'),
        PALETTE=[[128, 64, 128], [244, 35, 232]],
    )
    torch.save(
        dict(
            meta=meta,
            state_dict=OrderedDict(weight=torch.ones(2, 2), bias=torch.zeros(2)),
            optimizer=dict(),
        ),
        path,
        _use_new_zipfile_serialization=False,
    )
    module = torch.nn.Linear(2, 2)
    assert load_checkpoint(module, str(path), map_location='cpu', strict=True)['meta'] == meta
    assert torch.equal(module.weight, torch.ones(2, 2))


def test_a_state_dict_alone(tmp_path):
    torch.save(dict(weight=torch.ones(2)), tmp_path / 'w.pth')
    assert load(tmp_path / 'w.pth')['weight'].tolist() == [1, 1]


def test_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    torch.save(dict(weight=torch.ones(2)), tmp_path / 'w.pth')
    assert 'weight' in load('~/w.pth')


# ------------------------------------------------------------------ checkpoints that are refused


class Payload:
    """Unpickling it would run a shell command."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.system, (f'touch {self.target}',)


@pytest.mark.parametrize('new_format', [True, False])
def test_a_checkpoint_that_carries_code_is_refused_and_does_not_run(tmp_path, new_format):
    path, sign = tmp_path / 'evil.pth', tmp_path / 'ran'
    torch.save(
        dict(meta=Payload(sign), state_dict=dict(weight=torch.ones(2))),
        path,
        _use_new_zipfile_serialization=new_format,
    )
    with pytest.raises(
        RuntimeError,
        match=r"evil\.pth' holds more than tensors.*system.*save only its 'state_dict'",
    ):
        load(path)
    with pytest.raises(RuntimeError, match='was refused'):
        load_checkpoint(torch.nn.Linear(2, 2), str(path))
    assert not sign.exists()
    torch.load(path, weights_only=False)  # the test's own payload works
    assert sign.exists()


class Getattr:
    """Reaches for an attribute through the name under which HistoryBuffer's methods are pickled."""

    def __init__(self, owner, name):
        self.arguments = owner, name

    def __reduce__(self):
        return builtins.getattr, self.arguments


@pytest.mark.parametrize(
    'arguments',
    [
        (HistoryBuffer, '__globals__'),
        (OrderedDict, 'mean'),
    ],
)
def test_getattr_is_allowed_for_the_statistics_of_history_buffers_only(tmp_path, arguments):
    path = tmp_path / 'getattr.pth'
    torch.save(dict(meta=Getattr(*arguments)), path)
    with pytest.raises(RuntimeError, match=r"getattr\.pth' holds more than tensors"):
        load(path)
    for name in ('min', 'max', 'current', 'mean'):
        torch.save(dict(meta=Getattr(HistoryBuffer, name)), path)
        assert load(path)['meta'] is getattr(HistoryBuffer, name)


@pytest.mark.parametrize(
    ('content', 'found'),
    [
        (b'', 'an empty file'),
        (b'<!DOCTYPE html><html>404</html>', 'a web page'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'git lfs pull'),
        ((8).to_bytes(8, 'little') + b'{"a":{}}' + b'0' * 9, 'a safetensors file'),
        (b'hello world', 'Is it complete'),
        (pickle.dumps(dict(a=1), protocol=2)[:10], 'Is it complete'),
    ],
)
def test_a_file_that_is_no_checkpoint(tmp_path, content, found):
    path = tmp_path / 'broken.pth'
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match=rf'broken\.pth.*{found}') as error:
        load(path)
    assert 'run code' not in str(error.value)


def test_a_flipped_bit_is_an_error_or_changes_nothing(tmp_path):
    path = tmp_path / 'flipped.pth'
    torch.save(dict(weight=torch.arange(16.0), step=3), path)
    whole, errors = path.read_bytes(), []
    for i in range(0, len(whole), 7):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        try:
            found = load(path)
        except RuntimeError as error:
            errors.append(str(error))
        else:
            assert found['weight'].equal(torch.arange(16.0))
            assert found['step'] == 3
    assert len(errors) > 50
    assert all('flipped.pth' in error for error in errors)


def test_a_checkpoint_that_was_cut_off(tmp_path):
    path = tmp_path / 'cut.pth'
    torch.save(dict(weight=torch.ones(1000)), path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(RuntimeError, match=r"cut\.pth': wanted a checkpoint.*Is it complete"):
        load(path)


def test_a_missing_file():
    with pytest.raises(FileNotFoundError, match=r"Checkpoint 'nowhere/a\.pth' does not exist"):
        load('nowhere/a.pth')


# ------------------------------------------------------------------ downloads


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Files by name; "downloads" them into a hub folder of its own and lists what was asked for."""
    files, asked = {}, []

    def download(url, target, progress=True):
        asked.append(url)
        torch.save(files[url.rsplit('/', 1)[-1].split('?')[0]], target)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    return types.SimpleNamespace(
        files=files,
        asked=asked,
        folder=tmp_path / 'hub' / 'checkpoints',
    )


def test_a_download_is_kept_and_loaded(server):
    server.files['a.pth'] = dict(weight=torch.ones(2))
    for _ in range(2):
        assert load('http://host/a.pth?key=1', map_location='cpu')['weight'].tolist() == [1, 1]
    assert server.asked == ['http://host/a.pth?key=1']
    assert (server.folder / 'a.pth').is_file()


@pytest.mark.parametrize('rank', ['0', '1'])
def test_a_download_in_a_distributed_process(server, tmp_path, monkeypatch, rank):
    """Of a node's processes, that of local rank 0 downloads; mmengine's own question for it fails
    in a plain group.
    """
    server.files['a.pth'] = dict(weight=torch.ones(2))
    monkeypatch.setenv('LOCAL_RANK', rank)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/meet', rank=0, world_size=1
    )
    try:
        if rank == '1':
            server.folder.mkdir(parents=True)
            torch.save(server.files['a.pth'], server.folder / 'a.pth')
        assert load('https://host/a.pth', map_location='cpu')['weight'].tolist() == [1, 1]
    finally:
        torch.distributed.destroy_process_group()
    assert len(server.asked) == (rank == '0')


def test_a_download_that_carries_code_is_refused_and_does_not_run(server, tmp_path):
    server.files['evil.pth'] = dict(meta=Payload(tmp_path / 'ran'))
    with pytest.raises(RuntimeError, match=r"evil\.pth' holds more than tensors"):
        load('https://host/evil.pth')
    assert not (tmp_path / 'ran').exists()
