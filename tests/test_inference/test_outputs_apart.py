"""No output replaces an image, a label or a video of the inputs, or lies among them."""

import shutil

import cv2
import mmcv
import numpy as np
import pytest
from tiny_camvid import SIZES

from mmseg_opengan.inference.find import find
from mmseg_opengan.inference.inferencer import OpenSetInferencer


@pytest.fixture
def folder(frames, tmp_path):
    """``x/a.png`` and ``y/b.png``, and a list of them."""
    for place, frame in zip(('x/a.png', 'y/b.png'), frames):
        (tmp_path / place).parent.mkdir()
        cv2.imwrite(str(tmp_path / place), mmcv.imread(frame))
    (tmp_path / 'list.txt').write_text('x/a.png\ny/b.png\n')
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def run(inferencer, inputs, **options):
    return inferencer(inputs, show_progress=False, **options)


@pytest.mark.parametrize('out_dir', ['x', 'y', '.', 'linked'])
def test_images_of_a_list_are_left_alone(inferencer, folder, out_dir):
    """In their own folder, and in the one from which their names keep the folders."""
    (folder / 'linked').symlink_to(folder / 'x')
    before = contents(folder)
    paths = [str(folder / 'x/a.png'), folder / 'y/b.png']
    for inputs in (folder / 'list.txt', paths):
        with pytest.raises(ValueError, match=r"out_dir: wanted a folder apart.*\.png'$"):
            run(inferencer, inputs, out_dir=folder / out_dir)
    assert contents(folder) == before


def test_linked_images_are_left_alone(inferencer, folder):
    (folder / 'links').mkdir()
    (folder / 'links/a.png').symlink_to(folder / 'x/a.png')
    with pytest.raises(ValueError, match=r'out_dir: wanted a folder apart'):
        run(inferencer, [str(folder / 'links/a.png')], out_dir=folder / 'x')


@pytest.mark.parametrize('part', ['val', 'val_labels32'])
def test_images_and_labels_of_a_data_set_are_left_alone(tiny, part, tmp_path):
    shutil.copytree(tiny[1], tmp_path / 'data')
    options = {'test_dataloader.dataset.data_root': str(tmp_path / 'data')}
    made = OpenSetInferencer(tiny[2], tiny[3], device='cpu', cfg_options=options)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=rf"out_dir: .*for the input '.*{part}/a\."):
        run(made, made.dataset('test'), out_dir=tmp_path / 'data' / part)
    assert contents(tmp_path) == before
    assert len(run(made, made.dataset('test'), out_dir=tmp_path / 'data/found')) == len(SIZES)


def test_a_video_is_left_alone(inferencer, folder, monkeypatch):
    video = folder / 'drive.avi'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*'MJPG'), 10, (96, 64))
    for i in range(2):
        writer.write(np.roll(mmcv.imread(str(folder / 'x/a.png')), 9 * i, axis=1))
    writer.release()
    before = contents(folder)
    monkeypatch.chdir(folder)
    for place in (video, 'drive.avi', folder / 'x/../drive.avi'):
        with pytest.raises(ValueError, match=r'video: wanted a file that is no input'):
            run(inferencer, video, video=place)
    assert contents(folder) == before
    run(inferencer, video, video=folder / 'other.avi', out_dir=folder)  # beside it
    assert contents(folder).items() >= before.items()


def test_a_result_does_not_replace_its_image(inferencer, folder):
    (result,) = run(inferencer, folder / 'x/a.png')
    before = contents(folder)
    with pytest.raises(ValueError, match='out_dir: wanted a folder apart from the image'):
        result.save(folder / 'x')
    assert contents(folder) == before


def test_frames_are_not_found_into_their_own_folder(inferencer, folder):
    before = contents(folder)
    with pytest.raises(ValueError, match='out_dir: wanted a folder apart'):
        find(inferencer, folder / 'list.txt', folder / 'y')
    assert contents(folder) == before
    find(inferencer, folder / 'list.txt', folder, top=1)  # beside the list


def test_folders_that_hold_no_input_are_taken(inferencer, folder):
    before = contents(folder)
    run(inferencer, folder / 'x/a.png', out_dir=folder)
    run(inferencer, folder / 'x/a.png', out_dir=folder / 'x/out')
    run(inferencer, folder / 'list.txt', out_dir=folder / 'out')
    assert contents(folder).items() >= before.items()
