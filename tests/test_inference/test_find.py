"""A ranking of frames: right, complete after a stop, and in the formats that it promises."""

import csv
import json
import os
import shutil

import cv2
import mmcv
import numpy as np
import pytest

from mmseg_opengan.inference.find import OBJECTS, RANKING, RECORDS, SHEET, find, frame_score
from mmseg_opengan.inference.results import OpenSetResult


@pytest.fixture
def folder(frames, tmp_path):
    """Seven frames, in folders."""
    for i in range(7):
        place = tmp_path / f'in/drive{i % 2}'
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(frames[i % 4], place / f'{i}.jpg')
    return tmp_path / 'in'


def rows_of(out_dir):
    with open(out_dir / RANKING, newline='') as file:
        return list(csv.DictReader(file))


def test_the_score_of_a_frame_is_the_mean_of_its_highest_percent():
    score = np.random.default_rng(0).permutation(1000.0 + np.arange(20000)).reshape(100, 200)
    assert frame_score(score.astype(np.float32)) == np.arange(20800, 21000).mean()
    assert frame_score(np.array([[3.0, 7.0]])) == 7


def test_frames_are_ranked_and_their_objects_are_coco(inferencer, folder, tmp_path):
    out_dir = tmp_path / 'out'
    threshold = inferencer.threshold('fpr=0.05')
    found = find(
        inferencer,
        folder,
        out_dir,
        threshold=threshold,
        min_area=20,
        top=3,
    )
    assert (found.frames, found.new) == (7, 7)
    results = {one.name: one for one in inferencer(folder, show_progress=False)}
    scores = {name: frame_score(one.scores['opengan']) for name, one in results.items()}
    rows = rows_of(out_dir)
    names = sorted(scores, key=lambda n: (-scores[n], n))
    assert [row['file'] for row in rows] == [f'{folder}/{name}.jpg' for name in names]
    assert found.best == [(name, scores[name]) for name in names[:3]]
    coco = json.loads((out_dir / OBJECTS).read_text())
    assert [one['id'] for one in coco['images']] == [*range(1, 8)]
    number = 0
    for image, row, name in zip(coco['images'], rows, names):
        result = results[name]
        assert image['file_name'] == f'{name}.jpg'
        assert (image['height'], image['width']) == result.labels.shape
        wanted = result.objects(threshold, min_area=20)
        of_image = [one for one in coco['annotations'] if one['image_id'] == image['id']]
        assert len(of_image) == len(wanted) == int(row['objects'])
        for annotation, one in zip(of_image, wanted):
            assert annotation['bbox'] == list(one.box)
            assert annotation['segmentation'] == [one.polygon.flatten().tolist()]
            assert annotation['area'] == one.area >= 20
            assert annotation['category_id'] == coco['categories'][0]['id'] == 1
        number += len(wanted)
    assert [one['id'] for one in coco['annotations']] == [*range(1, number + 1)]
    assert number > 5
    assert cv2.imread(str(out_dir / SHEET)).shape[1] == 3 * 300 + 2 * 6


def test_the_objects_load_in_pycocotools(inferencer, folder, tmp_path):
    coco = pytest.importorskip('pycocotools.coco')
    threshold = inferencer.threshold('fpr=0.05')
    find(
        inferencer,
        folder,
        tmp_path / 'out',
        threshold=threshold,
        min_area=20,
        top=1,
    )
    loaded = coco.COCO(str(tmp_path / 'out' / OBJECTS))
    assert len(loaded.imgs) == 7
    for annotation in loaded.anns.values():
        assert loaded.annToMask(annotation).sum() >= annotation['area']  # holes are filled


def test_a_run_that_was_stopped_goes_on(inferencer, folder, tmp_path, monkeypatch):
    whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
    find(inferencer, folder, whole, threshold=0.0, top=2)
    objects, calls = OpenSetResult.objects, []

    def stops(result, *arguments, **options):
        calls.append(result.name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return objects(result, *arguments, **options)

    monkeypatch.setattr(OpenSetResult, 'objects', stops)
    with pytest.raises(KeyboardInterrupt):
        find(inferencer, folder, stopped, threshold=0.0, top=2)
    with open(stopped / RECORDS, 'a') as file:
        file.write('{"name": "drive1/5", "sco')  # a kill within a line
    found = find(inferencer, folder, stopped, threshold=0.0, top=2)
    assert (found.frames, found.new) == (7, 4)
    for name in (RANKING, OBJECTS, SHEET, RECORDS):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name
    assert find(inferencer, folder, stopped, threshold=0.0, top=2).new == 0
    with pytest.raises(
        ValueError, match=r'frames\.jsonl.: wanted frames of .*another threshold\. Choose'
    ):
        find(inferencer, folder, stopped, threshold=1.0)
    tuesday = shutil.copytree(folder, tmp_path / 'tuesday')  # of the same names
    with pytest.raises(ValueError, match=r'found those of another inputs\. Choose'):
        find(inferencer, tuesday, stopped, threshold=0.0)


def test_without_a_threshold_there_are_no_objects(inferencer, folder, tmp_path):
    (folder / 'bad.jpg').write_text('no image')
    bad: list = []
    found = find(inferencer, folder, tmp_path / 'out', bad=bad, top=2)
    assert found.frames == 7
    assert [name for name, _ in bad] == ['bad']
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {RECORDS, RANKING, SHEET}
    assert rows_of(tmp_path / 'out')[0]['objects'] is None


def test_frames_of_a_video_are_ranked(inferencer, frames, tmp_path):
    video = tmp_path / 'drive.avi'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*'MJPG'), 10, (96, 64))
    for i in range(5):
        writer.write(np.roll(mmcv.imread(frames[0]), 9 * i, axis=1))
    writer.release()
    find(
        inferencer,
        video,
        tmp_path / 'out',
        threshold=0.0,
        top=2,
        batch_size=2,
    )
    names = [row['file'] for row in rows_of(tmp_path / 'out')]
    assert sorted(names) == [f'drive_{i:06d}' for i in range(5)]
    images = json.loads((tmp_path / 'out' / OBJECTS).read_text())['images']
    assert images[0]['file_name'] == f'{names[0]}.png'


def test_memory_does_not_grow_with_the_frames(inferencer, frames, tmp_path, monkeypatch):
    """No more than the frame at hand is alive when a frame is written down."""
    import gc
    import weakref

    for i in range(8):
        os.symlink(frames[0], tmp_path / f'{i}.jpg')
    alive, most = weakref.WeakSet(), []
    objects = OpenSetResult.objects

    def counted(result, *arguments, **options):
        gc.collect()
        alive.add(result)
        most.append(len(alive))
        return objects(result, *arguments, **options)

    monkeypatch.setattr(OpenSetResult, 'objects', counted)
    find(inferencer, tmp_path, tmp_path.parent / 'found', threshold=0.0, top=1)
    assert len(most) == 8
    assert max(most) <= 2
