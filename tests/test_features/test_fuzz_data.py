"""Whatever bytes stand in a file: a right answer, or one of our errors that names the file."""

import io
from contextlib import contextmanager

import numpy as np
import pytest
from fuzzing import EDITS, edited, fuzz, given, outcome, st
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from PIL import Image
from tiny_cityscapes import SEGMENTOR, STRIDE, built, images, write_images

from mmseg_opengan.datasets import label_file
from mmseg_opengan.datasets.label_map import camvid_labels
from mmseg_opengan.datasets.open_set_folder import label_map_of
from mmseg_opengan.features.bank import GROUPS, PIXEL, FeatureBank, FeatureBankError
from mmseg_opengan.features.stored_taps import StoredTaps


def label_files() -> list[bytes]:
    ids = np.random.default_rng(0).integers(0, 32, (9, 7), np.uint8)
    pictures = [Image.fromarray(ids), Image.fromarray(camvid_labels().colours[ids])]
    pictures.append(pictures[1].quantize(32))
    pictures.append(Image.fromarray(ids > 15))
    found = []
    for picture in pictures:
        for kind in ('PNG', 'TIFF', 'BMP'):
            content = io.BytesIO()
            picture.save(content, kind)
            found.append(content.getvalue())
    return found


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A data set with its bank and its stored taps."""
    init_default_scope('mmseg')
    made = tmp_path_factory.mktemp('fuzz')
    write_images(made / 'world', 3)
    write_images(made / 'world', 2, folder='val')
    built(made / 'world', made / 'bank')
    taps(made).prepare(tap_of, SEGMENTOR)
    return made


def tap_of(image, sample):
    features = image[None, :, ::STRIDE, ::STRIDE].float()
    return features, features[:, :2]


def taps(folder):
    return StoredTaps(root=str(folder / 'taps'), images=images(folder / 'world', split='test'))


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(label_file, 'MAX_PIXELS', 1 << 20)
    return tmp_path / 'fuzzed'


@fuzz
@given(st.sampled_from(label_files()), EDITS)
def test_label_files(path, content, edits):
    path.write_bytes(edited(content, edits))
    maps, message = outcome(
        lambda: label_file.read_label_file(str(path), camvid_labels()), ValueError
    )
    if message is not None:
        assert f"'{path}'" in message
    else:
        closed, open_map = maps
        assert closed.shape == open_map.shape
        assert closed.dtype == open_map.dtype == np.uint8


@fuzz
@given(st.binary(max_size=60))
def test_lists_of_images(folder, path, content):
    path.write_bytes(content)
    config = dict(images(folder / 'world', split='test'), ann_file=str(path))
    dataset, message = outcome(lambda: DATASETS.build(config), ValueError)
    if message is not None:
        assert 'ann_file' in message
    else:
        assert 0 < len(dataset) <= 2


KEYS = st.one_of(st.integers(-2, 300), st.text(max_size=8), st.booleans(), st.none(), st.floats())
NAMES = st.one_of(st.sampled_from(['road', 'car', 'animal', 'void']), st.text(max_size=3))


@fuzz
@given(
    st.dictionaries(KEYS, NAMES, max_size=6),
    st.lists(NAMES, max_size=3),
    st.one_of(st.lists(NAMES, max_size=3), NAMES),
)
def test_meanings_of_ids(ids, classes, open_classes):
    labels, message = outcome(
        lambda: label_map_of(classes, open_classes, ids, 'own'), ValueError, TypeError
    )
    if message is not None:
        assert 'wanted' in message
    else:
        assert labels.known.sum() == len(ids) or labels.colours is not None


@contextmanager
def damaged(path, edits):
    """Edits a file in place for a while; gives whether its bytes are others."""
    before = path.read_bytes()
    path.write_bytes(edited(before, edits))
    try:
        yield path.read_bytes() != before
    finally:
        path.write_bytes(before)


@fuzz
@given(st.sampled_from(['manifest.json', 'shard-00000.json']), EDITS)
def test_records_of_a_bank(folder, name, edits):
    with damaged(folder / 'bank' / name, edits) as is_other:
        _, message = outcome(lambda: FeatureBank(folder / 'bank'), FeatureBankError)
    assert (message is not None) == is_other
    assert message is None or name in message


@fuzz
@given(st.sampled_from(['open.npy', 'open.pixels.npy', 'closed.npy', 'closed.pixels.npy']), EDITS)
def test_shards_of_a_bank(folder, name, edits):
    """What is not named when the bank is opened is named by ``verify``."""
    name = f'shard-00000.{name}'
    with damaged(folder / 'bank' / name, edits) as is_other:
        bank, message = outcome(lambda: FeatureBank(folder / 'bank'), FeatureBankError)
        if bank is not None:
            assert {bank.pixels(group).dtype for group in GROUPS} == {PIXEL}
            _, message = outcome(bank.verify, FeatureBankError)
    assert (message is not None) == is_other
    assert message is None or name in message


@fuzz
@given(st.sampled_from(['manifest.json', '00000.pt']), EDITS)
def test_stored_taps(folder, name, edits):
    def read():
        made = taps(folder)
        made.prepare(tap_of, SEGMENTOR)
        made[0]

    with damaged(folder / 'taps' / name, edits) as is_other:
        _, message = outcome(read, FeatureBankError)
    assert (message is not None) == is_other
    assert message is None or name in message
