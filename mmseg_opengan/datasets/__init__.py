"""Datasets that say which pixels are closed, which are open and which are void, and their
transforms.
"""

from .anomaly import AnomalyMasks
from .camvid import CamVidOpenSet
from .cityscapes import CityscapesOpenSet
from .label_map import LabelMap
from .open_set_dataset import OpenSetDataset
from .open_set_folder import OpenSetFolder

__all__ = [
    'AnomalyMasks',
    'CamVidOpenSet',
    'CityscapesOpenSet',
    'LabelMap',
    'OpenSetDataset',
    'OpenSetFolder',
]
