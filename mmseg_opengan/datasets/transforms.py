"""Pipeline steps that carry the open map beside mmseg's ``gt_seg_map``.

A pipeline is ``LoadImageFromFile``, ``LoadOpenSetAnnotations``, any of mmseg's geometric
transforms, ``PackOpenSetInputs``. Shapes: H, W are the size of the image at that point of the
pipeline.
"""

import io

import mmengine.fileio as fileio
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from mmseg.datasets.transforms import PackSegInputs
from mmseg.registry import TRANSFORMS
from PIL import Image

from ..contracts import CLOSED, GT_OPEN_MAP, IGNORE, LABEL_POLICY
from .label_map import LabelMap

#: Key under which a dataset hands its :class:`LabelMap` to the pipeline.
OPEN_LABELS = 'open_labels'


def read_label_file(
    path: str, labels: LabelMap, backend_args: dict | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read one label file into ``gt_sem_seg`` and the open map, both (H, W) uint8 (see
    ``contracts.py``).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a readable image, or holds an id or colour that ``labels`` does
            not know.
    """
    try:
        content = fileio.get(path, backend_args=backend_args)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Label file '{path}' does not exist.") from error
    try:
        with Image.open(io.BytesIO(content)) as image:
            raw = _ids_or_colours(image, labels)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"Label file '{path}' cannot be decoded: wanted a complete image file, found "
            f'{len(content)} bytes ({error}).'
        ) from error
    return labels.split(raw, path)


def _ids_or_colours(image: Image.Image, labels: LabelMap) -> np.ndarray:
    """A picture with a palette holds ids, unless its palette has the labels' colours at other
    places than their ids.
    """
    ids = np.asarray(image)
    if image.mode == 'P' and labels.colours is not None:
        used = np.unique(ids)
        shown = np.reshape(image.getpalette('RGB'), (-1, 3))[used].tolist()
        colours = labels.colours.tolist()
        if all(colour in colours for colour in shown) and shown != [
            colours[i] for i in used if i < len(colours)
        ]:
            return np.asarray(image.convert('RGB'))
    return ids


@TRANSFORMS.register_module()
class LoadOpenSetAnnotations(BaseTransform):
    """Load ``seg_map_path`` into ``gt_seg_map`` and the open map, by the dataset's label policy.

    Both are (H, W) uint8 and are named in ``seg_fields``, so mmseg's Resize, RandomFlip, RandomCrop
    and the like move them together. mmcv's ``Pad`` and Albumentations handle ``gt_seg_map`` only:
    ``PackOpenSetInputs`` then raises (padding belongs to the data preprocessor). An image alone, as
    mmseg's inference hands it over, passes.

    Args:
        backend_args: Where files are read from, see ``mmengine.fileio``.

    Raises:
        FileNotFoundError, ValueError: the label file is missing, unreadable, holds unknown ids, or
            is not of the size of the original image.
    """

    def __init__(self, *, backend_args: dict | None = None):
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        if OPEN_LABELS not in results and 'seg_map_path' not in results:
            return results
        if OPEN_LABELS not in results or 'seg_map_path' not in results:
            raise ValueError(
                f"LoadOpenSetAnnotations needs '{OPEN_LABELS}' and 'seg_map_path' from an open-set "
                f'dataset of this package, but got the keys {sorted(results)}.'
            )
        path = results['seg_map_path']
        closed, open_map = read_label_file(path, results[OPEN_LABELS], self.backend_args)
        # Labels may be loaded after a Resize of the image, as mmseg does for testing: the original
        # size counts.
        size = tuple(results.get('ori_shape', closed.shape))[:2]
        if closed.shape != size:
            raise ValueError(
                f"Image '{results.get('img_path')}' and label '{path}' must be of one size, but "
                f'image is '
                f'{size[0]}x{size[1]} and label is {closed.shape[0]}x{closed.shape[1]} (height '
                f'x width).'
            )
        results['gt_seg_map'], results[GT_OPEN_MAP] = closed, open_map
        results.setdefault('seg_fields', []).extend(['gt_seg_map', GT_OPEN_MAP])
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(backend_args={self.backend_args})'


@TRANSFORMS.register_module()
class PackOpenSetInputs(PackSegInputs):
    """``PackSegInputs`` that also packs the open map, as PixelData (1, H, W) uint8 in
    ``contracts.GT_OPEN_MAP``.

    Args:
        meta_keys: Keys of the results that become the sample's metainfo, where present.

    Raises:
        ValueError: a transform changed one of the two ground-truth maps and not the other.
    """

    def __init__(
        self,
        *,
        meta_keys=(
            'img_path',
            'seg_map_path',
            'ori_shape',
            'img_shape',
            'pad_shape',
            'scale_factor',
            'flip',
            'flip_direction',
            'padding_size',
            'reduce_zero_label',
            LABEL_POLICY,
        ),
    ):
        super().__init__(meta_keys=meta_keys)

    def transform(self, results: dict) -> dict:
        packed = super().transform(results)
        if GT_OPEN_MAP in results:
            closed, open_map = results['gt_seg_map'], results[GT_OPEN_MAP]
            if closed.shape != open_map.shape or ((closed != IGNORE) & (open_map != CLOSED)).any():
                raise ValueError(
                    f"The two ground-truth maps of '{results.get('seg_map_path')}' no longer fit: "
                    f'gt_seg_map {closed.shape}, {GT_OPEN_MAP} {open_map.shape}. A transform '
                    f'between '
                    "loading and packing handles 'gt_seg_map' only; use one that follows "
                    "'seg_fields'."
                )
            data = torch.from_numpy(np.ascontiguousarray(open_map))[None]
            packed['data_samples'].set_data({GT_OPEN_MAP: PixelData(data=data)})
        return packed
