"""A file of ids means what stands there, and nothing in it is lost in silence."""

import pytest
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from test_open_set_folder import config, root  # noqa: F401  (a fixture)

from mmseg_opengan.contracts import CLOSED, VOID

NAMES = dict(classes=None, open_classes=None)
HEAD = 'classes: [road, car]\nopen_classes: [animal, debris]\n'


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


def build(root, content, name='ids.yaml'):  # noqa: F811
    path = root / name
    path.write_text(content)
    return DATASETS.build(config(root, ids=str(path), **NAMES))


@pytest.mark.parametrize(
    ('name', 'content', 'found'),
    [
        (
            'ids.yaml',
            HEAD + 'ids:\n  0: road\n  1: car\n  7: animal\n  8: debris\n  7: void\n',
            'each id once, found 7 twice',
        ),
        (
            'ids.json',
            '{"classes": ["road", "car"], "open_classes": ["animal"], '
            '"ids": {"0": "road", "1": "car", "7": "animal", "1": "animal"}}',
            'each id once, found 1 twice',
        ),
        (
            'ids.yaml',
            HEAD + 'ids: {0: road, 1: car, 7: animal, "7": debris}',
            'each id once, found 7 twice',
        ),
        (
            'ids.yaml',
            HEAD + 'ids: {0: road, 1: car, 7: animal, 8: debris, 007: void}',
            'each id once, found 007 twice',
        ),
        (
            'ids.yaml',
            HEAD + 'ids: {"#aaaaaa": road, "#AAAAAA": car, "#000001": animal}',
            'each id once, found #AAAAAA twice',
        ),
        (
            'ids.yaml',
            HEAD + 'ids: {0: road, 1: car, 7: animal, 8: debris}\nclasses: [car, road]',
            'each key once, found classes twice',
        ),
    ],
)
def test_what_stands_there_twice(root, name, content, found):  # noqa: F811
    with pytest.raises(ValueError) as raised:
        build(root, content, name)
    assert str(raised.value) == f"ids '{root / name}': wanted {found}"


def test_numbers_are_decimal(root):  # noqa: F811
    """YAML reads 010 as 8, and 08 as a text."""
    found = build(root, HEAD + 'ids: {00: road, 01: car, 007: animal, 08: debris, 010: void}')
    plain = build(root, HEAD + 'ids: {0: road, 1: car, 7: animal, 8: debris, 10: void}')
    (labels,) = found._labels.values()
    assert labels.known.nonzero()[0].tolist() == [0, 1, 7, 8, 10]
    assert labels.open_lut[[0, 1, 7, 8, 10]].tolist() == [CLOSED, CLOSED, 1, 2, VOID]
    assert found.metainfo == plain.metainfo


@pytest.mark.parametrize('number', ['0x07', '1_0', '7.0', '-7', 'true'])
def test_other_numbers_are_refused_as_they_stand_there(root, number):  # noqa: F811
    with pytest.raises(ValueError, match=rf"wanted ids from 0 to 255, .* found '{number}'"):
        build(root, HEAD + f'ids: {{0: road, 1: car, {number}: animal, 8: debris}}')


def test_a_mapping_may_be_merged_into_another(root):  # noqa: F811
    """What stands in the mapping itself goes first, as in any YAML."""
    common = 'ids:\n  <<: &common {0: road, 1: car, 7: animal, 8: debris}\n  8: animal\n  9: debris'
    (labels,) = build(root, HEAD + common)._labels.values()
    assert labels.open_lut[[0, 1, 7, 8, 9]].tolist() == [CLOSED, CLOSED, 1, 1, 2]
