"""mmengine's pure Python configs, whose types are classes: the segmentor's, and the open-set
model's own.
"""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import MODELS
from tiny_camvid import write_checkpoints, write_config, write_images

from mmseg_opengan.inference.inferencer import OpenSetInferencer

SEGMENTOR = """
from mmcv.transforms import LoadImageFromFile
from mmengine.config import read_base
from mmseg.datasets import CamVidLikeDataset, PackSegInputs
from mmseg.models import EncoderDecoder, FCNHead, ResNet, SegDataPreProcessor
from torch.nn import BatchNorm2d

norm = dict(type=BatchNorm2d, requires_grad=True)
model = dict(
    type=EncoderDecoder,
    data_preprocessor=dict(type=SegDataPreProcessor, mean=[120.] * 3, std=[60.] * 3, bgr_to_rgb=True, pad_val=0,
                           seg_pad_val=255),
    backbone=dict(type=ResNet, depth=18, num_stages=1, base_channels=8, stem_channels=8, strides=(1,), dilations=(1,),
                  out_indices=(0,), norm_cfg=norm),
    decode_head=dict(type=FCNHead, in_channels=8, in_index=0, channels=12, num_convs=1, concat_input=False,
                     num_classes=11, norm_cfg=norm, align_corners=False),
    test_cfg=dict(mode='whole'))
test_pipeline = [dict(type=LoadImageFromFile), dict(type=PackSegInputs)]
test_dataloader = dict(dataset=dict(type=CamVidLikeDataset, pipeline=test_pipeline))
""".replace('CamVidLikeDataset', 'BaseSegDataset')

OPEN_SET = """
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import DefaultSampler
from mmengine.runner import TestLoop, ValLoop
from mmengine.visualization import LocalVisBackend
from mmseg_opengan.datasets.camvid import CamVidOpenSet
from mmseg_opengan.datasets.transforms import LoadOpenSetAnnotations, PackOpenSetInputs
from mmseg_opengan.evaluation.evaluation_hook import OpenSetEvaluationHook
from mmseg_opengan.engine.opengan_hook import OpenGANHook
from mmseg_opengan.evaluation.metric import OpenSetMetric
from mmseg_opengan.pictures.visualizer import OpenSetVisualizer
from mmseg_opengan.models.networks import FeatureDiscriminator
from mmseg_opengan.models.opengan import OpenGANSegmentor
from mmseg_opengan.models.scorers.logit_scorers import MSP

default_scope = 'mmseg'
model = dict(type=OpenGANSegmentor, segmentor=dict(config={segmentor!r}, checkpoint={weights!r}),
             discriminator=dict(type=FeatureDiscriminator), scorers=dict(msp=dict(type=MSP)), resolution='image')
pipeline = [dict(type=LoadImageFromFile), dict(type=LoadOpenSetAnnotations), dict(type=PackOpenSetInputs)]
test_dataloader = dict(batch_size=1, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
                       dataset=dict(type=CamVidOpenSet, data_root={data!r}, split='test', pipeline=pipeline))
test_cfg = dict(type=TestLoop)
test_evaluator = dict(type=OpenSetMetric)
visualizer = dict(type=OpenSetVisualizer, vis_backends=[dict(type=LocalVisBackend)], name='new_style')
custom_hooks = [dict(type=OpenGANHook), dict(type=OpenSetEvaluationHook)]
"""


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """(folder, text config, D's checkpoint, segmentor's checkpoint)."""
    root = tmp_path_factory.mktemp('new_style')
    config = write_config(root, write_images(root / 'data'))
    trained, segmentor = write_checkpoints(root, config)
    (root / 'segmentor.py').write_text(SEGMENTOR)
    (root / 'open_set.py').write_text(
        OPEN_SET.format(
            segmentor=str(root / 'segmentor.py'), weights=str(segmentor), data=str(root / 'data')
        )
    )
    return root, config, trained, segmentor


def scores_of(inferencer, place):
    return inferencer(str(place[0] / 'data/val/a.jpg'), show_progress=False)[0]


def test_it_is_read_as_a_new_style_config(place):
    assert not isinstance(
        Config.fromfile(place[0] / 'segmentor.py')._to_lazy_dict()['model']['type'], str
    )


def test_a_score_of_a_plain_model(place):
    found = scores_of(
        OpenSetInferencer(place[0] / 'segmentor.py', place[3], scorers=['msp'], device='cpu'), place
    )
    wanted = scores_of(OpenSetInferencer(place[1], place[2], device='cpu'), place)
    assert np.array_equal(found.labels, wanted.labels)
    assert np.array_equal(found.scores['msp'], wanted.scores['msp'])


def test_the_segmentor_of_an_open_set_model(place):
    cfg = Config.fromfile(place[1]).model
    old = MODELS.build(cfg)
    cfg.segmentor = dict(config=str(place[0] / 'segmentor.py'), checkpoint=str(place[3]))
    new = MODELS.build(cfg)
    assert old.segmentor.state_dict().keys() == new.segmentor.state_dict().keys()
    assert new.head.channels == old.head.channels
    new.load_state_dict(torch.load(place[2], weights_only=True)['state_dict'], strict=False)


def test_the_whole_config(place):
    found = scores_of(OpenSetInferencer(place[0] / 'open_set.py', place[2], device='cpu'), place)
    wanted = scores_of(OpenSetInferencer(place[1], place[2], device='cpu'), place)
    assert found.scores.keys() == {'msp', 'opengan'}
    for name, scores in found.scores.items():
        assert np.array_equal(scores, wanted.scores[name])


def test_a_test_run(place):
    """Every image of the split is counted, and the report has numbers."""
    cfg = Config.fromfile(place[0] / 'open_set.py')
    cfg.work_dir, cfg.load_from = str(place[0] / 'work'), str(place[2])
    metrics = Runner.from_cfg(cfg).test()
    old = Config.fromfile(place[1])
    old.merge_from_dict(
        {
            'work_dir': str(place[0] / 'old'),
            'load_from': str(place[2]),
            'model.resolution': 'image',
            'model.segmentor.checkpoint': str(place[3]),
            'visualizer.name': 'old_style',
        }
    )
    wanted = Runner.from_cfg(old).test()
    assert metrics['opengan/AUROC'] == wanted['opengan/AUROC']
    assert metrics['mIoU'] == wanted['mIoU']
