"""CamVid in both forms: tiny folders, and the real frames where they are at hand."""

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_opengan.contracts import CLOSED, FIRST_OPEN, GT_OPEN_MAP, IGNORE, VOID
from mmseg_opengan.datasets import transforms  # noqa: F401
from mmseg_opengan.datasets.camvid import CamVidOpenSet
from mmseg_opengan.datasets.label_map import CAMVID_COLOURS, CAMVID_NAMES, camvid_labels

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadOpenSetAnnotations'),
    dict(type='PackOpenSetInputs'),
]
SIZE = (6, 8)
ORIGINAL = dict(
    img_dirs=('701_StillsRaw_full',),
    img_suffix='.png',
    label_dirs=('LabeledApproved_full',),
    closed_label_dirs=(),
    seg_map_suffix='_L.png',
)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_split(root, name, frames):
    (root / 'splits').mkdir(exist_ok=True)
    (root / 'splits' / f'{name}.txt').write_text('\n'.join(frames) + '\n')


@pytest.fixture
def tree(tmp_path):
    """Frames a, b in train (b with 11 groups only) and c in val; each label also in the authors'
    form.
    """
    rng = np.random.default_rng(0)
    for folder, frame in (('train', 'a'), ('train', 'b'), ('val', 'c')):
        image, ids = rng.integers(0, 256, (*SIZE, 3), np.uint8), rng.integers(0, 32, SIZE, np.uint8)
        ids[0, :2] = CAMVID_NAMES.index('OtherMoving'), CAMVID_NAMES.index('Road')
        eleven = np.minimum(camvid_labels().closed_lut[ids], 11)
        save(tmp_path / folder / f'{frame}.jpg', image)
        save(tmp_path / f'{folder}_labels11' / f'{frame}.png', eleven)
        if frame != 'b':
            save(tmp_path / f'{folder}_labels32' / f'{frame}.png', ids)
        save(tmp_path / '701_StillsRaw_full' / f'{frame}.png', image)
        save(tmp_path / 'LabeledApproved_full' / f'{frame}_L.png', CAMVID_COLOURS[ids])
    write_split(tmp_path, 'closed_train', 'ab')
    write_split(tmp_path, 'test', ['c', 'a', ''])
    return tmp_path


def test_files_and_order_follow_the_split(tree):
    test = CamVidOpenSet(data_root=tree, split='test', pipeline=PIPELINE)
    assert [test.get_data_info(i)['img_path'] for i in (0, 1)] == [
        str(tree / 'val/c.jpg'),
        str(tree / 'train/a.jpg'),
    ]
    assert test.get_data_info(1)['seg_map_path'] == str(tree / 'train_labels32/a.png')
    assert test.metainfo['label_policy'] == 'camvid'
    assert len(test.metainfo['classes']) == len(test.metainfo['palette']) == 11
    assert test[0]['data_samples'].get(GT_OPEN_MAP).data.shape == (1, *SIZE)
    assert len(CamVidOpenSet(data_root=tree, ann_file=str(tree / 'splits/test.txt'))) == 2


def test_frame_with_eleven_groups_gives_closed_pixels_only(tree):
    train = CamVidOpenSet(data_root=tree, split='closed_train')
    assert [train.get_data_info(i)['label_policy'] for i in (0, 1)] == [
        'camvid',
        'camvid/closed-only',
    ]
    assert train.get_data_info(1)['seg_map_path'] == str(tree / 'train_labels11/b.png')
    assert set(np.unique(train.read_labels(1)[1])) == {CLOSED, VOID}
    assert set(np.unique(train.read_labels(0)[1])) - {CLOSED, VOID}


def test_original_form_gives_the_same_maps(tree):
    compact, original = (
        CamVidOpenSet(
            data_root=tree,
            split='test',
            **form,
        )
        for form in ({}, ORIGINAL)
    )
    assert original.get_data_info(0)['seg_map_path'] == str(tree / 'LabeledApproved_full/c_L.png')
    for i in (0, 1):
        for ours, theirs in zip(compact.read_labels(i), original.read_labels(i)):
            assert (ours == theirs).all()


def test_ignore_open(tree):
    every, fewer = (
        CamVidOpenSet(data_root=tree, split='test', ignore_open=names)
        for names in ((), ('OtherMoving',))
    )
    assert fewer.metainfo['label_policy'] == 'camvid/ignore:OtherMoving'
    assert fewer.metainfo['open_classes'] == every.metainfo['open_classes']
    before, after = every.read_labels(1)[1], fewer.read_labels(1)[1]
    assert (before == FIRST_OPEN).any()
    assert (after == np.where(before == FIRST_OPEN, VOID, before)).all()


def test_missing_things_are_named(tree):
    with pytest.raises(
        FileNotFoundError, match=r"needs the split file '.*splits/open_val\.txt'.*does not exist"
    ):
        CamVidOpenSet(data_root=tree, split='open_val')
    with pytest.raises(
        FileNotFoundError, match=r"needs the folder '.*/nope', which does not exist"
    ):
        CamVidOpenSet(data_root=tree, split='test', img_dirs=('nope',))
    write_split(tree, 'odd', ['a', 'z'])
    with pytest.raises(
        FileNotFoundError,
        match=r"Frame 'z' of '.*odd\.txt' has no image: wanted 'z\.jpg' in one of",
    ):
        CamVidOpenSet(data_root=tree, split='odd')
    with pytest.raises(
        FileNotFoundError,
        match=r"Image '.*b\.jpg' has no label: wanted 'b\.png' in one of \['train_labels32'\]",
    ):
        CamVidOpenSet(
            data_root=tree,
            split='closed_train',
            closed_label_dirs=(),
        )
    with pytest.raises(
        FileNotFoundError, match=r"701_StillsRaw_full/c\.png' has no label: .*\['absent'\]"
    ):
        CamVidOpenSet(
            data_root=tree,
            split='test',
            **dict(ORIGINAL, label_dirs=('absent',)),
        )


@pytest.mark.parametrize(
    ('frames', 'message'), [([''], '0 lines'), (['a', 'a'], '2 lines and 1 different')]
)
def test_empty_or_repeating_split(tree, frames, message):
    write_split(tree, 'odd', frames)
    with pytest.raises(
        ValueError, match=rf"Split file '.*odd\.txt' must name at least one frame.*{message}"
    ):
        CamVidOpenSet(data_root=tree, split='odd')


@pytest.mark.parametrize('options', [{}, dict(split='test', ann_file='splits/test.txt')])
def test_one_split_must_be_given(tree, options):
    with pytest.raises(ValueError, match='exactly one of split and ann_file'):
        CamVidOpenSet(data_root=tree, **options)


def count(dataset):
    """Pixels of each value of the open map, over the data set."""
    return sum(
        np.bincount(dataset.read_labels(i)[1].ravel(), minlength=256) for i in range(len(dataset))
    )


def test_real_pixel_counts(shared):
    """Open pixels per class of val's 101 frames, counted for the data's README by another
    program.
    """
    dataset = CamVidOpenSet(data_root=shared / 'data/camvid', split='test')
    counts = count(dataset)
    table = {'Archway': 5330, 'CartLuggagePram': 2374, 'Child': 15354, 'OtherMoving': 125174}
    found = {
        name: counts[FIRST_OPEN + i] for i, name in enumerate(dataset.metainfo['open_classes'])
    }
    assert {name: n for name, n in found.items() if n} == table
    assert counts[VOID] == 150690
    assert counts.sum() == 101 * 360 * 480


def test_real_splits(shared):
    root = shared / 'data/camvid'
    lengths = {
        split: len(CamVidOpenSet(data_root=root, split=split))
        for split in ('closed_train', 'open_train', 'open_val', 'test')
    }
    assert lengths == {'closed_train': 337, 'open_train': 333, 'open_val': 10, 'test': 101}
    closed_train = CamVidOpenSet(data_root=root, split='closed_train')
    policies = [closed_train.get_data_info(i)['label_policy'] for i in range(337)]
    assert policies.count('camvid/closed-only') == 4


@pytest.mark.parametrize(('split', 'pixels', 'kinds'), [('open_val', 943, 6), ('test', 9181, 4)])
def test_real_open_pixels_on_the_feature_grid(shared, split, pixels, kinds):
    """Every 4th pixel from the first: the counts that the data's README gives for the stride-4
    grid.
    """
    dataset = CamVidOpenSet(data_root=shared / 'data/camvid', split=split)
    grids = np.stack([dataset.read_labels(i)[1][::4, ::4] for i in range(len(dataset))])
    open_values = grids[(grids != CLOSED) & (grids != VOID)]
    assert (len(open_values), len(np.unique(open_values))) == (pixels, kinds)


@pytest.mark.parametrize('split', ['open_val', 'test'])
def test_real_groups_equal_segnet(shared, split):
    """Away from edges the 32 classes, grouped by us, are SegNet's groups; void is Void and the open
    classes.

    At edges the two published label sets differ (1 % of all pixels): they were reduced to this size
    differently.
    """
    root = shared / 'data/camvid'
    full, eleven = (
        CamVidOpenSet(data_root=root, split=split, indices=10, **o)
        for o in ({}, dict(label_dirs=()))
    )
    votes = np.zeros((32, 12), int)
    for i in range(10):
        assert eleven.get_data_info(i)['label_policy'] == 'camvid/closed-only'
        raw = np.array(Image.open(full.get_data_info(i)['seg_map_path']))[2:-2, 2:-2]
        closed, open_map = (labels[2:-2, 2:-2] for labels in full.read_labels(i))
        segnet = eleven.read_labels(i)[0]
        windows = np.lib.stride_tricks.sliding_window_view(full.read_labels(i)[0], (5, 5))
        inside = windows.max((2, 3)) == windows.min((2, 3))
        assert (closed == segnet[2:-2, 2:-2])[inside].mean() > 0.995
        assert ((closed == IGNORE) == (open_map != CLOSED)).all()
        np.add.at(votes, (raw[inside], np.minimum(segnet[2:-2, 2:-2], 11)[inside]), 1)
    seen = np.flatnonzero(votes.sum(1))
    assert len(seen) >= 18
    assert (
        votes.argmax(1)[seen].tolist() == np.minimum(camvid_labels().closed_lut[seen], 11).tolist()
    )


def test_real_frame_through_the_pipeline(shared):
    dataset = CamVidOpenSet(
        data_root=shared / 'data/camvid', split='open_val', pipeline=PIPELINE, test_mode=True
    )
    item = dataset[0]
    assert item['inputs'].shape == (3, 360, 480)
    assert item['data_samples'].gt_sem_seg.data.shape == (1, 360, 480)


def test_some_open_images_are_a_nested_draw(shared):
    def frames(**options):
        dataset = CamVidOpenSet(
            data_root=shared / 'data/camvid',
            split='open_train',
            **options,
        )
        return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]

    everything, draws = frames(), {number: frames(num_open_images=number) for number in (10, 20)}
    assert set(draws[10]) < set(draws[20]) < set(everything)
    assert draws[20] == [frame for frame in everything if frame in draws[20]]
    assert frames(num_open_images=10, seed=1) != draws[10]
    for number in (0, 334):
        with pytest.raises(
            ValueError, match=f'between 1 and the 333 images there are, but got {number}'
        ):
            CamVidOpenSet(
                data_root=shared / 'data/camvid', split='open_train', num_open_images=number
            )
