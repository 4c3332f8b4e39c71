"""What the fuzz tests share. A run is as long as ``MMSEG_OPENGAN_FUZZ`` says (examples of each
test); ``benchmarks/stress_data.py`` makes long ones.
"""

import os

import pytest

hypothesis = pytest.importorskip('hypothesis')
given, st = hypothesis.given, hypothesis.strategies
fuzz = hypothesis.settings(
    max_examples=int(os.environ.get('MMSEG_OPENGAN_FUZZ', '40')),
    deadline=5000,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
#: Edits of a file: places as a share of its length, and what to put there.
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 6)), min_size=1, max_size=4
)


def outcome(work, *errors):
    """What the work gives, or says in one of these errors."""
    try:
        return work(), None
    except errors as error:
        return None, str(error)


def edited(data: bytes, edits) -> bytes:
    for share, put, cut in edits:
        place = int(share * len(data))
        data = data[:place] + put + data[place + cut :]
    return data
