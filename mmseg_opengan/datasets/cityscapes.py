"""Cityscapes as an open-set data set: the pixels its benchmark ignores are the open ones (paper,
section 7).
"""

from mmseg.registry import DATASETS

from .label_map import CITYSCAPES_CLASSES, CITYSCAPES_PALETTE, cityscapes_labels
from .open_set_dataset import OpenSetDataset

_FOLDERS = {'train': 'train', 'open_val': 'train', 'test': 'val'}


@DATASETS.register_module()
class CityscapesOpenSet(OpenSetDataset):
    """Cityscapes with the paper's split, or any folder laid out like it.

    Images are ``leftImg8bit/{train,val}/<city>/*_leftImg8bit.png``, labels
    ``gtFine/{train,val}/<city>/*_gtFine_labelIds.png``.

    Args:
        data_root: Folder that holds ``leftImg8bit`` and ``gtFine``.
        split: 'train' (the training images sorted by path, without the last ``num_open_val``;
            2,965), 'open_val' (those last 10, for model selection), or 'test' (the folder ``val``;
            500).
        policy: What is open and what is void: 'paper', 'strict' or 'all', see ``label_map.py``.
        ignore_open: Open classes to make void.
        num_open_val: Images of ``train`` held out for model selection.
        img_suffix: End of an image's name.
        seg_map_suffix: End of a label's name, which otherwise equals the image's.
        data_prefix: Folders of images and labels, where they differ from the above: ``img_path``,
            ``seg_map_path``.
        **kwargs: As for :class:`OpenSetDataset`, such as ``num_open_images``.

    Raises:
        FileNotFoundError: a folder or a label is missing.
        ValueError: an unknown split or policy, no images, or more images wanted than there are.
    """

    METAINFO = {'classes': CITYSCAPES_CLASSES, 'palette': CITYSCAPES_PALETTE}

    def __init__(
        self,
        *,
        data_root: str,
        split: str = 'train',
        policy: str = 'paper',
        ignore_open=(),
        num_open_val: int = 10,
        img_suffix: str = '_leftImg8bit.png',
        seg_map_suffix: str = '_gtFine_labelIds.png',
        data_prefix: dict | None = None,
        **kwargs,
    ):
        if split not in _FOLDERS:
            raise ValueError(f'split must be one of {tuple(_FOLDERS)}, but got {split!r}.')
        if num_open_val < 1:
            raise ValueError(f'num_open_val must be at least 1, but got {num_open_val}.')
        self.split, self.num_open_val = split, num_open_val
        folder = _FOLDERS[split]
        folders = dict(img_path=f'leftImg8bit/{folder}', seg_map_path=f'gtFine/{folder}')
        super().__init__(
            data_root=data_root,
            labels=cityscapes_labels(policy).ignoring(ignore_open),
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            data_prefix=data_prefix or folders,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        stems = self._images()
        if self.split != 'test':
            if len(stems) <= self.num_open_val:
                raise ValueError(
                    f"'{self.data_prefix['img_path']}' must hold more than num_open_val="
                    f'{self.num_open_val} images, but holds {len(stems)}.'
                )
            is_val = self.split == 'open_val'
            stems = stems[-self.num_open_val :] if is_val else stems[: -self.num_open_val]
        return self._pairs(self._draw(stems))
