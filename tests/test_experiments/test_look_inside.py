"""The command, on images whose colours tell where each pixel lies (tiny_cityscapes)."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from tiny_cityscapes import SEGMENTOR, SIZE, STRIDE, built, source_config, write_images

from mmseg_opengan.experiments import look_inside as module
from mmseg_opengan.experiments.look_inside import (
    StoredImages,
    load_networks,
    look_inside,
)
from mmseg_opengan.features.bank import FeatureBank, FeatureBankError

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = dict(
    discriminator=dict(type='FeatureDiscriminator', hidden=(8,)),
    generator=dict(type='FeatureGenerator', noise_channels=4, hidden=(8,)),
)
FIGURES = ('patches', 'features_pca', 'features_tsne')
FILES = {'look_inside.json', *(f'{name}.{kind}' for name in FIGURES for kind in ('png', 'pdf'))}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Folder with images, a bank, a config of training on it and its checkpoint."""
    root = tmp_path_factory.mktemp('inside')
    built(write_images(root / 'data'), root / 'bank')
    config = Config(
        dict(
            default_scope='mmseg',
            model=dict(NETWORKS),
            train_dataloader=dict(dataset=source_config(root / 'data', root / 'bank')),
        )
    )
    config.dump(root / 'config.py')
    torch.manual_seed(0)
    state = {
        f'{name}.{key}': value
        for name, width in (('discriminator', 'in_channels'), ('generator', 'out_channels'))
        for key, value in MODELS.build({**NETWORKS[name], width: 3}).state_dict().items()
    }
    segmentor = dict(
        sha256=SEGMENTOR['sha256'],
        config=dict(model={}),
        checkpoint=None,
    )
    meta = dict(opengan=dict(segmentor=segmentor), cfg=config.pretty_text)
    torch.save(dict(state_dict=state, meta=meta), root / 'gan.pth')
    return root


def load(root) -> dict:
    return torch.load(root / 'gan.pth', weights_only=True)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Less to draw."""
    monkeypatch.setattr(module, '_POINTS', 12)
    monkeypatch.setattr(module, '_PATCHES', 5)
    monkeypatch.setattr(module, '_PATCH_SIZE', 9)


def test_the_command_writes_pictures_and_numbers(made, tmp_path, monkeypatch, capsys):
    """And the function the same again."""
    command = ['look_inside.py', made / 'config.py', made / 'gan.pth', '--out', tmp_path / 'out']
    monkeypatch.setattr(sys, 'argv', [str(one) for one in command])
    runpy.run_path(str(ROOT / 'tools' / 'look_inside.py'), run_name='__main__')
    assert {path.name for path in (tmp_path / 'out').iterdir()} == FILES
    assert 'fake to nearest closed: L1' in capsys.readouterr().out
    report = json.loads((tmp_path / 'out/look_inside.json').read_text())
    assert report['label_policy'] == FeatureBank(made / 'bank').manifest['identity']['label_policy']
    picture = cv2.imread(str(tmp_path / 'out/patches.png'))
    assert (picture == 255).all(2).mean() < 0.9
    assert report == look_inside(made / 'config.py', made / 'gan.pth', tmp_path / 'again')
    for name in FILES:
        one, other = ((tmp_path / folder / name).read_bytes() for folder in ('out', 'again'))
        # a PDF lists what is in it in any order
        assert one == other or name.endswith('.pdf'), name


def test_patches_are_cut_around_the_pixels_that_the_bank_holds(made):
    """Inside the image: a pixel near an edge is not in the middle of its patch."""
    bank = FeatureBank(made / 'bank')
    images = StoredImages(Config.fromfile(made / 'config.py'), bank)
    assert images.stride == STRIDE
    places = set()
    for group in ('closed', 'open'):
        for pixel in bank.pixels(group)[::7]:
            patch = images.patch(group, pixel, 1.0, 0.5)
            number = int(Path(bank.manifest['images'][pixel['image']]).name[:3])
            wanted = [STRIDE * pixel['col'], STRIDE * pixel['row'], number]
            assert patch.image[patch.pixel].tolist() == wanted
            assert patch.image.shape == (9, 9, 3)
            assert (patch.group, patch.note) == (group, 'D 0.50, L1 1')
            places.add(patch.pixel)
    assert (4, 4) in places
    assert {0, 8} & {row for row, _ in places} or {0, 8} & {col for _, col in places}


def test_an_image_smaller_than_the_patch_comes_whole(made, monkeypatch):
    monkeypatch.setattr(module, '_PATCH_SIZE', 100)
    bank = FeatureBank(made / 'bank')
    pixel = bank.pixels('closed')[0]
    patch = StoredImages(Config.fromfile(made / 'config.py'), bank).patch('closed', pixel, 1, 0.5)
    assert patch.image.shape == (*SIZE, 3)
    assert patch.pixel == (STRIDE * pixel['row'], STRIDE * pixel['col'])


def test_networks_are_those_of_the_checkpoint_in_the_modes_of_training_and_scoring(made):
    state = load(made)['state_dict']
    discriminator, generator = load_networks(NETWORKS, state, 3, 'gan.pth')
    assert not discriminator.training
    assert generator.training
    for name, network in (('discriminator', discriminator), ('generator', generator)):
        for key, value in network.state_dict().items():
            assert torch.equal(value, state[f'{name}.{key}'])


def test_networks_are_built_as_they_were_trained(made, tmp_path, monkeypatch):
    """The weights of two generators look alike where one ends in a ReLU and the other does not."""
    monkeypatch.setattr(module, 'PROJECTIONS', {})
    config = Config.fromfile(made / 'config.py')
    config.model.generator.out_act = 'relu'
    config.dump(tmp_path / 'other.py')
    norms = []
    for file in (made / 'config.py', tmp_path / 'other.py'):
        norms.append(look_inside(file, made / 'gan.pth', tmp_path / 'out')['mean_l2_norm'])
    assert norms[0] == norms[1]


def test_opengan0_looks_at_a_bank_without_open_pixels(made, tmp_path):
    built(
        made / 'data',
        tmp_path / 'bank',
        open_=False,
        sampler=dict(num_open=0),
    )
    report = look_inside(
        made / 'config.py',
        made / 'gan.pth',
        tmp_path / 'out',
        cfg_options={
            'train_dataloader.dataset.root': str(tmp_path / 'bank'),
            'train_dataloader.dataset.open': None,
        },
    )
    assert list(report['mean_l2_norm']) == ['closed', 'fake']
    assert {path.name for path in (tmp_path / 'out').iterdir()} == FILES


def test_a_checkpoint_without_generator_is_refused(made, tmp_path):
    config = Config.fromfile(made / 'config.py')
    config.model.generator = None
    stored = load(made)
    stored['meta']['cfg'] = config.pretty_text
    torch.save(stored, tmp_path / 'cls.pth')
    with pytest.raises(
        ValueError, match=r"cls.pth' has no generator: wanted a checkpoint of OpenGAN"
    ):
        look_inside(made / 'config.py', tmp_path / 'cls.pth', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_checkpoint_of_another_segmentor_is_refused(made, tmp_path):
    stored = load(made)
    stored['meta']['opengan']['segmentor']['sha256'] = 'b' * 64
    torch.save(stored, tmp_path / 'other.pth')
    with pytest.raises(FeatureBankError, match='segmentor_sha256'):
        look_inside(made / 'config.py', tmp_path / 'other.pth', tmp_path / 'out')


def test_a_bank_without_closed_pixels_is_refused(made, tmp_path):
    built(made / 'data', tmp_path / 'bank', kind='OnlineSource')
    with pytest.raises(
        ValueError, match='holds no closed pixels: wanted one built by a StoreSource'
    ):
        look_inside(
            made / 'config.py',
            made / 'gan.pth',
            tmp_path / 'out',
            cfg_options={'train_dataloader.dataset.root': str(tmp_path / 'bank')},
        )


def test_images_that_are_not_those_of_the_bank_are_refused(made, tmp_path):
    config = Config.fromfile(made / 'config.py')
    other = write_images(tmp_path / 'other', size=(48, 40))
    for group in ('closed', 'open'):
        config.train_dataloader.dataset[group].data_root = str(other)
    with pytest.raises(ValueError, match='at no grid stride are they those of the stored pixels'):
        StoredImages(config, FeatureBank(made / 'bank'))
    images = StoredImages(Config.fromfile(made / 'config.py'), FeatureBank(made / 'bank'))
    images.bank.manifest['images'] = ['gone.png']
    with pytest.raises(FileNotFoundError, match=r"the feature bank's image 'gone\.png' in"):
        images.place(0)
