"""Training images for a discriminator that reads images: no features, no bank."""

import torch
from mmseg.registry import DATASETS, TASK_UTILS
from torch.utils.data import Dataset

from ..contracts import CLOSED, GT_OPEN_MAP, VOID
from ..features.sources import build_open


@DATASETS.register_module()
class ImageSource(Dataset):
    """Whole images or crops with their open maps, indexed by (seed, step) as the feature sources
    are.

    Yields a dict with ``draw`` (all random choices of the step), ``inputs``, a list of raw images
    (3, H, W), and ``open_maps``, a list of (H, W) uint8 maps with the values of ``contracts.py``.
    In an image that is not among those
    of ``open``, open pixels are void: the number of open training images holds for pixels, too.

    Args:
        sampler: config of a :class:`PatchSampler`.
        closed: config of the dataset whose images give closed pixels.
        open: config of the dataset whose images give open pixels; None where none are used
            (OpenGAN-0).
        root: not used. One command trains methods on features and on images alike, and may say
            where the bank lies.
    """

    stores_closed = False

    def __init__(
        self, *, sampler: dict, closed: dict, open: dict | None = None, root: str | None = None
    ):
        self.sampler = TASK_UTILS.build(sampler)
        self.closed_images = DATASETS.build(closed)
        self.open_images = build_open(open, self.sampler)
        self._open_index = None

    @property
    def metainfo(self) -> dict:
        return self.closed_images.metainfo

    def __len__(self) -> int:
        """Images in an epoch of closed pixels."""
        return len(self.closed_images)

    def prepare(self, extract, segmentor: dict) -> None:
        """Nothing to prepare: see :meth:`StoreSource.prepare`, which builds a bank here."""

    def __getitem__(self, seed_and_step) -> dict:
        """The batch of one step; an empty one for None, a step that is skipped because it was
        trained before.
        """
        return {} if seed_and_step is None else self._batch(self.sampler.at(*seed_and_step))

    def _batch(self, draw) -> dict:
        items = [self._closed_item(int(i)) for i in draw.images(len(self.closed_images))]
        hold = [()] * len(items)
        if self.open_images is not None:
            drawn = [
                _read(self.open_images, int(i)) for i in draw.open_images(len(self.open_images))
            ]
            items += drawn
            hold += [
                ((labels != CLOSED) & (labels != VOID)).nonzero().numpy() for _, labels in drawn
            ]
        parts = draw.crops([labels.shape for _, labels in items], hold)
        return dict(
            draw=draw,
            inputs=[image[:, rows, cols] for (image, _), (rows, cols) in zip(items, parts)],
            open_maps=[labels[rows, cols] for (_, labels), (rows, cols) in zip(items, parts)],
        )

    def _closed_item(self, index):
        """An image of the closed set, with its open pixels where they may be trained on."""
        if self._open_index is None:
            images = self.open_images or ()
            self._open_index = {_path(images, i): i for i in range(len(images))}
        place = self._open_index.get(_path(self.closed_images, index))
        if place is not None:
            return _read(self.open_images, place)
        image, open_map = _read(self.closed_images, index)
        return image, torch.where(open_map == CLOSED, open_map, VOID)


def _path(dataset, index) -> str:
    return dataset.get_data_info(index)['img_path']


def _read(dataset, index):
    """Raw image (3, H, W) and open map (H, W) of one image.

    Raises:
        ValueError: they differ in size.
    """
    item = dataset[index]
    image = item['inputs']
    open_map = item['data_samples'].get(GT_OPEN_MAP).data[0]
    if image.shape[1:] != open_map.shape:
        raise ValueError(
            f"'{_path(dataset, index)}': wanted labels of the image's size, "
            f'{tuple(image.shape[1:])}, '
            f'found {tuple(open_map.shape)}. Load labels before the image is resized.'
        )
    return image, open_map
