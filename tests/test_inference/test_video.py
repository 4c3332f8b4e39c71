"""Videos in and out: damaged ones end soundly, and none is ever half written."""

import cv2
import mmcv
import numpy as np
import pytest

from mmseg_opengan.inference.video import video_writer


def frames_of(path):
    capture, found = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        found.append(read[1])
    return found, capture.get(cv2.CAP_PROP_FPS)


def test_a_damaged_video_ends_where_it_ends(inferencer, frames, tmp_path):
    whole, torn = tmp_path / 'whole.mp4', tmp_path / 'torn.mp4'
    with video_writer(whole, 12) as add:
        for i in range(30):
            add(np.roll(mmcv.imread(frames[0]), 9 * i, axis=1))
    content = bytearray(whole.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 4] = bytes(len(content) // 4)
    torn.write_bytes(content)
    with pytest.warns(UserWarning, match=r"torn\.mp4' states 30 frames, but \d+ could"):
        done = inferencer(torn, video=tmp_path / 'out.mp4', show_progress=False)
    assert 0 < len(done) < 30
    written, fps = frames_of(tmp_path / 'out.mp4')
    assert len(written) == len(done)
    assert fps == 12


def test_all_frames_have_one_scale(inferencer, frames, tmp_path):
    """A frame alone is drawn as it is in the video: not by its own scores."""
    video = tmp_path / 'out.avi'
    inferencer(frames[:3], video=video, threshold=0.5, show_progress=False)
    written, _ = frames_of(video)
    (result,) = inferencer.stream(frames[2], scaled=True)
    alone = result.overlay(0.5)
    assert alone.shape == written[2].shape == (64, 96, 3)
    assert np.abs(written[2][..., ::-1].astype(int) - alone).mean() < 12  # lossy
    (by_itself,) = inferencer.stream(frames[2])
    assert (alone != by_itself.overlay(0.5)).any()


def test_pictures_of_other_sizes_and_odd_ones(tmp_path):
    with video_writer(tmp_path / 'new/out.avi', 5) as add:
        for size in ((51, 71), (64, 96)):
            add(np.full((*size, 3), (200, 0, 0), np.uint8))
    written, fps = frames_of(tmp_path / 'new/out.avi')
    assert [frame.shape for frame in written] == [(52, 72, 3)] * 2
    assert fps == 5
    assert written[1][..., 2].mean() > 190  # red: the channels are in order


def write(path, pictures):
    with video_writer(path, 5) as add:
        for picture in pictures:
            add(picture)


def stopping():
    """A picture, then an error."""
    yield np.zeros((32, 32, 3), np.uint8)
    raise ValueError('odd')


def test_an_error_leaves_the_old_video_and_nothing_else(tmp_path):
    (tmp_path / 'out.mp4').write_text('old')
    with pytest.raises(ValueError, match='odd'):
        write(tmp_path / 'out.mp4', stopping())
    assert [path.name for path in tmp_path.iterdir()] == ['out.mp4']
    assert (tmp_path / 'out.mp4').read_text() == 'old'
    with pytest.raises(ValueError, match=r"video: wanted a file that ends in .*found 'out\.gif'"):
        write('out.gif', [])
