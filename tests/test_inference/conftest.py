"""The tiny OpenGAN on disk, shared by the files of this folder."""

import pytest
from tiny_camvid import SIZES, write_checkpoints, write_config, write_images

from mmseg_opengan.inference.inferencer import OpenSetInferencer


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """(folder, data root, config, checkpoint of D and G, segmentor)."""
    root = tmp_path_factory.mktemp('tiny')
    data = write_images(root / 'data')
    config = write_config(root, data)
    return root, data, config, *write_checkpoints(root, config)


@pytest.fixture(scope='module')
def inferencer(tiny):
    return OpenSetInferencer(tiny[2], tiny[3], device='cpu')


@pytest.fixture(scope='module')
def frames(tiny):
    return [str(tiny[1] / f'val/{name}.jpg') for name in SIZES]
