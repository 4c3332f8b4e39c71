"""The data set whose meaning stands in the config: right values, and an error for each mistake."""

import json
import pickle
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
from mmseg_opengan.datasets import open_set_dataset
from mmseg_opengan.datasets.open_set_folder import made_up_palette

REPO = Path(__file__).resolve().parents[2]
STEPS = ('LoadImageFromFile', 'LoadOpenSetAnnotations', 'PackOpenSetInputs')
PIPELINE = [dict(type=step) for step in STEPS]
IDS = {0: 'road', 1: 'car', 7: 'animal', 8: 'debris', 9: 'car', 255: 'void'}
RAW = [0, 1, 7, 8, 9, 255]


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


@pytest.fixture
def root(tmp_path):
    for i in range(3):
        write(tmp_path / 'images' / f'{i}.jpg', np.full((4, 6, 3), 50 * i, np.uint8))
        write(tmp_path / 'labels' / f'{i}.png', np.array([RAW] * 4, np.uint8))
    return tmp_path


def write(path, data):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(data).save(path)


def config(root, **options) -> dict:
    names = dict(classes=('road', 'car'), open_classes=('animal', 'debris'))
    plain = dict(type='OpenSetFolder', data_root=str(root), ids=IDS, pipeline=PIPELINE)
    return {**plain, **names, **options}


def stems(dataset) -> list[str]:
    return [Path(dataset.get_data_info(i)['img_path']).stem for i in range(len(dataset))]


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


@pytest.mark.parametrize(
    ('end', 'encoding'), [('json', 'utf-8'), ('yaml', 'utf-8-sig'), ('yml', 'utf-16')]
)
def test_ids_may_lie_in_a_file(root, end, encoding):
    path = root / f'ids.{end}'
    content = json.dumps({str(key): name for key, name in IDS.items()})  # JSON is YAML too
    path.write_text(content, encoding=encoding)
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
    blocks = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    block = next(one for one in blocks if "type='OpenSetFolder'" in one)
    base = str(REPO / 'configs/_base_/own_model.py')
    (root / 'my_opengan.py').write_text(
        f'_base_ = {base!r}\npipeline = {{{{_base_.pipeline}}}}\n{block}'
    )
    cfg = Config.fromfile(root / 'my_opengan.py')
    for dataset in (
        *(cfg.train_dataloader.dataset[group] for group in ('closed', 'open')),
        cfg.val_dataloader.dataset,
        cfg.test_dataloader.dataset,
    ):
        made = DATASETS.build(dict(dataset, lazy_init=True))
        assert made.metainfo['open_classes'] == ('animal', 'debris')
        assert dataset.img_suffix == '.jpg'


def test_the_yaml_file_of_the_docs(root):
    page = (REPO / 'docs' / 'datasets.md').read_text()
    path = root / 'mine.yaml'
    path.write_text(re.search(r'```yaml\n(.*?)```', page, re.DOTALL).group(1))
    ids = {key: name for key, name in IDS.items() if key != 9}
    found = DATASETS.build(
        config(
            root,
            ids=str(path),
            classes=None,
            open_classes=None,
        )
    )
    assert found.metainfo == DATASETS.build(config(root, ids=ids)).metainfo


def test_another_meaning_is_another_policy(root):
    one, other = (DATASETS.build(config(root, ids=ids)) for ids in (IDS, {**IDS, 9: 'void'}))
    assert one.metainfo['label_policy'] != other.metainfo['label_policy']
    named = DATASETS.build(config(root, policy='mine'))
    assert named.metainfo['label_policy'] == one.metainfo['label_policy'].replace('own', 'mine')


def test_a_kind_may_be_left_out(root):
    dataset = DATASETS.build(config(root, ignore_open=('debris',)))
    assert dataset.read_labels(0)[1][0].tolist() == [CLOSED, CLOSED, 1, VOID, CLOSED, VOID]


def test_a_split_file_names_the_images(root):
    (root / 'val.txt').write_text('2\n')
    dataset = DATASETS.build(config(root, ann_file='val.txt', palette=[[1, 2, 3], [4, 5, 6]]))
    assert stems(dataset) == ['2']
    assert dataset.metainfo['palette'] == [[1, 2, 3], [4, 5, 6]]


def test_the_config_lists_the_images(root):
    dataset = DATASETS.build(config(root, ann_file=['2', '0']))
    assert stems(dataset) == ['0', '2']
    assert dataset[1]['data_samples'].img_path == str(root / 'images' / '2.jpg')
    drawn = DATASETS.build(
        config(
            root,
            ann_file=['2', '0'],
            num_open_images=1,
            seed=3,
        )
    )
    assert set(stems(drawn)) < {'0', '2'}
    wanted = r"ann_file '\(list of 2 stems\)' must name .* 1 of 2 names have no such file: 9\."
    with pytest.raises(ValueError, match=wanted):
        DATASETS.build(config(root, ann_file=['0', '9']))


def test_the_whole_meaning_may_lie_in_a_file(root):
    path = root / 'meaning.json'
    ids = {str(key): name for key, name in IDS.items()}
    palette = [[1, 2, 3], [4, 5, 6]]
    path.write_text(
        json.dumps(
            dict(
                classes=['road', 'car'], open_classes=['animal', 'debris'], ids=ids, palette=palette
            )
        )
    )
    wanted = DATASETS.build(config(root, palette=palette))
    names = dict(classes=None, open_classes=None)
    found = DATASETS.build(config(root, ids=str(path), **names))
    assert found.metainfo == wanted.metainfo
    with pytest.raises(ValueError, match=r"classes: wanted none beside that of ids .*\('car', 'r"):
        DATASETS.build(config(root, ids=str(path), **{**names, 'classes': ('car', 'road')}))


def test_yaml_as_people_write_it(root):
    path = root / 'ids.yaml'
    lines = [f'{key}: {name}' for key, name in IDS.items()]
    path.write_text('\n'.join(lines))
    found, wanted = (DATASETS.build(config(root, ids=ids)) for ids in (str(path), IDS))
    assert found.metainfo == wanted.metainfo


COLOURS = {
    '#804080': 'road',
    '#00008E': 'car',
    '#ff0000': 'animal',
    '#00ff00': 'debris',
    '#0000ff': 'car',
    '#000000': 'void',
}


def write_colours(root) -> np.ndarray:
    row = np.array([list(bytes.fromhex(key[1:])) for key in COLOURS], np.uint8)
    for i in range(3):
        write(root / 'labels' / f'{i}.png', np.array([row] * 4))
    return row


def test_ids_may_be_colours(root):
    write_colours(root)
    dataset = DATASETS.build(config(root, ids=COLOURS))
    sample = pickle.loads(pickle.dumps(dataset))[0]['data_samples']  # as workers get it
    assert sample.gt_sem_seg.data[0, 3].tolist() == [0, 1, IGNORE, IGNORE, 1, IGNORE]
    assert sample.get(GT_OPEN_MAP).data[0, 3].tolist() == [CLOSED, CLOSED, 1, 2, CLOSED, VOID]
    turned = DATASETS.build(config(root, ids=dict(reversed(COLOURS.items()))))
    assert turned.metainfo == dataset.metainfo
    fewer = DATASETS.build(config(root, ids=COLOURS, ignore_open='animal'))
    assert fewer.read_labels(0)[1][0].tolist() == [CLOSED, CLOSED, VOID, 2, CLOSED, VOID]
    other = {key: name for key, name in COLOURS.items() if key != '#0000ff'}
    with pytest.raises(ValueError, match=r'1 unknown RGB colours, e\.g\. \(0, 0, 255\)'):
        DATASETS.build(config(root, ids=other))[0]


def test_numbers_mean_nothing_where_ids_are_colours(root):
    """The other way round too: colours mean nothing where ids are numbers."""
    dataset = DATASETS.build(config(root, ids=COLOURS))
    write(root / 'labels' / '0.png', np.array([[0, 1, 2, 3, 4, 5]] * 4, np.uint8))
    with pytest.raises(ValueError, match=r"0\.png': wanted an RGB image, .* found one channel"):
        dataset[0]
    write_colours(root)
    with pytest.raises(ValueError, match=r'must hold one 8-bit channel of ids'):
        DATASETS.build(config(root))[0]


def test_colours_survive_a_config_file_and_its_dump(root):
    (root / 'cfg.py').write_text(f'dataset = {config(root, ids=COLOURS)!r}')
    cfg = Config.fromfile(root / 'cfg.py')
    again = Config.fromstring(cfg.pretty_text, '.py')
    assert DATASETS.build(again.dataset).metainfo == DATASETS.build(cfg.dataset).metainfo


def test_made_up_colours_are_distinct_and_stay():
    colours = made_up_palette(255)
    assert len(set(colours)) == 255
    assert made_up_palette(3) == colours[:3]


def test_as_many_classes_as_ids_can_name(root):
    names = tuple(f'c{i}' for i in range(256))
    ids = dict(enumerate(names))
    with pytest.raises(ValueError, match=r'at most 255 closed .* found 256 and 0'):
        DATASETS.build(config(root, classes=names, open_classes=(), ids=ids))
    del ids[255]
    dataset = DATASETS.build(
        config(
            root,
            classes=names[:255],
            open_classes=(),
            ids=ids,
        )
    )
    assert dataset.metainfo['open_classes'] == ()


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (
            dict(open_classes=('thing')),
            TypeError,
            "open_classes: wanted a list of strings.*found 'thing'",
        ),
        (dict(open_classes=('animal', 'car')), ValueError, r"wanted each name once.*\['car'\]"),
        (dict(open_classes=('animal', 'void')), ValueError, r"no class called 'void'"),
        (dict(classes=()), ValueError, r'at least one closed .* found 0 and 2'),
        (
            dict(ids={**IDS, 3: 'truck'}),
            ValueError,
            r"ids: wanted names out of .*, found \['truck'\]",
        ),
        (
            dict(ids={**IDS, 300: 'void'}),
            ValueError,
            r'ids: wanted ids from 0 to 255, .* found 300',
        ),
        (dict(ids={**IDS, 'road': 'void'}), ValueError, "found 'road'"),
        (dict(ids={**IDS, '7': 'void'}), ValueError, 'each id once'),
        (dict(ids={**IDS, 7.5: 'void'}), ValueError, 'found 7.5'),
        (dict(ids={True: 'car', 0: 'road'}), ValueError, 'found True'),
        (dict(ids={**IDS, '#12345': 'void'}), ValueError, "or colours '#rrggbb', found '#12345'"),
        (
            dict(ids={**IDS, '#123456': 'void'}),
            ValueError,
            'one kind, .*, found 1 colours and 6 numbers',
        ),
        (dict(ids={'#aaaaaa': 'road', '#AAAAAA': 'car'}), ValueError, 'each id once'),
        (dict(ids={0: 'road', 1: 'car', 7: 'animal'}), ValueError, r"found none for \['debris'\]"),
        (dict(ids={7: 'animal', 8: 'debris', 1: 'car'}), ValueError, r"found none for \['road'\]"),
        (dict(ids={**IDS, 3: None}), ValueError, r"found \['None'\]"),
        (dict(classes=None), TypeError, 'classes: wanted a list of strings, .* found None'),
        (
            dict(open_classes={'animal', 'debris'}),
            TypeError,
            'open_classes: wanted a list of strings',
        ),
        (dict(classes=('road', 5)), TypeError, r"classes: .*found \('road', 5\)"),
        (dict(classes=('road', 'road', 'car')), ValueError, r"each name once.*\['road'\]"),
        (dict(ann_file=[]), ValueError, r"ann_file '\(list of 0 stems\)' must name"),
        (dict(ann_file=[1]), TypeError, r'ann_file: wanted a list of strings, .* found \[1\]'),
        (dict(palette=[[0, 0, 0], [0, 0, 256]]), ValueError, r'2 classes, found .* 256\]\]'),
        (dict(palette=[[0, 0, 0], 'red']), ValueError, r"2 classes, found .*'red'\]"),
        (
            dict(num_open_images=4),
            ValueError,
            'num_open_images must be None or between 1 and the 3',
        ),
        (dict(ids=['road', 'car']), TypeError, 'ids: wanted a mapping .* found list'),
        (dict(ids='absent.yaml'), FileNotFoundError, r"found nothing at 'absent\.yaml'"),
        (dict(ignore_open=('road',)), ValueError, 'ignore_open must name open classes'),
    ],
)
def test_mistakes(root, options, error, message):
    with pytest.raises(error, match=message):
        DATASETS.build(config(root, **options))


@pytest.mark.parametrize(
    ('content', 'error', 'message'),
    [
        (b'a: [1, 2', ValueError, 'cannot be read as YAML or JSON'),
        (b'\xff\xfe\x00', ValueError, 'cannot be read as YAML or JSON.*wanted text in UTF-8'),
        (b'!!python/object/apply:os.getpid []', ValueError, 'could not determine a constructor'),
        (b'[road, car]', TypeError, 'wanted a mapping .* found list'),
        (b'classes: [road, car]', ValueError, r"the key 'ids' .* found the keys \['classes'\]"),
        (b'{ids: {0: road}, colors: 1}', ValueError, r"found the keys \['ids', 'colors'\]"),
        (b'{classes: road, ids: {0: road}}', TypeError, r'classes: wanted a list of strings'),
        (b'{0: road, 1: car, 7: animal, 8: debris, 9: truck}', ValueError, r"found \['truck'\]"),
    ],
)
def test_mistakes_in_a_file(root, content, error, message):
    path = root / 'ids.yaml'
    path.write_bytes(content)
    names = dict(classes=None) if b'classes: road' in content else {}
    with pytest.raises(error, match=message) as raised:
        DATASETS.build(config(root, ids=str(path), **names))
    if not names:
        assert f"'{path}'" in str(raised.value)


def test_a_folder_is_no_file(root):
    (root / 'ids.json').mkdir()
    with pytest.raises(ValueError, match=r"ids\.json' cannot be read as YAML or JSON"):
        DATASETS.build(config(root, ids=str(root / 'ids.json')))


@pytest.mark.parametrize('name', ['1.JPG', '1.jpeg', '1.png', 'broken link', 'other stem'])
def test_images_that_the_suffix_leaves_out(root, name, monkeypatch):
    """Each has a label, so its author meant it to be used."""
    logged = []
    monkeypatch.setattr(open_set_dataset, 'print_log', lambda text, **options: logged.append(text))
    image = root / 'images' / '1.jpg'
    image.rename(image.with_name({'other stem': '1b.jpg'}.get(name, '1.JPG')))
    if name == 'broken link':
        (root / 'images' / '1.JPG').unlink()
        image.symlink_to(root / 'gone.jpg')
    elif name != 'other stem':
        (root / 'images' / '1.JPG').rename(root / 'images' / name)
    if name == 'other stem':
        (root / 'labels' / '1b.png').write_bytes((root / 'labels' / '1.png').read_bytes())
        assert len(DATASETS.build(config(root))) == 3
        (message,) = logged
        assert "labels' has 1 labels without an image" in message
        assert "'1.png'" in message
        return
    found = '1.jpg' if name == 'broken link' else name
    wanted = rf"img_suffix: wanted images that end in '\.jpg'.*1 labels .*'1\.png'; found '{found}'"
    with pytest.raises(ValueError, match=wanted):
        DATASETS.build(config(root))
    assert stems(DATASETS.build(config(root, ann_file=['0', '2']))) == ['0', '2']


@pytest.mark.parametrize('option', ['img_suffix', 'seg_map_suffix'])
def test_a_suffix_is_one_string(root, option):
    with pytest.raises(TypeError, match=rf"{option}: wanted one string, found \('\.jpg', '\.p"):
        DATASETS.build(config(root, **{option: ('.jpg', '.png')}))


def test_missing_folders_and_labels(root):
    folders = dict(img_path='pictures', seg_map_path='labels')
    with pytest.raises(FileNotFoundError, match=r'OpenSetFolder needs the folder .*pictures'):
        DATASETS.build(config(root, data_prefix=folders))
    (root / 'labels' / '1.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'1 of 3 images in .* have no label'):
        DATASETS.build(config(root))


def test_an_id_that_the_config_does_not_have(root):
    dataset = DATASETS.build(config(root, ids={key: name for key, name in IDS.items() if key != 9}))
    with pytest.raises(ValueError, match=r'0\.png. holds unknown ids: 9 \(4 pixels\)'):
        dataset[0]
