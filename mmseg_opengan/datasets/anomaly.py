"""Road images with anomaly masks (SegmentMeIfYouCan, RoadAnomaly, Fishyscapes): evaluation only."""

from mmseg.registry import DATASETS

from .label_map import CITYSCAPES_CLASSES, CITYSCAPES_PALETTE, anomaly_labels
from .open_set_dataset import OpenSetDataset


@DATASETS.register_module()
class AnomalyMasks(OpenSetDataset):
    """Images and masks (0 closed, 1 anomaly, 255 void).

    The closed classes of the pixels are not known, so ``gt_sem_seg`` is IGNORE everywhere and mIoU
    is undefined.

    Args:
        data_root: Folder that holds the images and the masks.
        data_prefix: Folders of images and masks below it: ``img_path``, ``seg_map_path``.
        img_suffix: End of an image's name.
        seg_map_suffix: End of a mask's name, which otherwise equals the image's.
        classes, palette: Names and colours of the network's classes, for pictures; Cityscapes' by
            default.
        **kwargs: As for mmseg's ``BaseSegDataset``.

    Raises:
        FileNotFoundError: a folder or a mask is missing.
        ValueError: no images.
    """

    METAINFO = {'classes': CITYSCAPES_CLASSES, 'palette': CITYSCAPES_PALETTE}

    def __init__(
        self,
        *,
        data_root: str,
        data_prefix: dict | None = None,
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.png',
        classes=CITYSCAPES_CLASSES,
        palette=None,
        **kwargs,
    ):
        palette = palette or CITYSCAPES_PALETTE[: len(classes)]
        super().__init__(
            data_root=data_root,
            labels=anomaly_labels(),
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            data_prefix=data_prefix or {'img_path': 'images', 'seg_map_path': 'masks'},
            **kwargs,
        )
        self._metainfo.update(classes=tuple(classes), palette=palette)

    def load_data_list(self) -> list[dict]:
        return self._pairs(self._images())
