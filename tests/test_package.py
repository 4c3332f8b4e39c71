"""The wheel, what it holds, and how it runs where there is no checkout."""

import ast
import json
import os
import runpy
import subprocess
import sys
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import mmseg
import pytest
import torch
from mmengine.config import Config
from packaging.requirements import Requirement
from test_tools.test_train_test import CONFIG, SIZE
from tiny_cityscapes import write_images

from mmseg_opengan import __version__, cli, register
from mmseg_opengan.models.frozen_segmentor import FrozenSegmentor, read_config
from mmseg_opengan.shipped import read_config_file, shipped_config

ROOT = Path(__file__).resolve().parents[1]
#: Modules whose distribution has another name.
DISTRIBUTIONS = {
    'cv2': 'opencv-python',
    'sklearn': 'scikit-learn',
    'yaml': 'pyyaml',
    'PIL': 'pillow',
    'mmseg': 'mmsegmentation',
}
#: Imported and in no list: the user chooses mmcv or mmcv-lite; yapf comes with mmengine.
UNDECLARED = {'mmcv', 'yapf'}
#: Declared by an extra of its own: imported where the extra's tool runs.
EXTRAS = {'onnxruntime', 'h5py', 'fiftyone'}
#: Declared and not imported here: mmsegmentation imports them and does not declare them.
FOR_MMSEG = {'ftfy', 'regex'}
BASE = 'mmseg_opengan::opengan/opengan_hr18s_cityscapes.py'


def pip(*arguments) -> None:
    subprocess.run(
        [sys.executable, '-m', 'pip', *map(str, arguments), '--quiet', '--no-index', '--no-deps'],
        check=True,
        env={key: value for key, value in os.environ.items() if key != 'PYTHONPATH'},
    )


def build_outputs() -> set[Path]:
    patterns = ('build', 'dist', '*.egg-info', 'mmseg_opengan/.*')
    return {path for pattern in patterns for path in ROOT.glob(pattern)}


@pytest.fixture(scope='module')
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('wheel')
    before = build_outputs()
    pip('wheel', ROOT, '--no-build-isolation', '--wheel-dir', folder)
    assert build_outputs() == before  # nothing is left in the checkout
    [found] = folder.glob('*.whl')
    return found


def content(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_content_of_the_wheel(wheel):
    tracked = {
        str(path.relative_to(ROOT))
        for name in ('mmseg_opengan', 'configs', 'tools')
        for path in (ROOT / name).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }
    ours = {name for name in tracked if name.startswith('mmseg_opengan/')}
    mim = {f'mmseg_opengan/.mim/{name}' for name in {*tracked, 'model-index.yml'} - ours}
    found = {name for name in content(wheel) if '.dist-info/' not in name}
    assert found == ours | mim
    assert 'mmseg_opengan/py.typed' in found


def test_metadata_of_the_wheel(wheel):
    folder = f'mmseg_opengan-{__version__}.dist-info'
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_bytes(archive.read(f'{folder}/METADATA'))
        scripts = archive.read(f'{folder}/entry_points.txt').decode()
    assert (metadata['Name'], metadata['Version']) == ('mmseg-opengan', __version__)
    wanted = [Requirement(line) for line in metadata.get_all('Requires-Dist')]
    always = {one.name for one in wanted if one.marker is None}
    # The forks have the same modules under other names, so an install must not bring these.
    assert not always & {'mmsegmentation', 'mmengine', 'mmcv', 'mmcv-lite'}
    with_mmseg = {
        one.name for one in wanted if one.marker and one.marker.evaluate({'extra': 'mmseg'})
    }
    assert with_mmseg == {'mmsegmentation', 'mmengine'} | FOR_MMSEG
    for extra, names in (('export', {'onnx', 'onnxscript', 'onnxruntime'}), ('smiyc', {'h5py'})):
        marked = [one for one in wanted if one.marker]
        assert {one.name for one in marked if one.marker.evaluate({'extra': extra})} == names
    assert 'mmseg-opengan = mmseg_opengan.cli:main' in scripts


def imported_distributions() -> set[str]:
    found = set()
    for folder in ('mmseg_opengan', 'tools'):
        for path in (ROOT / folder).rglob('*.py'):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split('.')[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    found.add(node.module.split('.')[0])
    found -= {*sys.stdlib_module_names, 'mmseg_opengan'}
    return {DISTRIBUTIONS.get(name, name) for name in found}


def test_what_is_imported_is_declared():
    declared = set()
    for name in ('requirements.txt', 'requirements-mmseg.txt'):
        lines = (ROOT / name).read_text().splitlines()
        declared |= {Requirement(line).name for line in lines if line and line[0] != '#'}
    assert imported_distributions() - UNDECLARED - EXTRAS == declared - FOR_MMSEG


def test_an_sdist_gives_the_same_wheel(wheel, tmp_path):
    build = f'import setuptools.build_meta as backend; backend.build_sdist({str(tmp_path)!r})'
    subprocess.run(
        [sys.executable, '-c', build],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [sdist] = tmp_path.glob('*.tar.gz')
    pip('wheel', sdist, '--no-build-isolation', '--wheel-dir', tmp_path)
    [other] = tmp_path.glob('*.whl')
    assert content(other) == content(wheel)


def test_every_tool_is_a_command(capsys, monkeypatch):
    tools = {path.stem.replace('_', '-') for path in (ROOT / 'tools').glob('*.py')}
    assert set(cli.COMMANDS) == tools
    monkeypatch.setattr(sys, 'argv', ['mmseg-opengan', 'trian'])
    with pytest.raises(SystemExit, match=r"wanted one of train, test, .*, found 'trian'"):
        cli.main()
    for arguments in ([], ['-h'], ['--help']):
        monkeypatch.setattr(sys, 'argv', ['mmseg-opengan', *arguments])
        cli.main()
        lines = capsys.readouterr().out.splitlines()
        commands = {line.split()[0] for line in lines if line.startswith('  ')}
        assert commands == tools


def test_bases_of_packages(tmp_path):
    mmengines = Config._get_cfg_path
    (tmp_path / 'ours.py').write_text(f'_base_ = {BASE!r}')
    found = read_config_file(tmp_path / 'ours.py')
    wanted = Config.fromfile(ROOT / 'configs/opengan/opengan_hr18s_cityscapes.py')
    assert found.to_dict() == wanted.to_dict()
    (tmp_path / 'theirs.py').write_text(
        "_base_ = 'mmseg::hrnet/fcn_hr18s_4xb2-40k_cityscapes-512x1024.py'"
    )
    assert read_config_file(tmp_path / 'theirs.py').model.decode_head.type == 'FCNHead'
    assert Config._get_cfg_path is mmengines  # mmengine is as it was
    # model.segmentor.config is found in the same way
    assert (
        read_config('mmseg_opengan::demo/closed_hr_small.py')['model']['type'] == 'EncoderDecoder'
    )
    with pytest.raises(FileNotFoundError, match='wanted a config file, found nothing at'):
        shipped_config('mmseg_opengan::opengan/absent.py')
    with pytest.raises(FileNotFoundError, match="found no package 'nopackage'"):
        shipped_config('nopackage::a.py')


def test_bounds_of_the_forks(monkeypatch):
    """onedl-mmsegmentation and its companions have versions that the original never had."""
    monkeypatch.setattr(register, 'version', lambda name: 'of another mmseg')
    assert register._bounds() == register._BOUNDS
    monkeypatch.setattr(register, 'version', lambda name: mmseg.__version__)
    assert register._bounds() == register._FORK_BOUNDS
    bounds = (('onedl-mmcv', '2.3.6', '2.3.0', '3.0.0'), ('torch', '2.13.0+cpu', '2.6.0', None))
    register._check(bounds)
    with pytest.raises(ImportError, match=r'wanted mmcv >= 2\.0\.0, < 2\.2\.0, found 2\.3\.6'):
        register._check([('mmcv', '2.3.6', '2.0.0', '2.2.0')])


# ----------------------------------------------------------------------------------------------
# installed


@pytest.fixture(scope='module')
def environment(wheel, tmp_path_factory) -> Path:
    """A virtual environment with the wheel, which sees the packages that are installed here.

    A line in a .pth file adds a folder without running that folder's own .pth files, so an
    editable install of the checkout is not seen. Nor is setuptools' own, by which mmengine finds
    distutils from Python 3.12 on; its line is repeated.
    """
    folder = tmp_path_factory.mktemp('environment')
    venv.create(folder)
    pip('--python', folder / 'bin/python', 'install', wheel)
    [site] = folder.glob('lib/python*/site-packages')
    current = [path for path in sys.path if path.endswith('site-packages')]
    distutils = 'import _distutils_hack; _distutils_hack.add_shim()'
    (site / 'packages_of_the_tests.pth').write_text('\n'.join([*current, distutils]))
    return folder


@pytest.fixture(scope='module')
def place(tmp_path_factory) -> Path:
    """Tiny data, a random segmentor, and a config on a base of the installed package."""
    folder = tmp_path_factory.mktemp('place')
    write_images(folder / 'world', 5, SIZE)
    write_images(folder / 'world', 3, SIZE, folder='val')
    base = 'mmseg_opengan::_base_/'
    text = CONFIG.format(
        models=base + 'models/opengan_fcn_hr18s.py',
        datasets=base + 'datasets/cityscapes_open.py',
        schedules=base + 'schedules/opengan_2k.py',
        runtime=base + 'default_runtime.py',
        segmentor='segmentor.pth',
        bank='bank',
        world='world',
        steps=2,
        interval=2,
    )
    (folder / 'tiny.py').write_text(text)
    torch.manual_seed(0)
    plain = FrozenSegmentor(read_config_file(folder / 'tiny.py').model.segmentor.config).network
    torch.save(dict(state_dict=plain.state_dict()), folder / 'segmentor.pth')
    return folder


def run(environment, place, *words) -> str:
    """A command of the environment, in a folder without a checkout."""
    program, *arguments = map(str, words)
    variables = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    variables.pop('PYTHONPATH', None)
    done = subprocess.run(
        [environment / 'bin' / program, *arguments],
        cwd=place,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_installed_package_is_used(environment, place):
    code = 'import mmseg_opengan.cli as m; print(m.__file__); m.main()'
    file, *lines = run(environment, place, 'python', '-c', code).splitlines()
    assert Path(file).is_relative_to(environment)
    script = run(environment, place, 'mmseg-opengan', '--help').splitlines()
    module = run(environment, place, 'python', '-m', 'mmseg_opengan', '--help').splitlines()
    assert lines == script == module


def test_help_of_a_command_is_that_of_its_tool(environment, place, capsys, monkeypatch):
    found = run(environment, place, 'mmseg-opengan', 'train', '--help')
    monkeypatch.setattr(sys, 'argv', ['train.py', '--help'])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')
    assert found == capsys.readouterr().out
    assert '--cfg-options' in found


def test_train_test_and_visualize(environment, place):
    run(environment, place, 'mmseg-opengan', 'train', 'tiny.py', '--work-dir', 'work')
    checkpoint = place / 'work/iter_2.pth'
    run(environment, place, 'mmseg-opengan', 'test', 'tiny.py', checkpoint, '--work-dir', 'tested')
    report = json.loads((place / 'tested/open_set_eval/test/metrics.json').read_text())
    assert (report['num_images'], set(report['scorers'])) == (3, {'msp', 'opengan'})
    words = ('visualize', 'tiny.py', checkpoint, '--split', 'test', '--limit', 1)
    run(environment, place, 'mmseg-opengan', *words, '--out-dir', 'pictures')
    assert len(list((place / 'pictures').rglob('*.panel.png'))) == 1


def test_shipped_configs_are_those_of_the_installed_package(environment, place):
    code = f'from mmseg_opengan.shipped import shipped_config; print(shipped_config({BASE!r}))'
    path = Path(run(environment, place, 'python', '-c', code).strip())
    assert path.is_relative_to(environment)
    assert path.parts[-4:] == ('.mim', 'configs', *BASE.split('::')[1].split('/'))
