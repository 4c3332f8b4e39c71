"""Pipeline steps that carry the open map beside mmseg's ``gt_seg_map``.

A pipeline is ``LoadImageFromFile``, ``LoadOpenSetAnnotations``, any of mmseg's geometric
transforms, ``PackOpenSetInputs``. Shapes: H, W are the size of the image at that point of the
pipeline.
"""

import logging
import os
from collections.abc import Iterable

import mmcv.transforms
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log
from mmengine.structures import PixelData
from mmseg.datasets import transforms as mmseg_transforms
from mmseg.datasets.transforms import PackSegInputs
from mmseg.registry import TRANSFORMS
from PIL import Image

from ..contracts import CLOSED, GT_OPEN_MAP, IGNORE, LABEL_POLICY
from .label_file import ORIENTATION, read_label_file

#: Key under which a dataset hands its :class:`LabelMap` to the pipeline.
OPEN_LABELS = 'open_labels'
#: After these a score map cannot be laid on the image that was read.
_MOVING = (
    mmcv.transforms.CenterCrop,
    mmcv.transforms.Pad,
    mmseg_transforms.Albu,
    mmseg_transforms.RandomCrop,
    mmseg_transforms.RandomMosaic,
    mmseg_transforms.RandomRotFlip,
    mmseg_transforms.RandomRotate,
)


@TRANSFORMS.register_module()
class LoadOpenSetAnnotations(BaseTransform):
    """Load ``seg_map_path`` into ``gt_seg_map`` and the open map, by the dataset's label policy.

    Both are (H, W) uint8 and are named in ``seg_fields``, so mmseg's Resize, RandomFlip, RandomCrop
    and the like move them together. mmcv's ``Pad`` and Albumentations handle ``gt_seg_map`` only:
    ``PackOpenSetInputs`` then raises (padding belongs to the data preprocessor). An image alone, as
    mmseg's inference hands it over, passes. The first image that is turned by its EXIF orientation
    is named in a warning, as its label is not turned.

    Args:
        backend_args: Where files are read from, see ``mmengine.fileio``.

    Raises:
        FileNotFoundError, ValueError: the label file is missing, unreadable, holds unknown ids, or
            is not of the size of the original image.
    """

    def __init__(self, *, backend_args: dict | None = None):
        self.backend_args = backend_args
        self._has_warned = False

    def transform(self, results: dict) -> dict:
        if 'seg_map_path' not in results:
            return results
        if OPEN_LABELS not in results:
            raise ValueError(
                f"LoadOpenSetAnnotations needs '{OPEN_LABELS}' from an open-set dataset of this "
                f'package, but got the keys {sorted(results)}.'
            )
        path = results['seg_map_path']
        self._warn_of_turned(results)
        closed, open_map = read_label_file(path, results[OPEN_LABELS], self.backend_args)
        # Labels may be loaded after a Resize of the image, as mmseg does for testing: the original
        # size counts.
        size = tuple(results.get('ori_shape', closed.shape))[:2]
        if closed.shape != size:
            raise ValueError(
                f"Image '{results.get('img_path')}' and label '{path}' must be of one size, but "
                f'image is {size[0]}x{size[1]} and label is {closed.shape[0]}x{closed.shape[1]} '
                '(height x width).'
            )
        results['gt_seg_map'], results[GT_OPEN_MAP] = closed, open_map
        results.setdefault('seg_fields', []).extend(['gt_seg_map', GT_OPEN_MAP])
        return results

    def _warn_of_turned(self, results: dict) -> None:
        path = results.get('img_path')
        if self._has_warned or path is None or not os.path.isfile(path):
            return
        turned = orientation_of(path)
        if turned != 1:
            self._has_warned = True
            print_log(
                f"Image '{path}' is turned by its EXIF orientation {turned} as it is read; its "
                f"label '{results['seg_map_path']}' is not, and must show the turned image. Where "
                'labels show images as stored, give LoadImageFromFile '
                "color_type='color_ignore_orientation' (not for TIFF), or store images upright.",
                logger='current',
                level=logging.WARNING,
            )


def orientation_of(path: str) -> int:
    """The EXIF orientation of an image file; 1 is upright, and where it has none."""
    try:
        with Image.open(path) as image:
            if image.format == 'PNG' and 'exif' not in image.info:
                return 1  # it would be decoded, in search of it
            return image.getexif().get(ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 1  # whoever reads the image says what is wrong with it


@TRANSFORMS.register_module()
class PackOpenSetInputs(PackSegInputs):
    """``PackSegInputs`` that also packs the open map, as PixelData (1, H, W) uint8 in
    ``contracts.GT_OPEN_MAP``.

    Raises:
        ValueError: a transform changed one of the two ground-truth maps and not the other.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.meta_keys = (*self.meta_keys, 'padding_size', LABEL_POLICY)

    def transform(self, results: dict) -> dict:
        packed = super().transform(results)
        if GT_OPEN_MAP in results:
            closed, open_map = results['gt_seg_map'], results[GT_OPEN_MAP]
            if closed.shape != open_map.shape or ((closed != IGNORE) & (open_map != CLOSED)).any():
                raise ValueError(
                    f"The two ground-truth maps of '{results.get('seg_map_path')}' no longer fit: "
                    f'gt_seg_map {closed.shape}, {GT_OPEN_MAP} {open_map.shape}. A transform '
                    "between loading and packing handles 'gt_seg_map' only; use one that follows "
                    "'seg_fields'."
                )
            data = torch.from_numpy(np.ascontiguousarray(open_map))[None]
            packed['data_samples'].set_data({GT_OPEN_MAP: PixelData(data=data)})
        return packed


def require_whole_images(steps: Iterable, where: str, can_flip: bool = True) -> None:
    """Refuse a pipeline after which a score map, or a label, cannot be laid on the image again.

    ``Resize`` and its kin are fine. A flip is undone before scores meet labels, so it must stand
    before these are loaded.

    Args:
        steps: The built steps.
        where: What the error calls them.
        can_flip: False for stored features, which are not flipped.

    Raises:
        ValueError: Names the step.
    """
    for step in steps:
        name = type(step).__name__
        if isinstance(step, _MOVING):
            raise ValueError(
                f"{where}: wanted whole images, which may be resized, found the step '{name}'. "
                'Leave it out. Padding to a multiple belongs to '
                'data_preprocessor.test_cfg=dict(size_divisor=32).'
            )
        if isinstance(step, mmcv.transforms.RandomFlip):
            if not can_flip or 'diagonal' in step.direction:
                raise ValueError(
                    f"{where}: wanted at most one '{name}', horizontal or vertical, before the "
                    f'labels are loaded, and none for stored features, found {step}.'
                )
            can_flip = False
        if 'Annotation' in name:
            can_flip = False
        inner = getattr(step, 'transforms', getattr(step, 'subroutines', ()))
        require_whole_images(getattr(inner, 'transforms', inner), where, can_flip)
