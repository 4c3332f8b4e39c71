"""Figure 5: which trainings there are, the table, and the figure."""

from pathlib import Path

import pytest

from mmseg_opengan.experiments.open_images import (
    NUMBER,
    OpenImagesJob,
    _row,
    open_images,
    plan,
    write_report,
)
from mmseg_opengan.experiments.open_images_figure import open_images_figure

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'opengan'
FILES = {
    method: str(CONFIGS / f'{method}_hr18s_camvid.py') for method in ('cls', 'opengan0', 'cls-pix')
}
PROTOCOL = dict(label_policy='camvid', resolution='feature', num_images=2)


def test_every_number_is_trained_and_opengan0_once_a_seed(tmp_path):
    numbers = {'cls': [3, 30], 'opengan0': [3, 30], 'cls-pix': [30]}
    jobs = plan(
        FILES, numbers=numbers, seeds=[0, 1], out=tmp_path, options={'train_cfg.max_iters': 5}
    )
    found = {job.name: (job.number, job.options.get(NUMBER)) for job in jobs}
    assert found == {
        f'{name}_s{seed}': (number, number)
        for seed in (0, 1)
        for name, number in (
            ('cls_open3', 3),
            ('cls_open30', 30),
            ('cls-pix_open30', 30),
            ('opengan0', None),
        )
    }
    assert all(job.options['train_cfg.max_iters'] == 5 for job in jobs)
    assert len({job.work_dir for job in jobs}) == len(jobs)
    assert jobs[0].name == 'cls_open30_s0'  # fills the bank for all
    jobs = plan(
        FILES, numbers={'opengan0': [3], 'cls': [3], 'cls-pix': [30]}, seeds=[0], out=tmp_path
    )
    assert [job.name for job in jobs] == ['cls_open3_s0', 'cls-pix_open30_s0', 'opengan0_s0']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(numbers=[], seeds=[0]), "num_open_images of 'cls': wanted at least one value"),
        (dict(numbers=[3, 3], seeds=[0]), r"num_open_images of 'cls': .* found \[3, 3\]"),
        (dict(numbers=[0], seeds=[0]), 'num_open_images: wanted numbers of at least 1, found 0'),
        (dict(numbers=[3], seeds=[]), 'seeds: wanted at least one value'),
    ],
)
def test_what_cannot_be_planned_is_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        plan(
            FILES, out=tmp_path, **{**options, 'numbers': dict.fromkeys(FILES, options['numbers'])}
        )


def test_a_row_is_what_training_and_test_found(tmp_path):
    job = OpenImagesJob('cls_open3', 'cls.py', 1, tmp_path, {}, 3)
    (tmp_path / 'best.json').write_text(
        '{"checkpoint": "b.pth", "step": 5, "steps": 9, "minutes": 0.5, "open_validation": '
        '{"opengan/AUROC": 0.7}}'
    )
    report = dict(scorers={'cls_open3_s1': dict(AUROC=0.8, AP=0.1, FPR95=0.5)})
    assert _row(job, report) == dict(
        method='cls',
        open_images=3,
        seed=1,
        AUROC=0.8,
        AP=0.1,
        FPR95=0.5,
        open_validation=0.7,
        step=5,
        steps=9,
        minutes=0.5,
    )


@pytest.fixture
def rows():
    numbers = [
        ('cls', 3, 0, 0.7),
        ('cls', 3, 1, 0.8),
        ('cls', 30, 0, 0.9),
        ('cls', 30, 1, 0.9),
        ('opengan0', None, 0, 0.6),
    ]
    return [
        dict(method=method, open_images=number, seed=seed, AUROC=value)
        for method, number, seed, value in numbers
    ]


def test_the_report_has_a_table_a_figure_and_every_number(rows, tmp_path):
    table = write_report(tmp_path / 'out', rows, {'opengan0': 'OpenGAN-0', 'cls': 'CLS'}, PROTOCOL)
    assert table.splitlines() == [
        'camvid, feature resolution, 2 test images; AUROC',
        '',
        '| open training images | 3 | 30 |',
        '|---|---|---|',
        '| CLS | 0.7500 ± 0.0707 | 0.9000 ± 0.0000 |',
        '| OpenGAN-0 (trains on none) | 0.6000 | 0.6000 |',
    ]
    assert (tmp_path / 'out/figure5.md').read_text() == table
    lines = (tmp_path / 'out/figure5.csv').read_text().splitlines()
    assert lines[0] == 'method,open_images,seed,AUROC'
    assert lines[1:] == [
        'cls,3,0,0.7',
        'cls,3,1,0.8',
        'cls,30,0,0.9',
        'cls,30,1,0.9',
        'opengan0,,0,0.6',
    ]
    assert (tmp_path / 'out/figure5.png').read_bytes().startswith(b'\x89PNG')


def test_the_figure_has_means_seeds_and_flat_lines():
    axes = open_images_figure({'CLS': {30: [0.9], 3: [0.7, 0.8]}}, {'OpenGAN-0': [0.5, 0.7]}).axes[
        0
    ]
    line, seeds, single, flat = axes.lines
    assert line.get_xydata().tolist() == [[3, 0.75], [30, 0.9]]
    assert seeds.get_xydata().tolist() == [[3, 0.7], [3, 0.8]]
    assert single.get_xydata().tolist() == [[30, 0.9]]
    assert list(flat.get_ydata()) == [0.6, 0.6]
    assert axes.get_xscale() == 'log'
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ['CLS', 'OpenGAN-0']


@pytest.mark.parametrize(
    'change', [dict(options={'train_cfg.max_iters': 5}), dict(configs={'cls': FILES['opengan0']})]
)
def test_a_folder_with_other_runs_is_refused(change, tmp_path, monkeypatch):
    def train_one(jobs, processes):
        (tmp_path / 'runs' / jobs[0].name).mkdir(parents=True)
        (tmp_path / 'runs' / jobs[0].name / 'best.json').write_text('{}')
        raise KeyboardInterrupt

    monkeypatch.setattr('mmseg_opengan.experiments.open_images.train', train_one)
    given = dict(configs={'cls': FILES['cls']}, numbers={'cls': [3]}, seeds=[0], out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        open_images(**given)
    with pytest.raises(ValueError, match=f"'{tmp_path}' holds runs of something else"):
        open_images(**{**given, **change})


def test_one_config_for_all_methods_is_refused(tmp_path):
    config = 'configs/opengan/opengan_hr18s_camvid.py'
    numbers = {method: [3] for method in FILES}
    with pytest.raises(
        ValueError, match=r"methods: wanted a config each, found .* '{}' stands for the method"
    ):
        plan(dict.fromkeys(FILES, config), numbers=numbers, seeds=[0], out=tmp_path)
