"""Thresholds, calibration and colour scales: found once, kept, and used as long as they hold."""

import json
import os
import shutil
from contextlib import suppress

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from tiny_camvid import PLAIN

from mmseg_opengan.evaluation import decided
from mmseg_opengan.functional.calibration import fit_platt
from mmseg_opengan.functional.detection import exact_bins
from mmseg_opengan.inference.inferencer import OpenSetInferencer


@pytest.fixture
def place(tiny, tmp_path):
    """(config, checkpoint) of a folder of its own."""
    shutil.copy(tiny[3], tmp_path / 'd.pth')
    return tiny[2], tmp_path / 'd.pth'


def failing(path, content):
    raise PermissionError(13, 'not yours', str(path))


def made(place, **options):
    return OpenSetInferencer(*place, device='cpu', **options)


def without_running(inferencer):
    """The inferencer, which fails where it runs an image."""
    inferencer.model.test_step = None
    return inferencer


def closed_scores(inferencer, scorer):
    """Scores of the closed pixels of open validation."""
    dataset = inferencer.dataset('open_val')
    (result,) = inferencer(dataset, show_progress=False)
    return result.scores[scorer][result.panel['open_map'] == 0]


def test_thresholds_of_every_score_are_found_once(place):
    first = made(place)
    found = {name: first.threshold('fpr=0.05', name) for name in first.scorers}
    for name, threshold in found.items():
        closed = closed_scores(first, name)
        assert 0.04 < (closed >= np.float32(threshold)).mean() <= 0.05
    again = without_running(made(place))
    assert {name: again.threshold('fpr=0.05', name) for name in again.scorers} == found
    assert again.threshold('fpr=0.05') == found['opengan']
    assert again.scales() == first.scales()
    for name, (lo, hi) in again.scales().items():
        assert np.allclose(
            (lo, hi), np.quantile(closed_scores(first, name), (0.01, 0.99)), atol=0.3
        )


def test_another_rule_is_added_to_those_that_are_kept(place):
    threshold = made(place).threshold('fpr=0.2')
    assert made(place).threshold('tpr=0.5') != threshold
    again = without_running(made(place))
    assert again.threshold('fpr=.20') == threshold


def test_what_is_kept_belongs_to_one_state(place, tiny, tmp_path):
    at_image = made(place).threshold('fpr=0.05')
    options = {'model.resolution': 'feature'}
    at_feature = made(place, cfg_options=options).threshold('fpr=0.05')
    assert at_feature != at_image
    kept = without_running(made(place, cfg_options=options))
    assert kept.threshold('fpr=0.05') == at_feature
    state = torch.load(place[1])
    state['state_dict']['discriminator.layers.0.weight'] *= 2
    torch.save(state, place[1])
    other = made(place).threshold('fpr=0.05')
    assert other not in (at_image, at_feature)
    assert len(json.loads((tmp_path / 'd.pth.decided.json').read_text())) == 3


def test_an_edited_label_is_noticed(tiny, place, tmp_path):
    """Also where its size and its time are those of before."""
    shutil.copytree(tiny[1], tmp_path / 'data')
    options = {'val_dataloader.dataset.data_root': str(tmp_path / 'data')}
    before = made(place, cfg_options=options).threshold('f1')
    label = tmp_path / 'data/val_labels32/a.png'
    times = label.stat()
    size = times.st_size
    cv2.imwrite(str(label), cv2.imread(str(label), cv2.IMREAD_UNCHANGED)[::-1].copy())
    with open(label, 'ab') as file:
        file.write(bytes(max(0, size - label.stat().st_size)))
    os.utime(label, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert label.stat().st_size == size
    assert made(place, cfg_options=options).threshold('f1') != before


IDS = """
classes: [{classes}]
open_classes: [thing]
ids: {{{ids}, 11: {eleven}, 12: thing, {rest}}}
"""


def test_other_meanings_of_the_ids_are_noticed(tiny, place, tmp_path):
    names = [f'c{i}' for i in range(11)]
    dataset = dict(
        _delete_=True,
        type='OpenSetFolder',
        data_root=str(tiny[1]),
        data_prefix=dict(img_path='val', seg_map_path='val_labels32'),
        ids=str(tmp_path / 'ids.yaml'),
        pipeline=Config.fromfile(tiny[2]).val_dataloader.dataset.pipeline,
    )
    found = {}
    for eleven in ('void', 'thing', 'void'):
        text = IDS.format(
            classes=', '.join(names),
            ids=', '.join(f'{i}: {name}' for i, name in enumerate(names)),
            eleven=eleven,
            rest=', '.join(f'{i}: void' for i in range(13, 32)),
        )
        (tmp_path / 'ids.yaml').write_text(text)
        number = made(place, cfg_options={'val_dataloader.dataset': dataset}).decisions()[
            'num_open'
        ]
        assert found.setdefault(eleven, number) == number
    assert found['void'] < found['thing']


def test_a_folder_that_cannot_be_written_is_told(place, monkeypatch):
    monkeypatch.setattr(decided, 'write_json', failing)  # root may write anywhere
    with pytest.warns(UserWarning, match='not kept for the next start'):
        assert np.isfinite(made(place).threshold('fpr=0.05'))


def test_a_file_that_holds_something_else_is_told(place, tmp_path):
    inferencer = made(place)
    for text in ('[{', '{"a": 1}', '[1]', '[{}]'):
        (tmp_path / 'd.pth.decided.json').write_text(text)
        with pytest.raises(ValueError, match=r'decided\.json.: wanted a list.*Remove the file'):
            inferencer.threshold('fpr=0.05')


def test_closed_labels_of_a_plain_config_are_enough_for_an_fpr(tiny, tmp_path):
    """mmseg's own data set, whose labels know no open class."""
    shutil.copy(tiny[4], tmp_path / 'plain.pth')
    labels = tmp_path / 'labels'
    labels.mkdir()
    raw = cv2.imread(str(tiny[1] / 'val_labels32/a.png'), cv2.IMREAD_UNCHANGED)
    closed = raw < 11
    cv2.imwrite(str(labels / 'a.png'), np.where(closed, raw, 255).astype(np.uint8))
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    dataset = dict(
        type='BaseSegDataset',
        metainfo=dict(classes=[f'class {i}' for i in range(11)]),
        data_prefix=dict(img_path=str(tiny[1] / 'val'), seg_map_path=str(labels)),
        ann_file=str(tiny[1] / 'splits/open_val.txt'),
        pipeline=[*steps, dict(type='PackSegInputs')],
    )
    cfg = Config(dict(model=PLAIN, val_dataloader=dict(dataset=dataset)))
    inferencer = OpenSetInferencer(cfg, tmp_path / 'plain.pth', scorers=['energy'], device='cpu')
    threshold = inferencer.threshold('fpr=0.1')
    (result,) = inferencer(str(tiny[1] / 'val/a.jpg'), show_progress=False)
    called = result.scores['energy'][closed] >= np.float32(threshold)
    assert 0.09 < called.mean() <= 0.1
    with pytest.raises(ValueError, match=r"'tpr=0.95' of 'energy': undefined.* 0 open pixels"):
        inferencer.threshold('tpr=0.95')
    assert inferencer.calibration() is None
    assert inferencer.threshold('fpr=0.05') > threshold  # kept: nothing was undefined


def test_rules_without_validation_images_are_told(place):
    inferencer = made(place, cfg_options={'val_dataloader': None})
    assert not inferencer.decides
    with pytest.raises(ValueError, match=r'fpr=0.05: wanted val_dataloader.*found none'):
        inferencer.threshold('fpr=0.05')
    with pytest.raises(ValueError, match=r"scorers: wanted some of .*'energy'"):
        inferencer.threshold('fpr=0.05', 'energy')


def test_the_calibration_is_that_of_the_pixels(place):
    inferencer = made(place)
    (result,) = inferencer(inferencer.dataset('open_val'), show_progress=False)
    fitted = {}
    for name, score in result.scores.items():
        bins = exact_bins(torch.from_numpy(score), torch.from_numpy(result.panel['open_map']))
        with suppress(ValueError):  # closed pixels score higher
            fitted[name] = fit_platt(bins)
    assert fitted
    for name in result.scores:
        found = inferencer.calibration(name)
        assert (found is not None) == (name in fitted)
        if name in fitted:
            assert found.slope == pytest.approx(fitted[name].slope, rel=1e-2)
