"""Jobs of an experiment."""

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmseg.registry import DATASETS

from mmseg_opengan.engine import launch
from mmseg_opengan.engine.checkpoints import WholeCheckpointHook
from mmseg_opengan.experiments import jobs as experiment
from mmseg_opengan.experiments.jobs import Job, claim, own_values, train
from mmseg_opengan.provenance import differences, made_from

TRAINED = """
data_root = '/here'
model = dict(lambda_fake=.2, scorers=dict(msp=dict(type='MSP')))
train_dataloader = dict(num_workers=0, dataset=dict(root='bank', images=[dict(data_root=data_root, size=(4, 5))]))
optim_wrapper = dict(clip_grad=dict(norm_type=float('inf')))
custom_hooks = [dict(type='OpenGANHook')]
randomness = dict(deterministic=False)
default_hooks = dict(checkpoint=dict(save_best='opengan/AUROC'))
visualizer = dict(name='visualizer')
"""


@pytest.fixture
def job(tmp_path):
    """A job whose config is TRAINED."""
    (tmp_path / 'cls.py').write_text(TRAINED)
    return Job('cls', str(tmp_path / 'cls.py'), 0, tmp_path / 'cls_s0')


@pytest.fixture
def trained(monkeypatch):
    """A runner in mmengine's place: the calls of its ``train``, and what its message hub says."""
    told = {'best_ckpt': 'best_iter_4.pth', 'best_score': 1}
    calls = []
    choice = WholeCheckpointHook(by_epoch=False, save_best='opengan/AUROC', rule='greater')
    runner = SimpleNamespace(
        hooks=[choice],
        train=lambda: calls.append(1),
        message_hub=SimpleNamespace(get_info=told.get),
        max_iters=4,
    )
    monkeypatch.setattr(experiment, 'Runner', SimpleNamespace(from_cfg=lambda cfg: runner))
    monkeypatch.setattr(experiment, '_prepare_bank', lambda job: None)
    return SimpleNamespace(calls=calls, told=told)


def edit(job, old, new):
    assert old in TRAINED
    Path(job.config).write_text(TRAINED.replace(old, new))


def test_a_run_counts_as_finished_only_with_its_record(job, trained):
    assert (job.name, job.best()) == ('cls_s0', None)
    train([job], processes=0)
    assert (job.best()['step'], job.best()['steps'], job.validation()[1]) == (4, 4, 1)
    assert job.best()['minutes'] is not None
    train([job], processes=0)
    assert len(trained.calls) == 1


@pytest.mark.parametrize(('old', 'new'), [("'/here'", "'/there'"), ('MSP', 'Energy')])
def test_where_data_lies_and_scorers_have_no_part_in_a_run(old, new, job, trained):
    train([job], processes=0)
    edit(job, old, new)
    train([job], processes=0)
    assert len(trained.calls) == 1


@pytest.mark.parametrize(
    ('old', 'new', 'found'),
    [
        ('AUROC', 'AP', r"choice\.save_best: wanted 'opengan/AP', found 'opengan/AUROC'"),
        ('OpenGANHook', 'MyHook', r'custom_hooks: wanted .*MyHook.*, found .*OpenGANHook.*'),
        ('False', 'True', r'randomness\.deterministic: wanted True, found False'),
        ("'inf'", "'1'", r'optim_wrapper\.clip_grad\.norm_type: wanted 1\.0, found None'),
    ],
)
def test_a_run_of_an_edited_config_is_neither_finished_nor_resumed(old, new, found, job, trained):
    train([job], processes=0)
    edit(job, old, new)
    refused = rf"cls_s0' was made from something else \({found}\)\. Choose another folder, or"
    with pytest.raises(ValueError, match=refused):
        train([job], processes=0)
    (job.work_dir / 'best.json').rename(job.work_dir / 'last_checkpoint')  # as it was cut off
    with pytest.raises(ValueError, match=refused):
        train([job], processes=0)
    (job.work_dir / 'last_checkpoint').unlink()
    train([job], processes=0)
    assert len(trained.calls) == 2


def test_an_edited_module_of_the_users_is_another_recipe(job, trained, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'own_data_set', raising=False)  # of another test
    imports = "custom_imports = dict(imports=['mmseg_opengan.register', 'own_data_set'])"
    Path(job.config).write_text(TRAINED + imports)
    module = tmp_path / 'own_data_set.py'
    module.write_text('IDS = {7: "debris"}')
    before = job.recipe()
    assert list(before['own_modules']) == ['own_data_set']
    module.write_text('IDS = {8: "debris"}')
    assert job.recipe() != before


@pytest.mark.parametrize('what', ['a.jpg', 'a.png', 'ids'])
def test_corrected_data_are_another_recipe(job, tmp_path, monkeypatch, what):
    for name in ('a.jpg', 'a.png'):
        (tmp_path / name).write_bytes(b'road')

    class Labels:
        metainfo = dict(label_policy='own@1')

        def __len__(self):
            return 1

        def get_data_info(self, index):
            return dict(img_path=str(tmp_path / 'a.jpg'), seg_map_path=str(tmp_path / 'a.png'))

    monkeypatch.setitem(DATASETS.module_dict, 'Labels', Labels)
    validation = "val_dataloader = dict(dataset=dict(type='Labels'))"
    Path(job.config).write_text(TRAINED + validation)
    before = job.recipe()
    assert job.recipe() == before
    if what == 'ids':
        Labels.metainfo = dict(label_policy='own@2')
    else:
        (tmp_path / what).write_bytes(b'debris')
    assert differences(job.recipe(), before)[0].startswith('data: wanted ')


def test_a_folder_belongs_to_one_record_once_a_run_in_it_has_begun(tmp_path):
    first, other = (made_from(config='a.py', options=dict(steps=n)) for n in (5, 6))
    claim(tmp_path, other)  # a start that failed
    claim(tmp_path, first)
    (tmp_path / 'runs' / 'cls_s0').mkdir(parents=True)
    (tmp_path / 'runs' / 'cls_s0' / 'last_checkpoint').touch()
    claim(tmp_path, first)
    text = rf"'{tmp_path}' was made from something else \(options\.steps: wanted 6, found 5\)"
    with pytest.raises(ValueError, match=text):
        claim(tmp_path, other)


def test_methods_may_have_values_of_their_own():
    assert own_values(['cls', 'opengan:3,30'], [0, 1], 'seeds') == dict(cls=[0, 1], opengan=[3, 30])


@pytest.mark.parametrize(
    ('methods', 'seeds', 'message'),
    [
        (['cls'], [0, 0], r"seeds of 'cls': wanted at least one value, each once, found \[0, 0\]"),
        (['cls:0', 'cls:1'], [0], r"methods: .* found \['cls', 'cls'\]"),
        (['cls:a'], [0], r"methods: wanted seeds after the colon, as in 'cls:0,1', found 'cls:a'"),
    ],
)
def test_two_runs_in_one_folder_are_refused(methods, seeds, message):
    with pytest.raises(ValueError, match=message):
        own_values(methods, seeds, 'seeds')


def test_a_run_whose_validations_gave_no_number_says_so(job, trained):
    trained.told.clear()
    with pytest.raises(
        RuntimeError, match=r'cls_s0 failed, .*: no validation gave a number for opengan/AUR'
    ):
        train([job], processes=0)
    assert job.best() is None


def test_minutes_of_a_resumed_run_are_not_known(job, trained):
    claim(job.work_dir, job.recipe())
    (job.work_dir / 'last_checkpoint').write_text('iter_2.pth')
    train([job], processes=0)
    assert job.best()['minutes'] is None


# ----------------------------------------------------------------------------------------------
# processes


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


def test_runs_take_the_gpus_in_turns(job, trained, monkeypatch):
    used = []
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    monkeypatch.setattr('torch.cuda.set_device', used.append)
    for place in range(3):
        experiment._train_quietly(job, place)
    assert used == [0, 1, 0]


def _place(task, place):
    return task, place


def test_results_of_processes_come_in_the_order_of_the_tasks(capsys):
    assert experiment.in_parallel(_place, [7, 8, 9], 2) == [(7, 0), (8, 1), (9, 2)]
    assert experiment.in_parallel(_place, [7, 8], 0) == [(7, 0), (8, 0)]
