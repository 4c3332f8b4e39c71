"""Names and colours of classes, wherever a config or a checkpoint has them."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from tiny_camvid import PLAIN

from mmseg_opengan.inference.config import classes_of, scorer_configs
from mmseg_opengan.inference.inferencer import OpenSetInferencer

NAMES = ('road', 'sky')
COLOURS = [(1, 2, 3), (4, 5, 6)]


def data(dataset):
    return Config(dict(test_dataloader=dict(dataset=dataset)))


@pytest.mark.parametrize(
    ('cfg', 'meta', 'has_colours'),
    [
        (Config(), dict(CLASSES=NAMES), False),
        (Config(), dict(CLASSES=NAMES, PALETTE=COLOURS), True),
        (Config(), dict(dataset_meta=dict(classes=NAMES)), False),
        (data(dict(type='BaseSegDataset', metainfo=dict(classes=NAMES))), {}, False),
        (
            data(dict(type='RepeatDataset', dataset=dict(metainfo=dict(classes=NAMES)))),
            dict(dataset_meta=None),
            False,
        ),
    ],
    ids=['CLASSES', 'PALETTE', 'dataset_meta', 'metainfo', 'wrapped'],
)
def test_names_are_read_where_mmseg_reads_them(cfg, meta, has_colours):
    model = SimpleNamespace(head=SimpleNamespace(num_classes=2), has_open_class=False)
    classes, palette = classes_of(cfg, meta, model)
    assert classes == NAMES
    assert len(set(palette)) == 2
    assert (palette == COLOURS) == has_colours


def test_a_checkpoint_and_a_config_that_say_nothing(tiny, frames, tmp_path):
    """No meta, no data: classes are numbered, and every picture is drawn."""
    state = torch.load(tiny[4])['state_dict']
    torch.save(dict(state_dict=state, meta=None), tmp_path / 'plain.pth')
    inferencer = OpenSetInferencer(Config(dict(model=PLAIN)), tmp_path / 'plain.pth', device='cpu')
    assert inferencer.classes == tuple(f'class {i}' for i in range(11))
    (result,) = inferencer(frames[0], show_progress=False)
    assert result.picture.shape[1:] == (1200, 3)


def test_scores_of_the_model_itself_are_no_scorers():
    own = dict(mine=dict(type='GEN', top=3))
    assert scorer_configs(['opengan', 'hybrid', 'msp', 'mine'], own) == dict(
        msp=dict(type='MSP'), mine=own['mine']
    )
    with pytest.raises(ValueError, match=r"scorers: wanted some of .* found \['nothing'\]"):
        scorer_configs(['nothing'], own)
