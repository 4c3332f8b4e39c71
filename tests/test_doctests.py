"""The examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WITH_EXAMPLES = [
    path.relative_to(ROOT).with_suffix('')
    for path in sorted((ROOT / 'mmseg_opengan').rglob('*.py'))
    if '>>> ' in path.read_text()
]


@pytest.mark.parametrize('path', WITH_EXAMPLES, ids=str)
def test_examples(path):
    module = importlib.import_module('.'.join(path.parts))
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0 or '+SKIP' in (ROOT / path).with_suffix('.py').read_text()
    assert found.failed == 0
