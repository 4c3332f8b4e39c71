"""The maps of a test as files."""

import cv2
import numpy as np
import pytest
import torch
from metric_world import run, sample, samples

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.contracts import OPEN_SCORES
from mmseg_opengan.evaluation.map_files import MapFiles


def test_output_dir_holds_predictions_and_raw_scores(tmp_path):
    """In float16 where it holds them."""
    data = samples(3, resolution='feature')
    data[0].get(OPEN_SCORES).msp *= 1e5
    run(data, output_dir=str(tmp_path / 'new' / 'out'), keep_results=True)
    names = {f'{i}.{end}' for i in range(3) for end in ('png', 'opengan.npy', 'msp.npy')}
    assert {path.name for path in (tmp_path / 'new' / 'out').iterdir()} == names
    for i, one in enumerate(data):
        stem = str(tmp_path / 'new' / 'out' / str(i))
        assert np.array_equal(
            cv2.imread(f'{stem}.png', cv2.IMREAD_UNCHANGED), one.pred_sem_seg.data[0].numpy()
        )
        scores = np.load(f'{stem}.opengan.npy')
        assert scores.dtype == np.float16
        assert np.array_equal(scores, one.get(OPEN_SCORES).opengan[0].numpy())
        msp = np.load(f'{stem}.msp.npy')
        assert msp.dtype == (np.float32 if i == 0 else np.float16)
        assert np.array_equal(msp, one.get(OPEN_SCORES).msp[0].numpy())


def test_more_than_256_classes_are_written_in_16_bits(tmp_path):
    prediction = torch.tensor([[[0, 255], [256, 299]]])
    one = {'img_path': 'a.jpg', 'pred_sem_seg': {'data': prediction}, OPEN_SCORES: {}}
    MapFiles(tmp_path).write(one)
    written = cv2.imread(str(tmp_path / 'a.png'), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint16
    assert np.array_equal(written, prediction[0])


@pytest.mark.parametrize('kind', ['img_path', 'seg_map_path'])
def test_images_and_labels_are_not_replaced(tmp_path, kind):
    (tmp_path / 'a.png').write_text('ground truth')
    one = {'img_path': 'street/a.png', 'pred_sem_seg': {'data': torch.zeros(1, 2, 2)}}
    one.update({OPEN_SCORES: {}, kind: str(tmp_path / 'a.png')})
    with pytest.raises(ValueError, match='output_dir: wanted a folder apart from images and label'):
        MapFiles(tmp_path).write(one)
    assert [path.read_text() for path in tmp_path.iterdir()] == ['ground truth']


def test_two_images_of_one_name_are_not_written_over_one_another(tmp_path):
    rng = np.random.default_rng(0)
    data = [sample(rng, name=name) for name in ('ulm/a.png', 'bonn/a.png')]
    with pytest.raises(
        ValueError, match=r"output_dir: .* 'ulm/a\.png' and 'bonn/a\.png' have the same name"
    ):
        run(data, output_dir=str(tmp_path))


def test_two_ranks_may_not_write_images_of_one_name(tmp_path, monkeypatch):
    monkeypatch.setattr(
        'mmseg_opengan.evaluation.map_files.all_gather_object',
        lambda value: [value, {'0': 'bonn/0.png'}],
    )
    with pytest.raises(
        ValueError, match=r"output_dir: .* 'ulm/0\.png' and 'bonn/0\.png' have the same name"
    ):
        run(samples(2), output_dir=str(tmp_path))
