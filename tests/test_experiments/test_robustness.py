"""Robustness on a tiny CamVid: numbers against the ordinary test's, attacks, files, the tool."""

import json
import shutil

import cv2
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS
from tiny_camvid import write_checkpoints, write_config, write_images
from tool_calls import call

from mmseg_opengan.contracts import OPEN_SCORES
from mmseg_opengan.experiments.robustness import (
    ATTACKS,
    CLEAN,
    Shift,
    Trial,
    robustness,
    robustness_figure,
)
from mmseg_opengan.experiments.testing import evaluate
from mmseg_opengan.inference.config import find_segmentor, load_model


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """(config, checkpoint of D)."""
    root = tmp_path_factory.mktemp('robustness')
    config = write_config(root, write_images(root / 'camvid'))
    return config, write_checkpoints(root, config)[0]


def numbers(folder, name, shift=CLEAN):
    [path] = folder.glob(f'{name}-*/{shift.kind}_{shift.strength}.json')
    return json.loads(path.read_text())


def test_clean_numbers_are_those_of_the_test(world, tmp_path):
    config, trained = world
    robustness(
        str(config),
        str(trained),
        out=tmp_path / 'out',
        epsilons=[],
        severities=[],
    )
    scorer = dict(
        type='DiscriminatorScorer',
        discriminator=dict(type='FeatureDiscriminator'),
        checkpoint=str(trained),
    )
    cfg = Config.fromfile(config)
    find_segmentor(cfg, str(trained))
    cfg.test_evaluator.threshold = 'fpr=0.05'
    scorers = dict(opengan=scorer, entropy=dict(type='Entropy'))
    hooks = [dict(type='OpenSetEvaluationHook', plot_test=False)]
    cfg.custom_hooks = [dict(type='OpenGANHook')]
    cfg.dump(tmp_path / 'test.py')
    report = evaluate(
        config=str(tmp_path / 'test.py'),
        jobs=[],
        resolution='feature',
        out=tmp_path / 't',
        scorers=scorers,
        hooks=hooks,
    )
    for name in scorers:
        found, expected = numbers(tmp_path / 'out', name), report['scorers'][name]
        for key in ('AUROC', 'FPR95', 'num_closed', 'num_open'):
            assert found[key] == expected[key]
        assert found['mIoU'] == report['mIoU']
        point = expected['operating_points']['fpr=0.05']
        assert (found['FPR'], found['TPR']) == (point['FPR'], point['TPR'])
        calibration = expected.get('calibration', dict(ECE_mass=dict(after=None)))
        assert found['ECE'] == calibration['ECE_mass']['after']


@pytest.mark.parametrize('name', ['opengan', 'entropy'])
@pytest.mark.parametrize('kind', ATTACKS)
def test_an_attack_moves_the_pixels_that_it_is_aimed_at(name, kind, world):
    options = {'model.resolution': 'feature'}
    cfg, model, *_ = load_model(*map(str, world), scorers=[name], cfg_options=options)
    trial = Trial(cfg, model, name, every=1, steps=3)
    before = {key: one.clone() for key, one in model.segmentor.state_dict().items()}
    own = {key: one.clone() for key, one in model.state_dict().items()}
    images = DATASETS.build(trial.cfg.test_dataloader.dataset)
    data = images[0]
    image = trial.changed(data['inputs'], data['data_samples'], Shift(kind, 4))
    assert (image - data['inputs']).abs().max() == 4
    assert torch.equal(image, image.round().clamp(0, 255))

    def scores(one):
        sample = images[0]['data_samples']
        [found] = model.test_step(dict(inputs=[one], data_samples=[sample]))
        return found.get(OPEN_SCORES).get(name).squeeze(0)

    open_map = data['data_samples'].gt_open_map.data.squeeze(0)
    stride = open_map.shape[0] // scores(image).shape[0]
    labels = open_map[::stride, ::stride]
    aimed_at = (labels > 0) & (labels < 255) if 'hide' in kind else labels == 0
    change = (scores(image) - scores(data['inputs']))[aimed_at].mean()
    assert change < 0 if 'hide' in kind else change > 0
    for key, value in model.segmentor.state_dict().items():
        assert torch.equal(value, before[key])
    for key, value in model.state_dict().items():
        assert torch.equal(value, own[key])
    assert all(weight.grad is None for weight in model.segmentor.parameters())


def test_the_tool_measures_once_and_averages_over_seeds(world, tmp_path, monkeypatch):
    config, trained = world
    out, shifts = tmp_path / 'out', ['--epsilons', '2', '--severities', '5', '--steps', '2']
    scores = ['--scorers', 'opengan', 'entropy']
    call('robustness.py', config, trained, '--out', out, '--every', '2', *shifts, *scores)
    assert {path.suffix for path in out.glob('robustness.*')} == {'.md', '.png', '.pdf'}
    assert numbers(out, 'opengan')['num_images'] == 2
    files = {path: path.stat().st_mtime_ns for path in out.glob('*-*/*_[0-9].json')}
    assert len(files) == 2 * (1 + 4 + 5)

    stored = torch.load(trained, weights_only=True)
    for key, value in stored['state_dict'].items():
        if key.startswith('discriminator.') and value.ndim == 2:
            value.add_(0.1 * torch.randn_like(value))
    second = tmp_path / 'second.pth'
    torch.save(stored, second)
    text = robustness(
        str(config),
        str(second),
        out=out,
        scorers=['opengan'],
        every=2,
        epsilons=[2],
        severities=[5],
        steps=2,
    )
    clean, entropy = numbers(out, 'entropy')['AUROC'], numbers(out, 'entropy', Shift('fog', 5))
    both = [json.loads(p.read_text())['AUROC'] for p in out.glob('opengan-*/clean_0.json')]
    assert len(both) == 2
    assert f'| clean | 0 | {clean:.3f} | ' in text
    assert f'{sum(both) / 2:.3f} ± ' in text
    assert f'| fog | 5 | {entropy["AUROC"]:.3f} | ' in text
    assert all(path.stat().st_mtime_ns == made for path, made in files.items())

    with pytest.raises(
        ValueError,
        match=r'made from something else \(every: wanted 1, found 2; steps: wanted 5, found 2\)',
    ):
        robustness(str(config), str(trained), out=out)


def test_corrected_labels_are_other_images(world, tmp_path):
    cfg = Config.fromfile(world[0])
    shutil.copytree(cfg.test_dataloader.dataset.data_root, tmp_path / 'data')
    for loader in (cfg.test_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(tmp_path / 'data')
    cfg.dump(tmp_path / 'tiny.py')
    how = dict(out=tmp_path / 'out', scorers=['msp'], epsilons=[], severities=[])
    robustness(str(tmp_path / 'tiny.py'), str(world[1]), **how)
    label = tmp_path / 'data/val_labels32/b.png'
    cv2.imwrite(str(label), cv2.imread(str(label), cv2.IMREAD_UNCHANGED)[::-1])
    with pytest.raises(ValueError, match=r'made from something else \(files\.images: wanted '):
        robustness(str(tmp_path / 'tiny.py'), str(world[1]), **how)


def test_a_score_of_other_options_is_no_other_seed(world, tmp_path):
    config, trained = map(str, world)
    options = {'model.scorers.gen.type': 'GEN', 'model.scorers.gen.gamma': 0.5}
    how = dict(out=tmp_path / 'out', scorers=['gen'], epsilons=[], severities=[])
    robustness(config, trained, **how)
    with pytest.raises(ValueError, match=r'gen-\w+. was made from something else .maker\.gamma'):
        robustness(config, trained, options=options, **how)


def test_names_may_begin_alike(world, tmp_path):
    """The folder of 'gen-pc' is none of 'gen'."""
    config, trained = map(str, world)
    options = {}
    for name, gamma in (('gen-pc', 0.5), ('gen', 0.1)):
        options[f'model.scorers.{name}'] = dict(type='GEN', gamma=gamma)
    how = dict(out=tmp_path, options=options, epsilons=[], severities=[])
    for name in ('gen-pc', 'gen'):
        text = robustness(config, trained, scorers=[name], **how)
    assert len(list(tmp_path.glob('*-*/clean_0.json'))) == 2
    assert '| gen-pc |' in text


def test_a_score_that_reads_the_image_is_refused(world, tmp_path):
    with pytest.raises(ValueError, match="wanted none that reads the image, found 'mspc'"):
        robustness(*map(str, world), out=tmp_path, scorers=['msp', 'mspc'])
    assert not list(tmp_path.rglob('*.json'))


def test_figure_has_a_panel_for_each_kind_and_a_line_for_each_score():
    shifts = [CLEAN, *(Shift(kind, strength) for kind in ATTACKS for strength in (1, 2))]
    cells = {}
    for name, of_seeds in (('msp', [0.5, 0.7]), ('gen', [0.4])):
        for kind, strength in shifts:
            found = [dict(AUROC=auroc + 0.1 * strength) for auroc in of_seeds]
            cells[name, kind, strength] = found
    drawn = robustness_figure(cells, shifts).axes
    titles = ['fgsm, hide', 'pgd, hide', 'fgsm, alarm', 'pgd, alarm']
    assert [axes.get_title() for axes in drawn] == titles
    for axes in drawn:
        lines = {line.get_label(): line for line in axes.lines}
        assert lines['MSP'].get_xdata().tolist() == [0, 1, 2]
        assert lines['MSP'].get_ydata() == pytest.approx([0.6, 0.7, 0.8])
        assert lines['GEN'].get_ydata() == pytest.approx([0.4, 0.5, 0.6])
