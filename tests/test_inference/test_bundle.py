"""One file that gives the same bits where there are neither configs nor data nor label modules."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from tiny_camvid import write_checkpoints
from tool_calls import REPO, environment

from mmseg_opengan.inference.bundle import write_bundle
from mmseg_opengan.inference.inferencer import OpenSetInferencer
from mmseg_opengan.models.scorers.base import SCORERS, FitData

LABELS = """
from mmseg.registry import DATASETS
from mmseg_opengan.datasets.camvid import CamVidOpenSet

@DATASETS.register_module(force=True)
class MyLabels(CamVidOpenSet):
    pass
"""
NETWORK = """
from mmseg.models.backbones import ResNet
from mmseg.registry import MODELS

@MODELS.register_module()
class MyNet(ResNet):
    pass
"""


def run(inferencer, image):
    return inferencer(image, show_progress=False)[0]


def fitted(folder, channels=12, classes=11, **config):
    """File of a scorer that has learned from random pixels."""
    random = torch.Generator().manual_seed(0)
    features = torch.rand(400, channels, generator=random)
    weight = torch.randn(classes, channels, generator=random)
    logits = features @ weight.T
    data = FitData(features, logits, logits.argmax(1), weight, torch.zeros(classes))
    SCORERS.build(config).fit(data).save_file(folder / f'{config["type"]}.pth')
    return str(folder / f'{config["type"]}.pth')


def test_the_same_bits_elsewhere(tiny, frames, tmp_path, monkeypatch):
    """In a process of its own, whose folder has the bundle and an image alone."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / 'my_labels.py').write_text(LABELS)
    cfg = Config.fromfile(tiny[2])
    cfg.custom_imports.imports.append('my_labels')
    __import__('my_labels')
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.type = 'MyLabels'
    d = dict(discriminator=dict(type='FeatureDiscriminator'), checkpoint=str(tiny[3]))
    trained = dict(type='DiscriminatorScorer', **d)
    cfg.model.scorers.update(
        mahalanobis=dict(
            type='NearestNeighbour', checkpoint=fitted(tmp_path, type='NearestNeighbour')
        ),
        react=dict(type='ReAct', checkpoint=fitted(tmp_path, type='ReAct', quantile=0.7)),
        mixed=dict(
            type='Hybrid',
            checkpoint=fitted(
                tmp_path,
                type='Hybrid',
                trained=trained,
                weight=0.3,
            ),
        ),
        alone=trained,
    )
    inferencer = OpenSetInferencer(cfg, tiny[3], device='cpu')
    wanted = run(inferencer, frames[0])
    (tmp_path / 'away').mkdir()
    write_bundle(tmp_path / 'away/bundle.pth', inferencer, inferencer.decisions())
    code = f"""
import numpy as np, torch
torch.set_num_threads(1)
from mmseg_opengan import OpenSetInferencer
inferencer = OpenSetInferencer('bundle.pth', device='cpu')
result = inferencer({frames[0]!r}, show_progress=False)[0]
np.savez('found.npz', labels=result.labels, picture=result.picture, **result.scores)
print(inferencer.threshold('fpr=0.05'), inferencer.threshold('f1', 'react'), inferencer.scales())
"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path / 'away',
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / 'away/found.npz')
    assert set(found) == {'labels', 'picture', *wanted.scores}
    assert (found['labels'] == wanted.labels).all()
    assert (found['picture'] == wanted.picture).all()
    for name, score in wanted.scores.items():
        assert (found[name] == score).all(), name
    decided = (
        inferencer.threshold('fpr=0.05'),
        inferencer.threshold('f1', 'react'),
        inferencer.scales(),
    )
    assert done.stdout.splitlines()[-1] == ' '.join(map(str, decided))
    content = torch.load(tmp_path / 'away/bundle.pth', weights_only=True)
    assert content['meta']['opengan']['bundle']['custom_imports'] == dict(imports=[])
    assert str(tiny[0]) not in repr(content['meta'])  # no path of this machine


def test_a_checkpoint_alone_and_its_bundle_in_a_process_of_their_own(tiny, frames, tmp_path):
    """Of a segmentor whose config imports its network, and labels that a bundle does not need."""
    for folder, name, code in (('net', 'my_net', NETWORK), ('labels', 'my_labels', LABELS)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f'{name}.py').write_text(code)
    cfg = Config.fromfile(tiny[2])
    cfg.model.segmentor.config.model.backbone.type = 'MyNet'
    cfg.model.segmentor.config.custom_imports = dict(imports=['my_net', 'my_labels'])
    cfg.dump(tmp_path / 'mine.py')
    with pytest.MonkeyPatch.context() as patch:
        for folder in ('net', 'labels'):
            patch.syspath_prepend(str(tmp_path / folder))
        trained, segmentor = write_checkpoints(tmp_path, tmp_path / 'mine.py')
    code = f"""
import sys
from mmseg_opengan import OpenSetInferencer
from mmseg_opengan.inference.bundle import write_bundle
alone = OpenSetInferencer({str(trained)!r}, segmentor_checkpoint={str(segmentor)!r}, device='cpu')
wanted = alone({frames[0]!r}, show_progress=False)[0].scores['opengan']
write_bundle('bundle.pth', alone, None)
sys.path.remove({str(tmp_path / 'labels')!r})
del sys.modules['my_labels']
found = OpenSetInferencer('bundle.pth', device='cpu')
assert (found({frames[0]!r}, show_progress=False)[0].scores['opengan'] == wanted).all()
"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        env=environment(REPO, tmp_path / 'net', tmp_path / 'labels'),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_plain_model_and_one_without_thresholds(tiny, frames, tmp_path):
    cfg = Config(dict(model=Config.fromfile(tiny[2]).model.segmentor.config.model))
    plain = OpenSetInferencer(cfg, tiny[4], scorers=['energy'], device='cpu')
    assert not plain.decides
    write_bundle(tmp_path / 'bundle.pth', plain, None)
    found = OpenSetInferencer(tmp_path / 'bundle.pth', device='cpu')
    assert found.cfg.custom_imports == dict(imports=[])  # another bundle has them too
    one, other = run(plain, frames[0]), run(found, frames[0])
    assert (one.scores['energy'] == other.scores['energy']).all()
    with pytest.raises(ValueError, match=r'fpr=0.05: wanted val_dataloader'):
        found.threshold('fpr=0.05')
    options = {'model.resolution': 'feature'}
    with pytest.raises(ValueError, match='a bundle has its model whole: wanted no cfg_options'):
        OpenSetInferencer(tmp_path / 'bundle.pth', cfg_options=options, device='cpu')


def test_scorers_of_a_bundle_are_chosen(inferencer, frames, tmp_path):
    path = tmp_path / 'bundle.pth'
    write_bundle(path, inferencer, inferencer.decisions())
    found = OpenSetInferencer(path, scorers=['msp'], device='cpu')
    assert set(run(found, frames[0]).scores) == {'msp', 'opengan'}  # D stays
    assert found.threshold('fpr=0.05', 'msp') == inferencer.threshold('fpr=0.05', 'msp')
    with pytest.raises(ValueError, match=r"wanted some of .*which the bundle has, found \['gen'\]"):
        OpenSetInferencer(path, scorers=['gen'], device='cpu')


def test_the_first_scorer_that_is_asked_for_is_the_main_one(tiny, frames, tmp_path):
    """Of a bundle too, in whatever order it was made."""
    cfg = Config(dict(model=Config.fromfile(tiny[2]).model.segmentor.config.model))
    made = OpenSetInferencer(cfg, tiny[4], scorers=['energy', 'msp'], device='cpu')
    write_bundle(tmp_path / 'bundle.pth', made, None)
    for names in (['msp', 'energy'], ['energy', 'msp'], ['msp']):
        for model in ((tmp_path / 'bundle.pth',), (cfg, tiny[4])):
            found = OpenSetInferencer(*model, scorers=names, device='cpu')
            assert found.main == names[0]
            assert set(run(found, frames[0]).scores) == set(names)
    assert OpenSetInferencer(tmp_path / 'bundle.pth', device='cpu').main == 'energy'


def test_wrong_bundles_are_refused(tiny, inferencer, frames, tmp_path):
    with pytest.raises(ValueError, match=r'ends in \.pth'):
        write_bundle(tmp_path / 'bundle.bin', inferencer, None)
    path = tmp_path / 'bundle.pth'
    write_bundle(path, inferencer, None)
    content = torch.load(path)
    weight = content['segmentor']['decode_head.conv_seg.weight']
    weight[0, 0] += 1
    torch.save(content, path)
    with pytest.raises(RuntimeError, match='another segmentor'):
        OpenSetInferencer(path, device='cpu')
    weight[0, 0] = torch.nan
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"bundle\.pth': wanted numbers.*conv_seg\.weight"):
        OpenSetInferencer(path, device='cpu')


def test_commands_as_types_are_refused_on_every_way_in(tiny, inferencer, tmp_path):
    """mmengine calls whatever a dotted type names."""
    sign = tmp_path / 'ran'
    command = dict(type='subprocess.Popen', args=['touch', str(sign)])
    write_bundle(tmp_path / 'bundle.pth', inferencer, None)
    for part in ('model', 'test_pipeline'):
        content = torch.load(tmp_path / 'bundle.pth')
        parts = content['meta']['opengan']['bundle']
        parts[part] = command if part == 'model' else [*parts['test_pipeline'], command]
        torch.save(content, tmp_path / f'{part}.pth')
    content = torch.load(tiny[3])
    content['meta']['opengan']['segmentor']['config']['model'] = command
    torch.save(content, tmp_path / 'd.pth')
    content = torch.load(fitted(tmp_path, type='Hybrid', trained=dict(type='MSP')))
    content['meta']['options']['trained'] = command
    torch.save(content, tmp_path / 'scorer.pth')
    for name in ('model', 'test_pipeline', 'd'):
        with pytest.raises(RuntimeError, match=rf"{name}\.pth'.*found subprocess.Popen"):
            OpenSetInferencer(tmp_path / f'{name}.pth', device='cpu')
    with pytest.raises(RuntimeError, match=r"scorer\.pth'.*found subprocess.Popen"):
        SCORERS.build(dict(type='Hybrid', checkpoint=str(tmp_path / 'scorer.pth')))
    assert not sign.exists()
