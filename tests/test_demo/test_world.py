import json

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as CITYSCAPES
from cityscapesscripts.helpers.labels import name2label

from demo import world as demo_world
from demo.open_kinds import COMMON, OPEN_KINDS, VAL_ONLY
from demo.scene import render_scene
from demo.world import MANIFEST, SEEN, UNSEEN, kinds_of, write_demo_world
from mmseg_opengan.contracts import CLOSED, IGNORE, VOID
from mmseg_opengan.datasets.label_map import cityscapes_labels

SIZE = (128, 256)
CAMERA = {'ego vehicle', 'rectification border', 'out of roi'}


def _bytes(root):
    return {
        str(file.relative_to(root)): file.read_bytes()
        for file in sorted(root.rglob('*'))
        if file.is_file()
    }


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    return write_demo_world(
        tmp_path_factory.mktemp('demo') / 'world',
        num_train=16,
        num_val=12,
        size=SIZE,
        progress=False,
    )


@pytest.fixture(scope='module')
def ids(world):
    """Split -> the label maps of its images."""
    return {
        split: [
            cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            for file in sorted((world / 'gtFine' / split).rglob('*_gtFine_labelIds.png'))
        ]
        for split in ('train', 'val')
    }


def test_layout_is_that_of_cityscapes(world):
    images = sorted((world / 'leftImg8bit').rglob('*.png'))
    assert len(images) == 28
    assert (
        sorted(images, key=str)[0].relative_to(world).as_posix()
        == 'leftImg8bit/train/ahausen/ahausen_000000_000000_leftImg8bit.png'
    )
    for file in images:
        stem = file.relative_to(world / 'leftImg8bit').as_posix().removesuffix('_leftImg8bit.png')
        label = cv2.imread(
            str(world / 'gtFine' / f'{stem}_gtFine_labelIds.png'), cv2.IMREAD_UNCHANGED
        )
        assert (label.shape, label.dtype) == (SIZE, np.uint8)
        assert cv2.imread(str(file), cv2.IMREAD_UNCHANGED).shape == (*SIZE, 3)


def test_every_id_is_known_and_every_closed_class_occurs(ids):
    known = {label.id for label in CITYSCAPES if label.id >= 0}
    closed = {label.id for label in CITYSCAPES if 0 <= label.trainId < 255}
    for split in ids:
        assert set(np.unique(ids[split]).tolist()) <= known
    assert closed <= set(np.unique(ids['train']).tolist())


def test_every_image_has_each_kind_of_void_and_some_road(ids):
    for label in (*ids['train'], *ids['val']):
        assert {name2label[name].id for name in (*CAMERA, 'road')} <= set(np.unique(label).tolist())


def test_kinds_only_in_val_are_absent_from_train(world, ids):
    drawn = json.loads((world / MANIFEST).read_text())['open_kinds']
    by_place = {
        place: {kind for stem, kinds in drawn.items() if place in stem for kind in kinds}
        for place in ('train/', SEEN, UNSEEN)
    }
    assert by_place['train/'] == set(COMMON)
    assert by_place[SEEN] == set(COMMON)
    assert by_place[UNSEEN] == set(VAL_ONLY)
    # three of them have labels of their own, so the pixels say it too
    own = {name2label[name].id for name in ('bridge', 'tunnel', 'caravan')}
    assert not own & set(np.unique(ids['train']).tolist())
    assert own <= set(np.unique(ids['val']).tolist())


def test_policy_paper_gives_closed_open_and_void(ids):
    shares = []
    for label in (*ids['train'], *ids['val']):
        closed, open_map = cityscapes_labels('paper').split(label, 'demo')
        assert ((closed != IGNORE) == (open_map == CLOSED)).all()
        shares.append(
            [
                (open_map == CLOSED).mean(),
                ((open_map != CLOSED) & (open_map != VOID)).mean(),
                (open_map == VOID).mean(),
            ]
        )
    closed, opened, void = np.mean(shares, axis=0)
    assert closed > 0.7
    assert 0.01 < opened < 0.25
    assert 0.02 < void < 0.15


def test_every_open_kind_shows_its_label():
    """A kind may hide behind a tree, but not in every street."""
    hidden = []
    for kind, found in OPEN_KINDS.items():
        wanted = name2label[found.label].id
        for seed in range(6):
            label = render_scene(np.random.default_rng(seed), kinds=[kind], size=SIZE)[1]
            if (label == wanted).sum() > 15:
                break
        else:
            hidden.append(kind)
    assert hidden == []


def test_no_kind_gives_no_open_pixel():
    for seed in range(3):
        label = render_scene(np.random.default_rng(seed), kinds=(), size=SIZE)[1]
        assert not (
            set(np.unique(label).tolist())
            & {name2label[kind.label].id for kind in OPEN_KINDS.values()}
        )


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path):
    first, again, other = (
        write_demo_world(
            tmp_path / name, num_train=2, num_val=1, seed=seed, size=SIZE, progress=False
        )
        for name, seed in (('a', 0), ('b', 0), ('c', 1))
    )
    assert _bytes(first) == _bytes(again)
    here, there = _bytes(first), _bytes(other)
    assert list(here) == list(there)
    assert all(here[name] != there[name] for name in here)


def test_two_processes_write_the_same_bytes_as_one(tmp_path):
    alone, shared = (
        write_demo_world(
            tmp_path / str(n), num_train=2, num_val=2, size=(32, 64), processes=n, progress=False
        )
        for n in (1, 2)
    )
    assert _bytes(alone) == _bytes(shared)


def test_the_street_is_seen_at_other_sizes():
    image, label = render_scene(np.random.default_rng(3), size=(96, 160))
    assert image.shape == (96, 160, 3)
    assert image.dtype == np.uint8
    assert label.shape == (96, 160)
    assert image.std() > 20


def test_a_complete_world_is_left_alone(tmp_path, monkeypatch):
    root = write_demo_world(
        tmp_path / 'w',
        num_train=2,
        num_val=1,
        size=SIZE,
        progress=False,
    )
    monkeypatch.setattr(demo_world, 'render_scene', lambda *_, **__: pytest.fail('painted again'))
    assert (
        write_demo_world(
            root,
            num_train=2,
            num_val=1,
            size=SIZE,
            progress=False,
        )
        == root
    )


def test_a_world_with_a_missing_file_or_other_parameters_is_written_again(tmp_path):
    root = write_demo_world(
        tmp_path / 'w',
        num_train=2,
        num_val=1,
        size=SIZE,
        progress=False,
    )
    before = _bytes(root)
    next(root.rglob('*_labelIds.png')).unlink()
    write_demo_world(root, num_train=2, num_val=1, size=SIZE, progress=False)
    assert _bytes(root) == before
    write_demo_world(root, num_train=1, num_val=1, size=SIZE, progress=False)
    assert len(list(root.rglob('*.png'))) == 4  # nothing of the old one stays
    assert [path.name for path in tmp_path.iterdir()] == ['w']  # and no temporary folder


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_world, 'render_scene', fail)
    with pytest.raises(KeyboardInterrupt):
        write_demo_world(
            tmp_path / 'w',
            num_train=1,
            num_val=1,
            size=SIZE,
            progress=False,
        )
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_ours_is_not_touched(tmp_path):
    (tmp_path / 'photo.png').write_bytes(b'dear')
    with pytest.raises(FileExistsError, match='not a demo world'):
        write_demo_world(
            tmp_path,
            num_train=1,
            num_val=1,
            size=SIZE,
            progress=False,
        )
    assert (tmp_path / 'photo.png').read_bytes() == b'dear'


def test_kinds_take_turns():
    drawn = [kind for i in range(2 * len(COMMON)) for kind in kinds_of('train', i, seed=5)]
    counts = [drawn.count(kind) for kind in COMMON]
    assert set(drawn) == set(COMMON)
    assert max(counts) - min(counts) <= 2


def test_wrong_arguments_are_named(tmp_path):
    for name, wrong in (('num_train', -1), ('seed', -1), ('size', (16, 32))):
        with pytest.raises(ValueError, match=name):
            write_demo_world(tmp_path / 'w', progress=False, **{name: wrong})


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match='dragon'):
        render_scene(np.random.default_rng(0), kinds=['dragon'])
