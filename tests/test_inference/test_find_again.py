"""A folder of results that is used again: every score is that of the image as it is now."""

import csv
import json
import math
import shutil

import cv2
import mmcv
import numpy as np
import pytest
from tiny_camvid import SIZES

from mmseg_opengan.inference.find import OBJECTS, RANKING, SHEET, find, frame_score
from mmseg_opengan.inference.records import Frame, Ranked, Records


def ranked(out_dir):
    """Scores by file, as the ranking has them."""
    with open(out_dir / RANKING, newline='') as file:
        return {row['file']: float(row['score']) for row in csv.DictReader(file)}


def score_of(inferencer, inputs, scorer=None):
    (result,) = inferencer(inputs, show_progress=False)
    return pytest.approx(frame_score(result.score(scorer)), rel=1e-5)


def paint(path, value):
    cv2.imwrite(str(path), np.full((64, 96, 3), value, np.uint8))


@pytest.fixture
def street(frames, tmp_path):
    """Frames ``x.png`` and ``y.png``."""
    (tmp_path / 'street').mkdir()
    for name, frame in zip('xy', frames):
        cv2.imwrite(str(tmp_path / f'street/{name}.png'), mmcv.imread(frame))
    return tmp_path / 'street'


def test_another_array_has_its_own_score(inferencer, frames, tmp_path):
    first, second = (mmcv.imread(frame) for frame in frames[:2])
    for array, new in ((first, 1), (second, 1), (first, 0)):
        found = find(inferencer, [array], tmp_path / 'out', top=1)
        assert (found.frames, found.new) == (1, new)
        assert ranked(tmp_path / 'out') == {'00000000': score_of(inferencer, array)}
    both = find(inferencer, [first, first[..., ::-1].copy(), first], tmp_path / 'out')
    assert (both.frames, both.new) == (3, 1)


def test_a_frame_that_was_replaced_is_run_again(inferencer, street, tmp_path):
    find(inferencer, street, tmp_path / 'out', top=1)
    paint(street / 'x.png', 90)
    found = find(inferencer, street, tmp_path / 'out', top=1)
    assert (found.frames, found.new) == (2, 1)
    assert ranked(tmp_path / 'out') == {
        str(street / name): score_of(inferencer, street / name) for name in ('x.png', 'y.png')
    }


def test_a_frame_that_is_gone_is_ranked_no_more(inferencer, street, tmp_path):
    options = dict(threshold=0.0, top=1)
    best = find(inferencer, street, tmp_path / 'out', **options).best[0][0]
    (street / f'{best}.png').unlink()
    found = find(inferencer, street, tmp_path / 'out', **options)
    (left,) = street.iterdir()
    assert (found.frames, found.new) == (1, 0)
    assert list(ranked(tmp_path / 'out')) == [str(left)]
    images = json.loads((tmp_path / 'out' / OBJECTS).read_text())['images']
    assert [one['file_name'] for one in images] == [left.name]


def test_without_frames_there_is_no_sheet(inferencer, street, tmp_path):
    find(inferencer, street, tmp_path / 'out')
    assert (tmp_path / 'out' / SHEET).exists()
    for path in street.iterdir():
        path.write_text('no image')
    bad: list = []
    assert find(inferencer, street, tmp_path / 'out', bad=bad).frames == 0
    assert [name for name, _ in bad] == ['x', 'y']
    assert ranked(tmp_path / 'out') == {}
    assert not (tmp_path / 'out' / SHEET).exists()


def test_a_list_that_grows_keeps_what_is_done(inferencer, street, tmp_path):
    """Its names change with the folder that all paths share."""
    shutil.copytree(street, tmp_path / 'other')
    paint(tmp_path / 'other/x.png', 90)
    lines = ['street/x.png', 'street/y.png', 'other/x.png']
    (tmp_path / 'list.txt').write_text('\n'.join(lines[:2]))
    assert find(inferencer, tmp_path / 'list.txt', tmp_path / 'out', threshold=0.0).new == 2
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    found = find(inferencer, tmp_path / 'list.txt', tmp_path / 'out', threshold=0.0)
    assert (found.frames, found.new) == (3, 1)
    assert ranked(tmp_path / 'out') == {
        str(tmp_path / line): score_of(inferencer, tmp_path / line) for line in lines
    }
    images = json.loads((tmp_path / 'out' / OBJECTS).read_text())['images']
    assert {one['file_name'] for one in images} == set(lines)


def test_what_is_done_is_not_read_again(inferencer, frames, tmp_path, monkeypatch):
    find(inferencer, frames, tmp_path / 'out', top=0)
    monkeypatch.setattr(inferencer.reader, 'read', None)
    found = find(inferencer, frames, tmp_path / 'out', top=0)
    assert (found.frames, found.new) == (len(SIZES), 0)


def test_a_video_goes_on_and_another_one_is_run_whole(inferencer, frames, tmp_path):
    def film(numbers):
        size = (96, 64)
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*'MJPG'), 10, size)
        for i in numbers:
            writer.write(np.roll(mmcv.imread(frames[0]), 9 * i, axis=1))
        writer.release()

    video = tmp_path / 'drive.avi'
    film(range(3))
    assert find(inferencer, video, tmp_path / 'out', top=1).new == 3
    assert find(inferencer, video, tmp_path / 'out', top=1).new == 0
    film(range(5, 7))
    found = find(inferencer, video, tmp_path / 'out', top=1)
    assert (found.frames, found.new) == (2, 2)
    results = inferencer(video, show_progress=False)
    assert ranked(tmp_path / 'out') == {
        one.name: pytest.approx(frame_score(one.score()), rel=1e-5) for one in results
    }


def test_a_data_set_is_ranked_by_its_files(inferencer, tmp_path):
    dataset = inferencer.dataset('test')
    assert find(inferencer, dataset, tmp_path / 'out', top=1).new == len(SIZES)
    assert find(inferencer, dataset, tmp_path / 'out', top=1).new == 0
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    assert set(ranked(tmp_path / 'out')) == set(paths)


def test_no_threshold_and_an_infinite_one_are_two(inferencer, street, tmp_path):
    find(inferencer, street, tmp_path / 'none', top=1)
    find(inferencer, street, tmp_path / 'infinite', threshold=math.inf, top=1)
    assert json.loads((tmp_path / 'infinite' / OBJECTS).read_text())['annotations'] == []
    for place, threshold in (('none', math.inf), ('infinite', None), ('infinite', -math.inf)):
        with pytest.raises(ValueError, match='found those of another threshold'):
            find(inferencer, street, tmp_path / place, threshold=threshold)
    assert find(inferencer, street, tmp_path / 'infinite', threshold=math.inf, top=1).new == 0


def test_another_score_is_ranked_where_it_is_named(inferencer, street, tmp_path):
    find(inferencer, street, tmp_path / 'out', scorer='msp', top=1)
    assert ranked(tmp_path / 'out') == {
        str(path): score_of(inferencer, path, 'msp') for path in street.iterdir()
    }
    with pytest.raises(ValueError, match='found those of another scorer'):
        find(inferencer, street, tmp_path / 'out', top=1)
    with pytest.raises(ValueError, match=r"scorers: wanted some of .* found \['gen'\]"):
        find(inferencer, street, tmp_path / 'gen', scorer='gen')
    assert not (tmp_path / 'gen').exists()


def test_two_runs_in_one_folder_keep_their_frames_apart(tmp_path):
    runs = [Records(tmp_path / 'frames.jsonl', {}) for _ in range(2)]
    frames = [Frame(name, None, f'state of {name}') for name in 'ab']
    for run, frame, score in zip(runs, frames, (1.0, 2.0)):
        run.add(frame, dict(score=score, objects=[frame.name]))
    (found,) = runs[1].of(runs[1].ranked(frames))
    assert (found['name'], found['score'], found['objects']) == ('b', 2.0, ['b'])
    (tmp_path / 'frames.jsonl').write_text('{}\n{"state": "another"}\n')
    with pytest.raises(RuntimeError, match='written anew by another run'):
        list(runs[0].of([Ranked(1.0, frames[0], 3)]))
