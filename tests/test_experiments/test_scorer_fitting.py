"""Fitting scorers from a bank and choosing their options, on a tiny Cityscapes and a random
segmentor.
"""

import json
import math
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS, MODELS
from PIL import Image
from sklearn.metrics import roc_auc_score
from tiny_camvid import MODEL, PLAIN
from tiny_cityscapes import NO_OPEN, images, write_images

from mmseg_opengan.contracts import GT_OPEN_MAP, OPEN_SCORES, VOID
from mmseg_opengan.experiments.scorer_fitting import (
    FitSettings,
    _Task,
    candidates_of,
    fit_data,
    fit_scorers,
    load_segmentor,
)
from mmseg_opengan.features.bank import RowPool
from mmseg_opengan.functional.pixels import labels_on_grid
from mmseg_opengan.models.opengan_head import Tap
from mmseg_opengan.models.scorers.base import FittedScorer

SETTINGS = FitSettings(
    num_pixels=200,
    seed=1,
    grids=dict(nn=dict(k=[1, 3]), gmm=dict(num_components=[1, 2], covariance=['diag'])),
)
SCORERS = dict(
    msp=dict(type='MSP'),
    nn=dict(type='NearestNeighbour', num_references=100, checkpoint='not/yet.pth'),
    gmm=dict(type='GMM'),
    centroid=dict(type='ClassCentroid', normalize=True),
    mspc=dict(type='MSPc', temperature=2.0, epsilon=0.01),
)
LEARN = ['nn', 'gmm', 'centroid', 'mspc']
CHOSEN, SINGLE = LEARN[:2], LEARN[2:]  # of several candidates, of one


def some(*names):
    return {name: SCORERS[name] for name in names}


def make_config(folder, scorers=SCORERS) -> Config:
    source = dict(
        closed=images(folder / 'data', split='train'),
        open=images(folder / 'data', split='train'),
        closed_per_image=80,
        sampler=dict(
            type='PixelSampler',
            num_closed=20,
            num_open=10,
            num_fake=0,
        ),
    )
    plain = dict(PLAIN, decode_head=dict(PLAIN['decode_head'], num_classes=19))
    weights = folder / 'segmentor.pth'  # the first call makes them
    held = dict(config=dict(model=plain), checkpoint=str(weights) if weights.exists() else None)
    return Config(
        dict(
            model=dict(MODEL, segmentor=held, scorers=scorers),
            train_dataloader=dict(
                dataset=dict(
                    type='StoreSource',
                    root=str(folder / 'bank'),
                    **source,
                )
            ),
            val_dataloader=dict(dataset=images(folder / 'data', split='open_val')),
        )
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Data, and a segmentor whose features are no constants."""
    path = tmp_path_factory.mktemp('fitting')
    write_images(path / 'data', number=5, size=(48, 64))
    torch.manual_seed(0)
    model = MODELS.build(make_config(path, {}).model)
    for name, value in model.segmentor.named_buffers():
        if name.endswith('running_mean'):
            torch.nn.init.normal_(value, 0, 0.1)
    torch.save(dict(state_dict=model.segmentor.state_dict()), path / 'segmentor.pth')
    return path


@pytest.fixture(scope='module')
def fitted(folder):
    """(folder of the fits, what fit_scorers returned)."""
    return folder / 'fits', fit_scorers(make_config(folder), out=folder / 'fits', settings=SETTINGS)


def test_scorers_that_learn_are_fitted_and_the_others_left_out(fitted):
    out, found = fitted
    assert list(found) == LEARN
    assert sorted(path.name for path in out.glob('*.pth')) == sorted(
        f'{name}.pth' for name in LEARN
    )
    assert json.loads((out / 'fitting.json').read_text()) == found
    assert [len(found[name]['candidates']) for name in LEARN] == [2, 2, 1, 1]


def test_the_auroc_is_that_of_the_model_on_the_open_validation_images(folder, fitted):
    """Through prediction, on all pixels pooled, by scikit-learn."""
    out, found = fitted
    cfg = make_config(
        folder, {name: dict(SCORERS[name], checkpoint=str(out / f'{name}.pth')) for name in CHOSEN}
    )
    model = MODELS.build(dict(cfg.model, discriminator=None, generator=None)).eval()
    model.check_segmentor()
    scores, labels = {name: [] for name in CHOSEN}, []
    for item in DATASETS.build(cfg.val_dataloader.dataset):
        with torch.no_grad():
            (sample,) = model.test_step(
                dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
            )
        for name, maps in sample.get(OPEN_SCORES).items():
            scores[name].append(maps.flatten())
        labels.append(labels_on_grid(sample.get(GT_OPEN_MAP).data[0], maps.shape[1:]).flatten())
    labels = torch.cat(labels)
    for name, values in scores.items():
        wanted = roc_auc_score(labels[labels != VOID] > 0, torch.cat(values)[labels != VOID])
        assert found[name]['AUROC'] == pytest.approx(wanted, abs=5e-4), (
            name
        )  # score bins hold several scores


def test_the_choice_is_by_what_the_settings_say(folder, tmp_path):
    """Both numbers of every candidate are there; the best of the one that was asked for is kept."""
    settings = replace(SETTINGS, choose_by='AUROC_kinds')
    config = make_config(folder, some(*CHOSEN))
    found = fit_scorers(config, out=tmp_path, settings=settings)
    for entry in found.values():
        best = max(entry['candidates'], key=lambda candidate: candidate['AUROC_kinds'])
        assert entry['AUROC_kinds'] == best['AUROC_kinds']
        assert entry['AUROC'] != entry['AUROC_kinds']
    with pytest.raises(ValueError, match=r"choose_by: wanted one of \('AUROC', 'AUROC_kinds'\)"):
        replace(SETTINGS, choose_by='AP')


def test_an_undefined_number_chooses_nothing(tmp_path):
    task = _Task('gmm', [dict(type='GMM', num_components=one) for one in (2, 3)], tmp_path, {})
    numbers = [dict(AUROC=0.6, AUROC_kinds=math.nan), dict(AUROC=0.9, AUROC_kinds=math.nan)]
    with pytest.raises(
        ValueError, match=r'options of gmm, found .* AUROC_kinds, which is undefined'
    ):
        task.keep(numbers, 'AUROC_kinds')


def test_a_hybrid_is_fitted_anew_where_its_discriminator_is_another(folder, tmp_path):
    trained = dict(
        type='DiscriminatorScorer',
        discriminator=dict(type='FeatureDiscriminator', hidden=(8,)),
        checkpoint=str(tmp_path / 'd.pth'),
    )
    scorers = dict(
        hybrid=dict(
            type='Hybrid',
            trained=trained,
            free=dict(type='GEN'),
        )
    )
    plain = dict(
        make_config(folder).model,
        discriminator=None,
        generator=None,
        scorers=None,
    )
    channels = MODELS.build(plain).head.channels
    fits = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network = MODELS.build(dict(trained['discriminator'], in_channels=channels))
        state = {f'discriminator.{key}': value for key, value in network.state_dict().items()}
        torch.save(dict(state_dict=state), tmp_path / 'd.pth')
        fit_scorers(make_config(folder, scorers), out=tmp_path / 'fits', settings=SETTINGS)
        fits.append((tmp_path / 'fits' / 'hybrid.pth').stat().st_mtime_ns)
    assert fits[0] == fits[1] != fits[2]


def test_what_is_done_is_not_done_again(folder, fitted, monkeypatch):
    def refuse(*args):
        raise AssertionError('fitted again')

    monkeypatch.setattr(FittedScorer, 'fit', refuse)
    assert fit_scorers(make_config(folder), out=fitted[0], settings=SETTINGS) == fitted[1]
    with pytest.raises(AssertionError, match='fitted again'):
        fit_scorers(make_config(folder), out=fitted[0], settings=FitSettings(seed=2))


def test_a_fit_on_other_training_images_is_made_again(folder, tmp_path, monkeypatch):
    fits, fit = [], FittedScorer.fit
    monkeypatch.setattr(
        FittedScorer, 'fit', lambda self, data: fits.append(len(data.labels)) or fit(self, data)
    )
    options = dict(out=tmp_path, settings=SETTINGS)
    config = make_config(folder, some('centroid'))
    fit_scorers(config, **options)
    config.train_dataloader.dataset.closed.num_open_val = 3
    for _ in range(2):
        fit_scorers(config, **options)
        assert len(fits) == 2
    config.train_dataloader.dataset.leave_out = ['static']
    fit_scorers(config, **options)
    assert len(fits) == 3


def test_options_are_chosen_again_by_corrected_labels(folder, tmp_path, monkeypatch):
    shutil.copytree(folder / 'data', tmp_path / 'data')
    config = make_config(folder, some('nn'))
    config.val_dataloader.dataset = images(tmp_path / 'data', split='open_val')
    options = dict(out=tmp_path / 'fits', settings=SETTINGS)
    fits, fit = [], FittedScorer.fit
    monkeypatch.setattr(FittedScorer, 'fit', lambda self, data: fits.append(1) or fit(self, data))
    label = DATASETS.build(config.val_dataloader.dataset).get_data_info(0)['seg_map_path']
    for _ in range(2):
        fit_scorers(config, **options)
        assert len(fits) == 2
    Image.fromarray(np.asarray(Image.open(label))[::-1]).save(label)
    fit_scorers(config, **options)
    assert len(fits) == 4


def test_an_interrupted_run_goes_on_with_the_next_candidate(folder, fitted, tmp_path, monkeypatch):
    fit, fits = FittedScorer.fit, []

    def fail_at_the_third(self, data):
        fits.append(type(self).__name__)
        if len(fits) == 3:
            raise KeyboardInterrupt
        return fit(self, data)

    monkeypatch.setattr(FittedScorer, 'fit', fail_at_the_third)
    options = dict(out=tmp_path, settings=SETTINGS)
    config = make_config(folder, some('nn', 'gmm'))
    with pytest.raises(KeyboardInterrupt):
        fit_scorers(config, **options)
    found = fit_scorers(config, **options)
    assert fits == ['NearestNeighbour'] * 2 + ['GMM'] * 3
    assert found == {
        name: fitted[1][name] for name in ('nn', 'gmm')
    }  # and the same once more: it is deterministic
    for name in found:
        first, second = (
            torch.load(path / f'{name}.pth')['state_dict'] for path in (fitted[0], tmp_path)
        )
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert not list((tmp_path / 'candidates').iterdir())


def test_data_are_the_banks_pixels_with_their_classes_and_logits(folder, fitted):
    cfg = make_config(folder)
    model = load_segmentor(cfg)
    source = DATASETS.build(cfg.train_dataloader.dataset)
    source.prepare(model.extract_image, model.segmentor_identity())
    data = fit_data(source, model, SETTINGS)
    assert len(data.features) == 200
    assert 0 < len(data.open_features) <= 200
    seen = {}  # feature -> its class and logits, from the images themselves
    dataset = DATASETS.build(cfg.train_dataloader.dataset.closed)
    for item in dataset:
        sample = item['data_samples']
        tap = Tap(*(part.cpu() for part in model.extract_tap(item['inputs'], sample)[:2]))
        features = tap.features[0].flatten(1).T.half().float()
        classes = labels_on_grid(sample.gt_sem_seg.data[0], tap.features.shape[2:]).flatten()
        seen.update(
            {
                row.numpy().tobytes(): (int(label), logits)
                for row, label, logits in zip(features, classes, tap.logits[0].flatten(1).T)
            }
        )
    labels, logits = zip(*(seen[row.numpy().tobytes()] for row in data.features))
    assert data.labels.tolist() == list(labels)
    torch.testing.assert_close(
        data.logits, torch.stack(logits), rtol=2e-3, atol=2e-3
    )  # stored in 16 bits
    assert len(set(data.features.numpy().tobytes()[i::4] for i in range(4))) > 1


def test_a_closed_pixel_of_unknown_class_counts_as_what_is_predicted():
    features, labels = torch.randn(9, 3).half(), np.array([0, 1, 255] * 3, np.uint8)
    source = SimpleNamespace(
        open_images=None,
        pool=lambda group: RowPool(np.array([0]), np.array([9])),
        bank=SimpleNamespace(
            gather=lambda group, rows: features[rows],
            pixels=lambda group: np.rec.fromarrays([labels], names=['label']),
        ),
    )
    classifier = torch.randn(2, 3), torch.randn(2)
    model = SimpleNamespace(head=SimpleNamespace(adapter=SimpleNamespace(classifier=classifier)))
    data = fit_data(source, model, FitSettings())
    assert data.labels.tolist() == [
        int(predicted) if label == 255 else label
        for label, predicted in zip(labels, data.logits.argmax(1))
    ]


def test_a_fit_of_another_segmentor_is_refused(folder, fitted, tmp_path):
    state = torch.load(folder / 'segmentor.pth')['state_dict']
    key = 'decode_head.conv_seg.bias'
    torch.save(dict(state_dict={**state, key: state[key] + 1}), tmp_path / 'other.pth')
    cfg = make_config(
        folder, dict(nn=dict(type='NearestNeighbour', checkpoint=str(fitted[0] / 'nn.pth')))
    )
    cfg.model.segmentor.checkpoint = str(tmp_path / 'other.pth')
    model = MODELS.build(cfg.model)
    with pytest.raises(RuntimeError, match="The scorer 'nn' was fitted on another segmentor"):
        model.check_segmentor()


def without_open_pixels(cfg):
    cfg.val_dataloader.dataset = dict(cfg.val_dataloader.dataset, split='train', indices=[NO_OPEN])
    return r'\d+ closed and 0 open pixels'


def without_images(cfg):
    cfg.val_dataloader = None
    return 'no val_dataloader'


@pytest.mark.parametrize('change', [without_open_pixels, without_images])
def test_several_candidates_need_open_validation(folder, tmp_path, change):
    cfg = make_config(folder, some('nn', 'centroid'))
    found = change(cfg)
    with pytest.raises(
        ValueError,
        match=r'wanted images with closed and open pixels to choose options of nn, '
        rf'found {found}\. Set these options in model\.scorers',
    ):
        fit_scorers(cfg, out=tmp_path, settings=SETTINGS)


def test_a_single_candidate_needs_no_open_validation(folder, fitted, tmp_path, monkeypatch, capsys):
    """The fit is the same as beside others that are chosen."""
    cfg = make_config(folder, some(*SINGLE))
    cfg.pop('val_dataloader')
    cfg.scorer_fitting = dict(num_pixels=SETTINGS.num_pixels, seed=SETTINGS.seed)
    cfg.dump(tmp_path / 'fit.py')
    tool = Path(__file__).resolve().parents[2] / 'tools/fit_scorers.py'
    arguments = [str(tool), str(tmp_path / 'fit.py'), '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', arguments)
    runpy.run_path(str(tool), run_name='__main__')
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / 'fitting.json').read_text())
    assert list(found) == SINGLE
    for name in SINGLE:
        assert found[name] == fitted[1][name]
        assert (found[name]['AUROC'], found[name]['AUROC_kinds']) == (None, None)
        assert f'{name}: nothing to choose, {found[name]["options"]}' in printed
        one, other = (
            torch.load(path / f'{name}.pth')['state_dict'] for path in (tmp_path, fitted[0])
        )
        assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_wrong_requests(folder, tmp_path):
    cfg = make_config(folder)
    cfg.train_dataloader.dataset.update(type='OnlineSource')
    with pytest.raises(ValueError, match=r"wanted type='StoreSource', .* found OnlineSource"):
        fit_scorers(cfg, out=tmp_path)


def test_candidates_are_all_combinations_of_what_the_config_leaves_open():
    grid = dict(num_components=[1, 2], covariance=['full', 'diag'])
    assert candidates_of(
        dict(
            type='GMM',
            covariance='tied',
            checkpoint='x',
        ),
        grid,
    ) == [
        dict(
            type='GMM',
            covariance='tied',
            num_components=number,
        )
        for number in (1, 2)
    ]
    assert len(candidates_of(dict(type='GMM'), grid)) == 4
    assert candidates_of(dict(type='StandardizedMaxLogit')) == [dict(type='StandardizedMaxLogit')]
    with pytest.raises(ValueError, match=r"grid of GMM: \['components'\] are no options of it"):
        candidates_of(dict(type='GMM'), dict(components=[1]))
