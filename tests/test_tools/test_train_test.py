"""tools/train.py and tools/test.py, and mmseg's own, on a tiny Cityscapes and a tiny HRNet.

The first training is a process as a user starts it; the other calls spare themselves the imports
and run in this one, unless there is a GPU, which a process of its own does not see. Every training
below runs the same config file, so all of them must end with the same D and G, bit for bit.
"""

import importlib.util
import io
import json
import runpy
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import mmseg
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.apis import MMSegInferencer, inference_model, init_model
from mmseg.registry import MODELS
from tiny_cityscapes import write_images
from tool_calls import REPO, environment

from mmseg_opengan.contracts import OPEN_SCORES
from mmseg_opengan.inference.inferencer import OpenSetInferencer

OURS = REPO / 'tools'
MMSEG = Path(mmseg.__file__).parent / '.mim' / 'tools'
SIZE = (64, 128)
STEPS, INTERVAL = 4, 2
calls = 0

CONFIG = """
_base_ = [{models!r}, {datasets!r}, {schedules!r}, {runtime!r}]
model = dict(
    segmentor=dict(checkpoint={segmentor!r}, config=dict(model=dict(
        backbone=dict(extra=dict(
            stage1=dict(num_blocks=(1,), num_channels=(8,)),
            stage2=dict(num_blocks=(1, 1), num_channels=(4, 8)),
            stage3=dict(num_modules=1, num_blocks=(1, 1, 1), num_channels=(4, 8, 16)),
            stage4=dict(num_modules=1, num_blocks=(1, 1, 1, 1), num_channels=(4, 8, 16, 32)))),
        decode_head=dict(in_channels=[4, 8, 16, 32], channels=60)))),
    scorers=dict(msp=dict(type='MSP')))
train_dataloader = dict(dataset=dict(
    root={bank!r}, closed=dict(data_root={world!r}, num_open_val=2), open=dict(data_root={world!r}, num_open_val=2),
    closed_per_image=200, sampler=dict(num_closed=200, num_open=100, num_fake=100)))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root={world!r}, num_open_val=2))
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root={world!r}))
train_cfg = dict(max_iters={steps}, val_interval={interval})
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval={interval}, max_keep_ckpts=-1))
"""


def start(tool, config, *arguments):
    """Run a tool as a user would, from the config's folder, and return what it prints."""
    done = subprocess.run(
        [sys.executable, tool, config, *map(str, arguments)],
        cwd=config.parent,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def call(tool, config, *arguments, options=()):
    """The same in this process; ``options`` are those of ``--cfg-options``."""
    global calls
    calls += 1
    # mmengine would give every run in a process the first one's
    name = f'visualizer.name=train_test_{calls}'
    arguments = [str(one) for one in (*arguments, '--cfg-options', name, *options)]
    if torch.cuda.is_available():
        return start(tool, config, *arguments)
    printed = io.StringIO()  # stays open: mmengine's loggers keep it
    with (
        mock.patch.object(sys, 'argv', [str(tool), str(config), *arguments]),
        redirect_stdout(printed),
        redirect_stderr(printed),
    ):
        runpy.run_path(str(tool), run_name='__main__')
    return printed.getvalue()


def report_of(root, name, *arguments, tools=OURS, options=()):
    """The report of a test of the uninterrupted training, in the work directory ``name``."""
    checkpoint = root / 'ours/iter_4.pth'
    arguments = (checkpoint, '--work-dir', root / name, *arguments)
    call(tools / 'test.py', root / 'tiny.py', *arguments, options=options)
    return json.loads((root / name / 'open_set_eval/test/metrics.json').read_text())


def weights(path):
    return torch.load(path, weights_only=True)['state_dict']


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Data, config file and a random segmentor under mmseg's published names."""
    folder = tmp_path_factory.mktemp('tools')
    write_images(folder / 'world', 5, SIZE)
    write_images(folder / 'world', 3, SIZE, folder='val')
    base = REPO / 'configs' / '_base_'
    (folder / 'tiny.py').write_text(
        CONFIG.format(
            models=str(base / 'models/opengan_fcn_hr18s.py'),
            datasets=str(base / 'datasets/cityscapes_open.py'),
            schedules=str(base / 'schedules/opengan_2k.py'),
            runtime=str(base / 'default_runtime.py'),
            segmentor=str(folder / 'segmentor.pth'),
            bank=str(folder / 'bank'),
            world=str(folder / 'world'),
            steps=STEPS,
            interval=INTERVAL,
        )
    )
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = Config.fromfile(folder / 'tiny.py').model
    plain = MODELS.build(model.segmentor.config.model)
    assert 'decode_head.conv_seg.weight' in plain.state_dict()
    torch.save(
        dict(state_dict=plain.state_dict(), meta=dict(CLASSES=('road',), PALETTE=[[0, 0, 0]])),
        folder / 'segmentor.pth',
    )
    return folder


@pytest.fixture(scope='module')
def trained(root):
    """Work directory of an uninterrupted training by our tool."""
    start(OURS / 'train.py', root / 'tiny.py', '--work-dir', root / 'ours')
    return root / 'ours'


@pytest.fixture(scope='module')
def half_trained(root, trained):
    """The same by mmseg's tool, which stops half way."""
    call(
        MMSEG / 'train.py',
        root / 'tiny.py',
        '--work-dir',
        root / 'mmseg',
        options=[f'train_cfg.max_iters={INTERVAL}'],
    )
    return root / 'mmseg'


def test_training_writes_what_a_user_looks_for(trained):
    names = {path.name for path in trained.iterdir()}
    assert {'tiny.py', 'iter_2.pth', 'iter_4.pth', 'last_checkpoint', 'open_set_eval'} <= names
    assert [name for name in names if name.startswith('best_opengan_AUROC_iter_')]
    reports = {path.name for path in (trained / 'open_set_eval/val').iterdir()}
    figures = {f'{name}.{kind}' for name in ('roc', 'density') for kind in ('png', 'pdf')}
    assert reports == {'metrics.json', 'curves.json', *figures}
    report = json.loads((trained / 'open_set_eval/val/metrics.json').read_text())
    assert (report['iteration'], report['num_images'], report['resolution']) == (
        STEPS,
        2,
        'feature',
    )
    assert (trained / 'iter_4.pth').stat().st_size < 30e6


def test_mmsegs_train_tool_trains_the_same_networks(trained, half_trained):
    assert_same(weights(half_trained / 'iter_2.pth'), weights(trained / 'iter_2.pth'))
    assert not (half_trained / 'iter_4.pth').exists()  # --cfg-options were heard


def test_resuming_ends_with_the_networks_of_an_uninterrupted_training(root, trained, half_trained):
    call(OURS / 'train.py', root / 'tiny.py', '--work-dir', half_trained, '--resume')
    assert_same(weights(half_trained / 'iter_4.pth'), weights(trained / 'iter_4.pth'))
    moments = []
    for path in (half_trained, trained):
        optimizers = torch.load(path / 'iter_4.pth', weights_only=True)['optimizer']
        moments.append(optimizers['discriminator']['state'][0]['exp_avg'])
    assert torch.equal(*moments)


def test_mmsegs_train_tool_with_amp(root, trained):
    printed = call(
        MMSEG / 'train.py',
        root / 'tiny.py',
        '--work-dir',
        root / 'amp',
        '--amp',
        options=[f'train_cfg.max_iters={INTERVAL}'],
    )
    assert '--amp on a CPU: bfloat16 autocast' in printed
    full, half = weights(trained / 'iter_2.pth'), weights(root / 'amp' / 'iter_2.pth')
    assert all(
        value.dtype == full[key].dtype and value.isfinite().all() for key, value in half.items()
    )
    assert not torch.equal(
        half['discriminator.layers.0.weight'], full['discriminator.layers.0.weight']
    )
    assert torch.allclose(
        half['discriminator.layers.0.weight'], full['discriminator.layers.0.weight'], atol=1e-3
    )


def test_both_test_tools_find_the_same(root, trained):
    found = {}
    for name, tools in (('ours', OURS), ('mmseg', MMSEG)):
        out, shown = root / f'{name}_out', root / f'{name}_pictures'
        places = ('--out', out, '--show-dir', shown)
        options = ['default_hooks.visualization.interval=1'] if name == 'mmseg' else []
        report = report_of(root, f'{name}_tested', *places, tools=tools, options=options)
        assert report['checkpoint'] == str(trained / 'iter_4.pth')
        assert report['num_images'] == 3
        pictures = {path.name: path.read_bytes() for path in shown.rglob('test_*.png')}
        assert {'test_roc_0.png', 'test_000_leftImg8bit.png_0.png'} <= pictures.keys()
        found[name] = report, pictures, {path.name: path.read_bytes() for path in out.iterdir()}
    assert found['ours'] == found['mmseg']
    names = set()
    for i in range(3):
        names |= {f'{i:03d}_leftImg8bit.{end}' for end in ('png', 'opengan.npy', 'msp.npy')}
    assert set(found['ours'][2]) == names
    scores = np.load(root / 'ours_out' / '000_leftImg8bit.opengan.npy')
    assert scores.shape == (SIZE[0] // 4, SIZE[1] // 4)


def test_both_test_tools_average_over_versions_of_an_image(root, trained):
    options = ['model.resolution=image']
    ours = report_of(root, 'ours_tta', '--tta', options=options)
    theirs = report_of(root, 'mmseg_tta', '--tta', tools=MMSEG, options=options)
    assert ours['mode'] == 'whole, test-time augmentation'
    assert ours['scorers'] == theirs['scorers']
    without = report_of(root, 'no_tta', options=options)['scorers']['opengan']
    assert without['AUROC'] != ours['scorers']['opengan']['AUROC']
    assert without['num_closed'] == ours['scorers']['opengan']['num_closed']


def test_what_augmentation_cannot_do(root, trained):
    image = ['model.resolution=image']
    with pytest.raises(ValueError, match="Use resolution='image'"):
        report_of(root, 'refused_tta', '--tta')
    options = [*image, 'tta_model.type=SegTTAModel']
    with pytest.raises(TypeError, match=r"wanted type='OpenSetTTAModel'.*found"):
        report_of(root, 'refused_tta', '--tta', options=options)
    with pytest.raises(ValueError, match=r"wanted a number with test-time augm.*'f1'"):
        report_of(root, 'refused_tta', '--tta', '--threshold', 'f1', options=image)


@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_workers_start_as_the_config_says(root, trained, method):
    """Windows and macOS spawn. A worker begins with our modules, and must be able to import
    mmseg.
    """
    bank = root / f'{method}_bank'
    options = [f'env_cfg.mp_cfg.mp_start_method={method}', f'train_dataloader.dataset.root={bank}']
    for stage in ('train', 'val', 'test'):
        options.append(f'{stage}_dataloader.num_workers=1')
        options.append(f'{stage}_dataloader.multiprocessing_context={method}')
    work_dir = root / f'{method}_training'

    def run(tool, *checkpoint):
        arguments = (*checkpoint, '--work-dir', work_dir, '--cfg-options', *options)
        start(OURS / tool, root / 'tiny.py', *arguments)

    run('train.py')  # which extracts features first
    assert_same(weights(work_dir / 'iter_4.pth'), weights(trained / 'iter_4.pth'))
    if method == 'spawn':
        run('test.py', work_dir / 'iter_4.pth')
        report = json.loads((work_dir / 'open_set_eval/test/metrics.json').read_text())
        assert report['scorers'] == report_of(root, 'plain_tested')['scorers']


def test_resuming_after_a_kill_ends_with_the_same_networks(root, trained):
    """kill -9 as soon as the first checkpoint lies there, then --resume."""
    work_dir = root / 'killed'
    command = [sys.executable, OURS / 'train.py', root / 'tiny.py', '--work-dir', work_dir]
    with subprocess.Popen(
        command, cwd=root, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 300
        while not (work_dir / 'last_checkpoint').exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (work_dir / 'iter_4.pth').exists()
    start(OURS / 'train.py', root / 'tiny.py', '--work-dir', work_dir, '--resume')
    assert_same(weights(work_dir / 'iter_4.pth'), weights(trained / 'iter_4.pth'))
    best = [{path.name for path in folder.glob('best_*')} for folder in (work_dir, trained)]
    assert best[0] == best[1]


def test_mmsegs_own_inference(root, trained):
    image = sorted((root / 'world/leftImg8bit/val').rglob('*.png'))[0]
    wanted = OpenSetInferencer(root / 'tiny.py', trained / 'iter_4.pth', device='cpu')(
        str(image), show_progress=False
    )
    model = init_model(
        str(root / 'tiny.py'),
        str(trained / 'iter_4.pth'),
        device='cpu',
        cfg_options={'model.resolution': 'image'},
    )
    found = inference_model(model, str(image))
    assert np.array_equal(found.pred_sem_seg.data[0], wanted[0].labels)
    for name, scores in wanted[0].scores.items():
        assert np.array_equal(found.get(OPEN_SCORES).get(name)[0], scores)
    inferencer = MMSegInferencer(str(root / 'tiny.py'), str(trained / 'iter_4.pth'), device='cpu')
    with redirect_stdout(io.StringIO()):
        labels = inferencer(str(image), out_dir=str(root / 'mmseg_inferencer'))['predictions']
    assert np.array_equal(labels, wanted[0].labels)


@pytest.mark.skipif(
    importlib.util.find_spec('mim') is None, reason='openmim is not installed: pip install openmim'
)
def test_mim_trains_and_tests_the_same(root, trained):
    """``mim train mmseg CONFIG`` runs mmseg's own tool."""
    mim = Path(importlib.util.find_spec('mim').origin).parents[1]
    for words in (
        ['train', 'mmseg', root / 'tiny.py', '--gpus', '0', '--work-dir', root / 'mim'],
        [
            'test',
            'mmseg',
            root / 'tiny.py',
            '--gpus',
            '0',
            '--checkpoint',
            root / 'mim' / 'iter_4.pth',
            '--work-dir',
            root / 'mim_tested',
        ],
    ):
        done = subprocess.run(
            [sys.executable, '-m', 'mim', *map(str, words)],
            cwd=root,
            env=environment(REPO, mim),
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert_same(weights(root / 'mim' / 'iter_4.pth'), weights(trained / 'iter_4.pth'))
    assert (root / 'mim_tested/open_set_eval/test/metrics.json').is_file()
