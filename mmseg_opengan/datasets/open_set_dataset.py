"""What every open-set dataset has in common: label maps, metainfo, and errors that name the
file.
"""

import hashlib
import logging
import os

import cv2
import mmengine.fileio as fileio
import numpy as np
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset

from ..contracts import LABEL_POLICY
from ..files import text_lines
from .label_file import read_label_file
from .label_map import LabelMap
from .transforms import OPEN_LABELS, require_whole_images

_IMAGE_ENDS = ('.jpg', '.jpeg', '.jpe', '.png', '.tif', '.tiff', '.bmp', '.webp')


class OpenSetDataset(BaseSegDataset):
    """Images with closed, open and void pixels. ``metainfo`` has ``open_classes`` and
    ``label_policy`` too.

    Args:
        data_root: Folder of the data set.
        labels: The label map. Where files of a second kind occur, a list; the first is the one in
            ``metainfo``.
        metainfo: Additions to the meta information. The classes belong to the label policy and
            cannot be replaced.
        num_open_images: Keep that many images, drawn by ``seed``; the draw of 10 is part of the
            draw of 20. None keeps all. ``_draw`` does it.
        seed: Seed of that draw.
        **kwargs: As for mmseg's ``BaseSegDataset``; an ``ann_file`` names the images to keep, one
            stem per line.

    Raises:
        FileNotFoundError: a folder, a split file, an image or a label is missing.
        TypeError: a suffix that is no string.
        ValueError: nothing to read, contradicting arguments, or an image that the suffix leaves
            out though it has a label.
    """

    def __init__(
        self,
        *,
        data_root: str,
        labels: LabelMap | list[LabelMap],
        metainfo: dict | None = None,
        num_open_images: int | None = None,
        seed: int = 0,
        **kwargs,
    ):
        labels = [labels] if isinstance(labels, LabelMap) else labels
        self._labels = {kind.name: kind for kind in labels}
        self.num_open_images, self.seed = num_open_images, seed
        wanted = labels[0].closed_classes
        own = self.METAINFO.get('classes', ()) if self.METAINFO else wanted
        for classes in (own, (metainfo or {}).get('classes', wanted)):
            if tuple(classes) != wanted:
                raise ValueError(
                    f"METAINFO, metainfo: wanted the classes of policy '{labels[0].policy}', "
                    f'{wanted}, found {classes}.'
                )
        if kwargs.get('reduce_zero_label'):
            raise ValueError(
                'reduce_zero_label must be False: a label map says what the ids in the files are.'
            )
        for name in ('img_suffix', 'seg_map_suffix'):
            if not isinstance(kwargs.get(name, ''), str):
                raise TypeError(f'{name}: wanted one string, found {kwargs[name]!r}')
        super().__init__(data_root=str(data_root), metainfo=metainfo, **kwargs)
        # Set here and not through `metainfo`: mmengine takes strings there for names of files.
        self._metainfo.update(open_classes=labels[0].open_classes, label_policy=labels[0].name)

    def get_data_info(self, idx: int) -> dict:
        """As in mmengine, with the image's label map under ``open_labels``."""
        info = super().get_data_info(idx)
        info[OPEN_LABELS] = self._labels[info[LABEL_POLICY]]
        return info

    def read_labels(self, idx: int) -> tuple[np.ndarray, np.ndarray]:
        """``gt_sem_seg`` and open map of image ``idx``, both (H, W) uint8, without reading the
        image.
        """
        info = self.get_data_info(idx)
        return read_label_file(info['seg_map_path'], info[OPEN_LABELS], self.backend_args)

    def require_whole_images(self, *, can_flip: bool = True) -> None:
        """See :func:`~mmseg_opengan.datasets.transforms.require_whole_images`."""
        where = f"{type(self).__name__} of '{self.data_root}', pipeline"
        require_whole_images(self.pipeline.transforms, where, can_flip)

    def prepare_data(self, idx: int):
        """As in mmengine; an image that cannot be decoded is a ValueError that names it."""
        try:
            return super().prepare_data(idx)
        except (AssertionError, cv2.error) as error:
            # mmcv asserts that a file could be decoded, and OpenCV fails on an empty one without
            # naming it.
            path = self.get_data_info(idx)['img_path']
            content = np.frombuffer(fileio.get(path, backend_args=self.backend_args), np.uint8)
            if content.size and cv2.imdecode(content, cv2.IMREAD_COLOR) is not None:
                raise
            raise ValueError(
                f"Image '{path}' cannot be decoded: wanted a complete image file, found "
                f'{content.size} bytes ({error}).'
            ) from error

    def _draw(self, names: list[str]) -> list[str]:
        """``num_open_images`` of the names, in their order: the first in the order of a seeded hash
        of the name.

        The draw of 10 is therefore part of the draw of 20, and the same on any machine. None keeps
        all.
        """
        number = self.num_open_images
        if number is None:
            return names
        if not 1 <= number <= len(names):
            raise ValueError(
                f'num_open_images must be None or between 1 and the {len(names)} images there are, '
                f'but got {number}.'
            )

        def rank(name: str) -> bytes:
            return hashlib.sha256(f'{self.seed}:{name}'.encode()).digest()

        drawn = set(sorted(names, key=rank)[:number])
        return [name for name in names if name in drawn]

    def _entry(self, img_path: str, seg_map_path: str, policy: str | None = None) -> dict:
        """One element of the data list, as mmseg's transforms expect it."""
        return {
            'img_path': img_path,
            'seg_map_path': seg_map_path,
            'label_map': None,
            'reduce_zero_label': False,
            'seg_fields': [],
            LABEL_POLICY: policy or next(iter(self._labels)),
        }

    def _list(self, folder: str, suffix: str | tuple[str, ...]) -> list[str]:
        """Sorted paths below ``folder`` of the files that end in ``suffix``, or one of several."""
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise FileNotFoundError(
                f"{type(self).__name__} needs the folder '{folder}', which does not exist "
                f"(data_root is '{self.data_root}')."
            )
        return sorted(
            fileio.list_dir_or_file(
                folder,
                list_dir=False,
                suffix=suffix,
                recursive=True,
                backend_args=self.backend_args,
            )
        )

    def _images(self) -> list[str]:
        """Paths of all images below the image folder, or of those in ``ann_file``, without their
        suffix, sorted.
        """
        folder = self.data_prefix['img_path']
        images = self._list(folder, self.img_suffix)
        if not images:
            raise ValueError(
                f"'{folder}' holds no images: wanted files that end in '{self.img_suffix}', "
                f'found none.'
            )
        stems = [image[: len(image) - len(self.img_suffix)] for image in images]
        if not self.ann_file:
            self._require_images_of_labels(stems)
            return stems
        listed = set(self._listed())
        missing = sorted(listed - set(stems))
        if missing or not listed:
            raise ValueError(
                f"ann_file '{self.ann_file}' must name images of '{folder}', one per line, without "
                f"'{self.img_suffix}', but {len(missing)} of {len(listed)} names have no such file"
                f'{": " + missing[0] if missing else ""}.'
            )
        return [stem for stem in stems if stem in listed]

    def _listed(self) -> list[str]:
        """Image names of the split file ``ann_file``, in its order."""
        if not fileio.isfile(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(
                f"{type(self).__name__} needs the split file '{self.ann_file}' with one image name "
                f"per line, which does not exist (data_root is '{self.data_root}')."
            )
        content = fileio.get(self.ann_file, backend_args=self.backend_args)
        return text_lines(content, f"ann_file '{self.ann_file}'")

    def _require_images_of_labels(self, stems: list[str]) -> None:
        """Name labels without an image: an error where the suffix or a broken link is why."""
        folder, label_dir = self.data_prefix['img_path'], self.data_prefix['seg_map_path']
        labels = self._list(label_dir, self.seg_map_suffix)
        of_labels = {label[: len(label) - len(self.seg_map_suffix)] for label in labels}
        lacking = sorted(of_labels - set(stems))
        if not lacking:
            return
        wanted = [stem + self.img_suffix for stem in lacking]
        left_out = [name for name in wanted if os.path.islink(os.path.join(folder, name))]
        if folder != label_dir:
            beginnings = {os.path.splitext(name)[0] for name in wanted}
            near = self._list(folder, _IMAGE_ENDS + tuple(map(str.upper, _IMAGE_ENDS)))
            left_out += [name for name in near if os.path.splitext(name)[0] in beginnings]
        found = (
            f"'{label_dir}' has {len(lacking)} labels without an image in '{folder}', such as "
            f"'{lacking[0]}{self.seg_map_suffix}'"
        )
        if left_out:
            raise ValueError(
                f"img_suffix: wanted images that end in '{self.img_suffix}'. {found}; found "
                f"'{left_out[0]}', which has another name or is a broken link. Rename or restore "
                'such images, or name those that are meant in ann_file.'
            )
        print_log(f'{found}. They are not used.', logger='current', level=logging.WARNING)

    def _pairs(self, stems: list[str]) -> list[dict]:
        """Data list of images and labels that differ in folder and suffix only."""
        img_dir, label_dir = self.data_prefix['img_path'], self.data_prefix['seg_map_path']
        labels = set(self._list(label_dir, self.seg_map_suffix))
        missing = [stem for stem in stems if stem + self.seg_map_suffix not in labels]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(stems)} images in '{img_dir}' have no label: wanted e.g. "
                f"'{fileio.join_path(label_dir, missing[0] + self.seg_map_suffix)}'; '{label_dir}' "
                f"holds {len(labels)} files that end in '{self.seg_map_suffix}'."
            )
        return [
            self._entry(
                fileio.join_path(img_dir, stem + self.img_suffix),
                fileio.join_path(label_dir, stem + self.seg_map_suffix),
            )
            for stem in stems
        ]
