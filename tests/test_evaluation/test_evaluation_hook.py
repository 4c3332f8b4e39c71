"""What a run's evaluations leave behind: decisions of open validation in checkpoints, reports and
figures.
"""

import json
import logging
import math

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS
from tiny_cityscapes import images
from tiny_training import INTERVAL, STEPS, runner, write_root

from mmseg_opengan.contracts import CLOSED, VOID
from mmseg_opengan.evaluation import evaluation_hook
from mmseg_opengan.evaluation.decided import OpenValidation
from mmseg_opengan.evaluation.evaluation_hook import COURSE
from mmseg_opengan.evaluation.open_validation import course_text
from mmseg_opengan.evaluation.report import headline
from mmseg_opengan.functional.decisions import MACRO_F1, STANDARD_RULES, Decisions
from mmseg_opengan.inference.inferencer import OpenSetInferencer
from mmseg_opengan.pictures.figures import FIGURES
from mmseg_opengan.pictures.overlay import LogitThreshold


def best_of(trained):
    return trained[1].message_hub.get_info('best_ckpt')


def decided_in(checkpoint):
    return torch.load(checkpoint, weights_only=True)['meta']['opengan'].get('open_validation')


def read(stored):
    """Decisions by scorer, from a checkpoint or a report."""
    return {name: Decisions.from_json(one) for name, one in stored['scorers'].items()}


def report_of(folder, stage='test'):
    return json.loads((folder / f'open_set_eval/{stage}/metrics.json').read_text())


#: Figures are drawn by one test alone.
PLAIN = dict(
    custom_hooks=[dict(type='OpenGANHook'), dict(type='OpenSetEvaluationHook', plot_test=False)]
)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp('evaluation'))


@pytest.fixture(scope='module')
def trained(root):
    """Work directory of a training, and its runner."""
    made = runner(root, root / 'trained')
    made.train()
    return root / 'trained', made


@pytest.fixture(scope='module')
def tested(root, trained):
    made = runner(root, root / 'tested', load_from=best_of(trained))
    printed = messages(made)
    return root / 'tested', made, made.test(), printed


def messages(made):
    """What a runner logs from now on."""
    printed = []
    handler = logging.Handler()
    handler.emit = lambda record: printed.append(record.getMessage())
    made.logger.addHandler(handler)
    made.logger.setLevel(logging.INFO)
    return printed


# ----------------------------------------------------------------------------------------------
# decisions


def test_the_checkpoint_of_a_validation_holds_what_it_decided(trained):
    stored = decided_in(best_of(trained))
    assert sorted(stored['scorers']) == ['msp', 'opengan']
    for decisions in stored['scorers'].values():
        assert set(decisions['thresholds']) == {*STANDARD_RULES, MACRO_F1}
    assert stored['num_images'] == 1
    assert (stored['resolution'], stored['mode'], stored['label_policy']) == (
        'feature',
        'whole',
        'cityscapes/paper',
    )
    assert f'iter_{stored["step"]}.pth' in best_of(trained)
    last = report_of(trained[0], 'val')
    if stored['step'] == last['iteration']:
        assert read(stored) == read(last['open_validation'])


def test_no_checkpoint_holds_what_was_decided_for_another_step(trained):
    """mmengine saves a step before its validation, and again after it where it is the best so
    far.
    """
    for checkpoint in trained[0].glob('*.pth'):
        stored = decided_in(checkpoint)
        assert stored is None or checkpoint.name.endswith(f'iter_{stored["step"]}.pth')


def test_a_test_uses_what_its_checkpoint_holds(trained, tested):
    stored, report = decided_in(best_of(trained)), report_of(tested[0])
    assert read(report['open_validation']) == read(stored)
    assert report['open_validation']['step'] == stored['step']
    for name, found in report['scorers'].items():
        thresholds = {rule: point['threshold'] for rule, point in found['operating_points'].items()}
        assert thresholds == report['open_validation']['scorers'][name]['thresholds']
        assert found['recognition']['rule'] == MACRO_F1
    fitted = [of['scorers']['opengan'].get('calibration') or {} for of in (report, stored)]
    assert fitted[0].get('slope') == fitted[1].get('slope')
    assert (
        fitted[0] or torch.cuda.is_available()
    )  # there D may be no better than chance, and nothing is fitted


def test_a_rule_that_the_checkpoint_lacks_is_found_once(root, trained, tested, monkeypatch):
    options = {'load_from': best_of(trained), 'test_evaluator.threshold': 'fpr=.3'}
    first = runner(root, root / 'ruled', **PLAIN, **options)
    assert first.test() == tested[2]
    report, stored = report_of(root / 'ruled'), decided_in(best_of(trained))
    for name, found in report['scorers'].items():
        assert list(found['operating_points'])[:2] == ['fpr=0.3', 'fpr=0.05']
        decided = read(report['open_validation'])[name].thresholds
        assert decided.pop('fpr=0.3') == (
            found['operating_points']['fpr=0.3']['threshold'] or math.inf
        )
        del decided['fpr=0.01']
        assert decided == read(stored)[name].thresholds
    same = ('num_images', 'num_closed', 'num_open', 'label_policy', 'resolution', 'mode')
    for key in same:
        assert report['open_validation'][key] == stored[key]

    monkeypatch.setattr(OpenValidation, '_samples', None)  # nothing is run again
    runner(root, root / 'again', **PLAIN, **options).test()
    assert report_of(root / 'again')['open_validation'] == report['open_validation']
    cfg = Config(dict(first.cfg, load_from=None))
    options = {'model.resolution': 'feature'}
    inferencer = OpenSetInferencer(cfg, best_of(trained), device='cpu', cfg_options=options)
    found = report['scorers']['opengan']['operating_points']['fpr=0.3']['threshold']
    assert inferencer.threshold('fpr=0.3') == (found or math.inf)


def test_open_validation_of_scorers_that_need_no_checkpoint(root):
    options = {
        'model.discriminator': None,
        'model.generator': None,
        'load_from': None,
        'model.segmentor.checkpoint': str(root / 'segmentor.pth'),
        'test_evaluator.threshold': 'f1',
        'test_evaluator.components': 'obstacle',
    }
    runner(root, root / 'plain_msp', **PLAIN, **options).test()
    found = report_of(root / 'plain_msp')['scorers']['msp']
    assert found['operating_points']['f1']['threshold'] == found['components']['threshold']


def test_without_open_validation_a_rule_is_refused(root, trained):
    options = {
        'val_dataloader': None,
        'val_cfg': None,
        'val_evaluator': None,
        'test_evaluator.threshold': 'fpr=0.3',
    }
    with pytest.raises(
        ValueError,
        match=r'fpr=0\.3: wanted val_dataloader in the config, labelled images .*found none',
    ):
        runner(root, root / 'no_val', load_from=best_of(trained), **options).test()


@pytest.mark.parametrize('option', [{'model.resolution': 'image'}, {'model.smoothing': 8.0}])
def test_what_was_decided_on_other_score_maps_is_not_used(root, trained, option):
    folder = root / next(iter(option))
    made = runner(root, folder, load_from=best_of(trained), **PLAIN, **option)
    made.test()
    report = report_of(folder)
    assert report['smoothing'] == option.get('model.smoothing', 0.0)
    assert report['open_validation'] == dict(scorers={})
    assert report['scorers']['opengan']['operating_points'] == {}


def test_pictures_whiten_what_the_threshold_calls_open(root, trained):
    made = runner(
        root,
        root / 'pictures',
        load_from=best_of(trained),
        visualizer=dict(type='OpenSetVisualizer', name='whitening', vis_backends=[]),
        **PLAIN,
        **{'test_evaluator.threshold': 'tpr=0.95'},
    )
    made.test()
    threshold = decided_in(best_of(trained))['scorers']['opengan']['thresholds']['tpr=0.95']
    assert made.visualizer.thresholds == (threshold,)
    assert isinstance(made.visualizer.thresholds[0], LogitThreshold)


def test_a_d_that_trained_on_is_tested_by_its_own_decisions(root, trained):
    made_in = root / 'trained_on'
    options = dict(PLAIN, experiment_name='trained_on', load_from=best_of(trained))
    options['optim_wrapper.discriminator.optimizer.lr'] = 0.5
    made = runner(root, made_in, **options)
    made.train()
    made.test()
    thresholds = report_of(made_in, 'val')['open_validation']['scorers']['opengan']['thresholds']
    report = report_of(made_in)
    points = report['scorers']['opengan']['operating_points']
    assert {rule: point['threshold'] for rule, point in points.items()} == thresholds
    before = decided_in(best_of(trained))['scorers']['opengan']['thresholds']
    assert thresholds != before
    assert report['checkpoint'] is None


# ----------------------------------------------------------------------------------------------
# reports


def test_validation_report(root, trained):
    report = json.loads((trained[0] / 'open_set_eval/val/metrics.json').read_text())
    assert report['stage'] == 'val'
    assert report['iteration'] == STEPS
    assert report['num_images'] == 1
    assert report['checkpoint'] is None
    assert report['segmentor'] == str(root / 'segmentor.pth')


def test_test_report(root, trained, tested):
    folder, _, metrics, _ = tested
    report = json.loads((folder / 'open_set_eval/test/metrics.json').read_text())
    wanted = dict(
        stage='test',
        iteration=None,
        mode='whole',
        resolution='feature',
        label_policy='cityscapes/paper',
        num_images=3,
        seed=3,
        pooling='all pixels',
    )
    assert {key: report[key] for key in wanted} == wanted
    assert report['checkpoint'] == best_of(trained)
    assert report['segmentor'] == str(root / 'segmentor.pth')
    assert report['commit'] == evaluation_hook._commit()
    assert report['version'] == '0.1.0'
    assert sorted(report['scorers']) == ['msp', 'opengan']
    for name, numbers in report['scorers'].items():
        assert all(metrics[f'{name}/{key}'] == numbers[key] for key in ('AUROC', 'AP', 'FPR95'))
    for key in ('mIoU', 'mAcc', 'aAcc'):
        assert report[key] == metrics[key]


def test_a_test_prints_the_short_table_first_and_last(tested):
    folder, made, _, printed = tested
    table = headline(made.test_evaluator.metrics[0].report)
    place = folder / 'open_set_eval/test/metrics.json'
    assert printed[-1] == f'\n{table}\nAll numbers: {place}'
    first = next(text for text in printed if text.startswith(f'\n{table}\n\n'))
    assert 'each open class against all closed pixels' in first
    assert printed.index(first) < len(printed) - 1


def test_report_counts_the_pixels_of_the_grid(root, tested):
    dataset = DATASETS.build(images(root / 'world', split='test'))
    maps = [dataset.read_labels(i)[1][::4, ::4] for i in range(3)]
    numbers = json.loads((tested[0] / 'open_set_eval/test/metrics.json').read_text())['scorers'][
        'msp'
    ]
    assert numbers['num_closed'] == sum((m == CLOSED).sum() for m in maps)
    assert numbers['num_open'] == sum(((m != CLOSED) & (m != VOID)).sum() for m in maps)
    # Classes that do not occur are undefined, and JSON has no nan.
    assert numbers['per_class']['caravan'] == dict(
        AUROC=None,
        AP=None,
        FPR95=None,
        auroc_error_bound=None,
        ap_error_bound=None,
        fpr95_error_bound=None,
        num_open=0,
        num_closed=numbers['num_closed'],
    )


@pytest.mark.parametrize(
    ('numbers', 'rule', 'said'),
    [
        (
            [0.8, 0.9, 0.95],
            'greater',
            'is best (0.9500) at step 150 of 150, the last one: it still improves. Train longer '
            '(train_cfg.max_iters).',
        ),
        (
            [0.1, 0.3, 0.2],
            'less',
            'is best (0.1000) at step 50 of 150; the last one has 0.2000. It got worse from the '
            'first one on: lower the learning rates, or validate more often '
            '(train_cfg.val_interval).',
        ),
        (
            [0.5],
            'greater',
            'is best (0.5000) at step 50 of 150, the only one. Validate more often '
            '(train_cfg.val_interval) to choose.',
        ),
    ],
)
def test_the_course_of_open_validation_is_a_sentence(numbers, rule, said):
    course = [[50 * (i + 1), number] for i, number in enumerate(numbers)]
    text = course_text(course, 'opengan/AUROC', 150, larger_is_better=rule == 'greater')
    assert text == f'Open validation: opengan/AUROC {said}'


def test_training_ends_with_the_course_of_open_validation_also_resumed(root):
    half = {'train_cfg.max_iters': INTERVAL}
    runner(root, root / 'course', **half, **PLAIN).train()
    made = runner(root, root / 'course', resume=True, **PLAIN)
    printed = messages(made)
    made.train()
    course = made.message_hub.get_info(COURSE)
    assert [step for step, _ in course] == list(range(INTERVAL, STEPS + 1, INTERVAL))
    assert max(number for _, number in course) == made.message_hub.get_info('best_score')
    text = course_text(course, 'opengan/AUROC', STEPS, larger_is_better=True)
    assert [one for one in printed if one.startswith('Open validation:')] == [text]


def test_figures_are_files_and_go_to_the_backends(trained, tested):
    for folder, stage in ((trained[0], 'val'), (tested[0], 'test')):
        picture = cv2.imread(str(folder / f'open_set_eval/{stage}/roc.png'))
        assert min(picture.shape[:2]) > 300
        assert len(np.unique(picture)) > 20
        backend = list(folder.glob(f'*/vis_data/vis_image/{stage}_roc_*.png'))
        assert len(backend) == (2 if stage == 'val' else 1)
        assert cv2.imread(str(backend[0])).shape == picture.shape
    assert not list(tested[0].rglob('*.tmp'))


def test_a_test_leaves_every_figure_in_two_formats_and_what_they_draw(tested):
    folder = tested[0] / 'open_set_eval/test'
    assert {path.name for path in folder.iterdir()} == {'metrics.json', 'curves.json'} | {
        f'{name}.{kind}' for name in FIGURES for kind in ('png', 'pdf')
    }
    curves, report = json.loads((folder / 'curves.json').read_text()), report_of(tested[0])
    assert list(curves) == list(report['scorers'])
    assert curves['opengan']['AUROC'] == report['scorers']['opengan']['AUROC']
    assert (folder / 'curves.json').stat().st_size < 150_000


def test_figures_in_validation_can_be_left_out(root):
    hook = dict(type='OpenSetEvaluationHook', plot_val=False)
    made = runner(
        root,
        root / 'plain',
        custom_hooks=[dict(type='OpenGANHook'), hook],
        **{'train_cfg.max_iters': 2},
    )
    made.train()
    assert {path.name for path in (root / 'plain/open_set_eval/val').iterdir()} == {
        'metrics.json',
        'curves.json',
    }


def test_no_commit_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(
        evaluation_hook,
        '__file__',
        str(tmp_path / 'site-packages' / 'mmseg_opengan' / 'engine' / 'evaluation_hook.py'),
    )
    assert evaluation_hook._commit() is None


def test_a_report_appears_when_all_else_is_there(root, trained, monkeypatch):
    """A kill in between leaves no report, so that the test counts as not done."""
    made = runner(root, root / 'cut_off', load_from=best_of(trained))
    seen = []

    def figure(*args):
        seen.append(sorted(path.name for path in (root / 'cut_off/open_set_eval/test').iterdir()))
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation_hook, 'save_figure', figure)
    (root / 'cut_off/open_set_eval/test').mkdir(parents=True)
    (root / 'cut_off/open_set_eval/test/metrics.json').write_text('{"of": "an earlier test"}')
    with pytest.raises(KeyboardInterrupt):
        made.test()
    assert seen == [['curves.json']]
