"""Every line of docs/jobs.md, run on tiny data: what a new user wants to do, each in ten lines."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from test_readme import (
    PAGES,
    ROOT,
    WORKERS,
    blocks,
    options,
    run,
    sections,
    write_own_segmentor,
)
from tiny_cityscapes import write_images
from tool_calls import environment, free_port

from mmseg_opengan.inference.video import video_writer

PAGE = 'docs/jobs.md'
JOBS = [title for title in sections(PAGE) if title[0].isdigit()]
NO_FIGURES = {'custom_hooks.1.plot_val': False, 'custom_hooks.1.plot_test': False}
QUICK = WORKERS | NO_FIGURES
SHORT = QUICK | {
    'train_cfg.max_iters': 10,
    'train_cfg.val_interval': 5,
    'train_dataloader.dataset.closed_per_image': 50,
    'train_dataloader.dataset.sampler.num_closed': 100,
    'train_dataloader.dataset.sampler.num_open': 50,
    'train_dataloader.dataset.sampler.num_fake': 50,
    # so far from its start that scores have a range
    'optim_wrapper.discriminator.optimizer.lr': 0.01,
    'default_hooks.checkpoint.interval': 5,
}


def lines(number: int) -> list[str]:
    """The commands of a job."""
    found = '\n'.join(blocks(JOBS[number - 1], 'bash', PAGE))
    return found.splitlines()


def python(number: int) -> list[str]:
    """The Python blocks of a job."""
    return blocks(JOBS[number - 1], 'python', PAGE)


def start(patch, command: str, name: str, short: dict) -> None:
    """A command with further ``--cfg-options``."""
    command, _, own = command.partition(' --cfg-options ')
    run(patch, command, *options(name, short), *shlex.split(own))


def assert_known_pixels_keep_their_class(folder: str) -> None:
    plain = cv2.imread(f'{folder}/frame.png', cv2.IMREAD_UNCHANGED)
    unknown = cv2.imread(f'{folder}/frame.unknown.png', cv2.IMREAD_UNCHANGED)
    assert plain.max() < 19
    assert (unknown[unknown != 255] == plain[unknown != 255]).all()


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """What the page expects around it, with the model of job 2."""
    folder = tmp_path_factory.mktemp('jobs')
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    for split, count in (('train', 11), ('val', 2)):
        write_images(folder / 'data/cityscapes', count, (64, 128), folder=split)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv('CITYSCAPES_ROOT', raising=False)
        write_own_segmentor(folder)
        (folder / 'street').mkdir()
        shutil.copy('street.jpg', 'street/frame.jpg')
        [config] = python(2)
        (folder / 'my_opengan.py').write_text(config)
        start(patch, lines(2)[0], 'jobs_train', SHORT)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.delenv('CITYSCAPES_ROOT', raising=False)
    return place


def test_nine_jobs_take_at_most_ten_lines_each():
    assert [title.split('.')[0] for title in JOBS] == [str(number) for number in range(1, 10)]
    for number in range(1, 10):
        own = '\n'.join(python(number) + lines(number)).splitlines()
        assert len([line for line in own if line.strip()]) <= 10, JOBS[number - 1]


def test_1_a_score_without_training(here, monkeypatch):
    found = {}
    [from_python] = python(1)
    exec(from_python, found)
    assert found['result'].labels.shape == found['result'].scores['energy'].shape == (64, 128)
    # MMSegmentation's own data set reads another file of labels
    for path in (here / 'data/cityscapes/gtFine/val').rglob('*_labelIds.png'):
        ids = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(path).replace('labelIds', 'labelTrainIds'), ids % 19)
    [visualize] = lines(1)
    run(monkeypatch, visualize)
    assert_known_pixels_keep_their_class('work_dirs/free')


def test_2_train_threshold_and_label_maps(here, monkeypatch):
    _, visualize = lines(2)
    run(monkeypatch, visualize)
    assert_known_pixels_keep_their_class('work_dirs/maps')
    assert (here / 'work_dirs/maps/frame.overlay.png').is_file()


def test_3_compare_two_trainings(here, monkeypatch):
    train, test_cls, test, compare, report = lines(3)
    for number, command in enumerate((train, test_cls, test)):
        start(monkeypatch, command, f'jobs_compare_{number}', SHORT if number == 0 else QUICK)
    run(monkeypatch, compare)
    table = (here / 'work_dirs/slide/table.md').read_text()
    assert '| OpenGAN |' in table
    assert '| CLS |' in table
    endings = {path.suffix for path in (here / 'work_dirs/slide').iterdir()}
    assert endings == {'.md', '.png', '.pdf'}
    run(monkeypatch, report)
    assert 'type="range"' in (here / 'work_dirs/report.html').read_text()


def test_4_rank_frames_and_get_boxes(here, monkeypatch):
    [find] = lines(4)
    run(monkeypatch, find)
    ranking = (here / 'work_dirs/found/ranking.csv').read_text().splitlines()
    assert [line.split(',')[:2] for line in ranking[1:]] == [['1', 'street/frame.jpg']]
    assert json.loads((here / 'work_dirs/found/objects.coco.json').read_text())['images']


def test_5_a_video(here, monkeypatch):
    with video_writer('drive.mp4', 5) as add:
        for shift in range(3):
            add(np.roll(cv2.imread('street.jpg'), 9 * shift, axis=1))
    [visualize] = lines(5)
    run(monkeypatch, visualize)
    capture = cv2.VideoCapture('work_dirs/overlays.mp4')
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_6_deploy(here, monkeypatch):
    pytest.importorskip('onnxruntime')
    for command in lines(6):
        run(monkeypatch, command)
    from_bundle, from_onnx = python(6)
    bundle, onnx = {}, {}
    exec(from_bundle, bundle)
    exec(from_onnx, onnx)
    result = bundle['result']
    assert (onnx['labels'][0] == result.labels).mean() >= 0.9999
    score = result.scores['opengan']
    assert np.abs(onnx['score'][0] - score).max() < 0.01 * np.ptp(score)


def test_7_install():
    mmcv, ours = lines(7)
    [block] = blocks('Install', 'bash')
    assert mmcv == block.splitlines()[0]  # tests of the README hold it against the requirements
    [extras] = re.fullmatch(r'pip install "\.\[([\w,]+)\]"', ours).groups()
    setup = (ROOT / 'setup.py').read_text()
    for extra in extras.split(','):
        assert f"'{extra}': " in setup
    assert 'Python 3.10 to 3.12' in sections(PAGE)[JOBS[6]]


def test_8_curves_resume_and_two_processes(here, monkeypatch):
    pytest.importorskip('tensorboard')
    resume, tensorboard, two = lines(8)
    start(monkeypatch, resume, 'jobs_resume', SHORT | {'train_cfg.max_iters': 15})
    [last] = (here / 'work_dirs/my_opengan').glob('iter_*.pth')
    assert last.name == 'iter_15.pth'
    events = list((here / shlex.split(tensorboard)[-1]).rglob('events.out.tfevents.*'))
    assert len(events) == 1  # of this training alone

    command = [*shlex.split(two), *options('jobs_two', SHORT, {'train_cfg.max_iters': 5})]
    subprocess.run(
        command,
        env=environment(PYTHON=sys.executable, PORT=free_port()),
        check=True,
        capture_output=True,
        timeout=300,
    )
    [best] = (here / 'work_dirs/two').glob('best_opengan_AUROC_iter_*.pth')
    assert torch.load(best, weights_only=True)['state_dict']


def test_9_every_page_of_the_docs_is_named():
    named = set(re.findall(r'\]\((\w+\.md)\)', sections(PAGE)[JOBS[8]]))
    assert {f'docs/{page}' for page in named} | {PAGE} == {
        page for page in PAGES if page.startswith('docs/')
    }
