"""Jobs of an experiment."""

import json
import multiprocessing
import queue
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmseg_opengan import provenance as run_folder
from mmseg_opengan.engine import launch
from mmseg_opengan.experiments import jobs as experiment


def test_a_run_counts_as_finished_only_with_its_record(tmp_path):
    (job,) = experiment.plan({'cls': 'config.py'}, [3], tmp_path)
    assert (job.name, job.work_dir, job.best()) == ('cls_s3', tmp_path / 'cls_s3', None)
    job.work_dir.mkdir()
    (job.work_dir / 'best.json').write_text('{"checkpoint": "best.pth", "step": 5}')
    assert job.best()['step'] == 5


PARENT = """
import multiprocessing, os, sys, time
from pathlib import Path
from mmseg_opengan.engine.launch import die_with_parent

def child(folder):
    die_with_parent()
    for number in range(3000):
        Path(folder, 'alive').write_text(str(number))
        time.sleep(.02)

if __name__ == '__main__':
    multiprocessing.get_context('spawn').Process(target=child, args=sys.argv[1:]).start()
    while not Path(sys.argv[1], 'alive').exists():
        time.sleep(.02)
    os.kill(os.getpid(), 9)
"""


def test_a_worker_does_not_outlive_a_killed_command(tmp_path):
    (tmp_path / 'parent.py').write_text(PARENT)
    assert subprocess.run([sys.executable, tmp_path / 'parent.py', tmp_path]).returncode == -9
    time.sleep(1)
    before = (tmp_path / 'alive').read_text()
    time.sleep(0.5)
    assert (tmp_path / 'alive').read_text() == before


TRAINED = """
data_root = '/here'
model = dict(lambda_fake=.2, scorers=dict(msp=dict(type='MSP')))
train_dataloader = dict(num_workers=0, dataset=dict(root='bank', images=[dict(data_root=data_root, size=(4, 5))]))
optim_wrapper = dict(clip_grad=dict(norm_type=float('inf')))
default_hooks = dict(checkpoint=dict(save_best='opengan/AUROC'))
visualizer = dict(name='visualizer')
"""


def test_a_run_of_an_edited_config_is_neither_finished_nor_resumed(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(experiment, '_prepare_bank', lambda job: None)

    class Runner:
        message_hub, max_iters = (
            SimpleNamespace(get_info={'best_ckpt': 'best_iter_4.pth', 'best_score': 1}.get),
            4,
        )
        from_cfg = staticmethod(lambda config: Runner())
        register_hook = staticmethod(lambda hook: None)
        train = staticmethod(lambda: trained.append(1))

    monkeypatch.setattr(experiment, 'Runner', Runner)
    config = tmp_path / 'cls.py'
    (job,) = experiment.plan({'cls': str(config)}, [0], tmp_path)
    config.write_text(TRAINED)
    experiment.train([job], processes=0)
    for old, new in (
        ('', ''),
        ("'/here'", "'/there'"),
        ('MSP', 'Energy'),
        ("'bank'", "'moved'"),
    ):  # no part in it
        config.write_text(TRAINED.replace(old, new))
        experiment.train([job], processes=0)
    assert trained == [1]
    refused = (
        r"cls_s0' was trained by another recipe \(%s\)\. Choose another folder, or remove this one"
    )
    edits = (
        ('.2', '.3', r'model\.lambda_fake: wanted 0\.3, found 0\.2'),
        ('(4, 5)', '(4, 6)', r'train_dataloader\.dataset\.images: wanted .*6.*, found .*5.*'),
        ('AUROC', 'AP', r'choice\.save_best: wanted opengan/AP, found opengan/AUROC'),
    )
    for old, new, found in edits:
        config.write_text(TRAINED.replace(old, new))
        with pytest.raises(ValueError, match=refused % found):
            experiment.train([job], processes=0)
    module = tmp_path / 'own_data_set.py'
    module.write_text('IDS = {7: "debris"}')
    monkeypatch.syspath_prepend(tmp_path)
    config.write_text(
        TRAINED + "custom_imports = dict(imports=['mmseg_opengan.register', 'own_data_set'])"
    )
    with pytest.raises(
        ValueError, match=refused % r'own modules: wanted .*own_data_set.*, found None'
    ):
        experiment.train([job], processes=0)
    config.write_text(TRAINED.replace(*edits[-1][:2]))
    (job.work_dir / 'best.json').rename(job.work_dir / 'last_checkpoint')  # as it was cut off
    with pytest.raises(ValueError, match=refused % edits[-1][2]):
        experiment.train([job], processes=0)
    (job.work_dir / 'last_checkpoint').unlink()
    experiment.train([job], processes=0)
    assert trained == [1, 1]


def test_a_run_begun_before_recipes_were_noted_goes_on(tmp_path, monkeypatch):
    """And its recipe stays unknown: the config of today may not be the one that it began with."""
    (tmp_path / 'cls.py').write_text(TRAINED)
    (job,) = experiment.plan({'cls': str(tmp_path / 'cls.py')}, [0], tmp_path)
    job.work_dir.mkdir()
    (job.work_dir / 'last_checkpoint').write_text('iter_2.pth')
    hub = SimpleNamespace(get_info={'best_ckpt': 'best_iter_4.pth', 'best_score': 1}.get)
    runner = SimpleNamespace(
        register_hook=lambda hook: None, train=lambda: None, message_hub=hub, max_iters=4
    )
    monkeypatch.setattr(experiment, 'Runner', SimpleNamespace(from_cfg=lambda config: runner))
    run_folder.check_recipe(job)
    experiment._train_one(job)
    assert job.best()['step'] == 4
    assert not (job.work_dir / 'recipe.json').exists()


def finish(out, name='cls_s0'):
    (out / name).mkdir(parents=True, exist_ok=True)
    (out / name / 'best.json').write_text('{}')


def test_a_folder_belongs_to_one_config_and_its_options(tmp_path):
    run_folder.claim(tmp_path, '{}_a.py', {'train_cfg.max_iters': 5})
    finish(tmp_path)
    run_folder.claim(tmp_path, '{}_a.py', {'train_cfg.max_iters': 5})
    with pytest.raises(
        ValueError,
        match=rf"'{tmp_path}' .*\(options: wanted {{'train_cfg.max_iters': 6}}, found "
        r"{'train_cfg.max_iters': 5}\)\. Choose another folder",
    ):
        run_folder.claim(tmp_path, '{}_a.py', {'train_cfg.max_iters': 6})
    with pytest.raises(ValueError, match=r'\(config: wanted {}_b\.py, found {}_a\.py\)'):
        run_folder.claim(tmp_path, '{}_b.py', {'train_cfg.max_iters': 5})


def test_methods_join_a_folder_and_keep_their_configs(tmp_path):
    run_folder.claim(tmp_path, {'cls': 'cls_a.py'})
    finish(tmp_path)
    run_folder.claim(tmp_path, {'opengan': 'opengan_a.py'})
    run_folder.claim(tmp_path, {'cls': 'cls_a.py'})
    for other in ({'cls': 'cls_b.py'}, {'opengan': 'opengan_b.py'}):
        with pytest.raises(ValueError, match=r'config: wanted .*_b\.py'):
            run_folder.claim(tmp_path, other)


def test_a_folder_without_settings_or_without_results_is_anyones(tmp_path):
    finish(tmp_path / 'old')
    run_folder.claim(tmp_path / 'old', 'a.py')
    run_folder.claim(tmp_path / 'failed', 'a.py', {'model.typo': 1})
    run_folder.claim(tmp_path / 'failed', 'a.py')
    finish(tmp_path / 'failed')
    with pytest.raises(ValueError, match='something else'):
        run_folder.claim(tmp_path / 'failed', 'a.py', {'model.typo': 1})


TESTED = """
model = dict(segmentor=dict(config='closed.py', checkpoint='closed.pth'),
             discriminator=dict(type='FeatureDiscriminator', act='leaky_relu'), generator=None, lambda_fake=.2,
             scorers=dict(msp=dict(type='MSP')), smoothing=0.)
test_dataloader = dict(dataset=dict(type='Images', data_root='images'), num_workers=2)
test_evaluator = dict(type='OpenSetMetric')
"""


@pytest.fixture
def tests_run(tmp_path, monkeypatch):
    """``cls.py`` with a finished run of it, and the configs of all tests, whose report has the
    scorers' names.
    """
    ran = []

    class Runner:
        def __init__(self, cfg):
            self.cfg = cfg

        @classmethod
        def from_cfg(cls, cfg):
            return cls(cfg)

        def test(self):
            ran.append(self.cfg)
            folder = Path(self.cfg.work_dir, 'open_set_eval', 'test')
            folder.mkdir(parents=True, exist_ok=True)
            (folder / 'metrics.json').write_text(
                json.dumps(dict(scorers=dict(self.cfg.model.scorers)))
            )

    monkeypatch.setattr(experiment, 'Runner', Runner)
    (tmp_path / 'cls.py').write_text(TESTED)
    finish(tmp_path)
    (tmp_path / 'cls_s0' / 'best.json').write_text('{"checkpoint": "best.pth"}')
    (tmp_path / 'cls_s0' / 'best.pth').write_bytes(b'weights')
    (tmp_path / 'test').mkdir()
    return ran


def evaluate(folder, job_options=None, **options):
    jobs = experiment.plan({'cls': str(folder / 'cls.py')}, [0], folder, job_options)
    return experiment.evaluate(
        str(folder / 'cls.py'), jobs, out=folder / 'test', **{'resolution': 'image', **options}
    )


def test_a_discriminator_is_tested_with_the_options_that_it_was_trained_with(tmp_path, tests_run):
    evaluate(tmp_path, {'model.discriminator.act': 'relu'})
    assert tests_run[0].model.scorers.cls_s0.discriminator.act == 'relu'


@pytest.mark.parametrize(
    'change',
    [
        dict(resolution='feature'),
        dict(bootstrap_block=5),
        dict(options={'model.smoothing': 8.0}),
        dict(options={'test_dataloader.dataset.data_root': 'others'}),
        dict(scorers=dict(msp=dict(type='MSP', k=2))),
    ],
)
def test_a_report_is_made_again_where_something_else_is_asked_for(change, tmp_path, tests_run):
    evaluate(tmp_path)
    evaluate(tmp_path, options={'test_dataloader.num_workers': 0, 'model.lambda_fake': 0.4})
    assert len(tests_run) == 1
    evaluate(tmp_path, **change)
    assert len(tests_run) == 2
    evaluate(tmp_path)
    assert len(tests_run) == 3


def test_a_report_is_made_again_where_a_checkpoint_was_replaced(tmp_path, tests_run):
    evaluate(tmp_path)
    evaluate(tmp_path, scorers={})
    assert len(tests_run) == 1
    (tmp_path / 'cls_s0' / 'best.pth').write_bytes(b'retrained')
    evaluate(tmp_path)
    assert len(tests_run) == 2


def test_a_report_without_a_request_is_known_by_its_names(tmp_path, tests_run):
    evaluate(tmp_path)
    (tmp_path / 'test' / 'tested.json').unlink()
    evaluate(tmp_path, bootstrap_block=5)
    assert len(tests_run) == 1


def test_a_test_that_fails_leaves_no_report_of_another_request(tmp_path, tests_run, monkeypatch):
    evaluate(tmp_path)
    monkeypatch.setattr(experiment.Runner, 'test', lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(tmp_path, bootstrap_block=5)
    with pytest.raises(ZeroDivisionError):
        evaluate(tmp_path, bootstrap_block=5)


def test_a_run_whose_validations_gave_no_number_says_so(tmp_path, monkeypatch):
    hub = SimpleNamespace(get_info=lambda key: None)
    runner = SimpleNamespace(register_hook=lambda hook: None, train=lambda: None, message_hub=hub)
    monkeypatch.setattr(experiment, 'Runner', SimpleNamespace(from_cfg=lambda cfg: runner))
    (tmp_path / 'cls.py').write_text(
        "default_hooks = dict(checkpoint=dict(save_best='opengan/AUROC'))\n"
        "visualizer = dict(type='OpenSetVisualizer')"
    )
    (job,) = experiment.plan({'cls': str(tmp_path / 'cls.py')}, [0], tmp_path)
    with pytest.raises(
        RuntimeError, match=r'cls_s0: no validation gave a number for opengan/AUROC'
    ):
        experiment._train_one(job)
    assert job.best() is None


# ----------------------------------------------------------------------------------------------
# processes


def _note(folder, number):
    Path(folder, str(number)).write_text('begun')
    time.sleep(0.3)


def _interrupted(folder):
    with launch.workers(1, multiprocessing.get_context('fork')) as pool:
        for number in range(9):
            pool.submit(_note, folder, number)
        while not list(folder.iterdir()):
            time.sleep(0.02)
        raise KeyboardInterrupt


def test_after_an_interruption_what_has_not_begun_never_does(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _interrupted(tmp_path)
    begun = len(list(tmp_path.iterdir()))
    time.sleep(1)
    assert begun == len(list(tmp_path.iterdir())) < 5  # the pool hands out a few tasks ahead


def test_processes_take_the_gpus_in_turns(monkeypatch):
    places, used = queue.SimpleQueue(), []
    for place in range(3):
        places.put(place)
    monkeypatch.setattr(experiment, 'die_with_parent', lambda: None)
    monkeypatch.setattr(experiment._CountHook, 'steps', None)
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    monkeypatch.setattr('torch.cuda.set_device', used.append)
    for _ in range(3):
        experiment._start_worker('steps', places)
    assert used == [0, 1, 0]
    assert experiment._CountHook.steps == 'steps'


@pytest.mark.parametrize('resumed', [False, True])
def test_minutes_are_told_of_runs_that_were_not_resumed(resumed, tmp_path, monkeypatch):
    hub = SimpleNamespace(get_info={'best_ckpt': 'best_iter_4.pth', 'best_score': 1}.get)
    runner = SimpleNamespace(
        register_hook=lambda hook: None, train=lambda: None, message_hub=hub, max_iters=4
    )
    monkeypatch.setattr(experiment, 'Runner', SimpleNamespace(from_cfg=lambda cfg: runner))
    (tmp_path / 'cls.py').write_text(TRAINED)
    (job,) = experiment.plan({'cls': str(tmp_path / 'cls.py')}, [0], tmp_path)
    job.work_dir.mkdir()
    if resumed:
        (job.work_dir / 'last_checkpoint').write_text('iter_2.pth')
    experiment._train_one(job)
    assert (job.best()['minutes'] is None) == resumed
