"""The data set whose meaning stands in the config: right values, and an error for each mistake."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from PIL import Image

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.contracts import CLOSED, GT_OPEN_MAP, IGNORE, VOID

REPO = Path(__file__).resolve().parents[2]
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadOpenSetAnnotations'), dict(type='PackOpenSetInputs')]
IDS = {0: 'road', 1: 'car', 7: 'animal', 8: 'debris', 9: 'car', 255: 'void'}
RAW = [0, 1, 7, 8, 9, 255]


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


@pytest.fixture
def root(tmp_path):
    for i in range(3):
        for folder, end, data in (('images', 'jpg', np.full((4, 6, 3), 50 * i, np.uint8)),
                                  ('labels', 'png', np.array([RAW] * 4, np.uint8))):
            path = tmp_path / folder / f'{i}.{end}'
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(data).save(path)
    return tmp_path


def config(root, **options) -> dict:
    return {**dict(type='OpenSetFolder', data_root=str(root), classes=('road', 'car'),
                   open_classes=('animal', 'debris'), ids=IDS, pipeline=PIPELINE), **options}


def test_each_id_is_what_the_config_says(root):
    dataset = DATASETS.build(config(root))
    assert len(dataset) == 3
    sample = dataset[1]['data_samples']
    assert sample.gt_sem_seg.data[0, 0].tolist() == [0, 1, IGNORE, IGNORE, 1, IGNORE]
    assert sample.get(GT_OPEN_MAP).data[0, 0].tolist() == [CLOSED, CLOSED, 1, 2, CLOSED, VOID]
    assert dataset.metainfo['classes'] == ('road', 'car')
    assert dataset.metainfo['open_classes'] == ('animal', 'debris')
    assert dataset.metainfo['label_policy'].startswith('own@')
    assert len({tuple(colour) for colour in dataset.metainfo['palette']}) == 2


@pytest.mark.parametrize('end', ['json', 'yaml', 'yml'])
def test_ids_may_lie_in_a_file(root, end):
    path = root / f'ids.{end}'
    path.write_text(json.dumps({str(key): name for key, name in IDS.items()}))  # JSON is YAML too
    found, wanted = (DATASETS.build(config(root, ids=ids)) for ids in (str(path), IDS))
    assert found.metainfo == wanted.metainfo
    assert (found.read_labels(0)[1] == wanted.read_labels(0)[1]).all()


def test_ids_survive_a_config_file_and_its_dump(root):
    (root / 'cfg.py').write_text(f'dataset = {config(root)!r}')
    cfg = Config.fromfile(root / 'cfg.py')
    again = Config.fromstring(cfg.pretty_text, '.py')
    policies = {DATASETS.build(one.dataset).metainfo['label_policy'] for one in (cfg, again)}
    assert policies == {DATASETS.build(config(root)).metainfo['label_policy']}


def test_the_config_of_the_docs(root):
    """The README's config for an own model with the page's data below it."""
    page = (REPO / 'docs' / 'datasets.md').read_text()
    block = next(one for one in re.findall(r'```python\n(.*?)```', page, re.DOTALL) if "type='OpenSetFolder'" in one)
    (root / 'my_opengan.py').write_text(
        f"_base_ = {str(REPO / 'configs/_base_/own_model.py')!r}\npipeline = {{{{_base_.pipeline}}}}\n{block}")
    cfg = Config.fromfile(root / 'my_opengan.py')
    for dataset in (*(cfg.train_dataloader.dataset[group] for group in ('closed', 'open')),
                    cfg.val_dataloader.dataset, cfg.test_dataloader.dataset):
        made = DATASETS.build(dict(dataset, lazy_init=True))
        assert made.metainfo['open_classes'] == ('animal', 'debris')
        assert dataset.img_suffix == '.jpg'


def test_another_meaning_is_another_policy(root):
    one, other = (DATASETS.build(config(root, ids=ids)) for ids in (IDS, {**IDS, 9: 'void'}))
    assert one.metainfo['label_policy'] != other.metainfo['label_policy']


def test_a_kind_may_be_left_out(root):
    dataset = DATASETS.build(config(root, ignore_open=('debris',)))
    assert dataset.read_labels(0)[1][0].tolist() == [CLOSED, CLOSED, 1, VOID, CLOSED, VOID]


def test_a_split_file_names_the_images(root):
    (root / 'val.txt').write_text('2\n')
    dataset = DATASETS.build(config(root, ann_file='val.txt', palette=[[1, 2, 3], [4, 5, 6]]))
    assert [dataset.get_data_info(0)['img_path']] == [str(root / 'images' / '2.jpg')]
    assert dataset.metainfo['palette'] == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(('options', 'error', 'message'), [
    (dict(classes='road'), TypeError, r"classes: wanted several names, such as \('road',\)"),
    (dict(open_classes=('thing')), TypeError, r"open_classes: wanted several names, such as \('thing',\)"),
    (dict(open_classes=('animal', 'car')), ValueError, r"wanted each name once.*\['car'\]"),
    (dict(open_classes=('animal', 'void')), ValueError, r"no class called 'void'"),
    (dict(classes=()), ValueError, r'at least one closed .* found 0 and 2'),
    (dict(ids={**IDS, 3: 'truck'}), ValueError, r"ids: wanted names out of .*'void'\], found \['truck'\]"),
    (dict(ids={**IDS, 300: 'void'}), ValueError, 'ids: wanted ids from 0 to 255, found 300'),
    (dict(ids={**IDS, -1: 'void'}), ValueError, 'found -1'),
    (dict(ids={**IDS, 'road': 'void'}), ValueError, "found 'road'"),
    (dict(ids={**IDS, '7': 'void'}), ValueError, 'each id once'),
    (dict(ids={0: 'road', 1: 'car', 7: 'animal'}), ValueError, r"every class, found none for \['debris'\]"),
    (dict(ids=['road', 'car']), TypeError, 'ids: wanted a mapping .* found list'),
    (dict(ids='absent.yaml'), FileNotFoundError, r"found nothing at 'absent\.yaml'"),
    (dict(palette=[[0, 0, 0]]), ValueError, 'palette: wanted a colour for each of 2 classes, found 1'),
    (dict(ignore_open=('road',)), ValueError, 'ignore_open must name open classes'),
])
def test_mistakes(root, options, error, message):
    with pytest.raises(error, match=message):
        DATASETS.build(config(root, **options))


def test_a_file_that_is_no_mapping(root):
    (root / 'ids.yaml').write_text('a: [1, 2')
    with pytest.raises(ValueError, match=r"ids\.yaml' cannot be read as YAML or JSON"):
        DATASETS.build(config(root, ids=str(root / 'ids.yaml')))


def test_an_id_that_the_config_does_not_have(root):
    dataset = DATASETS.build(config(root, ids={key: name for key, name in IDS.items() if key != 9}))
    with pytest.raises(ValueError, match=r'0\.png. holds unknown ids: 9 \(4 pixels\)'):
        dataset[0]
