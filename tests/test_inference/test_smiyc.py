"""A submission, read back as the benchmark's own loader does: the data set ``value`` of a file."""

import numpy as np
import pytest
from tiny_camvid import SIZES, write_checkpoints, write_config, write_images
from tool_calls import call

from mmseg_opengan.inference.inferencer import OpenSetInferencer
from mmseg_opengan.inference.smiyc import write_score, write_submission

h5py = pytest.importorskip('h5py', reason='needs the extra "smiyc"')


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """(folder of images, config, checkpoint of D and G)."""
    root = tmp_path_factory.mktemp('tiny')
    data = write_images(root / 'data')
    config = write_config(root, data)
    return data / 'val', config, write_checkpoints(root, config)[0]


def read(path):
    with h5py.File(path) as file:
        assert list(file) == ['value']
        return file['value'][:]


def test_the_tool_writes_every_image_under_the_benchmarks_names(tiny, tmp_path):
    images, config, trained = tiny
    named = ['--track', 'ObstacleTrack-all', '--method', 'OpenGAN', '--out-dir', tmp_path]
    call('smiyc.py', config, trained, images, *named)
    folder = tmp_path / 'anomaly_p/OpenGAN/ObstacleTrack-all'
    assert sorted(path.name for path in folder.iterdir()) == [f'{name}.hdf5' for name in SIZES]
    inferencer = OpenSetInferencer(config, trained, device='cpu')
    for result in inferencer.stream(images):
        found = read(folder / f'{result.name}.hdf5')
        assert found.dtype == np.float16
        assert found.shape == SIZES[result.name]
        assert np.allclose(found, result.scores['opengan'], rtol=1e-3, atol=1e-3)
        assert found.std() > 0.1


def test_wrong_options_and_scores_are_named(tiny, tmp_path):
    images, config, trained = tiny
    inferencer = OpenSetInferencer(config, trained, device='cpu')
    for options, message in (
        (dict(method='a', track='AnomalyTrack'), "track: wanted one of .*found 'AnomalyTrack'"),
        (dict(method='a/b', track='AnomalyTrack-all'), "name of a folder, found 'a/b'"),
        (
            dict(
                method='a',
                track='AnomalyTrack-all',
                score='energy',
            ),
            r"found \['energy'\]",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            write_submission(inferencer, images, tmp_path, **options)
    with pytest.raises(ValueError, match='float16 can hold, found 0 to 100000'):
        write_score(tmp_path / 'a.hdf5', np.array([[0, 1e5]], np.float32))
    assert not list(tmp_path.iterdir())
