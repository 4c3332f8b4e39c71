"""Open validation that cannot run: pictures are drawn by the first image, rules are refused."""

import shutil

import cv2
import mmcv
import numpy as np
import pytest
from mmengine.config import Config
from tiny_camvid import PLAIN

from mmseg_opengan.inference.find import SHEET, find
from mmseg_opengan.inference.inferencer import OpenSetInferencer

LOAD, LABELS, PACK = (
    dict(type=name) for name in ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')
)
#: What is wrong -> changes of the data set, the error of a rule and its message.
FAULTS = {
    'empty': (
        dict(data_prefix=dict(img_path='empty', seg_map_path='empty')),
        ValueError,
        r"BaseSegDataset: wanted at least one image, found none by .*'img_path': '.*empty",
    ),
    'missing': (
        dict(data_prefix=dict(img_path='gone', seg_map_path='gone')),
        FileNotFoundError,
        'gone',
    ),
    'unregistered': (dict(type='NotThere'), KeyError, 'NotThere'),
    'damaged': (
        dict(data_prefix=dict(img_path='damaged', seg_map_path='damaged'), img_suffix='.png'),
        cv2.error,
        'empty',
    ),
    'unlabelled': (dict(pipeline=[LOAD, PACK]), ValueError, 'wanted labels'),
}


@pytest.fixture(params=FAULTS)
def broken(request, tiny, tmp_path):
    """(inferencer, error of a rule, its message)."""
    changes, error, message = FAULTS[request.param]
    shutil.copy(tiny[4], tmp_path / 'plain.pth')
    for folder in ('empty', 'damaged'):
        (tmp_path / folder).mkdir()
    (tmp_path / 'damaged/a.png').touch()
    dataset = dict(
        type='BaseSegDataset',
        metainfo=dict(classes=[f'class {i}' for i in range(11)]),
        data_root=str(tmp_path),
        data_prefix=dict(img_path=str(tiny[1] / 'val'), seg_map_path=str(tiny[1] / 'val_labels32')),
        pipeline=[LOAD, LABELS, PACK],
    )
    cfg = Config(dict(model=PLAIN, val_dataloader=dict(dataset=dict(dataset, **changes))))
    made = OpenSetInferencer(cfg, tmp_path / 'plain.pth', scorers=['energy'], device='cpu')
    return made, error, message


def test_colours_have_the_scale_of_the_first_image(broken, frames, tmp_path):
    inferencer, error, message = broken
    with pytest.warns(UserWarning, match=rf'scale of the first image.*{error.__name__}: .*'):
        found = inferencer(
            frames[:2],
            out_dir=tmp_path / 'out',
            save_overlays=True,
            threshold=0.5,
            show_progress=False,
        )
    first, second = inferencer.stream(frames[:2])
    second.scales = first.scales = {}
    wanted = first.overlay(0.5)
    assert (mmcv.imread(str(found[0]['overlay']))[..., ::-1] == wanted).all()
    drawn = mmcv.imread(str(found[1]['overlay']))[..., ::-1]
    assert not np.array_equal(drawn, second.overlay(0.5))  # not by its own
    with pytest.raises(error, match=message):
        inferencer.threshold('f1')


def test_frames_are_found(broken, frames, tmp_path):
    with pytest.warns(UserWarning, match='scale of the first image'):
        found = find(broken[0], frames, tmp_path / 'out', threshold=0.5, top=2)
    assert found.frames == len(frames)
    assert (tmp_path / 'out' / SHEET).exists()


def test_an_empty_split_is_named(tiny, tmp_path):
    cfg = Config.fromfile(tiny[2])
    place = dict(data_root=str(tmp_path), data_prefix=dict(img_path='.'))
    cfg.val_dataloader.dataset = dict(type='BaseSegDataset', pipeline=[LOAD, PACK], **place)
    made = OpenSetInferencer(cfg, tiny[3], device='cpu')
    with pytest.raises(ValueError, match='BaseSegDataset: wanted at least one image, found none'):
        made.dataset('open_val')
