"""Images, folders, arrays or videos in; label maps, open-set score maps and pictures out.

    inferencer = OpenSetInferencer('configs/opengan/opengan_hr18s_camvid.py', 'work_dirs/.../best.pth')
    result = inferencer('street.jpg')[0]
    result.labels, result.scores['opengan'], result.picture

Shapes: an image is (H, W, 3); its label map and, at image resolution, its score maps are (H, W).
"""

import copy
import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from mmengine.utils import ProgressBar
from PIL import Image, PngImagePlugin

from . import register  # noqa: F401
from .contracts import OPEN_SCORES, OPENGAN
from .engine.visualizer import draw_panel, panel_fields

from mmseg.registry import DATASETS, MODELS, TRANSFORMS  # isort: skip
