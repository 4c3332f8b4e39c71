"""Imports point one way.

contracts, files, shipped <- provenance, functional <- {datasets, features, models, evaluation, engine, pictures} <-
contrib <- register <- inference <- experiments <- tools and the demo. vectors reads models, and experiments read vectors.
"""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'mmseg_opengan'
MODULES = sorted(path.relative_to(ROOT).with_suffix('').parts for path in PACKAGE.rglob('*.py'))
BELOW = {'contracts', 'files', 'shipped', 'provenance', 'functional'}
ROOMS = {'datasets', 'features', 'models', 'evaluation', 'engine', 'pictures'}
#: What each part may import from the package besides itself.
ALLOWED = {
    'contracts': set(),
    'files': set(),
    'shipped': set(),
    'mmcv_ops': set(),
    'compat': set(),
    'cli': {'shipped'},
    '__main__': {'cli'},
    '__init__': {'mmcv_ops', 'inference'},
    'functional': {'contracts', 'files'},
    'datasets': BELOW,
    'features': BELOW | {'datasets'},
    'models': BELOW,
    'vectors': BELOW | {'models'},
    'engine': BELOW,
    'pictures': BELOW,
    'evaluation': BELOW | {'__init__', 'engine', 'features', 'models', 'pictures'},
    'contrib': BELOW | ROOMS,
    'register': {'compat', 'contrib', *ROOMS},
    'provenance': {'__init__', 'contracts', 'files', 'functional'},  # the version
    'inference': BELOW | ROOMS | {'cli', 'register'},
    'experiments': BELOW
    | ROOMS
    | {'__init__', 'compat', 'contrib', 'register', 'inference', 'vectors'},
}
#: Third-party packages of the functional core; a further one names the only modules that may use
#: it.
CORE = {'torch', 'numpy'}
EXTRA = {'scipy': {'components'}, 'cv2': {'corruptions'}}


def part_of(module) -> str:
    """Part of the package that a module, given by its names, lies in; the package itself is
    ``__init__``.
    """
    return module[1] if len(module) > 1 else '__init__'


def imported(module, source: str | None = None) -> list[tuple[str, ...]]:
    """Every module that a file imports, at top level or inside a function, as absolute names."""
    path = ROOT.joinpath(*module).with_suffix('.py')
    found = []
    for node in ast.walk(ast.parse(path.read_text() if source is None else source)):
        if isinstance(node, ast.Import):
            found += [tuple(alias.name.split('.')) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = module[: len(module) - node.level] if node.level else ()
            base += tuple(node.module.split('.')) if node.module else ()
            # ``from . import x`` may import the module x
            found += [
                (*base, alias.name) if is_module((*base, alias.name)) else base
                for alias in node.names
            ]
    return found


def is_module(names) -> bool:
    path = ROOT.joinpath(*names)
    return path.is_dir() or path.with_suffix('.py').is_file()


def is_allowed(module, name) -> bool:
    part = part_of(module)
    if part == 'contracts' or name[0] in ('tools', 'configs', 'tests', 'demo'):
        return False
    if name[0] == 'mmseg_opengan':
        return part_of(name) in {part, *ALLOWED[part]}
    return (
        part != 'functional'
        or name[0] in {*CORE, *sys.stdlib_module_names}
        or module[-1] in EXTRA.get(name[0], ())
    )


def violations(module, source: str | None = None) -> list[str]:
    return [
        f'{".".join(module)} imports {".".join(name)}'
        for name in imported(module, source)
        if not is_allowed(module, name)
    ]


@pytest.mark.parametrize('module', MODULES, ids='.'.join)
def test_imports_point_one_way(module):
    assert violations(module) == []


@pytest.mark.parametrize(
    ('module', 'source'),
    [
        ('contracts', 'import os'),
        ('functional.detection', 'from ..models import networks'),
        ('functional.detection', 'from .. import compat'),
        ('functional.detection', 'import mmengine'),
        ('functional.detection', 'def f():\n    import cv2'),
        ('functional.detection', 'import scipy'),
        ('datasets.camvid', 'from ..models.networks import frozen'),
        ('datasets.camvid', 'from ..features import bank'),
        ('models.opengan', 'import mmseg_opengan.engine.optim'),
        ('models.scorers.base', 'from ...features.bank import FeatureBank'),
        ('engine.opengan_hook', 'from ..evaluation import metric'),
        ('engine.opengan_hook', 'from .. import register'),
        ('evaluation.metric', 'from ..experiments import jobs'),
        ('features.bank', 'from ..contrib import image_source'),
        ('provenance', 'from .features import bank'),
        ('register', 'from .inference import inferencer'),
        ('compat', 'from .functional import scores'),
        ('mmcv_ops', 'from . import compat'),
        ('inference.inferencer', 'from ..experiments.jobs import Job'),
        ('inference.inferencer', 'from tools.train import main'),
        ('experiments.jobs', 'from demo.run import run_demo'),
        ('models.opengan', 'import tests.conftest'),
    ],
)
def test_the_rule_sees_a_violation(module, source):
    assert len(violations(('mmseg_opengan', *module.split('.')), source)) == 1


def test_the_rule_lets_pass_what_is_allowed():
    source = 'import os\nimport numpy as np\nfrom torch import nn\nfrom ..contracts import VOID\nfrom . import scores'
    assert violations(('mmseg_opengan', 'functional', 'score_counts'), source) == []


def test_the_core_works_without_openmmlab():
    """Also without what draws and what reads images."""
    code = """
import sys
for name in ('mmcv', 'mmengine', 'mmseg', 'cv2', 'matplotlib', 'sklearn', 'cityscapesscripts'):
    sys.modules[name] = None
import torch
import mmseg_opengan.contracts
import mmseg_opengan.functional.score_counts, mmseg_opengan.functional.detection, mmseg_opengan.functional.bootstrap
from mmseg_opengan.functional import gan_losses, pixels, scores
print(pixels.grid_stride((1024, 2048), (256, 512)), scores.msp(torch.zeros(1, 4, 1, 1)).item(),
      len(gan_losses.discriminator_loss(torch.zeros(2), torch.zeros(2), torch.zeros(2))))
"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ['4', '0.75', '3']


def test_the_table_of_public_names_is_that_of_the_rooms():
    page = (ROOT / 'docs' / 'api.md').read_text()
    told = {}
    for line in page.splitlines():
        if line.startswith('| `mmseg_opengan'):
            room, _, names = (cell.strip() for cell in line.strip('|').split('|'))
            told[room.strip('`')] = sorted(re.findall(r'`(\w+)`', names))
    assert len(told) == 10
    for room, names in told.items():
        module = importlib.import_module(room)
        assert names == sorted(module.__all__)
        assert all(hasattr(module, name) for name in names)
