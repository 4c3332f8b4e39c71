"""Leaving one open kind out of training and open validation, on a tiny data set."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS
from sklearn.metrics import average_precision_score, roc_auc_score
from test_benchmark import folder  # noqa: F401  (a fixture)

from mmseg_opengan.contracts import CLOSED, GT_OPEN_MAP
from mmseg_opengan.experiments import leave_out
from mmseg_opengan.experiments.scorer_fitting import load_segmentor
from mmseg_opengan.models.networks import discriminate
from mmseg_opengan.models.scorers.base import SCORERS
from mmseg_opengan.models.scorers.kplus1 import KPlusOne

KINDS = 2
EXACT = 'donot_use_mm_for_euclid_dist'


@pytest.fixture(scope='module')
def done(folder):  # noqa: F811
    """(folder of the results, their numbers, the open pixels that (K+1) was fitted on each time),
    for the first kinds alone.
    """
    every, out, fit, fitted_on = leave_out.kinds_of, folder / 'left_out', KPlusOne._fit, []

    def noted(scorer, data):
        fitted_on.append(data.open_features)
        return fit(scorer, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KPlusOne, '_fit', noted)
        patch.setattr(
            leave_out, 'kinds_of', lambda source: dict(list(every(source).items())[:KINDS])
        )
        text = leave_out.run(
            str(folder / '{}_tiny.py'),
            ['cls', 'msp', 'centroid', 'kplus1'],
            [0, 1],
            out,
            scorers=str(folder / 'scorers_tiny.py'),
            processes=0,
        )
    assert (out / 'leave_out.md').read_text() == text + '\n'
    return out, json.loads((out / leave_out.RESULT).read_text()), fitted_on


@pytest.fixture(scope='module')
def tap(folder):  # noqa: F811
    """(config of CLS, its segmentor, its feature source)."""
    cfg = Config.fromfile(folder / 'cls_tiny.py')
    model = load_segmentor(cfg)
    source = DATASETS.build(cfg.train_dataloader.dataset)
    source.prepare(model.extract_image, model.segmentor_identity())
    return cfg, model, source


def pixels_of(source, kind):
    label = source.open_images.metainfo['open_classes'].index(kind)
    rows = np.flatnonzero(source.bank.pixels('open')['label'] == label)
    return source.bank.gather('open', rows).float()


def test_every_kind_has_a_training_without_it(done):
    out, found, _ = done
    assert list(found) == ['entropy', 'msp', 'centroid', 'kplus1', 'cls']
    kinds = list(found['cls'])
    assert len(kinds) == KINDS
    assert [len(found[name][kind]) for name in found for kind in kinds] == [1] * 4 + [2] * 6
    for kind in kinds:
        for seed in (0, 1):
            cfg = Config.fromfile(next((out / kind / f'cls_s{seed}').glob('*.py')))
            assert cfg.train_dataloader.dataset.leave_out == [kind]
            assert cfg.val_dataloader.dataset.ignore_open == [kind]


def test_what_is_fitted_has_not_seen_the_kind_either(done, tap):
    _, found, fitted_on = done
    kinds = list(found['cls'])
    assert len(fitted_on) == 2 * KINDS  # each kind, each seed
    for number, opened in enumerate(fitted_on):
        for kind in kinds:
            distances = torch.cdist(pixels_of(tap[2], kind), opened, compute_mode=EXACT)
            is_left_out = kind == kinds[number // 2]
            assert bool((distances == 0).any()) != is_left_out


def test_numbers_are_those_of_pixels_nothing_was_trained_on(done, tap):
    """Scored anew with plain loops and scikit-learn."""
    out, found, _ = done
    cfg, model, source = tap
    kind = next(iter(found['cls']))
    opened = pixels_of(source, kind)

    checkpoint = next((out / kind / 'cls_s1').glob('best_*.pth'))
    scorer = SCORERS.build(
        dict(
            type='DiscriminatorScorer',
            discriminator=cfg.model.discriminator,
            checkpoint=str(checkpoint),
        )
    ).eval()
    scores, labels = [], []
    for item in DATASETS.build(cfg.val_dataloader.dataset):
        tap = model.extract_tap(item['inputs'], item['data_samples'])
        grid = item['data_samples'].get(GT_OPEN_MAP).data[0][::4, ::4]
        own = -discriminate(scorer.discriminator, tap.features)[0]
        scores += own[grid == CLOSED].tolist()
    labels = [0] * len(scores) + [1] * len(opened)
    scores += (-scorer.discriminator(opened)).tolist()
    wanted = found['cls'][kind][1]
    assert wanted['AUROC'] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert wanted['AP'] == pytest.approx(average_precision_score(labels, scores), abs=1e-6)


def test_the_table_has_mean_and_deviation_over_seeds():
    def numbers(*aurocs):
        return [dict(AUROC=auroc, AP=auroc / 2) for auroc in aurocs]

    found = dict(
        msp=dict(a=numbers(0.5), b=numbers(0.7)),
        own=dict(a=numbers(0.8, 0.9), b=numbers(0.6, 0.7)),
    )
    assert leave_out.table(found).splitlines() == [
        '| method | a | b | mean AUROC | mean AP |',
        '|---|---|---|---|---|',
        '| MSP | 0.5000 | 0.7000 | 0.6000 | 0.3000 |',
        '| own | 0.8500 ± 0.0707 | 0.6500 ± 0.0707 | 0.7500 ± 0.0707 | 0.3750 ± 0.0354 |',
    ]


def test_a_method_with_a_fused_score_has_two_rows(folder, tmp_path):  # noqa: F811
    (tmp_path / 'fused.py').write_text(
        f"_base_ = '{folder / 'cls_tiny.py'}'\nmodel = dict(fuse=dict(free=dict(type='Energy')))\n"
    )
    job = leave_out.Job('cls', str(tmp_path / 'fused.py'), 0, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leave_out.Job, 'best', lambda self: dict(checkpoint='best.pth'))
        rows = leave_out._scorers_of(job)
    assert list(rows) == ['cls-alone', 'cls']
    assert rows['cls']['free'] == dict(type='Energy')
    assert rows['cls']['trained'] == rows['cls-alone']


def test_the_kinds_are_those_that_a_training_can_draw(tap):
    cfg, model, source = tap
    every = leave_out.kinds_of(source)
    for kind, rows in every.items():
        assert torch.equal(source.bank.gather('open', rows).float(), pixels_of(source, kind))
    gone = next(iter(every))
    without = leave_out._source(cfg, model, leave_out=[gone])
    assert list(leave_out.kinds_of(without)) == list(every)[1:]


def test_a_training_from_images_is_refused(folder, tmp_path):  # noqa: F811
    (tmp_path / 'cls.py').write_text(
        f"_base_ = '{folder / 'cls_tiny.py'}'\n"
        "train_dataloader = dict(dataset=dict(_delete_=True, type='ImageSource'))\n"
    )
    with pytest.raises(ValueError, match=r'cls: .* stored features .*, found one from ImageSource'):
        leave_out.run(str(tmp_path / '{}.py'), ['cls'], [0], tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_the_config_is_the_first_with_open_images(folder, tmp_path):  # noqa: F811
    without = tmp_path / 'opengan0.py'
    without.write_text(
        f"_base_ = '{folder / 'cls_tiny.py'}'\ntrain_dataloader = dict(dataset=dict(open=None))\n"
    )
    cls = leave_out.Job('cls', str(folder / 'cls_tiny.py'), 0, tmp_path)
    alone = leave_out.Job('opengan0', str(without), 0, tmp_path)
    todo = leave_out.Plan([], [alone, cls], {}, {}, alone.config, alone.config)
    found = leave_out._with_open_images(todo, {'model.lambda_fake': 0.5})
    assert found.train_dataloader.dataset.open is not None
    assert found.model.lambda_fake == 0.5
    with pytest.raises(ValueError, match=r"with open images .* none in \['.*opengan0.py'\]"):
        leave_out._with_open_images(replace(todo, jobs=[alone]), None)


def test_pixels_of_validation_are_drawn_alike_from_all_images(folder, monkeypatch):  # noqa: F811
    cfg = Config.fromfile(folder / 'cls_tiny.py')
    model = load_segmentor(cfg)
    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset.closed))
    monkeypatch.setattr(leave_out, 'MOST_CLOSED', 5 * len(dataset))
    features, logits = leave_out.closed_pixels(model, dataset)
    counted = [(item['data_samples'].get(GT_OPEN_MAP).data == CLOSED).sum() for item in dataset]
    wanted = 5 * sum(bool(number) for number in counted)  # one image has no closed pixel
    assert features.shape == (wanted, model.head.channels)
    assert torch.equal(logits, leave_out.closed_pixels(model, dataset)[1])


def test_scorers_are_fitted_anew_and_those_of_images_refused(folder, tmp_path):  # noqa: F811
    learned = dict(type='ClassCentroid', checkpoint='not/yet.pth')
    config = f"_base_ = '{folder / 'scorers_tiny.py'}'\nmodel = dict(scorers=dict(own={learned}))\n"
    (tmp_path / 'own.py').write_text(config)
    todo = leave_out.plan(str(tmp_path / 'own.py'), ['own', 'msp'], [0], tmp_path)
    leave_out._require_stored_and_unseen(todo)
    with pytest.raises(ValueError, match='mspc: wanted a scorer of features or logits'):
        leave_out.run(str(tmp_path / 'own.py'), ['mspc'], [0], tmp_path / 'out')
    network = dict(type='FeatureDiscriminator', in_channels=8)
    trained = dict(type='DiscriminatorScorer', discriminator=network)
    for config in (trained, dict(type='Hybrid', trained=trained), dict(type='OpenClass')):
        (tmp_path / 'own.py').write_text(
            f"_base_ = '{folder / 'scorers_tiny.py'}'\nmodel = dict(scorers=dict(own={config}))\n"
        )
        with pytest.raises(ValueError, match=r'own: .* weights that have seen open pixels'):
            leave_out.run(str(tmp_path / 'own.py'), ['own'], [0], tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_kinds_that_the_config_leaves_out_stay_out(folder, tmp_path):  # noqa: F811
    options = {
        'train_dataloader.dataset.leave_out': ['static'],
        'val_dataloader.dataset.ignore_open': ['ground'],
    }
    job = leave_out.Job('cls', str(folder / 'cls_tiny.py'), 0, tmp_path / 'cls_s0', options)
    found = leave_out._without(job, 'trailer', tmp_path).load_config()
    assert found.train_dataloader.dataset.leave_out == ['static', 'trailer']
    assert found.val_dataloader.dataset.ignore_open == ['ground', 'trailer']


def test_validation_may_have_stored_taps(folder, done, tmp_path):  # noqa: F811
    """With the numbers of its images, in which the kind becomes void."""
    cfg = Config.fromfile(folder / 'cls_tiny.py')
    images = cfg.val_dataloader.dataset.to_dict()
    stored = dict(_delete_=True, type='StoredTaps', root=str(tmp_path / 'taps'), images=images)
    (tmp_path / 'cls.py').write_text(
        f"_base_ = '{folder / 'cls_tiny.py'}'\nval_dataloader = dict(dataset={stored!r})\n"
    )
    every, out = leave_out.kinds_of, tmp_path / 'out'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leave_out, 'kinds_of', lambda source: dict(list(every(source).items())[:1]))
        leave_out.run(str(tmp_path / '{}.py'), ['cls'], [0], out, processes=0)
    found = json.loads((out / leave_out.RESULT).read_text())
    ((kind, (numbers,)),) = found['cls'].items()
    assert numbers == done[1]['cls'][kind][0]
    run = Config.fromfile(next((out / kind / 'cls_s0').glob('*.py')))
    assert run.val_dataloader.dataset.images.ignore_open == [kind]
