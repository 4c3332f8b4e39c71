"""A training with ``model.fuse`` in a benchmark: its fused score, and its D alone."""

import csv

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from test_benchmark import folder  # noqa: F401  (a fixture)

from mmseg_opengan.experiments import benchmark

FUSED = """
_base_ = './cls_tiny.py'
model = dict(fuse=dict(free=dict(type='ReAct', quantile=0.7, per='channel'), weight=0.3))
default_hooks = dict(checkpoint=dict(save_best='hybrid/AUROC'))
"""


def test_both_rows_have_the_numbers_of_the_models_own_test(folder):  # noqa: F811
    (folder / 'fused_tiny.py').write_text(FUSED)
    out = folder / 'fused'
    text = benchmark.run(
        str(folder / '{}_tiny.py'),
        ['fused'],
        [1],
        out,
        processes=0,
        bootstrap_block=2,
        num_panels=0,
        resolutions=['image'],
    )
    assert [line.split(' |')[0] for line in text.splitlines() if line.startswith('| ')] == [
        '| method',
        '| Entropy',
        '| fused',
        '| fused, D alone',
    ]
    with open(out / 'results.csv') as file:
        found = {row['method']: float(row['AUROC']) for row in csv.DictReader(file)}

    cfg = Config.fromfile(folder / 'fused_tiny.py')
    cfg.merge_from_dict({'work_dir': str(out / 'alone'), 'model.resolution': 'image'})
    cfg.load_from = str(next((out / 'fused_s1').glob('best_*.pth')))
    cfg.experiment_name = 'fused alone'
    numbers = Runner.from_cfg(cfg).test()
    assert found['fused'] == pytest.approx(numbers['hybrid/AUROC'], abs=1e-12)
    assert found['fused-alone'] == pytest.approx(numbers['opengan/AUROC'], abs=1e-12)
    assert found['fused'] != found['fused-alone']
