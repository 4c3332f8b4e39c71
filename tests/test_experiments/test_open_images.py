"""Figure 5: which trainings there are, the table, and the figure."""

import json
from pathlib import Path

import pytest

from mmseg_opengan.experiments import open_images as module
from mmseg_opengan.experiments.open_images import (
    NUMBER,
    open_images,
    plan,
    write_report,
)
from mmseg_opengan.pictures.methods import line_styles

CONFIG = str(Path(__file__).resolve().parents[2] / 'configs' / 'opengan' / '{}_hr18s_camvid.py')


def test_every_number_is_trained_and_opengan0_once_a_seed(tmp_path):
    numbers = {'opengan0': [3, 30], 'cls-pix': [30], 'cls': [3, 30]}
    options = {'train_cfg.max_iters': 5}
    jobs = plan(CONFIG, numbers, seeds=[0, 1], out=tmp_path, options=options)
    found = [(job.name, job.values['open_images'], job.options.get(NUMBER)) for job in jobs]
    assert found == [
        ('cls_open30_s0', 30, 30),  # fills the bank for all
        ('cls_open30_s1', 30, 30),
        ('cls_open3_s0', 3, 3),
        ('cls_open3_s1', 3, 3),
        ('cls-pix_open30_s0', 30, 30),
        ('cls-pix_open30_s1', 30, 30),
        ('opengan0_s0', None, None),
        ('opengan0_s1', None, None),
    ]
    assert all(job.options['train_cfg.max_iters'] == 5 for job in jobs)
    assert len({job.work_dir for job in jobs}) == len(jobs)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(numbers=[0]), 'num_open_images: wanted numbers of at least 1, found 0'),
        (dict(seeds=[]), 'seeds: wanted at least one value'),
        (dict(config='configs/cls.py'), r"config: wanted a path with '{}' .* 'configs/cls.py'"),
    ],
)
def test_what_cannot_be_planned_is_refused(options, message, tmp_path):
    given = {'config': CONFIG, 'methods': ['cls'], 'numbers': [3], 'seeds': [0], **options}
    with pytest.raises(ValueError, match=message):
        open_images(**given, out=tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_rows_are_what_training_and_test_found(tmp_path, monkeypatch):
    entry = dict(
        AUROC=0.8,
        AUROC_kinds=0.6,
        AP=0.1,
        FPR95=0.5,
        num_closed=2000,
        num_open=30,
    )

    def train_and_test(jobs, **how):
        for job in jobs:
            job.work_dir.mkdir(parents=True)
            best = dict(
                step=5,
                steps=9,
                minutes=0.5,
                open_validation={'opengan/AUROC': 0.7},
            )
            (job.work_dir / 'best.json').write_text(json.dumps(best))
        return dict(
            label_policy='camvid',
            resolution='feature',
            mode='whole',
            num_images=2,
            scorers={job.name: entry for job in jobs},
        )

    monkeypatch.setattr(module, 'train_and_test', train_and_test)
    table = open_images(
        CONFIG,
        ['cls:3'],
        numbers=[30],
        seeds=[1],
        out=tmp_path,
    )
    assert (tmp_path / 'figure5.csv').read_text() == (
        'method,open_images,seed,AUROC,AUROC_kinds,AP,FPR95,validation,validated_by,step,steps,'
        'minutes\n'
        'cls,3,1,0.8,0.6,0.1,0.5,0.7,AUROC,5,9,0.5\n'
    )
    assert table.startswith(
        'camvid, feature resolution, whole, pooled over 2,000 closed and 30 open pixels of 2 images'
    )


def test_the_report_has_a_table_a_figure_and_every_number(tmp_path):
    numbers = [
        ('cls', 3, 0, 0.7),
        ('cls', 3, 1, 0.8),
        ('cls', 30, 0, 0.9),
        ('cls', 30, 1, 0.9),
        ('opengan0', None, 0, 0.6),
    ]
    names = ('method', 'open_images', 'seed', 'AUROC')
    rows = [dict(zip(names, values)) for values in numbers]
    table = write_report(tmp_path, rows, {'opengan0': 'OpenGAN-0', 'cls': 'CLS'}, 'camvid')
    assert table.splitlines() == [
        'camvid; AUROC',
        '',
        '| open training images | 3 | 30 |',
        '|---|---|---|',
        '| CLS | 0.7500 ± 0.0707 | 0.9000 ± 0.0000 |',
        '| OpenGAN-0 (trains on none) | 0.6000 | 0.6000 |',
    ]
    assert (tmp_path / 'figure5.md').read_text() == table
    assert (tmp_path / 'figure5.png').read_bytes().startswith(b'\x89PNG')
    assert (tmp_path / 'figure5.pdf').read_bytes().startswith(b'%PDF')


def test_the_figure_has_means_and_seeds_and_a_flat_line_of_what_trains_on_none(
    tmp_path, monkeypatch
):
    drawn = {}
    monkeypatch.setattr(
        module, 'save_figure', lambda figure, stem: drawn.update({stem.name: figure})
    )
    rows = [
        dict(method='cls', open_images=n, AUROC=auroc)
        for n, auroc in ((3, 0.7), (3, 0.8), (30, 0.9))
    ]
    rows += [
        dict(
            method='opengan0',
            open_images=None,
            AUROC=auroc,
        )
        for auroc in (0.5, 0.7)
    ]
    write_report(tmp_path, rows, {'cls': 'CLS', 'opengan0': 'OpenGAN-0'}, 'camvid')
    (axes,) = drawn['figure5'].axes
    seeds, single, line, *_, flat = axes.lines
    assert seeds.get_xydata().tolist() == [[3, 0.7], [3, 0.8]]
    assert single.get_xydata().tolist() == [[30, 0.9]]
    assert line.get_xydata().tolist() == [[3, 0.75], [30, 0.9]]
    assert flat.get_xydata().tolist() == [[3, 0.6], [30, 0.6]]
    assert line.get_color() == seeds.get_color() == line_styles(['cls'])['cls']['color']
    assert flat.get_color() == line_styles(['opengan0'])['opengan0']['color']
    assert axes.get_xscale() == 'log'
    names = [text.get_text() for text in drawn['figure5'].legends[0].get_texts()]
    assert names == ['CLS', 'OpenGAN-0 (trains on none)']
