"""The held segmentor stays as it is: its mode, its place, its weights and its gradients."""

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from small_models import batch_of, build_open, build_plain, pair, plain_config, raw_image

from mmseg_opengan.contracts import OPEN_SCORES, OPENGAN
from mmseg_opengan.models.frozen_segmentor import options_of_features


def test_the_segmentor_is_in_eval_mode_from_the_start_and_stays_there():
    """The feature bank is built before any loop sets a mode: BN must not normalise by the image at
    hand.
    """
    model = MODELS.build(
        dict(
            type='OpenGANSegmentor',
            segmentor=dict(config=dict(model=plain_config())),
            scorers=dict(msp=dict(type='MSP'), entropy=dict(type='Entropy')),
            discriminator=dict(type='FeatureDiscriminator', hidden=(16, 8)),
            generator=dict(type='FeatureGenerator', hidden=(8,)),
        )
    )
    for mode in (None, True, False, True):
        if mode is not None:
            model.train(mode)
        trained = mode is not False
        assert model.discriminator.training == model.generator.training == trained
        frozen = [*model.segmentor.modules(), *model.scorers.modules()]
        assert len(frozen) > 50
        assert not any(m.training for m in frozen)
    assert {name.split('.')[0] for name, _ in model.named_parameters()} == {
        'discriminator',
        'generator',
    }
    assert {name.split('.')[0] for name in model.state_dict()} == {
        'discriminator',
        'generator',
        'segmentor_digest',
    }


def test_moves_reach_the_segmentor():
    model = build_open().to(memory_format=torch.channels_last)
    weight = model.segmentor.decode_head.convs[0].conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert next(build_open().to('meta').segmentor.parameters()).is_meta


@pytest.mark.parametrize('context', [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_prediction_leaves_no_tap_and_no_gradient(context):
    model = build_open()
    with context():
        (sample,) = model.test_step(batch_of(raw_image()))
        model.extract_image(*raw_image())
    assert model.head._here.ear is None
    assert not sample.get(OPEN_SCORES).get(OPENGAN).requires_grad
    assert all(p.grad is None for p in model.segmentor.parameters())


def test_init_weights_leaves_loaded_weights_alone():
    plain, wrapped = pair()
    wrapped.init_weights()
    assert all(
        torch.equal(value, plain.state_dict()[key])
        for key, value in wrapped.segmentor.state_dict().items()
    )


@pytest.mark.parametrize(
    ('change', 'is_another'),
    [
        ({}, False),
        (dict(data_preprocessor=dict(mean=[0.0, 0.0, 0.0])), True),
        (dict(data_preprocessor=dict(bgr_to_rgb=False)), True),
        (dict(data_preprocessor=dict(test_cfg=dict(size_divisor=32))), False),
        (dict(decode_head=dict(align_corners=True)), True),
        (dict(decode_head=dict(norm_cfg=dict(eps=1e-3))), True),
        (dict(decode_head=dict(norm_cfg=dict(type='SyncBN', requires_grad=False))), False),
        (
            dict(decode_head=dict(dropout_ratio=0.5, loss_decode=dict(type='CrossEntropyLoss'))),
            False,
        ),
        (dict(decode_head=dict(type='mmseg.FCNHead')), False),
    ],
    ids=str,
)
def test_d_belongs_to_weights_options_and_preprocessing(tmp_path, change, is_another):
    weights = tmp_path / 'plain.pth'
    torch.save(dict(state_dict=build_plain().state_dict()), weights)
    model = build_open(segmentor_checkpoint=str(weights))
    config = Config(dict(model=plain_config()))
    config.merge_from_dict(dict(model=change))
    held = dict(config=config, checkpoint=str(weights))
    d = dict(type='FeatureDiscriminator', hidden=(16, 8))
    other = MODELS.build(dict(type='OpenGANSegmentor', segmentor=held, discriminator=d))
    assert (other.segmentor_sha256() != model.segmentor_sha256()) == is_another
    if is_another:
        with pytest.raises(RuntimeError, match='weights, options of the network or preprocessing'):
            other.load_state_dict(model.state_dict(), strict=False)
    else:
        other.load_state_dict(model.state_dict(), strict=False)


def test_options_of_another_spelling_and_of_training_do_not_count():
    one = dict(type='SyncBN', drop_path_rate=0.1, attn_drop=0.2, loss_cls=1, class_embed_path='a')
    other = dict(type='BN', drop_path_rate=0.3, class_embed_path='b', requires_grad=True)
    assert options_of_features([one]) == options_of_features([other])
    kinds = [dict(type=kind) for kind in ('nearest', 'bilinear')]
    assert options_of_features(kinds[0]) != options_of_features(kinds[1])
