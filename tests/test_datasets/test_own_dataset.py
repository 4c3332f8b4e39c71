"""The data set class of docs/datasets.md, as a user copies it, and what changes when its table is
edited.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_opengan.contracts import CLOSED, FIRST_OPEN, IGNORE, VOID
from mmseg_opengan.datasets import label_map

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'datasets.md'
MODULE = next(
    block
    for block in re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
    if block.startswith('# my_dataset.py')
)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


def own(*edits):
    """The page's module after replacing text, without registering its class a second time."""
    text = MODULE.replace('@DATASETS.register_module()\n', '')
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    names = {}
    exec(text, names)
    return names


@pytest.fixture
def tree(tmp_path):
    for i in range(5):
        for folder, kind, data in (
            ('images', 'jpg', np.full((4, 5, 3), 20 * i, np.uint8)),
            ('labels', 'png', np.array([[0, 1, 7, 8, 255]] * 4, np.uint8)),
        ):
            path = tmp_path / folder / 'train' / f'{i}.{kind}'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(data).save(path)
    return tmp_path


def stems(dataset):
    return [Path(dataset.get_data_info(i)['img_path']).stem for i in range(len(dataset))]


def test_it_reads_closed_open_and_void_pixels(tree):
    dataset = own()['MyOpenSet'](data_root=tree, split='train')
    assert stems(dataset) == ['0', '1', '2', '3', '4']
    closed, open_map = dataset.read_labels(0)
    assert closed[0].tolist() == [0, 1, IGNORE, IGNORE, IGNORE]
    assert open_map[0].tolist() == [CLOSED, CLOSED, FIRST_OPEN, FIRST_OPEN + 1, VOID]


def test_an_edited_table_is_another_policy(tree):
    """So that the old feature bank is refused, which holds void pixels as open or the other way
    round.
    """

    def policy(*edits):
        return own(*edits)['MyOpenSet'](data_root=tree, split='train').metainfo['label_policy']

    names = [
        policy(),
        policy(("7: 'animal', 8: 'debris'", "7: 'debris', 8: 'animal'")),
        policy(("0: 'road', 1: 'car'", "0: 'car', 1: 'road'")),
        policy((" 255: 'void'", " 255: 'void', 9: 'void'")),
    ]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch('my policy@[0-9a-f]{8}', name) for name in names)
    assert policy() == names[0]


def test_policies_of_this_package_keep_their_names():
    for labels in (
        label_map.cityscapes_labels('strict'),
        label_map.camvid_labels(),
        label_map.camvid11_labels(),
        label_map.anomaly_labels(),
        label_map.camvid_labels().ignoring('Child'),
    ):
        assert labels.name == labels.policy
    mine = own()['my_labels']().ignoring('debris')
    assert mine.policy == 'my policy/ignore:debris'
    assert re.fullmatch('my policy/ignore:debris@[0-9a-f]{8}', mine.name)


def test_a_string_is_not_several_classes(tree):
    edit = ("OPEN_CLASSES = ('animal', 'debris')", "OPEN_CLASSES = ('thing')")
    with pytest.raises(TypeError, match=r"open_classes: wanted a list of strings.*found 'thing'"):
        own(edit)['MyOpenSet'](data_root=tree, split='train')


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16-le', 'utf-16-be'])
def test_a_list_as_other_systems_write_it(tree, encoding):
    mark = (
        b'\xff\xfe' if encoding == 'utf-16-le' else b'\xfe\xff' if encoding == 'utf-16-be' else b''
    )
    (tree / 'some.txt').write_bytes(mark + '3\r\n1\r\n'.encode(encoding))
    made = own()['MyOpenSet'](
        data_root=tree,
        split='train',
        ann_file='some.txt',
    )
    assert stems(made) == ['1', '3']


def test_a_list_that_is_no_text(tree):
    (tree / 'some.txt').write_bytes(b'3\n\xe9\n')
    with pytest.raises(ValueError, match=r"ann_file '.*some\.txt': wanted text in UTF-8, found"):
        own()['MyOpenSet'](data_root=tree, split='train', ann_file='some.txt')


def test_a_list_of_images(tree):
    make = own()['MyOpenSet']
    (tree / 'some.txt').write_text('3\n1\n\n')
    assert stems(
        make(
            data_root=tree,
            split='train',
            ann_file='some.txt',
        )
    ) == ['1', '3']
    with pytest.raises(
        FileNotFoundError,
        match=r"MyOpenSet needs the split file '.*none\.txt' with .*does not exist",
    ):
        make(data_root=tree, split='train', ann_file='none.txt')
    for content, found in (('3\n9\n', '1 of 2 names have no such file: 9'), ('', '0 of 0')):
        (tree / 'some.txt').write_text(content)
        with pytest.raises(ValueError, match=found):
            make(data_root=tree, split='train', ann_file='some.txt')


def test_some_images_are_drawn(tree):
    make = own()['MyOpenSet']
    few, more = (
        set(
            stems(
                make(
                    data_root=tree,
                    split='train',
                    num_open_images=number,
                )
            )
        )
        for number in (2, 4)
    )
    assert (len(few), len(more)) == (2, 4)
    assert few < more


def test_habits_of_mmseg_that_would_shift_classes_are_refused(tree):
    with pytest.raises(ValueError, match='reduce_zero_label must be False'):
        own()['MyOpenSet'](
            data_root=tree,
            split='train',
            reduce_zero_label=True,
        )
    for edit in (
        ("'classes': CLASSES, ", "'classes': ('car', 'road'), "),
        ("'classes': CLASSES, ", ''),
    ):
        with pytest.raises(
            ValueError, match="METAINFO, metainfo: wanted the classes of policy 'my policy'"
        ):
            own(edit)['MyOpenSet'](data_root=tree, split='train')
