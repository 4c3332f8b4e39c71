"""Every config builds: model, data, optimizers, hooks, metrics; no network, no data, no weights."""

from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import FUNCTIONS, init_default_scope
from mmengine.runner import CheckpointLoader
from mmseg.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODEL_WRAPPERS,
    MODELS,
    TRANSFORMS,
    VISUALIZERS,
)

import mmseg_opengan.register  # noqa: F401

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
FILES = sorted(
    str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts
)
LEAVES = [file for file in FILES if 'train_dataloader' in Config.fromfile(CONFIGS / file)]
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('a config must not download or load weights to be built')

    init_default_scope('mmseg')
    for name in (
        'torch.hub.download_url_to_file',
        'torch.hub.load_state_dict_from_url',
        'socket.create_connection',
    ):
        monkeypatch.setattr(name, refuse)
    monkeypatch.setattr(CheckpointLoader, 'load_checkpoint', refuse)


def read(file) -> Config:
    return Config.fromfile(CONFIGS / file)


def lazily(dataset: dict) -> dict:
    """The config with every dataset that reads a folder told to wait."""
    if 'closed' in dataset:
        return dict(
            dataset,
            **{name: dataset[name] and lazily(dataset[name]) for name in ('closed', 'open')},
        )
    if 'images' in dataset:
        return dict(dataset, images=lazily(dataset['images']))
    return dict(dataset, lazy_init=True)


def build_model(cfg):
    """On the meta device: shapes without numbers. Scorers' own checkpoints, which a run before
    makes, are left out.
    """
    for scorer in cfg.model.get('scorers', {}).values():
        scorer.pop('checkpoint', None)
    model = cfg.model
    if 'segmentor' in model:
        model = dict(model, segmentor=dict(model.segmentor, checkpoint=None))
    with torch.device('meta'):
        return MODELS.build(model)


def downloads(value, path='model'):
    """Places in a model's config that would fetch weights."""
    if isinstance(value, dict):
        for key, item in value.items():
            if (key == 'pretrained' and item is not None) or (
                isinstance(item, str) and '://' in item
            ):
                yield f'{path}.{key}={item!r}'
            yield from downloads(item, f'{path}.{key}')
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from downloads(item, f'{path}[{i}]')


def loaders(cfg, names):
    """The loaders a config has; one that only trains sets its evaluation to None."""
    return [cfg[name] for name in names if cfg.get(name) is not None]


def test_there_are_configs():
    assert {'opengan/opengan_hr48_cityscapes.py', 'opengan/opengan_hr18s_camvid.py'} <= set(LEAVES)


def without_files(scorer) -> None:
    """A scorer without the files of an earlier run, which also tell a discriminator's channels."""
    if 'checkpoint' in scorer:
        scorer.checkpoint = None
        if 'discriminator' in scorer:
            scorer.discriminator.in_channels = 8
    for value in scorer.values():
        if isinstance(value, dict):
            without_files(value)


@pytest.mark.parametrize('file', FILES)
def test_model_builds(file):
    cfg = read(file)
    for scorer in cfg.model.get('scorers', {}).values():
        without_files(scorer)
    found = list(downloads(cfg.get('model', {})))
    assert [place for place in found if not place.startswith('model.segmentor.checkpoint')] == []
    model = build_model(cfg)
    if cfg.model.type.endswith('OpenGANSegmentor') and model.discriminator is not None:
        assert model.discriminator.in_channels == model.network_channels
        assert model.network_channels == (3 if '-pix' in file else model.head.channels)
        if 'hr48' in file:
            assert model.head.channels == 720
        if 'hr18s' in file:
            assert model.head.channels == 270


@pytest.mark.parametrize('file', LEAVES)
def test_data_builds(file):
    cfg = read(file)
    for loader in loaders(cfg, LOADERS):
        dataset = DATASETS.build(lazily(loader.dataset))
        assert DATA_SAMPLERS.get(loader.sampler.type) is not None
        images = loader.dataset.get('images', loader.dataset)
        for part in (images.get('closed', images), images.get('open')):
            for step in part.pipeline if part else ():
                assert TRANSFORMS.build(step) is not None
        if 'closed' in loader.dataset:
            assert FUNCTIONS.get(loader.collate_fn.type) is not None
            dataset = dataset.closed_images
        # a (K+1)-way segmentor has one class more than is closed
        assert len(dataset.metainfo['classes']) == _num_classes(cfg.model) - ('kplus1' in file)


def _num_classes(model):
    plain = model.segmentor.config.model if 'segmentor' in model else model
    return plain.decode_head.num_classes


@pytest.mark.parametrize('file', LEAVES)
def test_evaluation_sees_every_image_once(file):
    cfg = read(file)
    for loader in loaders(cfg, LOADERS[1:]):
        sampler = loader.sampler
        assert (sampler.type, sampler.shuffle) == ('DefaultSampler', False)
        if cfg.test_evaluator.type == 'OpenSetMetric':
            assert sampler.round_up is False


@pytest.mark.parametrize('file', LEAVES)
def test_everything_around_the_model_builds(file):
    cfg = read(file)
    assert cfg.custom_imports.imports == ['mmseg_opengan.register']
    assert VISUALIZERS.build(dict(cfg.visualizer, vis_backends=None, name=file)) is not None
    for hook in [*cfg.default_hooks.values(), *cfg.custom_hooks]:
        assert HOOKS.build(hook) is not None
    for stage in ('val', 'test'):
        parts = [cfg.get(f'{stage}_{part}') for part in ('dataloader', 'evaluator', 'cfg')]
        assert all(part is None for part in parts) or all(isinstance(part, dict) for part in parts)
        if (
            parts[0] is not None
        ):  # one metric, no list: --out of the test tools sets an option of it
            assert METRICS.build(parts[1]) is not None
            assert LOOPS.get(parts[2].type) is not None
    assert LOOPS.get(cfg.train_cfg.type) is not None
    if cfg.model_wrapper_cfg is not None:
        assert MODEL_WRAPPERS.get(cfg.model_wrapper_cfg.type) is not None


@pytest.mark.parametrize(
    'file', [file for file in LEAVES if read(file).model.type.endswith('OpenGANSegmentor')]
)
def test_networks_losses_and_samples_agree(file):
    """One model, three methods: what is not used is neither built, nor sampled, nor optimised."""
    cfg = read(file)
    assert cfg.optim_wrapper.type == 'OptimWrapper'  # --amp of mmseg's tool replaces this one only
    assert cfg.model_wrapper_cfg.type == 'MMSeparateDistributedDataParallel'
    score = 'hybrid' if '-fused_' in file else 'opengan'
    number = 'AUROC_kinds' if '-fused_hr18s_camvid' in file else 'AUROC'  # anomalies have one kind
    choice = cfg.default_hooks.checkpoint
    assert (choice.save_best, choice.rule) == (f'{score}/{number}', 'greater')
    if cfg.model.get('discriminator') is None or cfg.get('load_from'):
        return  # it tests what others have trained
    wrappers = build_optim_wrapper(build_model(cfg), cfg.optim_wrapper)
    method = file.rpartition('/')[2].split('_')[0].removesuffix('-pix').removesuffix('-fused')
    has_generator, has_open = method != 'cls', method != 'opengan0'
    assert list(wrappers.keys()) == ['discriminator', 'generator'][: 1 + has_generator]
    assert (cfg.model.generator is not None) == has_generator
    assert (cfg.train_dataloader.dataset.open is not None) == has_open
    assert cfg.model.lambda_open > 0


@pytest.mark.parametrize('method', ['cls', 'opengan'])
def test_an_unseen_open_kind_is_left_out_of_training_only(method):
    """In a bank of its own: which kinds are open belongs to a bank's identity."""
    usual, unseen = (read(f'opengan/{method}_hr18s_camvid{end}.py') for end in ('', '_unseen'))
    assert unseen.train_dataloader.dataset.open == dict(
        usual.train_dataloader.dataset.open, ignore_open=('OtherMoving',)
    )
    assert unseen.train_dataloader.dataset.root != usual.train_dataloader.dataset.root
    assert unseen.model == usual.model
    for loader in LOADERS[1:]:
        assert unseen[loader] == usual[loader]


# ---------------------------------------------------------------------- metafiles


METAFILES = sorted(CONFIGS.glob('*/metafile.yml'))
FAMILIES = [path.parent.name for path in METAFILES]
TRAINABLE = [
    file
    for file in LEAVES
    if not file.startswith('demo/compare')
    and ('segmentor' not in read(file).model or read(file).model.get('discriminator'))
]


def metafile(family) -> dict:
    return yaml.safe_load((CONFIGS / family / 'metafile.yml').read_text())


def test_the_index_names_every_metafile():
    imports = yaml.safe_load((CONFIGS.parent / 'model-index.yml').read_text())['Import']
    assert imports == [str(path.relative_to(CONFIGS.parent)) for path in METAFILES]
    assert {Path(file).parts[0] for file in TRAINABLE} == set(FAMILIES)


@pytest.mark.parametrize('family', FAMILIES)
def test_a_metafile_lists_every_config_that_trains(family):
    wanted = {f'configs/{file}' for file in TRAINABLE if Path(file).parts[0] == family}
    assert {model['Config'] for model in metafile(family)['Models']} == wanted


@pytest.mark.parametrize('family', FAMILIES)
def test_a_metafile_says_what_its_configs_say(family):
    [collection] = metafile(family)['Collections']
    assert (CONFIGS.parent / collection['README']).is_file()
    for model in metafile(family)['Models']:
        assert model['Name'] == Path(model['Config']).stem
        assert model['In Collection'] == collection['Name']
        assert model['Metadata']['Training Data'] in collection['Metadata']['Training Data']
        cfg = read(Path(model['Config']).relative_to('configs'))
        loader = cfg.train_dataloader
        sampler = loader.dataset.get('sampler')
        pixels = sampler and sampler.num_closed
        if sampler and loader.dataset.open is not None:
            pixels += sampler.num_open
        if sampler and cfg.model.generator is not None:
            pixels += sampler.num_fake
        assert model['Metadata']['Batch Size'] == (pixels or loader.batch_size), model['Name']
