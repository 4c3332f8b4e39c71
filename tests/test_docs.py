"""Links of all pages, and commands of docs: what they name exists."""

import os
import re
import shlex

import pytest
from test_readme import PAGES, ROOT


def anchors(page: str) -> set[str]:
    """What GitHub makes of a page's titles."""
    text = re.sub(r'^```.*?^```', '', PAGES[page], flags=re.M | re.S)
    titles = re.findall(r'^#+ (.+)$', text, re.M)
    return {re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\((?!https?://)([^)]+)\)', PAGES[page]):
        path, _, anchor = target.partition('#')
        found = (ROOT / page).parent / path if path else ROOT / page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(os.path.relpath(found.resolve(), ROOT)), target


@pytest.mark.parametrize('page', [page for page in PAGES if page.startswith('docs/')])
def test_commands_of_the_docs_name_what_exists(page):
    for block in re.findall(r'^```bash\n(.*?)^```', PAGES[page], re.M | re.S):
        for line in block.splitlines():
            words = shlex.split(line)
            tools = [word for word in words if re.fullmatch(r'(?:tools|benchmarks)/\w+\.py', word)]
            for word in words:
                if word.startswith(('configs/', 'tools/', 'benchmarks/')):
                    named = [word.format(method) for method in ('opengan', *words)]
                    assert any((ROOT / name).exists() for name in named), (page, word)
                if tools and re.match(r'--[a-z]', word) and words[0] == 'python':
                    known = (ROOT / tools[0]).read_text()
                    if 'add_model_arguments' in known:
                        known += (ROOT / 'mmseg_opengan/inference/arguments.py').read_text()
                    assert f"'{word.split('=')[0]}'" in known, (page, tools[0], word)
