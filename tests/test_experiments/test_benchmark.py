"""The one command on a tiny data set: fixed, fitted and trained methods in one table."""

import csv

import pytest
import torch
from mmseg.registry import MODELS
from test_scorer_fitting import make_config
from tiny_cityscapes import images, write_images

from mmseg_opengan.experiments import benchmark

METHODS = ['msp', 'centroid', 'gmm', 'mspc', 'cls']
SCORERS = dict(
    msp=dict(type='MSP'),
    centroid=dict(type='ClassCentroid'),
    unused=dict(type='Energy'),
    kplus1=dict(type='KPlusOne', steps=2),
    gmm=dict(type='GMM', num_components=2, covariance='diag'),
    mspc=dict(type='MSPc', temperature=2.0),
)
EVALUATION = """
val_cfg, test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
val_evaluator, test_evaluator = dict(type='OpenSetMetric'), dict(type='OpenSetMetric')
custom_imports = dict(imports=['mmseg_opengan.register'])
default_scope = 'mmseg'
custom_hooks = [dict(type='OpenGANHook'), dict(type='OpenSetEvaluationHook', plot_val=False)]
visualizer = dict(type='OpenSetVisualizer', name='visualizer')
optim_wrapper = dict(type='OptimWrapper', constructor='OpenGANOptimWrapperConstructor', discriminator=dict(
    optimizer=dict(type='Adam', lr=1e-3)))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1, val_interval=1)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1, save_best='opengan/AUROC',
                                     rule='greater'), logger=dict(type='LoggerHook', log_metric_by_epoch=False))
log_processor = dict(by_epoch=False)
scorer_fitting = dict(num_pixels=150, grids=dict(mspc=dict(epsilon=[.01, .02])))
paper_auroc = dict(msp=.721)
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Data, segmentor, and the configs cls_tiny.py and scorers_tiny.py."""
    path = tmp_path_factory.mktemp('benchmark')
    write_images(path / 'data', number=5, size=(48, 64))
    write_images(path / 'data', number=3, size=(48, 64), folder='val')
    torch.manual_seed(0)
    model = MODELS.build(make_config(path, {}).model)
    torch.save(dict(state_dict=model.segmentor.state_dict()), path / 'segmentor.pth')
    for name, scorers in (('cls', dict(entropy=dict(type='Entropy'))), ('scorers', SCORERS)):
        cfg = make_config(path, scorers)
        cfg.model.update(
            generator=None, discriminator=dict(type='FeatureDiscriminator', hidden=(8,))
        )
        cfg.train_dataloader.update(
            batch_size=1,
            num_workers=0,
            sampler=dict(type='StepSampler'),
            collate_fn=dict(type='one_step'),
        )
        plain = dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
        )
        cfg.val_dataloader.update(plain)
        cfg.test_dataloader = dict(plain, dataset=images(path / 'data', split='test'))
        lines = [f'{key} = {value!r}' for key, value in cfg.to_dict().items()]
        (path / f'{name}_tiny.py').write_text('\n'.join(lines) + EVALUATION)
    return path


@pytest.fixture(scope='module')
def done(folder):
    """(folder of the results, the table)."""
    out = folder / 'out'
    text = benchmark.run(
        str(folder / '{}_tiny.py'),
        METHODS,
        [0, 1],
        out,
        scorers=str(folder / 'scorers_tiny.py'),
        processes=0,
        bootstrap_block=2,
        num_panels=2,
        resolutions=['image'],
    )
    return out, text


def read_csv(out):
    with open(out / 'results.csv') as file:
        return list(csv.DictReader(file))


def test_every_method_is_in_the_table_and_there_are_figures(done):
    out, text = done
    assert (out / 'table.md').read_text() == text
    for label in ('MSP', 'Entropy', 'class centroid', 'GMM', 'MSPc', 'CLS'):
        lines = [line for line in text.splitlines() if line.startswith(f'| {label} |')]
        assert len(lines) == 1, label
        assert all(('±' in line) == (label in ('class centroid', 'GMM', 'CLS')) for line in lines)
    assert '0.721' in next(line for line in text.splitlines() if line.startswith('| MSP |'))
    assert text.index('| MSP |') < text.index('| class centroid |') < text.index('| CLS |')
    assert (out / 'roc_image.png').stat().st_size > 10000
    panels = sorted(path.name for path in (out / 'panels_image').iterdir())
    assert panels == ['000_leftImg8bit.png', '002_leftImg8bit.png']


def test_csv_has_a_row_for_each_scorer_seed_and_resolution(done):
    rows = read_csv(done[0])
    assert [(row['method'], row['seed']) for row in rows] == sorted(
        [
            ('entropy', '0'),
            ('msp', '0'),
            ('mspc', '0'),
            *((name, seed) for name in ('centroid', 'gmm', 'cls') for seed in '01'),
        ]
    )
    for row in rows:
        assert 0 <= float(row['AUROC']) <= 1
        assert bool(row['open_validation']) == (row['method'] in ('mspc', 'centroid', 'cls'))
        assert (row['minutes'] != '') == (row['method'] == 'cls')


def test_nothing_is_done_twice_and_a_further_method_needs_a_test_only(folder, done, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in done[0].rglob('*.pth')}
    asked = []

    class NoRunner:
        @staticmethod
        def from_cfg(cfg):
            asked.append(list(cfg.model.scorers))
            raise KeyboardInterrupt

    monkeypatch.setattr('mmseg_opengan.experiments.testing.Runner', NoRunner)
    options = dict(
        scorers=str(folder / 'scorers_tiny.py'),
        processes=0,
        bootstrap_block=2,
        resolutions=['image'],
    )
    args = (str(folder / '{}_tiny.py'), METHODS, [0, 1], done[0])
    assert benchmark.run(*args, **options) == done[1]
    assert asked == []
    with pytest.raises(KeyboardInterrupt):
        benchmark.run(args[0], [*METHODS, 'unused'], *args[2:], **options)
    assert asked == [
        [
            'entropy',
            'msp',
            'unused',
            'centroid_s0',
            'gmm_s0',
            'mspc',
            'centroid_s1',
            'gmm_s1',
            'cls_s0',
            'cls_s1',
        ]
    ]
    assert {path: path.stat().st_mtime_ns for path in done[0].rglob('*.pth')} == before


def test_a_folder_with_other_runs_is_refused(folder, done):
    args = (METHODS, [0, 1], done[0])
    options = dict(
        scorers=str(folder / 'scorers_tiny.py'),
        processes=0,
        bootstrap_block=2,
        resolutions=['image'],
    )
    configs = str(folder / '{}_tiny.py')
    with pytest.raises(ValueError, match=r'\(options\.model\.lambda_open: wanted 2, found None\)'):
        benchmark.run(configs, *args, options={'model.lambda_open': 2}, **options)
    with pytest.raises(ValueError, match=r'\(config: wanted .*scorers_tiny.py., found .*{}_tiny.'):
        benchmark.run(str(folder / 'scorers_tiny.py'), ['msp'], *args[1:], **options)


@pytest.mark.parametrize(
    'option', ['model.scorers.gmm.num_components', 'scorer_fitting.num_pixels']
)
def test_options_of_scorers_belong_into_their_config(folder, option):
    scorers = str(folder / 'scorers_tiny.py')
    with pytest.raises(
        ValueError, match=f'found .*{option}.*Set what scorers take in their config'
    ):
        benchmark.plan(scorers, ['gmm'], [0], folder, options={option: 3})


def test_an_unknown_method_is_refused(folder):
    with pytest.raises(
        ValueError, match=r"methods: \['gdm'\] are neither configs .* there are .*'centroid'"
    ):
        benchmark.plan(
            str(folder / '{}_tiny.py'),
            ['cls', 'gdm'],
            [0],
            folder,
            scorers=str(folder / 'scorers_tiny.py'),
        )


def test_a_single_config_serves_its_scorers(folder):
    found = benchmark.plan(str(folder / 'scorers_tiny.py'), ['msp', 'gmm', 'mspc'], [3, 4], folder)
    assert found.jobs == []
    assert list(found.fixed) == ['msp']
    assert {seed: list(some) for seed, some in found.fits.items()} == {
        3: ['gmm', 'mspc'],
        4: ['gmm'],
    }


def test_a_method_may_have_seeds_of_its_own(folder):
    methods = ['centroid', 'cls:0,2', 'gmm:2']
    found = benchmark.plan(
        str(folder / '{}_tiny.py'), methods, [0, 1], folder, scorers=str(folder / 'scorers_tiny.py')
    )
    assert [job.name for job in found.jobs] == ['cls_s0', 'cls_s2']
    assert {seed: list(some) for seed, some in found.fits.items()} == {
        0: ['centroid'],
        1: ['centroid'],
        2: ['gmm'],
    }


def test_a_fit_with_another_seed_has_it_in_its_name(folder, monkeypatch):
    asked = {}

    def evaluate_all(passes, processes):
        asked.update(passes[0]['scorers'])
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, 'evaluate_all', evaluate_all)
    result = dict(options={}, AUROC=None)
    monkeypatch.setattr(
        benchmark, 'fit_scorers', lambda cfg, **_: dict.fromkeys(cfg.model.scorers, result)
    )
    for seed in (0, 3):
        with pytest.raises(KeyboardInterrupt):
            benchmark.run(str(folder / 'scorers_tiny.py'), ['gmm', 'mspc'], [seed], folder / 'one')
    assert list(asked) == ['gmm_s0', 'mspc', 'gmm_s3']


def test_a_bootstrap_without_blocks_is_refused_before_anything_is_trained(folder, tmp_path):
    with pytest.raises(ValueError, match='bootstrap_block: wanted at least 1 image, found 0'):
        benchmark.run(str(folder / '{}_tiny.py'), ['cls'], [0], tmp_path / 'out', bootstrap_block=0)
    assert not (tmp_path / 'out').exists()
