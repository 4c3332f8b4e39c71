"""Files appear whole or not at all."""

import json
import multiprocessing
import resource
import signal

import numpy as np
import pytest

from mmseg_opengan.files import replacing, write_json


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
    assert [found.name for found in tmp_path.iterdir()] == ['scores.bin']
    with replacing(path) as file:
        file.write(b'new')
        assert path.read_bytes() == b'old'
    assert path.read_bytes() == b'new'
    assert [found.name for found in tmp_path.iterdir()] == ['scores.bin']


def test_of_two_writers_at_once_the_last_ones_file_stays_whole(tmp_path):
    path = tmp_path / 'scores.bin'
    with replacing(path) as first:
        first.write(b'first')
        with replacing(path) as second:
            second.write(b'second, longer')
        assert path.read_bytes() == b'second, longer'
        first.write(b' and more')
    assert path.read_bytes() == b'first and more'
    assert [found.name for found in tmp_path.iterdir()] == ['scores.bin']


def test_undefined_numbers_are_null_in_json(tmp_path):
    write_json(tmp_path / 'a.json', dict(a=float('nan'), b=[1.0, (float('inf'), 'c')]))
    assert json.loads((tmp_path / 'a.json').read_text()) == dict(a=None, b=[1.0, [None, 'c']])


def _write_beyond(limit, path, kind, outcome):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        with replacing(path) as file:
            if kind == 'array':
                np.save(file, np.arange(100_000))
            else:
                file.write(bytes(800_000))
    except OSError as error:
        outcome.put(str(error))
    else:
        outcome.put('nothing was refused')


@pytest.mark.parametrize(
    ('kind', 'limit'), [('array', 300_000), ('array', 800_127), ('bytes', 300_000)]
)
def test_a_disk_that_takes_no_more_is_named_and_keeps_no_half_file(tmp_path, kind, limit):
    """The system refuses to let the file grow beyond a limit, in the midst of it or at its last
    byte.
    """
    path = tmp_path / 'scores.bin'
    path.write_bytes(b'old')
    fork = multiprocessing.get_context('fork')
    outcome = fork.Queue()
    process = fork.Process(target=_write_beyond, args=(limit, path, kind, outcome))
    process.start()
    message = outcome.get(timeout=60)
    process.join(60)
    assert 'while it was written' in message
    assert str(path) in message
    assert path.read_bytes() == b'old'
    assert [found.name for found in tmp_path.iterdir()] == ['scores.bin']
