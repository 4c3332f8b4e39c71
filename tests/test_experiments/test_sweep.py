"""A small sweep from end to end: its report, its figures, its choice, and going on with what is
missing.
"""

import io
import json
import runpy
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS
from tiny_cityscapes import EveryFourthPixel, StoreSource
from tiny_training import config, write_root

from mmseg_opengan.experiments import jobs as experiment
from mmseg_opengan.experiments import sweep_report
from mmseg_opengan.experiments.sweep import LAMBDAS, plan, sweep
from mmseg_opengan.experiments.tables import METRICS
from mmseg_opengan.experiments.testing import evaluate
from mmseg_opengan.files import as_json

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
STEPS = 4
HOOKS = [
    dict(type='OpenGANHook'),
    dict(type='OpenSetEvaluationHook', plot_val=False, plot_test=False),
]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = write_root(tmp_path_factory.mktemp('sweep'))
    made = config(
        folder,
        folder / 'run',
        custom_hooks=HOOKS,
        **{'train_cfg.max_iters': STEPS, 'train_cfg.val_interval': 2},
    )
    made.custom_imports = dict(imports=['tiny_cityscapes'])
    for name in ('work_dir', 'experiment_name'):
        made.pop(name)
    made.dump(folder / 'tiny.py')
    return folder


def run_sweep(root, **options):
    return sweep(
        str(root / 'tiny.py'),
        **{'out': root / 'out', 'lambdas': [0.05, 0.5], 'processes': 0, **options},
    )


def numbers(run):
    keys = ('name', 'step', 'steps', 'validation', *METRICS, 'history')
    return {key: run[key] for key in keys}


def weights(run):
    return torch.load(Path(run['checkpoint']).with_name(f'iter_{STEPS}.pth'), weights_only=True)[
        'state_dict'
    ]


def run_tool(name, *arguments):
    """What a tool prints, run as a command in this process."""
    printed = io.StringIO()  # stays open: mmengine's loggers keep it
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(TOOLS / name), run_name='__main__')
    return printed.getvalue()


@pytest.fixture(scope='module')
def swept(root):
    return run_sweep(root, num_open_images=[None, 3])


def test_every_job_is_trained_validated_and_tested(root, swept):
    assert [(run['num_open_images'], run['lambda_fake']) for run in swept['runs']] == [
        (None, 0.05),
        (None, 0.5),
        (3, 0.05),
        (3, 0.5),
    ]
    for run in swept['runs']:
        assert list(run['history']) == [2, 4]
        assert run['validation'] == max(entry['opengan/AUROC'] for entry in run['history'].values())
        assert run['validation'] == run['history'][run['step']]['opengan/AUROC']
        assert all(0 <= entry['fake/AUROC'] <= 1 for entry in run['history'].values())
        weights = torch.load(run['checkpoint'], weights_only=True)
        assert f'iter_{run["step"]}' in run['checkpoint']
        assert weights['meta']['iter'] == run['step']


def test_numbers_are_those_of_an_ordinary_training_and_test(root, swept):
    run = swept['runs'][1]
    job = experiment.Job(
        'ordinary', str(root / 'tiny.py'), 0, root / 'ordinary_s0', {'model.lambda_fake': 0.5}
    )
    experiment.train([job], processes=0)
    best = job.best()
    assert best['step'] == run['step']
    assert best['open_validation']['opengan/AUROC'] == run['validation']
    one, other = (
        torch.load(path, weights_only=True)['state_dict']
        for path in (job.work_dir / best['checkpoint'], run['checkpoint'])
    )
    assert all(torch.equal(one[key], other[key]) for key in one)
    history = sweep_report.history(job.work_dir)
    for step, entry in run['history'].items():
        for key in ('opengan/AUROC', 'opengan/AP', 'opengan/FPR95'):
            assert entry[key] == history[step][key]
    report = evaluate(
        config=str(root / 'tiny.py'),
        jobs=[job],
        resolution='feature',
        out=root / 'ordinary_test',
    )
    assert report['scorers']['ordinary_s0']['AUROC'] == run['AUROC']


def test_report(root, swept):
    out = root / 'out'
    for row in swept['table']:
        runs = [run for run in swept['runs'] if run['num_open_images'] == row['num_open_images']]
        best = max(runs, key=lambda run: run['validation'])
        assert (row['lambda_fake'], row['run']) == (best['lambda_fake'], best['name'])
        assert row['test_AUROC'] == [best['AUROC']]
    written = json.loads((out / 'sweep.json').read_text())
    assert written == as_json(swept)
    (chosen,) = (run for run in swept['runs'] if run['name'] == swept['chosen'])
    assert (out / 'chosen.pth').read_bytes() == Path(chosen['checkpoint']).read_bytes()
    for name in ('figure9', 'figure10', 'figure11'):
        picture = cv2.imread(str(out / f'{name}.png'))
        assert min(picture.shape[:2]) > 400
        assert len(np.unique(picture)) > 20


def test_the_test_tool_finds_what_the_table_says_of_the_chosen_checkpoint(root, swept):
    out = root / 'out'
    result = json.loads((out / 'sweep.json').read_text())
    run_tool('test.py', root / 'tiny.py', out / 'chosen.pth', '--work-dir', root / 'chosen')
    found = json.loads((root / 'chosen/open_set_eval/test/metrics.json').read_text())['scorers'][
        'opengan'
    ]['AUROC']
    assert [run['AUROC'] for run in result['runs'] if run['name'] == result['chosen']] == [found]
    (row,) = (
        line
        for line in (out / 'sweep.md').read_text().splitlines()
        if line.startswith(f'| {result["chosen"]} |')
    )
    assert row.split(' | ')[3] == f'{found:.4f}'


def test_parallel_processes_find_the_same(root, swept):
    out = root / 'parallel'
    for run in swept['runs'][3:]:  # three jobs are left to two processes: one trains twice
        shutil.copytree(root / 'out' / 'runs' / run['name'], out / 'runs' / run['name'])
    shutil.copy(root / 'out' / 'made_from.json', out)
    found = run_sweep(root, out=out, num_open_images=[None, 3], processes=2)
    assert [numbers(run) for run in found['runs']] == [numbers(run) for run in swept['runs']]
    assert sorted(path.name for path in out.glob('test_*')) == ['test_0', 'test_1']


def test_the_segmentor_does_not_run_in_a_training(root, swept, monkeypatch):
    calls, forward = [], EveryFourthPixel.forward
    monkeypatch.setattr(
        EveryFourthPixel, 'forward', lambda self, image: calls.append(1) or forward(self, image)
    )
    jobs = plan(
        str(root / 'tiny.py'), lambdas=[0.5], seeds=[0], num_open_images=[None], out=root / 'stored'
    )
    experiment.train(jobs, processes=0)
    assert list(sweep_report.history(jobs[0].work_dir)) == [2, 4]
    assert calls == []


def test_an_unfinished_job_goes_on_from_its_last_validation(root, swept):
    """It was cut off in its last step and started again."""
    trained, batch = [], StoreSource._batch

    def load(self, draw):
        trained.append(draw.step)
        if len(trained) == STEPS:
            raise KeyboardInterrupt
        return batch(self, draw)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoreSource, '_batch', load)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(root, out=root / 'cut_off', lambdas=[0.5])
        (run,) = run_sweep(root, out=root / 'cut_off', lambdas=[0.5])['runs']
    assert trained == [0, 1, 2, 3, 2, 3]
    assert numbers(run) == numbers(swept['runs'][1])
    one, other = weights(run), weights(swept['runs'][1])
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_command_hands_its_options_on_and_prints_the_report(tmp_path, monkeypatch):
    given = {}

    def run(config, *, out, **options):
        given.update(options, config=config, out=out)
        Path(out, 'sweep.md').write_text('the report')

    monkeypatch.setattr('mmseg_opengan.experiments.sweep.sweep', run)
    arguments = '--lambdas .1 .2 --seeds 3 4 --num-open-images 5 --processes 7 --cfg-options a.b=9'
    printed = run_tool('sweep.py', 'a.py', '--out', tmp_path, *arguments.split())
    assert printed == 'the report\n'
    assert given == dict(
        config='a.py',
        out=str(tmp_path),
        lambdas=[0.1, 0.2],
        seeds=[3, 4],
        num_open_images=[5],
        processes=7,
        options={'a.b': 9},
    )
    run_tool('sweep.py', 'a.py', '--out', tmp_path)
    assert (len(LAMBDAS), LAMBDAS[0], LAMBDAS[-1]) == (18, 0.05, 0.9)  # the paper's
    defaults = dict(
        lambdas=LAMBDAS,
        seeds=[0],
        num_open_images=[None],
        processes=2,
        options={},
    )
    assert given == dict(defaults, config='a.py', out=str(tmp_path))


def test_what_is_there_is_not_repeated_and_seeds_join(root, swept, monkeypatch):
    trained = []
    train_one = experiment._train_one
    monkeypatch.setattr(
        experiment, '_train_one', lambda job: trained.append(job.name) or train_one(job)
    )
    again = run_sweep(root, num_open_images=[None, 3])
    assert trained == []
    assert as_json(again['table']) == as_json(swept['table'])
    more = run_sweep(root, seeds=[0, 1])
    assert trained == ['openall_lambda0p05_s1', 'openall_lambda0p5_s1']
    (row,) = more['table']
    values = [
        [run['validation'] for run in more['runs'] if run['lambda_fake'] == value]
        for value in (0.05, 0.5)
    ]
    assert row['validation'] == max(map(np.mean, values))
    assert len(row['test_AUROC']) == 2
    with pytest.raises(
        ValueError, match=r"out' was made from something else \(options\.train_cfg\.max_iters"
    ):
        run_sweep(root, options={'train_cfg.max_iters': 2})


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(lambdas=[0.0, 0.1]), r'lambdas: wanted values > 0, found 0\.0; lambda_G = 0 is CLS'),
        (dict(seeds=[1, 1]), r'seeds: wanted at least one value, each once, found \[1, 1\]'),
        (
            dict(options={'default_hooks.checkpoint.save_best': 'opengan/FPR95'}),
            "save_best: wanted 'auto' or an AUROC, .* found 'opengan/FPR95'",
        ),
    ],
)
def test_wrong_plans_are_refused(root, options, message):
    given = {'lambdas': [0.1], 'seeds': [0], 'num_open_images': [None], **options}
    with pytest.raises(ValueError, match=message):
        plan(str(root / 'tiny.py'), out=root, **given)


def test_a_config_without_a_generator_or_a_bank_is_refused(root):
    made = Config.fromfile(root / 'tiny.py')
    del made.train_dataloader.dataset['root']
    made.dump(root / 'pix.py')
    made.model.generator = None
    made.dump(root / 'cls.py')
    given = dict(lambdas=[0.1], seeds=[0], num_open_images=[None], out=root)
    with pytest.raises(ValueError, match=r'has no generator: wanted a config of OpenGAN'):
        plan(str(root / 'cls.py'), **given)
    with pytest.raises(ValueError, match=r'trains on images: wanted .* from a feature bank'):
        plan(str(root / 'pix.py'), **given)


def test_stored_taps_of_the_config_are_taken(root, tmp_path):
    made = Config.fromfile(root / 'tiny.py')
    images = made.val_dataloader.dataset
    made.val_dataloader.dataset = dict(type='StoredTaps', root=str(tmp_path), images=images)
    made.dump(root / 'stored_taps.py')
    given = dict(lambdas=[0.1], seeds=[0], num_open_images=[None], out=tmp_path / 'out')
    (job,) = plan(str(root / 'stored_taps.py'), **given)
    dataset = job.load_config().val_dataloader.dataset
    assert (dataset.root, dataset.images.type) == (str(tmp_path), 'CityscapesOpenSet')
    assert len(DATASETS.build(dataset)) == 1


@pytest.fixture(scope='module')
def otherwise(root, swept):
    """The second job of the sweep, by a config that says the same in other words and logs
    elsewhere.
    """
    options = {
        'default_hooks.checkpoint.save_best': 'auto',
        'default_hooks.logger.log_metric_by_epoch': True,
        'visualizer.vis_backends': [],
    }
    run_sweep(root, out=root / 'otherwise', lambdas=[0.5], options=options)
    return root / 'otherwise'


def test_auto_is_told_by_what_it_means(otherwise, swept):
    (run,) = json.loads((otherwise / 'sweep.json').read_text())['runs']
    assert (run['validated_by'], run['validation']) == ('AUROC', swept['runs'][1]['validation'])
    (best,) = otherwise.glob('runs/*/best.json')
    assert list(json.loads(best.read_text())['open_validation']) == ['opengan/AUROC']
    assert '| open-validation AUROC |' in (otherwise / 'sweep.md').read_text()


def test_the_history_does_not_depend_on_where_a_config_logs(otherwise, swept):
    (run,) = json.loads((otherwise / 'sweep.json').read_text())['runs']
    assert run['history'] == as_json(swept['runs'][1]['history'])
    assert (otherwise / 'figure9.png').exists()
