"""CamVid as an open-set data set: 11 closed groups, and what SegNet's grouping throws away is
open.
"""

import mmengine.fileio as fileio
from mmseg.registry import DATASETS

from .label_map import CAMVID_CLASSES, CAMVID_PALETTE, camvid11_labels, camvid_labels
from .open_set_dataset import OpenSetDataset


@DATASETS.register_module()
class CamVidOpenSet(OpenSetDataset):
    """CamVid frames named by a split file, one frame name without suffix per line.

    The defaults read a compact copy: images in ``train`` and ``val``, single-channel labels with
    the 32 ids in ``train_labels32`` and ``val_labels32``, and for frames that have no such label
    SegNet's 11 groups in ``train_labels11`` and ``val_labels11``, of which only the closed pixels
    count. The authors' distribution, with RGB labels, is read with
    ``img_dirs=('701_StillsRaw_full',)``, ``img_suffix='.png'``,
    ``label_dirs=('LabeledApproved_full',)``, ``closed_label_dirs=()``, ``seg_map_suffix='_L.png'``.

    Args:
        data_root: Folder of the data set.
        split: Name of a file ``splits/{split}.txt`` below ``data_root``: 'closed_train',
            'open_train', 'open_val' or 'test'. Give this or ``ann_file``.
        ann_file: Path of a split file, absolute or below ``data_root``.
        ignore_open: Open classes to make void, e.g. to leave a kind out of training.
        img_dirs: Folders that may hold a frame; the first that does is taken.
        label_dirs: Folders of labels with all classes, ids or RGB; '{}' stands for the frame's
            image folder.
        closed_label_dirs: Folders of labels with 11 groups, for frames without the above.
        img_suffix: End of an image's name.
        seg_map_suffix: End of a label's name.
        **kwargs: As for :class:`OpenSetDataset`, such as ``num_open_images``.

    Raises:
        FileNotFoundError: a folder, the split file, a frame or its label is missing.
        ValueError: an empty split file, one that names a frame twice, or more frames wanted than
            there are.
    """

    METAINFO = {'classes': CAMVID_CLASSES, 'palette': CAMVID_PALETTE}

    def __init__(
        self,
        *,
        data_root: str,
        split: str | None = None,
        ann_file: str = '',
        ignore_open=(),
        img_dirs=('train', 'val'),
        label_dirs=('{}_labels32',),
        closed_label_dirs=('{}_labels11',),
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.png',
        **kwargs,
    ):
        if (split is None) == (not ann_file):
            raise ValueError(
                f'exactly one of split and ann_file must be given, but got split={split!r} and '
                f'ann_file={ann_file!r}.'
            )
        self.img_dirs = img_dirs
        self.label_dirs = label_dirs
        self.closed_label_dirs = closed_label_dirs
        labels = camvid_labels().ignoring(ignore_open)
        super().__init__(
            data_root=data_root,
            labels=[labels, camvid11_labels()],
            ann_file=ann_file or f'splits/{split}.txt',
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        frames = self._listed()
        if not frames or len(set(frames)) != len(frames):
            raise ValueError(
                f"Split file '{self.ann_file}' must name at least one frame, each once, but has "
                f'{len(frames)} lines and {len(set(frames))} different names.'
            )
        images = {
            folder: set(self._list(self._path(folder), self.img_suffix)) for folder in self.img_dirs
        }
        return [self._find(frame, images) for frame in self._draw(frames)]

    def _find(self, frame: str, images: dict) -> dict:
        """Image and best label of one frame."""
        image, name = frame + self.img_suffix, frame + self.seg_map_suffix
        folders = [folder for folder in self.img_dirs if image in images[folder]]
        if not folders:
            raise FileNotFoundError(
                f"Frame '{frame}' of '{self.ann_file}' has no image: wanted '{image}' in one of "
                f"{tuple(self.img_dirs)} below '{self.data_root}'."
            )
        folder = folders[0]
        full, closed_only = self._labels
        kinds = [(template, full) for template in self.label_dirs]
        kinds += [(template, closed_only) for template in self.closed_label_dirs]
        places = [template.format(folder) for template, _ in kinds]
        for place, (_, policy) in zip(places, kinds):
            label = self._path(place, name)
            if fileio.exists(label, backend_args=self.backend_args):
                return self._entry(self._path(folder, image), label, policy)
        raise FileNotFoundError(
            f"Image '{self._path(folder, image)}' has no label: wanted '{name}' in one of {places} "
            f"below '{self.data_root}'."
        )

    def _path(self, *parts: str) -> str:
        return fileio.join_path(self.data_root, *parts)
