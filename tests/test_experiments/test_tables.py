"""Numbers as text."""

import math

from mmseg_opengan.experiments.tables import (
    csv_text,
    interval_text,
    markdown,
    mean,
    number,
)


def test_a_table_has_a_line_for_each_row():
    lines = markdown(['a', 'b'], [['x', 1], ['y', None]]).splitlines()
    assert lines == ['| a | b |', '|---|---|', '| x | 1 |', '| y |  |']


def test_csv_has_the_columns_of_all_rows_and_no_nan():
    rows = [dict(a=1, b=None), dict(a=math.nan, c='x,y'), dict(b=False)]
    assert csv_text(rows) == 'a,b,c\n1,,\n,,"x,y"\n,False,\n'


def test_means_have_the_deviation_of_a_sample():
    assert mean([0.5]) == '0.5000'
    assert mean([0.7, 0.8]) == '0.7500 ± 0.0707'
    assert mean([]) == mean([0.7, None]) == mean([math.nan, 0.7]) == ''


def test_intervals_and_numbers_that_are_not_defined_are_empty():
    assert interval_text((0.71234, 0.8)) == '0.712 to 0.800'
    assert interval_text((-0.01, 0.02), '+.2f') == '-0.01 to +0.02'
    assert interval_text((math.nan, math.nan)) == number(None) == number(math.nan) == ''
