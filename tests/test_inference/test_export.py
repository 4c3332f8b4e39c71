"""Exported files against torch; each is checked again by its own runtime, as a user would run it."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from small_models import BN, MIT, PYRAMID, RESNET, build_plain, plain_config
from tiny_camvid import write_checkpoints, write_config, write_images
from tool_calls import call

from mmseg_opengan.inference.export import compared, export
from mmseg_opengan.inference.inferencer import OpenSetInferencer
from mmseg_opengan.models.scorers.base import SCORERS, FitData

CGNET = (
    dict(
        type='CGNet',
        norm_cfg=BN,
        in_channels=3,
        num_channels=(8, 16, 32),
        num_blocks=(2, 2),
        dilations=(2, 4),
        reductions=(8, 16),
    ),
    dict(
        type='FCNHead',
        in_channels=64,
        in_index=2,
        channels=64,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0,
    ),
    64,
)
SEGFORMER = (
    dict(
        MIT,
        num_stages=2,
        num_layers=[1, 1],
        num_heads=[1, 2],
        sr_ratios=[8, 1],
        patch_sizes=[7, 3],
        strides=[4, 2],
        out_indices=(0, 1),
    ),
    dict(PYRAMID, type='SegformerHead', in_channels=[8, 16], in_index=[0, 1]),
    12,
)
SIZE = (96, 128)


@pytest.fixture(scope='module')
def onnxruntime():
    for name in ('onnx', 'onnxscript'):
        pytest.importorskip(name, reason='needs the extra "export"')
    return pytest.importorskip('onnxruntime', reason='needs the extra "export"')


@pytest.fixture(scope='module')
def frames():
    """BGR images of soft shapes."""
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(2, 3, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(rough, SIZE, mode='bicubic').clamp(0, 1)
    return list((255 * smooth).byte().permute(0, 2, 3, 1).contiguous().numpy())


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """(config, checkpoint of D and G, segmentor)."""
    root = tmp_path_factory.mktemp('tiny')
    config = write_config(root, write_images(root / 'data'))
    return config, *write_checkpoints(root, config)


def plain(name, folder, *, score='gen', test_cfg=None, **options):
    """An inferencer of mmseg's own model, with a score that needs no training."""
    file = folder / 'plain.pth'
    weights = build_plain(name).state_dict()
    torch.nn.init.normal_(weights['decode_head.conv_seg.weight'])  # scores that differ
    torch.save(weights, file)
    config = Config(dict(model=plain_config(name, test_cfg=test_cfg, **options)))
    return OpenSetInferencer(config, file, scorers=[score], device='cpu')


def rgb(frames):
    return np.ascontiguousarray(np.stack(frames).transpose(0, 3, 1, 2)[:, ::-1])


def assert_equals_the_inferencer(inferencer, frames, labels, scores, score):
    for i, result in enumerate(inferencer(frames, show_progress=False)):
        assert (labels[i] == result.labels).mean() > 0.9999
        wanted = result.scores[score]
        assert np.abs(scores[i] - wanted).max() < 1e-4 * np.ptp(wanted)


@pytest.mark.parametrize('name', ['FCNHead', SEGFORMER, CGNET], ids=['HRNet', 'MiT', 'CGNet'])
def test_onnx_gives_what_the_inferencer_gives(name, onnxruntime, frames, tmp_path):
    inferencer = plain(name, tmp_path)
    text = export(inferencer, tmp_path / 'm.onnx', images=frames, score='gen')
    assert '2x96x128' in text
    session = onnxruntime.InferenceSession(tmp_path / 'm.onnx')
    (image,) = session.get_inputs()
    assert image.name == 'image'
    assert image.type == 'tensor(uint8)'
    assert [isinstance(length, str) for length in image.shape] == [True, False, True, True]
    assert [one.name for one in session.get_outputs()] == ['labels', 'score']
    labels, scores = session.run(None, dict(image=rgb(frames)))
    assert_equals_the_inferencer(inferencer, frames, labels, scores, 'gen')


def test_a_trained_discriminator_gives_a_probability_too(tiny, onnxruntime, frames, tmp_path):
    config, trained, _ = tiny
    inferencer = OpenSetInferencer(config, trained, device='cpu')
    export(inferencer, tmp_path / 'new/d.onnx', dtype='float32')  # checked on the test images
    session = onnxruntime.InferenceSession(tmp_path / 'new/d.onnx')
    image = dict(image=rgb(frames).astype(np.float32))
    labels, scores, probability = session.run(['labels', 'score', 'probability'], image)
    whole = OpenSetInferencer(config, trained, device='cpu')
    assert_equals_the_inferencer(whole, frames, labels, scores, 'opengan')
    assert np.allclose(probability, 1 / (1 + np.exp(-scores)), atol=1e-6)
    assert np.ptp(probability) > 0.1
    meta = session.get_modelmeta().custom_metadata_map
    assert json.loads(meta['score']) == 'opengan'
    assert len(json.loads(meta['classes'])) == 11
    assert meta['opset'] == '18'


def test_a_hybrid_is_exported_with_what_it_learned(tiny, onnxruntime, frames, tmp_path):
    config, trained, segmentor = tiny
    features = torch.rand(50, 12, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(11, 12, generator=torch.Generator().manual_seed(1))
    data = FitData(features, features @ weight.T, torch.zeros(50).long(), weight, torch.zeros(11))
    network = dict(type='FeatureDiscriminator')
    trained = dict(
        type='DiscriminatorScorer',
        discriminator=network,
        checkpoint=str(trained),
    )
    scorer = SCORERS.build(dict(type='Hybrid', trained=trained)).fit(data)
    scorer.save_file(tmp_path / 'hybrid.pth')
    options = {
        'model.discriminator': None,
        'model.scorers': dict(hybrid=dict(type='Hybrid', checkpoint=str(tmp_path / 'hybrid.pth'))),
    }
    inferencer = OpenSetInferencer(config, segmentor, device='cpu', cfg_options=options)
    export(inferencer, tmp_path / 'h.onnx', images=frames, score='hybrid')
    session = onnxruntime.InferenceSession(tmp_path / 'h.onnx')
    labels, scores = session.run(None, dict(image=rgb(frames)))
    assert_equals_the_inferencer(inferencer, frames, labels, scores, 'hybrid')


def test_the_fused_score_of_a_model_is_exported(tiny, frames, tmp_path):
    config, trained, _ = tiny
    fuse = {'model.fuse': dict(free=dict(type='GEN'), weight=0.5)}
    inferencer = OpenSetInferencer(config, trained, device='cpu', cfg_options=fuse)
    generator = torch.Generator().manual_seed(0)
    inferencer.model.measure_fusion(torch.rand(50, 12, generator=generator))
    assert "score 'hybrid'" in export(inferencer, tmp_path / 'f.pt2', images=frames)
    program = torch.export.load(tmp_path / 'f.pt2').module()
    labels, scores = (one.detach().numpy() for one in program(torch.from_numpy(rgb(frames))))
    assert_equals_the_inferencer(inferencer, frames, labels, scores, 'hybrid')


def test_a_torch_program_with_attention_takes_one_image(frames, tmp_path):
    inferencer = plain(SEGFORMER, tmp_path)
    text = export(inferencer, tmp_path / 'm.pt2', images=frames, score='gen')
    assert 'one image at a time' in text
    meta = {'opengan.json': ''}
    program = torch.export.load(tmp_path / 'm.pt2', extra_files=meta)
    assert json.loads(meta['opengan.json'])['score'] == 'gen'
    labels, scores = program.module()(torch.from_numpy(rgb(frames[:1])))
    found = labels.numpy(), scores.detach().numpy()
    assert_equals_the_inferencer(inferencer, frames[:1], *found, 'gen')


def test_a_file_that_differs_is_not_written(tiny, onnxruntime, frames, tmp_path, monkeypatch):
    inferencer = OpenSetInferencer(*tiny[:2], device='cpu')
    monkeypatch.setattr(
        'mmseg_opengan.models.exported.ExportedModel._preprocessed',
        lambda self, image: (image.float() - 119) / 60,
    )
    with pytest.raises(RuntimeError, match=r'wanted labels equal .*, found .*No file was written'):
        export(inferencer, tmp_path / 'm.onnx', images=frames)
    assert not list(tmp_path.iterdir())


def test_a_head_that_pools_to_a_grid_needs_one_size(onnxruntime, frames, tmp_path):
    name = (
        dict(
            RESNET,
            num_stages=1,
            strides=(1,),
            dilations=(1,),
            out_indices=(0,),
        ),
        dict(
            type='UPerHead',
            in_channels=[8],
            in_index=[0],
            channels=12,
            pool_scales=(1, 3),
        ),
        12,
    )
    inferencer = plain(name, tmp_path)
    with pytest.raises(RuntimeError, match=r'No file was written.*--size HEIGHT WIDTH'):
        export(inferencer, tmp_path / 'm.onnx', images=frames, score='gen')
    assert not (tmp_path / 'm.onnx').exists()
    text = export(
        inferencer,
        tmp_path / 'm.onnx',
        images=frames,
        score='gen',
        size=(65, 97),
    )
    assert '1x65x97, 2x65x97' in text
    session = onnxruntime.InferenceSession(tmp_path / 'm.onnx')
    (image,) = session.get_inputs()
    assert isinstance(image.shape[0], str)
    assert image.shape[1:] == [3, 65, 97]
    small = [frame[:65, :97] for frame in (*frames, frames[0])]
    labels, scores = session.run(None, dict(image=rgb(small)))
    assert_equals_the_inferencer(inferencer, small, labels, scores, 'gen')


def outputs(scores):
    """A file's labels, scores (1, 100, 100) and their sigmoids."""
    scores = np.asarray(scores, np.float32).reshape(1, 100, 100)
    return np.zeros(scores.shape, np.int32), scores, 1 / (1 + np.exp(-scores))


def test_the_largest_difference_counts():
    scores = np.linspace(-3, 7, 10_000)
    wanted = [outputs(scores), outputs(scores)]
    largest = scores == scores.max()
    text = compared([outputs(scores), outputs(scores + 9e-4 * largest)], wanted)
    assert 'labels equal at 100.0000 % of the pixels, scores within 9.0e-05 of their' in text
    other = outputs(scores)
    other[0][0, 0, :2] = 1
    middle = np.abs(scores) < 1e-3  # .0009 are .0002 of the probability there
    wrong = (scores + 2e-3 * largest, scores * np.nan, scores + 9e-4 * middle)
    for values in (*map(outputs, wrong), other):
        with pytest.raises(ValueError, match=r'probabilities within 0\.0001, found 2 batches'):
            compared([values, outputs(scores)], wanted)


def test_scores_that_hardly_differ_are_held_to_a_smallest_range():
    """As those of a D of few steps, where rounding is much of the range."""
    scores = np.linspace(-1e-4, 1e-4, 10_000)
    compared([outputs(scores + 5e-6)], [outputs(scores)])
    with pytest.raises(ValueError, match='of their range'):
        compared([outputs(scores + 2e-5)], [outputs(scores)])


def test_what_cannot_be_exported_is_named(frames, tmp_path, monkeypatch):
    def attempt(inferencer, path='m.pt2', **options):
        export(inferencer, tmp_path / path, images=frames, **options)

    inferencer = plain('FCNHead', tmp_path)
    slides = dict(mode='slide', crop_size=(32, 32), stride=(16, 16))
    cases = [
        (inferencer, r"score: wanted one of \['gen'\], found 'msp'", dict(score='msp')),
        (inferencer, r"\.onnx or \.pt2, found '.*m\.pth'", dict(path='m.pth')),
        (inferencer, "dtype: wanted 'uint8' or 'float32', found 'int8'", dict(dtype='int8')),
        (inferencer, 'images: wanted at least one', dict(limit=0)),
        (inferencer, 'size: wanted a height and a width, found', dict(size=(0, 5))),
        (plain('FCNHead', tmp_path, test_cfg=slides), "'whole', found 'slide'", dict(score='gen')),
        (plain('FCNHead', tmp_path, size_divisor=32), 'no padding', dict(score='gen')),
        (
            plain('FCNHead', tmp_path, score='mspc'),
            "found 'mspc'",
            dict(score='mspc'),
        ),
    ]
    for found, message, options in cases:
        with pytest.raises(ValueError, match=message):
            attempt(found, **options)
    monkeypatch.setattr('mmseg_opengan.inference.packages.find_spec', lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'found no onnx, .*mmseg-opengan\[export\]'):
        attempt(inferencer, 'm.onnx', score='gen')


def test_the_tool(tiny, tmp_path):
    config, trained, _ = tiny
    size = ('--size', 50, 70)
    call('export.py', config, trained, tmp_path / 'm.pt2', '--scorers', 'msp', *size)
    program = torch.export.load(tmp_path / 'm.pt2').module()
    labels, scores = program(torch.zeros(3, 3, 50, 70, dtype=torch.uint8))
    assert labels.shape == scores.shape == (3, 50, 70)
