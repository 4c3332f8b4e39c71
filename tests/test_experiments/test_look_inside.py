"""The command, on images whose colours tell where each pixel lies (tiny_cityscapes)."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from tiny_cityscapes import SEGMENTOR, STRIDE, built, source_config, write_images

from mmseg_opengan.experiments import look_inside as module
from mmseg_opengan.experiments.look_inside import (
    StoredImages,
    cut_patch,
    load_networks,
    look_inside,
    trained_options,
)
from mmseg_opengan.features.bank import GROUPS, FeatureBank, FeatureBankError

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
    meta = dict(opengan=dict(segmentor=dict(sha256=SEGMENTOR['sha256'])))
    torch.save(dict(state_dict=state, meta=meta), root / 'gan.pth')
    return root


def load(root, **changes) -> dict:
    return {**torch.load(root / 'gan.pth', weights_only=True), **changes}


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
    bank = FeatureBank(made / 'bank')
    assert report['stored_pixels'] == {group: bank.num_pixels(group) for group in GROUPS}
    assert report['label_policy'] == FeatureBank(made / 'bank').manifest['identity']['label_policy']
    assert 0 <= report['auroc']['open above closed'] <= 1
    picture = cv2.imread(str(tmp_path / 'out/patches.png'))
    assert picture.shape[1] > 1400  # three blocks: closed, open, generated
    assert (picture == 255).all(2).mean() < 0.9
    assert report == look_inside(made / 'config.py', made / 'gan.pth', tmp_path / 'again')
    for name in FILES:
        one, other = ((tmp_path / folder / name).read_bytes() for folder in ('out', 'again'))
        # a PDF lists what is in it in any order
        assert one == other or name.endswith('.pdf'), name


def test_patches_are_cut_around_the_pixels_that_the_bank_holds(made):
    bank = FeatureBank(made / 'bank')
    images = StoredImages(Config.fromfile(made / 'config.py'), bank)
    assert images.stride == STRIDE
    for group in ('closed', 'open'):
        for pixel in bank.pixels(group)[::7]:
            patch, at = images.patch(pixel)
            number = int(Path(bank.manifest['images'][pixel['image']]).name[:3])
            assert patch[at].tolist() == [STRIDE * pixel['col'], STRIDE * pixel['row'], number]
            assert patch.shape == (9, 9, 3)


@pytest.mark.parametrize(
    ('row', 'col', 'at', 'corner'),
    [
        (10, 20, (2, 2), (8, 18)),
        (0, 0, (0, 0), (0, 0)),
        (19, 29, (3, 3), (16, 26)),
        (1, 28, (1, 2), (0, 26)),
    ],
)
def test_cut_patch_stays_inside_the_image(row, col, at, corner):
    image = np.stack([*np.indices((20, 30)), np.zeros((20, 30), int)], axis=2).astype(np.uint8)
    patch, place = cut_patch(image, row, col, 4)
    assert patch.shape == (4, 4, 3)
    assert place == at
    assert patch[at].tolist() == [row, col, 0]
    assert patch[0, 0].tolist() == [*corner, 0]


def test_an_image_smaller_than_the_patch_comes_whole():
    patch, at = cut_patch(np.zeros((5, 40, 3), np.uint8), 4, 39, 10)
    assert patch.shape == (5, 10, 3)
    assert at == (4, 9)


def test_networks_are_those_of_the_checkpoint_in_the_modes_of_training_and_scoring(made):
    stored = load(made)
    discriminator, generator = load_networks(
        Config.fromfile(made / 'config.py'), stored, 3, 'gan.pth'
    )
    assert not discriminator.training
    assert generator.training
    for name, network in (('discriminator', discriminator), ('generator', generator)):
        for key, value in network.state_dict().items():
            assert torch.equal(value, stored['state_dict'][f'{name}.{key}'])


def test_networks_trained_with_other_options_are_refused(made):
    config = Config.fromfile(made / 'config.py')
    stored = load(made)
    stored['meta']['cfg'] = config.pretty_text
    assert trained_options(stored, 'generator') == NETWORKS['generator']
    load_networks(config, stored, 3, 'gan.pth')
    config.model.generator.out_act = 'none'  # said or not, it is the default
    load_networks(config, stored, 3, 'gan.pth')
    config.model.generator.out_act = 'relu'
    with pytest.raises(
        ValueError, match=r"The generator of 'gan.pth' was made .* \(out_act: wanted 'relu', found "
    ):
        load_networks(config, stored, 3, 'gan.pth')


@pytest.mark.parametrize(
    'meta',
    [
        None,
        {},
        dict(cfg=None),
        dict(cfg='model = {'),
        dict(cfg='import os'),
        dict(cfg='model = dict(generator=None)'),
        dict(cfg='model = dict(generator=f(a=b))'),
    ],
)
def test_a_checkpoint_that_does_not_say_how_it_was_trained(meta):
    assert trained_options(dict(meta=meta), 'generator') is None


def test_opengan0_looks_at_a_bank_without_open_pixels(made, tmp_path):
    built(made / 'data', tmp_path / 'bank', open_=False, sampler=dict(num_open=0))
    report = look_inside(
        made / 'config.py',
        made / 'gan.pth',
        tmp_path / 'out',
        cfg_options={
            'train_dataloader.dataset.root': str(tmp_path / 'bank'),
            'train_dataloader.dataset.open': None,
        },
    )
    assert report['fakes_nearest_to_open'] == 0
    assert {path.name for path in (tmp_path / 'out').iterdir()} == FILES


def test_a_checkpoint_without_generator_is_refused(made, tmp_path):
    state = {
        key: value
        for key, value in load(made)['state_dict'].items()
        if key.startswith('discriminator.')
    }
    torch.save(load(made, state_dict=state), tmp_path / 'cls.pth')
    with pytest.raises(
        ValueError, match=r"cls.pth' or its config has no generator: wanted a checkpoint of OpenGAN"
    ):
        look_inside(made / 'config.py', tmp_path / 'cls.pth', tmp_path / 'out')
    with pytest.raises(ValueError, match='has no generator'):
        look_inside(
            made / 'config.py',
            made / 'gan.pth',
            tmp_path / 'out',
            cfg_options={'model.generator': None},
        )
    assert not (tmp_path / 'out').exists()


def test_a_checkpoint_of_another_segmentor_is_refused(made, tmp_path):
    torch.save(
        load(made, meta=dict(opengan=dict(segmentor=dict(sha256='b' * 64)))), tmp_path / 'other.pth'
    )
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
    images.names = ['gone.png']
    with pytest.raises(FileNotFoundError, match=r"the feature bank's image 'gone\.png' in"):
        images.place(0)


def test_a_missing_bank_is_named(made, tmp_path):
    with pytest.raises(FileNotFoundError, match='There is no feature bank'):
        look_inside(
            made / 'config.py',
            made / 'gan.pth',
            tmp_path / 'out',
            cfg_options={'train_dataloader.dataset.root': str(tmp_path / 'nothing')},
        )
