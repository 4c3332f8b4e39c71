"""Records of what files were made from."""

import pytest

from mmseg_opengan import __version__, provenance
from mmseg_opengan.provenance import (
    differences,
    is_done,
    made_from,
    note,
    noted,
    require_same,
)


def test_a_record_comes_back_as_it_was_noted(tmp_path):
    record = made_from(
        size=(4, 5),
        limit=float('inf'),
        norm=dict(eps=1e-5),
        hook=len,
    )
    note(tmp_path / 'new' / 'folder', record)
    assert noted(tmp_path / 'new' / 'folder') == record
    assert noted(tmp_path) == {}


def test_another_version_makes_something_else(monkeypatch):
    before = made_from(seed=1)
    monkeypatch.setattr(provenance, '__version__', '9.9')
    assert differences(made_from(seed=1), before) == [
        f"version: wanted '9.9', found '{__version__}'"
    ]


def test_every_difference_is_named_and_further_keys_of_the_record_do_not_matter():
    wanted = dict(seed=1, model=dict(act='relu', width=8), data=['a'])
    found = dict(seed=2, model=dict(act='relu', depth=3), data=['b'], more=0)
    assert differences(wanted, found) == [
        'seed: wanted 1, found 2',
        'model.depth: wanted None, found 3',
        'model.width: wanted 8, found None',
        "data: wanted ['a'], found ['b']",
    ]
    assert differences(wanted, dict(wanted, more=0)) == []


def test_something_else_is_refused_in_one_text():
    text = r"^The bank 'x' was made from something else \(seed: wanted 1, found 2\)\. Move it\.$"
    with pytest.raises(ValueError, match=text):
        require_same("The bank 'x'", dict(seed=1), dict(seed=2), advice='Move it.')
    with pytest.raises(KeyError, match=r'found no made_from\.json that says of what'):
        require_same('It', dict(seed=1), {}, advice='Move it.', error=KeyError)
    require_same('It', dict(seed=1), dict(seed=1, more=2), advice='')


def test_a_result_is_done_with_its_file_and_its_record(tmp_path):
    assert not is_done(tmp_path, 'result.txt', dict(seed=1))
    note(tmp_path, dict(seed=1, more=2))
    assert not is_done(tmp_path, 'result.txt', dict(seed=1))
    (tmp_path / 'result.txt').touch()
    assert is_done(tmp_path, 'result.txt', dict(seed=1))
    assert not is_done(tmp_path, 'result.txt', dict(seed=2))
