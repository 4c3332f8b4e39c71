"""Checkpoints: published ones load as they are, those of D name their segmentor, what does not fit
is refused.
"""

import pytest
import torch
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import get_state_dict
from mmseg.apis import init_model
from mmseg.registry import MODELS
from small_models import build_open, build_plain, plain_config

from mmseg_opengan.models.frozen_segmentor import read_config, without_downloads

SCORERS = dict(msp=dict(type='MSP'))


@pytest.fixture
def published(tmp_path):
    """(plain model, path of its checkpoint) as mmseg's tools write it."""
    plain = build_plain()
    path = tmp_path / 'plain.pth'
    torch.save(
        dict(meta=dict(CLASSES=('a', 'b'), PALETTE=[[1, 2, 3]]), state_dict=plain.state_dict()),
        path,
    )
    return plain, path


def save(path, state):
    torch.save(dict(state_dict=state), path)
    return str(path)


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_a_published_checkpoint_loads_without_renaming(published, tmp_path, prefix):
    plain, _ = published
    path = save(
        tmp_path / 'prefixed.pth',
        {prefix + key: value for key, value in plain.state_dict().items()},
    )
    model = build_open(segmentor_checkpoint=path)
    state = plain.state_dict()
    assert model.segmentor.state_dict().keys() == state.keys()
    assert all(
        torch.equal(value, state[key]) for key, value in model.segmentor.state_dict().items()
    )
    assert model.held.source == path
    model.check_segmentor()


def drop(state):
    del state['backbone.conv1.weight']


def drop_head(state):
    del state['decode_head.conv_seg.bias']


def other_classes(state):
    state['decode_head.conv_seg.weight'] = torch.zeros(11, 60, 1, 1)


def add(state):
    state['decode_head.extra.weight'] = torch.zeros(3)


def nested(state):
    for key in [key for key in state if key.startswith('decode_head.')]:
        state[key.replace('decode_head.', 'decode_head.inner.')] = state.pop(key)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (drop, r'missing in the checkpoint: backbone\.conv1\.weight \(1 in all\)\.$'),
        (drop_head, r'missing in the checkpoint: decode_head\.conv_seg\.bias \(1'),
        (
            other_classes,
            r'(?s)size mismatch for decode_head\.conv_seg\.weight.*\[11, 60, 1, 1\].*\[5, '
            r'60, 1, 1\]',
        ),
        (add, r'unknown to the model: decode_head\.extra\.weight \(1'),
        (
            nested,
            r'unknown to the model: decode_head\.inner.*missing in the checkpoint: '
            r'decode_head\.conv_seg\.weight',
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_the_segmentor_is_refused(
    published, tmp_path, damage, message
):
    state = dict(published[0].state_dict())
    damage(state)
    with pytest.raises(RuntimeError, match=message):
        build_open(segmentor_checkpoint=save(tmp_path / 'damaged.pth', state))


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = save(tmp_path / 'other.pth', build_plain('SegformerHead').state_dict())
    with pytest.raises(
        RuntimeError, match=r"(?s)other.pth' does not fit the segmentor. .*size mismatch for"
    ):
        build_open(segmentor_checkpoint=path)


def test_auxiliary_head_keys_are_dropped(published, tmp_path):
    state = dict(published[0].state_dict(), **{'auxiliary_head.conv_seg.weight': torch.zeros(1)})
    build_open(segmentor_checkpoint=save(tmp_path / 'aux.pth', state)).check_segmentor()


def test_old_checkpoints_may_lack_num_batches_tracked(published, tmp_path):
    state = {
        key: value
        for key, value in published[0].state_dict().items()
        if 'num_batches_tracked' not in key
    }
    build_open(segmentor_checkpoint=save(tmp_path / 'old.pth', state)).check_segmentor()


def test_random_segmentor_is_refused():
    with pytest.raises(RuntimeError, match=r'random weights\. Set model\.segmentor\.checkpoint'):
        build_open().check_segmentor()


def test_a_missing_checkpoint_is_an_error_that_says_what_to_set():
    with pytest.raises(
        FileNotFoundError, match=r"model\.segmentor\.checkpoint: 'gone\.pth'.*is not there"
    ):
        build_open(segmentor_checkpoint='gone.pth')


# ------------------------------------------------------------------ the segmentor's config


def write_plain_config(path):
    path.write_text(f'default_scope = "mmseg"\nmodel = {plain_config().to_dict()!r}\n')
    return str(path)


def test_a_config_file_is_taken_as_it_is(published, tmp_path):
    plain, path = published
    held = dict(config=write_plain_config(tmp_path / 'mine.py'), checkpoint=str(path))
    model = MODELS.build(
        dict(
            type='OpenGANSegmentor',
            segmentor=held,
            scorers=SCORERS,
            resolution='image',
        )
    ).eval()
    inputs = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(inputs), plain(inputs))
    assert model.held.config == dict(default_scope='mmseg', model=plain_config().to_dict())


@pytest.mark.parametrize(
    ('segmentor', 'error', 'message'),
    [
        (dict(config='nowhere.py'), FileNotFoundError, "nothing at 'nowhere.py'"),
        (dict(config='nopackage::a.py'), FileNotFoundError, "found no package 'nopackage'"),
        (dict(config=dict(a=1)), ValueError, "wanted a config with 'model'"),
        (
            dict(config=dict(model=dict(type='OpenGANSegmentor', segmentor={}))),
            ValueError,
            'wanted a plain mmseg model',
        ),
        (
            dict(checkpoint='a.pth'),
            ValueError,
            r'wanted dict\(config=..., checkpoint=...\), found the keys',
        ),
        (
            dict(config='a.py', weights='a.pth'),
            ValueError,
            r"found the keys \['config', 'weights'\]",
        ),
    ],
)
def test_wrong_segmentors(segmentor, error, message):
    with pytest.raises(error, match=message):
        MODELS.build(dict(type='OpenGANSegmentor', segmentor=segmentor))


def test_configs_of_installed_packages_are_found():
    found = read_config('mmseg::hrnet/fcn_hr18s_4xb2-40k_cityscapes-512x1024.py')
    assert found['model']['decode_head']['type'] == 'FCNHead'
    assert found['model']['pretrained'] is None


def test_nothing_is_downloaded():
    cfg = dict(
        pretrained='open-mmlab://a',
        backbone=dict(
            pretrained=True,
            init_cfg=dict(type='Pretrained', checkpoint='https://a'),
            inner=[
                dict(init_cfg=[dict(type='Kaiming'), dict(type='Pretrained', checkpoint='b.pth')])
            ],
        ),
        neck=dict(init_cfg=dict(type='Kaiming')),
    )
    assert without_downloads(cfg) == dict(
        pretrained=None,
        backbone=dict(
            pretrained=False,
            init_cfg=None,
            inner=[dict(init_cfg=None)],
        ),
        neck=dict(init_cfg=dict(type='Kaiming')),
    )


def test_san_of_the_zoo_is_built_without_a_download(monkeypatch):
    def refuse(url, *args, **kwargs):
        raise AssertionError(url)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', refuse)
    held = dict(config='mmseg::san/san-vit-b16_coco-stuff164k-640x640.py')
    model = MODELS.build(
        dict(
            type='OpenGANSegmentor',
            segmentor=held,
            scorers=SCORERS,
        )
    )
    assert type(model.head.head).__name__ == 'SideAdapterCLIPHead'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(reduction='mean'), r"reduction: wanted one of \('batch', 'term'\), found 'mean'"),
        (dict(generator_loss='wgan'), r"generator_loss: wanted one of .* found 'wgan'"),
        (dict(lambda_fake=-3), r'lambda_fake: wanted a number in \[0, inf\), found -3'),
        (dict(lambda_open=float('nan')), r'lambda_open: wanted a number in \[0, inf\), found nan'),
        (dict(generator=dict(type='FeatureGenerator')), 'generator: wanted a discriminator too'),
        (dict(scorers=dict(rba=dict(type='RbA'))), "'rba' .RbA. has no meaning for FCNHead"),
    ],
)
def test_wrong_options_fail_at_build(options, message):
    import mmseg_opengan.register  # noqa: F401

    with pytest.raises(ValueError, match=message):
        MODELS.build(
            dict(
                type='OpenGANSegmentor',
                segmentor=dict(config=dict(model=plain_config())),
                **options,
            )
        )


# ------------------------------------------------------------------ checkpoints of D and G


@pytest.fixture
def trained(published):
    """(model, its checkpoint, path of the segmentor), as after training."""
    _, path = published
    model = build_open(segmentor_checkpoint=str(path), scorers=SCORERS)
    checkpoint = dict(state_dict=get_state_dict(model), meta=dict())
    model.lean_checkpoint(checkpoint)
    return model, checkpoint, path


def test_a_checkpoint_holds_d_and_g_and_says_whose_they_are(trained):
    model, checkpoint, path = trained
    assert {key.split('.')[0] for key in checkpoint['state_dict']} == {
        'discriminator',
        'segmentor_digest',
    }
    assert checkpoint['meta']['opengan']['segmentor'] == dict(
        config=dict(model=plain_config().to_dict()),
        checkpoint=str(path),
        sha256=model.segmentor_sha256(),
    )


def test_a_checkpoint_gives_the_same_model(trained, tmp_path):
    model, checkpoint, path = trained
    other = build_open(seed=7, segmentor_checkpoint=str(path))
    load_checkpoint(other, save(tmp_path / 'd.pth', checkpoint['state_dict']), strict=True)
    assert other.discriminator_loaded
    assert all(
        torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items()
    )


@pytest.mark.parametrize(
    'load',
    [
        load_checkpoint,
        lambda model, path: model.load_state_dict(torch.load(path)['state_dict'], strict=False),
    ],
    ids=['mmengine', 'torch'],
)
def test_d_trained_on_other_weights_is_refused(trained, tmp_path, load):
    _, checkpoint, path = trained
    file = save(tmp_path / 'd.pth', checkpoint['state_dict'])
    save(path, build_plain(seed=9).state_dict())
    model = build_open(segmentor_checkpoint=str(path))
    with pytest.raises(
        RuntimeError, match=r"another segmentor than that of '.*plain.pth' \(found sha256"
    ):
        load(model, file)
    with pytest.raises(
        RuntimeError, match=r'no segmentor is loaded: set model\.segmentor\.checkpoint'
    ):
        load(build_open(), file)
    del checkpoint['state_dict']['segmentor_digest']
    with pytest.raises(RuntimeError, match='found sha256 000000000000 in the checkpoint'):
        load(model, save(tmp_path / 'd.pth', checkpoint['state_dict']))


def test_init_model_takes_d_alone_and_refuses_the_segmentors_file(trained, tmp_path):
    """mmseg's own way in: a segmentor's weights in place of D's once served maps of a random D."""
    model, checkpoint, path = trained
    cfg = tmp_path / 'open.py'
    segmentor = dict(config=dict(model=plain_config().to_dict()), checkpoint=str(path))
    values = dict(
        type='OpenGANSegmentor',
        segmentor=segmentor,
        discriminator=dict(type='FeatureDiscriminator', hidden=(16, 8)),
    )
    cfg.write_text(
        f"default_scope = 'mmseg'\nmodel = {values!r}\n"
        "test_dataloader = dict(dataset=dict(type='CityscapesDataset'))\n"
    )
    file = tmp_path / 'd.pth'
    torch.save(
        dict(
            state_dict=checkpoint['state_dict'],
            meta=dict(dataset_meta=dict(classes=('a',), palette=[[0] * 3])),
        ),
        file,
    )
    found = init_model(str(cfg), str(file), device='cpu')
    assert torch.equal(found.discriminator.layers[0].weight, model.discriminator.layers[0].weight)
    with pytest.raises(
        RuntimeError, match=r'holds no discriminator.*go to model\.segmentor\.checkpoint'
    ):
        init_model(str(cfg), str(path), device='cpu')


@pytest.mark.parametrize(
    'discriminator', [dict(hidden=(16, 4)), dict(hidden=(16, 8), first_bn=False)]
)
def test_d_of_another_shape_is_refused(trained, discriminator):
    """mmengine would log a warning and test a D that is partly random."""
    _, checkpoint, path = trained
    model = build_open(
        discriminator=dict(type='FeatureDiscriminator', **discriminator),
        segmentor_checkpoint=str(path),
    )
    with pytest.raises(
        RuntimeError,
        match=r'(?s)does not fit the discriminator.*size mismatch for layers',
    ):
        model.load_state_dict(checkpoint['state_dict'], strict=False)


def test_a_model_without_d_takes_a_checkpoint_that_has_one(trained):
    _, checkpoint, path = trained
    model = build_open(
        discriminator=None,
        scorers=SCORERS,
        segmentor_checkpoint=str(path),
    )
    model.load_state_dict(checkpoint['state_dict'], strict=False)
    model.check_segmentor()
