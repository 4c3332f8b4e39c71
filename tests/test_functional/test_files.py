"""Files appear whole or not at all."""

import json

import pytest

from mmseg_opengan.functional.files import replacing, write_json


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'scores.bin'
    path.write_bytes(b'old')

    def fail():
        with replacing(path) as file:
            file.write(b'half of the n')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b'old'
    with replacing(path) as file:
        file.write(b'new')
        assert path.read_bytes() == b'old'
    assert path.read_bytes() == b'new'
    assert [found.name for found in tmp_path.iterdir()] == ['scores.bin']


def test_undefined_numbers_are_null_in_json(tmp_path):
    write_json(tmp_path / 'a.json', dict(a=float('nan'), b=[1.0, (float('inf'), 'c')]))
    assert json.loads((tmp_path / 'a.json').read_text()) == dict(a=None, b=[1.0, [None, 'c']])
