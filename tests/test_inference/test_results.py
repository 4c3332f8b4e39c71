"""What is written of a result is what it holds."""

import gc
import weakref

import cv2
import mmcv
import numpy as np
import torch
from PIL import Image

from mmseg_opengan.contracts import OPENGAN
from mmseg_opengan.inference.results import OpenSetResult, score_png
from mmseg_opengan.pictures.overlay import LogitThreshold

NAMES = ('msp', 'entropy', 'opengan')


def run(inferencer, inputs, **options):
    return inferencer(inputs, show_progress=False, **options)


def png(path):
    """(picture, text entries) of a file."""
    with Image.open(path) as picture:
        return np.asarray(picture), picture.text


def test_files_hold_what_the_result_holds(inferencer, frames, tmp_path):
    (result,), (files,) = run(inferencer, frames[1]), run(inferencer, frames[1], out_dir=tmp_path)
    written = {'b.png', 'b.panel.png'}
    for name in NAMES:
        written |= {f'b.{name}.npy', f'b.{name}.png'}
    assert {path.name for path in tmp_path.iterdir()} == written
    assert {path.name for path in files.values()} == written
    assert (png(files['labels'])[0] == result.labels).all()
    assert (png(files['panel'])[0] == result.picture).all()
    for name in NAMES:
        stored = np.load(files[f'{name}.npy'])
        assert stored.dtype == np.float16
        assert (stored == result.scores[name].astype(np.float16)).all()
        values, text = png(files[f'{name}.png'])
        assert values.dtype == np.uint16
        lo, hi = float(text['lo']), float(text['hi'])
        wanted = result.scores[name]
        if name == OPENGAN:
            assert (lo, hi) == (0, 1)
            wanted = torch.sigmoid(torch.from_numpy(wanted)).numpy()
        assert np.abs(lo + (hi - lo) * values / 65535 - wanted).max() < (hi - lo) * 1e-5 + 1e-6
    assert cv2.imread(str(files['opengan.png']), cv2.IMREAD_UNCHANGED).dtype == np.uint16


def test_kinds_of_files_are_chosen(inferencer, frames, tmp_path):
    (files,) = run(inferencer, frames[0], out_dir=tmp_path / 'a', save_scores=False)
    assert set(files) == {'labels', 'panel'}
    options = dict(scorers=['msp'], save_overlays=True)
    (files,) = run(inferencer, frames[0], out_dir=tmp_path / 'b', **options)
    assert set(files) == {'labels', 'msp.npy', 'msp.png', 'overlay', 'panel'}


def test_sixteen_bits_of_strange_scores(tmp_path):
    def values(score, **options):
        (tmp_path / 'x.png').write_bytes(score_png(np.array([score], np.float32), **options))
        return png(tmp_path / 'x.png')[0][0].tolist()

    strange = [np.nan, np.inf, -np.inf]
    of_logits = values([0, 1e4, -1e4, *strange], logit=True)
    assert of_logits == [32768, 65535, 0, 0, 65535, 0]
    assert values([2, 4, 3, *strange], logit=False) == [0, 65535, 32768, 0, 65535, 0]
    assert values([5, 5, np.nan], logit=False) == [0, 0, 0]
    assert values([np.nan], logit=False) == [0]


def test_a_threshold_is_a_raw_score(inferencer, frames, tmp_path):
    """Also beyond what a probability may be; the panel shows it."""
    (result,) = run(inferencer, frames[0])
    (files,) = run(inferencer, frames[0], out_dir=tmp_path, threshold=1.5)
    unknown = png(files['unknown'])[0] == 255
    assert (unknown == (result.scores[OPENGAN] >= 1.5)).all()
    (drawn,) = run(inferencer, frames[0], thresholds=[LogitThreshold(1.5)])
    assert (png(files['panel'])[0] == drawn.picture).all()


def test_no_result_stays_in_memory_where_files_are_written(
    inferencer, tmp_path, monkeypatch, frames
):
    alive, most = weakref.WeakSet(), []
    save = OpenSetResult.save

    def counted(result, *args, **kwargs):
        gc.collect()
        alive.add(result)
        most.append(len(alive))
        return save(result, *args, **kwargs)

    monkeypatch.setattr(OpenSetResult, 'save', counted)
    run(inferencer, [mmcv.imread(frames[0])] * 6, out_dir=tmp_path)
    assert len(most) == 6
    assert max(most) <= 2  # the one being written, and the one before it that the loop still names
