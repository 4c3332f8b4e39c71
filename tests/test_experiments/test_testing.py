"""Tests of an experiment: what is asked for, when it is tested again, and in which processes."""

import json
import sys
from pathlib import Path

import pytest
from mmseg.registry import DATASETS

from mmseg_opengan.experiments import testing
from mmseg_opengan.experiments.jobs import Job

CONFIG = """
model = dict(segmentor=dict(config='closed.py', checkpoint='closed.pth'),
             discriminator=dict(type='FeatureDiscriminator', first_bn=True), generator=None, resolution='image',
             lambda_fake=.2, scorers=dict(msp=dict(type='MSP')), smoothing=0.)
test_dataloader = dict(dataset=dict(type='OneImage', data_root='images'), num_workers=2)
test_evaluator = dict(type='OpenSetMetric')
custom_imports = dict(imports=['own_data_set'])
default_hooks = dict(checkpoint=dict(save_best='opengan/AUROC'))
visualizer = dict(name='visualizer')
"""


class OneImage:
    metainfo = dict(label_policy='own@1')

    def __init__(self, data_root):
        self.data_root = data_root

    def __len__(self):
        return 1

    def get_data_info(self, index):
        return dict(img_path=f'{self.data_root}/a.jpg', seg_map_path=f'{self.data_root}/a.png')


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(DATASETS.module_dict, 'OneImage', OneImage)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Config, segmentor and finished runs, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'own_data_set', raising=False)
    (tmp_path / 'cls.py').write_text(CONFIG)
    (tmp_path / 'images').mkdir()
    for name in ('closed.py', 'closed.pth', 'own_data_set.py', 'images/a.jpg', 'images/a.png'):
        (tmp_path / name).touch()
    for seed in range(3):
        finish(Job('cls', 'cls.py', seed, tmp_path / f'cls_s{seed}'))
    return tmp_path


def finish(job):
    job.work_dir.mkdir()
    best = dict(checkpoint='best.pth', open_validation={'opengan/AUROC': 1})
    (job.work_dir / 'best.json').write_text(json.dumps(best))
    (job.work_dir / 'best.pth').write_bytes(b'weights')


@pytest.fixture
def tested(world, monkeypatch):
    """A runner in mmengine's place: the configs of all tests. Reports have the scorers' names."""
    configs = []

    class Runner:
        def __init__(self, cfg):
            self.cfg = cfg

        @classmethod
        def from_cfg(cls, cfg):
            return cls(cfg)

        def test(self):
            configs.append(self.cfg)
            scorers = {name: dict(AUROC=len(configs)) for name in self.cfg.model.scorers}
            report = Path(self.cfg.work_dir, testing.REPORT)
            report.parent.mkdir(parents=True, exist_ok=True)
            report.write_text(json.dumps(dict(scorers=scorers)))

    monkeypatch.setattr(testing, 'Runner', Runner)
    return configs


def evaluate(world, job_options=None, **options):
    job = Job('cls', 'cls.py', 0, world / 'cls_s0', job_options or {})
    how = {'resolution': 'image', 'out': world / 'test', **options}
    return testing.evaluate(config='cls.py', jobs=[job], **how)


def test_a_discriminator_is_tested_with_the_options_that_it_was_trained_with(world, tested):
    evaluate(world, {'model.discriminator.act': 'relu'})
    assert tested[0].model.scorers.cls_s0.discriminator.act == 'relu'
    assert list(tested[0].model.scorers) == ['msp', 'cls_s0']


@pytest.mark.parametrize(
    'change',
    [
        dict(bootstrap_block=5),
        dict(options={'test_dataloader.dataset.data_root': 'others'}),
        dict(scorers=dict(msp=dict(type='MSP', k=2))),
    ],
)
def test_a_report_is_made_again_where_something_else_is_asked_for(change, world, tested):
    evaluate(world)
    evaluate(world, options={'test_dataloader.num_workers': 0, 'model.lambda_fake': 0.4})
    evaluate(world, scorers={})  # the report has more
    assert len(tested) == 1
    evaluate(world, **change)
    assert len(tested) == 2


@pytest.mark.parametrize(
    'name', ['cls_s0/best.pth', 'closed.py', 'closed.pth', 'own_data_set.py', 'images/a.png']
)
def test_a_report_is_made_again_where_a_file_was_replaced(name, world, tested):
    evaluate(world)
    (world / name).write_text('X = 1')
    evaluate(world)
    assert len(tested) == 2


def test_a_report_is_made_again_where_ids_mean_something_else(world, tested, monkeypatch):
    evaluate(world)
    monkeypatch.setattr(OneImage, 'metainfo', dict(label_policy='own@2'))
    evaluate(world)
    assert len(tested) == 2


def test_a_test_that_fails_leaves_no_report_of_another_request(world, tested, monkeypatch):
    evaluate(world)
    monkeypatch.setattr(testing.Runner, 'test', lambda self: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            evaluate(world, bootstrap_block=5)


def test_discriminators_are_dealt_out_and_a_share_that_is_done_is_kept(world, tested, monkeypatch):
    """Here in this process, as many passes as there are processes."""
    evaluate_all = testing.evaluate_all
    monkeypatch.setattr(testing, 'evaluate_all', lambda passes, _: evaluate_all(passes, 0))
    jobs = [Job('cls', 'cls.py', seed, world / f'cls_s{seed}') for seed in range(3)]
    monkeypatch.setattr(testing, 'train', lambda jobs, processes: None)
    how = dict(
        config='cls.py',
        out=world / 'out',
        processes=2,
        options={'model.smoothing': 1.0},
    )
    found = testing.train_and_test(jobs, **how)
    assert [list(cfg.model.scorers) for cfg in tested] == [['cls_s0', 'cls_s2'], ['cls_s1']]
    assert found['scorers'] == {
        'cls_s0': dict(AUROC=1),
        'cls_s2': dict(AUROC=1),
        'cls_s1': dict(AUROC=2),
    }
    (world / 'cls_s1' / 'best.pth').write_bytes(b'retrained')
    assert testing.train_and_test(jobs, **how)['scorers']['cls_s1'] == dict(AUROC=3)
    assert len(tested) == 3
    with pytest.raises(ValueError, match=r'made from something else \(config: wanted'):
        testing.train_and_test(jobs, **dict(how, config='other.py'))
