"""docs/reliability.md names tests that are there, and counts its own lines."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / 'docs' / 'reliability.md').read_text()
INPUT = re.compile(r'^\| .+ \| (right|error|warning) \| .+ \| (`tests/.+`) \|$', re.MULTILINE)


def test_every_test_that_is_named_is_there():
    named = re.findall(r'`tests/(\w+(?:/\w+)*\.py)::(test_\w+)`', PAGE)
    assert named
    missing = [
        f'{file}::{name}'
        for file, name in named
        if f'def {name}(' not in (TESTS / file).read_text()
    ]
    assert missing == []


def test_the_count_is_that_of_the_lines():
    kinds = [kind for kind, _ in INPUT.findall(PAGE)]
    inputs = re.findall(r'^\| input \|.*\n\|-.*\n((?:\|.*\n)+)', PAGE, re.MULTILINE)
    assert sum(table.count('\n') for table in inputs) == len(kinds)
    numbers = [len(kinds), *(kinds.count(kind) for kind in ('right', 'error', 'warning')), 0]
    assert f'| {" | ".join(map(str, numbers))} |' in PAGE
