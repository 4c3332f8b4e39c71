"""Every command and every Python block of the README, and those of two pages of docs, run in their
order on tiny data; what takes long, in a short form.

The folder in which they run has ``configs``, ``tools`` and data where the pages say that they lie.
"""

import copy
import glob
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import mmseg
import numpy as np
import pytest
import tiny_camvid
import torch
from mmengine.config import Config
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from tiny_cityscapes import write_images

from demo import run as demo
from mmseg_opengan import register
from mmseg_opengan.models.frozen_segmentor import FrozenSegmentor

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for folder in ('.', 'docs', 'configs/*', '.github', '.github/*')
    for path in sorted(ROOT.glob(f'{folder}/*.md'))
}
README = PAGES['README.md']
TESTED = (
    'A score with no training',
    'Your own model',
    'Use the scores',
    'Results on real photographs',
    'Install',
    'Demo',
    'Your data',
)
STAGES = {
    1: ([1], [8]),
    2: ([1, 1], [4, 8]),
    3: ([1, 1, 1], [4, 8, 16]),
    4: ([1, 1, 1, 1], [4, 8, 16, 32]),
}
# An HRNet and a schedule so small that a command takes seconds.
PLAIN = 'model.segmentor.config.model'
NETWORK = {
    f'{PLAIN}.backbone.extra.stage{i}.{key}': value
    for i, (blocks, channels) in STAGES.items()
    for key, value in (('num_blocks', blocks), ('num_channels', channels), ('num_modules', 1))
}
NETWORK |= {f'{PLAIN}.decode_head.in_channels': [4, 8, 16, 32], f'{PLAIN}.decode_head.channels': 60}
SCHEDULE = {
    'train_cfg.max_iters': 2,
    'train_cfg.val_interval': 2,
    'train_dataloader.dataset.closed_per_image': 50,
    'train_dataloader.dataset.sampler.num_closed': 100,
    # two steps move D so far that scores have a range, of which an export's check is a share
    'optim_wrapper.discriminator.optimizer.lr': 0.01,
}
WORKERS = {
    f'{stage}_dataloader.{key}': value
    for stage in ('val', 'test')
    for key, value in (('num_workers', 0), ('persistent_workers', False))
}


def sections(page: str) -> dict[str, str]:
    return dict(re.findall(r'^## (.+?)\n(.*?)(?=^## |\Z)', PAGES[page], re.M | re.S))


def blocks(section: str, language: str, page: str = 'README.md') -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```', sections(page)[section], re.M | re.S)


def options(name: str, *parts: dict) -> list[str]:
    """As arguments. Each run in this process has a visualizer of its own name."""
    found = {key: value for part in parts for key, value in part.items()} | {
        'visualizer.name': f'readme_{name}'
    }
    return [
        '--cfg-options',
        *(f'{key}={str(value).replace(" ", "")}' for key, value in found.items()),
    ]


def run(monkeypatch, command: str, *arguments) -> dict:
    """A ``python tools/...`` command with further arguments, in this process; what the tool
    defines.
    """
    python, *words = shlex.split(command)
    assert python == 'python'
    words = [
        match for word in words for match in (sorted(glob.glob(word)) or [word])
    ]  # as a shell does
    monkeypatch.setattr(sys, 'argv', [*words, *map(str, arguments)])
    return runpy.run_path(words[0], run_name='__main__')


def write_segmentor(path, config, cfg_options: dict) -> None:
    """Random weights, under mmseg's published names, of the segmentor that a config holds, or of a
    plain config.
    """
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(
        {key: value for key, value in cfg_options.items() if key.startswith('model.')}
    )
    held = cfg.model.get('segmentor')
    torch.manual_seed(0)
    plain = FrozenSegmentor(cfg if held is None else held.config).network
    torch.save(dict(state_dict=plain.state_dict()), path)


def write_own_segmentor(folder) -> None:
    """A user's ``my_segmentor.py``, on a config of mmseg that has an auxiliary head, and its
    weights.
    """
    base = (
        Path(mmseg.__file__).parent / '.mim/configs/fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py'
    )
    (folder / 'my_segmentor.py').write_text(
        f'_base_ = {str(base)!r}\n'
        'model = dict(\n'
        '    backbone=dict(depth=18, stem_channels=8, base_channels=4),\n'
        '    decode_head=dict(in_channels=32, channels=16),\n'
        '    auxiliary_head=dict(in_channels=16, channels=8),\n'
        ')\n'
    )
    write_segmentor('my_segmentor.pth', 'my_segmentor.py', {})
    street = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    cv2.imwrite('street.jpg', street)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """What the README expects around it."""
    folder = tmp_path_factory.mktemp('readme')
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    for split, count in (('train', 12), ('val', 3)):
        write_images(folder / 'data/cityscapes', count, (64, 128), folder=split)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    for name in ('CITYSCAPES_ROOT', 'CAMVID_ROOT', 'CAMVID_SEGMENTOR'):
        monkeypatch.delenv(name, raising=False)
    return place


def test_every_block_lies_in_a_section_that_is_tested():
    with_blocks = [
        title for title, body in sections('README.md').items() if re.search(r'^```\w', body, re.M)
    ]
    assert with_blocks == list(TESTED)
    assert not re.search(r'^```\w', README[: README.index('\n## ')], re.M)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 130


@pytest.mark.parametrize(
    ('page', 'section', 'wanted'),
    [
        ('README.md', 'Demo', ['make demo']),
        ('CONTRIBUTING.md', 'Set up and check', ['make test', 'make lint']),
    ],
)
def test_make_commands_name_files_that_exist(page, section, wanted):
    text = '\n'.join(blocks(section, 'bash', page))
    assert re.findall(r'^make .+$', text, re.M) == wanted
    for command in wanted:
        dry = subprocess.run(
            [*command.split(), '--dry-run', 'VENV=none'],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for file in re.findall(r'[\w/-]+\.(?:py|txt)\b', dry):
            assert (ROOT / file).is_file(), (command, file)


def test_make_demo(here, monkeypatch):
    # The demo itself, in its quick form, runs in test_demo/test_run.py.
    ran = []
    monkeypatch.setattr(
        demo, 'run_demo', lambda configs, out, **kwargs: ran.append((configs, out, kwargs))
    )
    monkeypatch.setattr(sys, 'argv', ['demo'])
    runpy.run_module('demo', run_name='__main__')
    [(configs, out, kwargs)] = ran
    assert kwargs == dict(settings=demo.DemoSettings(), fresh=False)
    assert (configs / 'opengan_demo.py').is_file()
    assert f'`{out}/{demo.PICTURES}`' in sections('README.md')['Demo']


def test_installation_agrees_with_setup_and_requirements():
    setup = (ROOT / 'setup.py').read_text()
    [block] = blocks('Install', 'bash')
    mmcv, ours = block.splitlines()
    *command, requirement = shlex.split(mmcv)
    [(low, beyond)] = [bounds for name, _, *bounds in register._BOUNDS if name == 'mmcv']
    assert command == ['pip', 'install']
    assert Requirement(requirement).name == 'mmcv-lite'
    assert Requirement(requirement).specifier == SpecifierSet(f'>={low},<{beyond}')

    assert ours == 'pip install ".[mmseg]"'
    assert "'mmseg': requirements('requirements-mmseg.txt')" in setup
    assert "python_requires='>=3.10,<3.13'" in setup
    assert 'Python 3.10 to 3.12' in sections('README.md')['Install']
    core, with_mmseg, pinned = (
        [
            Requirement(line)
            for line in (ROOT / name).read_text().splitlines()
            if line and line[0] != '#'
        ]
        for name in ('requirements.txt', 'requirements-mmseg.txt', 'requirements-pinned.txt')
    )
    pinned = {one.name: next(iter(one.specifier)).version for one in pinned}
    for one in core + with_mmseg:
        assert one.specifier.contains(pinned[one.name]), one
    assert Requirement(requirement).specifier.contains(pinned['mmcv-lite'])


def test_data_of_ones_own(here, monkeypatch):
    """Tiny images in the README's folders, with its file of ids."""
    [ids] = blocks('Your data', 'yaml')
    random = np.random.default_rng(0)
    for split in ('train', 'open_val', 'val'):
        for kind in ('images', 'labels'):
            (here / f'data/mine/{kind}/{split}').mkdir(parents=True)
        for i in range(2):
            image = random.integers(0, 256, (32, 64, 3), np.uint8)
            cv2.imwrite(str(here / f'data/mine/images/{split}/{i}.jpg'), image)
            label = random.choice([0, 1, 7, 8, 255], (4, 8)).astype(np.uint8).repeat(8, 0)
            cv2.imwrite(str(here / f'data/mine/labels/{split}/{i}.png'), label.repeat(8, 1))
    (here / 'data/mine/ids.yaml').write_text(ids)
    plain = copy.deepcopy(tiny_camvid.PLAIN)
    plain['decode_head']['num_classes'] = 2
    (here / 'two_classes.py').write_text(f'model = {plain!r}\n')
    write_segmentor('two_classes.pth', 'two_classes.py', {})
    [base] = re.findall(r"`(_base_ = '.+?')`", sections('README.md')['Your data'])
    [config] = blocks('Your own model', 'python')
    own = re.sub(r'^_base_ = .*$', base, config, flags=re.M)
    (here / 'my_data.py').write_text(own.replace('my_segmentor', 'two_classes'))
    run(monkeypatch, 'python tools/train.py my_data.py', *options('data', SCHEDULE, WORKERS))
    [report] = (here / 'work_dirs/my_data').glob('open_set_eval/val/metrics.json')
    numbers = json.loads(report.read_text())['scorers']['opengan']
    assert set(numbers['per_class']) == {'animal', 'debris'}
    assert numbers['num_closed'] + numbers['num_open'] < 2 * 8 * 16


def test_cityscapes_commands(here, monkeypatch):
    train, test, visualize = blocks('Commands', 'bash', 'docs/cityscapes.md')
    config = shlex.split(train)[2]
    short = NETWORK | SCHEDULE | WORKERS | {'model.segmentor.checkpoint': 'segmentor.pth'}
    write_segmentor('segmentor.pth', config, NETWORK)
    run(monkeypatch, train, *options('train', short))
    run(monkeypatch, test, *options('test', short))
    report = json.loads(
        (here / 'work_dirs' / Path(config).stem / 'open_set_eval/test/metrics.json').read_text()
    )
    assert (report['num_images'], report['label_policy'], report['resolution']) == (
        3,
        'cityscapes/paper',
        'feature',
    )
    run(monkeypatch, visualize, *options('visualize', short))
    out = Path(shlex.split(visualize)[-1])
    assert len(list(out.rglob('*.panel.png'))) == 3


def test_a_score_with_no_training(here, monkeypatch):
    write_own_segmentor(here)
    [from_python] = blocks('A score with no training', 'python')
    found = {}
    exec(from_python, found)
    result = found['result']
    assert set(result.scores) == {'energy', 'gen'}
    assert result.labels.shape == result.scores['energy'].shape == (64, 128)
    assert found['inferencer'].classes[0] == 'road'  # of the config's data set
    *_, visualize = blocks('Look', 'bash', 'docs/getting_started.md')
    run(monkeypatch, visualize)
    assert (here / 'work_dirs/pictures/street.panel.png').is_file()
    assert (here / 'work_dirs/pictures/street.energy.npy').is_file()


def test_a_model_of_ones_own(here, monkeypatch):
    [config] = blocks('Your own model', 'python')
    from_python = blocks('Thresholds', 'python', 'docs/using_scores.md')[0]
    (name,) = re.match(r'# (\w+\.py)\n', config).groups()
    (here / name).write_text(config)
    write_own_segmentor(here)
    [block] = blocks('Your own model', 'bash')
    train, test, visualize = block.splitlines()
    run(monkeypatch, train, *options('own', SCHEDULE, WORKERS))
    run(monkeypatch, test, *options('own_test', WORKERS))
    run(monkeypatch, visualize, *options('own_visualize', WORKERS))
    out = here / shlex.split(visualize)[-1]
    assert len(list(out.rglob('*.panel.png'))) == 3

    [best] = (here / 'work_dirs' / Path(name).stem).glob('best_opengan_AUROC_iter_*.pth')
    [named] = re.findall(r"'(work_dirs/.+?\.pth)'", from_python)
    assert re.sub(r'\d+', '', named) == re.sub(r'\d+', '', str(best.relative_to(here)))
    [without] = re.findall(
        r'`(python tools/train.py .+? --segmentor .+?)`', PAGES['docs/getting_started.md']
    )
    run(
        monkeypatch,
        without,
        '--work-dir',
        'work_dirs/no_file',
        *options('no_file', SCHEDULE, WORKERS),
    )
    [same] = (here / 'work_dirs/no_file').glob('best_opengan_AUROC_iter_*.pth')
    one, other = (torch.load(path, weights_only=True)['state_dict'] for path in (best, same))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    (here / 'street').mkdir()
    shutil.copy(here / 'street.jpg', here / 'street/frame.jpg')
    shutil.copy(best, here / 'best.pth')
    [block] = blocks('Use the scores', 'bash')
    visualize, find, bundle, export = block.splitlines()
    run(monkeypatch, visualize)
    assert {path.name for path in (here / 'work_dirs/maps').glob('frame.*')} >= {
        'frame.unknown.png',
        'frame.overlay.png',
    }
    run(monkeypatch, find)
    assert json.loads((here / 'work_dirs/found/objects.coco.json').read_text())['images']
    run(monkeypatch, bundle)
    pytest.importorskip('onnxruntime')
    run(monkeypatch, export)
    assert (here / 'work_dirs/model.onnx').is_file()

    best.replace(here / named)
    found = {}
    exec(from_python, found)
    result = found['result']
    assert result.labels.shape == result.scores['opengan'].shape == (64, 128)
    assert set(result.scores) == {'opengan', 'msp', 'entropy'}
    assert result.picture.shape[1:] == (1200, 3)
    assert found['is_open'].shape == (64, 128)
    assert found['is_open'].dtype == bool


def test_the_commands_behind_the_table(here, monkeypatch):
    [block] = blocks('Results on real photographs', 'bash')
    assert block in blocks('A trained score beside a free one', 'bash', 'docs/results.md')
    train, test = block.splitlines()
    root = tiny_camvid.write_images(here / 'camvid')
    for split, frames in dict(
        closed_train='ac', open_train='c', open_val='a', test='ac'
    ).items():  # of one size
        (root / f'splits/{split}.txt').write_text('\n'.join(frames))
    monkeypatch.setenv('CAMVID_ROOT', str(root))
    monkeypatch.setenv('CAMVID_SEGMENTOR', 'camvid.pth')
    write_segmentor('camvid.pth', 'configs/opengan/opengan_hr18s_camvid.py', NETWORK)
    command, name_options = train.split(' --cfg-options ')
    [option] = shlex.split(name_options)
    run(monkeypatch, command, *options('table', NETWORK, SCHEDULE, WORKERS), option)
    run(monkeypatch, test, *options('table_test', NETWORK, WORKERS))

    def tested(name):
        path = here / 'work_dirs' / name / 'open_set_eval/test/metrics.json'
        return json.loads(path.read_text())

    report = tested('opengan-fused_hr18s_camvid')
    assert set(report['scorers']) == {'opengan', 'hybrid', 'msp', 'entropy'}
    assert (report['label_policy'], report['resolution']) == ('camvid', 'feature')

    # D of that training, fused afterwards
    [best] = (here / 'work_dirs/opengan-fused_hr18s_camvid').glob('best_*.pth')
    monkeypatch.setenv('OPENGAN_CHECKPOINT', str(best))
    page = 'docs/method_options.md'
    fit, test = blocks('A trained score beside a free one', 'bash', page)
    for name, command in (('fit', fit), ('fitted_test', test)):
        _, command = command.split(' ', 1)  # behind OPENGAN_CHECKPOINT=...
        schedule = SCHEDULE if name == 'fit' else {}
        run(monkeypatch, command.strip(), *options(name, NETWORK, schedule, WORKERS))
    fitted = {'energy', 'gen', 'react', 'trained', 'hybrid_gen', 'hybrid'}
    assert set(tested('hybrid_hr18s_camvid')['scorers']) == fitted | {'msp', 'entropy'}
