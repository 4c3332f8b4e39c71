"""Where training features come from: a bank on disk, or whole images sent through the segmentor at every step.

Both are datasets indexed by (seed, step), so that every batch is a pure function of the two, and both yield a dict with
``draw`` (all random choices of the step), ``open`` (No, C) cached open features or None, and either ``closed`` (Nc, C)
features or the raw ``inputs`` and ``data_samples`` of the images that give them.
"""

import itertools
from pathlib import Path

import torch
from mmengine.dist import barrier, get_rank, get_world_size, is_main_process
from mmengine.logging import print_log
from mmengine.registry import FUNCTIONS
from mmseg.registry import DATA_SAMPLERS, DATASETS, TASK_UTILS
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from ..contracts import GT_OPEN_MAP
from ..functional.pixels import grid_stride, labels_on_grid
from .feature_bank import GROUPS, BankWriter, FeatureBank, choose_pixels, require_space


class _BankSource(Dataset):
    """What both sources share: the labelled images, the sampler, and the bank that caches open pixels.

    Args:
        root: folder of the feature bank; built there on first use.
        sampler: config of a :class:`PixelSampler`.
        closed: config of the dataset whose images give closed pixels.
        open: config of the dataset whose images give open pixels; None where none are used (OpenGAN-0).
        closed_per_image: closed pixels stored per image (store only); None stores all.
        bank_seed: seed of the choice of stored closed pixels.
    """

    stores_closed = False

    def __init__(self, *, root: str, sampler: dict, closed: dict, open: dict | None = None,
                 closed_per_image: int | None = 5000, bank_seed: int = 0):
        self.root = Path(root)
        self.sampler = TASK_UTILS.build(sampler)
        self.closed_images = DATASETS.build(closed)
        self.open_images = None if open is None or self.sampler.num_open == 0 else DATASETS.build(open)
        self.closed_per_image = closed_per_image
        self.bank_seed = bank_seed
        self.identity = None
        self._bank = None

    @property
    def metainfo(self) -> dict:
        return self.closed_images.metainfo

    def __len__(self) -> int:
        """Images in an epoch of closed pixels."""
        return len(self.closed_images)

    def _requests(self):
        """For each group that the bank must hold, (image name, dataset, index) in order."""
        requests = {group: [] for group in GROUPS}
        if self.stores_closed:
            requests['closed'] = list(_named(self.closed_images))
        if self.open_images is not None:
            requests['open'] = list(_named(self.open_images))
        return requests

    def prepare(self, extract, segmentor: dict) -> None:
        """Build the missing part of the bank, or check that the bank in place belongs to this segmentor and policy.

        Args:
            extract: maps a raw image (3, H, W) and its data sample to features (C, h, w).
            segmentor: what identifies the frozen segmentor (``name``, ``sha256``, ``channels``).
        """
        policies = {self.metainfo['label_policy']}
        if self.open_images is not None:
            policies.add(self.open_images.metainfo['label_policy'])
        self.identity = dict(
            segmentor=segmentor['name'], segmentor_sha256=segmentor['sha256'], channels=segmentor['channels'],
            label_policy=sorted(policies), closed_per_image=self.closed_per_image, seed=self.bank_seed,
            closed_classes=list(self.metainfo['classes']), open_classes=list(self.metainfo['open_classes']))
        if is_main_process():
            self._build(extract)
        barrier()
        self._bank = None

    def _build(self, extract):
        writer = BankWriter(self.root, self.identity)
        todo = {}
        for group, images in self._requests().items():
            for name, dataset, index in images:
                if not writer.has(group, name):
                    todo.setdefault(name, (dataset, index, []))[2].append(group)
        if not todo:
            return
        dataset, index, _ = next(iter(todo.values()))
        grid = self._extract(extract, dataset, index)[0].shape[-2:]
        pixels = sum(self._count(dataset, index, groups, grid, name)
                     for name, (dataset, index, groups) in tqdm(todo.items(), desc='Counting pixels', unit='image'))
        needed = pixels * (2 * self.identity['channels'] + 9)
        print_log(f"Feature bank '{self.root}': {len(todo)} images, {pixels:,} pixels, {needed / 1e9:.2f} GB to write",
                  logger='current')
        require_space(self.root, needed)
        for name, (dataset, index, groups) in tqdm(todo.items(), desc='Extracting features', unit='image'):
            features, open_map, classes = self._extract(extract, dataset, index)
            parts = {}
            for group in groups:
                where = choose_pixels(open_map, classes, group, self.closed_per_image, self.bank_seed, name)
                chosen = features[:, where[:, 0], where[:, 1]].T
                parts[group] = (chosen.to(torch.float16).cpu().numpy(), where)
            writer.add(name, parts)
        writer.flush()

    @staticmethod
    def _extract(extract, dataset, index):
        """Features (C, h, w) of one image and its two label maps (h, w) on the grid."""
        item = dataset[index]
        sample = item['data_samples']
        features = extract(item['inputs'], sample)
        labels = [labels_on_grid(field.data[0].numpy(), features.shape[-2:])
                  for field in (sample.get(GT_OPEN_MAP), sample.gt_sem_seg)]
        return features, *labels

    def _count(self, dataset, index, groups, grid, name):
        classes, open_map = dataset.read_labels(index)
        stride = grid_stride(open_map.shape, grid)
        open_map, classes = open_map[::stride, ::stride], classes[::stride, ::stride]
        return sum(len(choose_pixels(open_map, classes, group, self.closed_per_image, self.bank_seed, name))
                   for group in groups)

    @property
    def bank(self) -> FeatureBank:
        """The bank, opened on first use in each process."""
        if self._bank is None:
            self._bank = FeatureBank(self.root, self.identity)
            self._pools = {group: self._bank.pool(group, [name for name, *_ in images])
                           for group, images in self._requests().items()}
        return self._bank

    def _open_features(self, draw) -> torch.Tensor | None:
        if self.open_images is None:
            return None
        bank, pool = self.bank, self._pools['open']
        return bank.gather('open', pool.rows(draw.open(len(pool))))

    def __getstate__(self):
        return dict(self.__dict__, _bank=None)  # memory maps are opened anew in each worker


@DATASETS.register_module()
class StoreSource(_BankSource):
    """Closed and open features from the bank; no segmentor runs while D and G train."""

    stores_closed = True

    def __getitem__(self, seed_and_step) -> dict:
        draw = self.sampler.at(*seed_and_step)
        bank, pool = self.bank, self._pools['closed']
        if self.sampler.closed_images_per_batch != 'all':
            pool = pool.select(draw.images(len(self.closed_images)))
        return dict(draw=draw, closed=bank.gather('closed', pool.rows(draw.closed(len(pool)))),
                    open=self._open_features(draw))


@DATASETS.register_module()
class OnlineSource(_BankSource):
    """The paper's way: a whole image goes through the segmentor at every step; only open pixels are cached.

    Raises:
        ValueError: ``closed_images_per_batch='all'``, which needs a store.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.sampler.closed_images_per_batch == 'all':
            raise ValueError("closed_images_per_batch='all' needs type='StoreSource': an online source sends every "
                             'image of a batch through the segmentor')

    def prepare(self, extract, segmentor):
        if self.open_images is not None:
            super().prepare(extract, segmentor)

    def __getitem__(self, seed_and_step) -> dict:
        draw = self.sampler.at(*seed_and_step)
        items = [self.closed_images[int(i)] for i in draw.images(len(self.closed_images))]
        return dict(draw=draw, inputs=[item['inputs'] for item in items],
                    data_samples=[item['data_samples'] for item in items], open=self._open_features(draw))


def _named(dataset):
    """(name, dataset, index) of each image; the path is the name, below the dataset's own root where it has one."""
    root = Path(dataset.data_root) if dataset.data_root else None
    for index in range(len(dataset)):
        path = Path(dataset.get_data_info(index)['img_path'])
        inside = root is not None and path.is_relative_to(root)
        yield (path.relative_to(root) if inside else path).as_posix(), dataset, index


@DATA_SAMPLERS.register_module()
class StepSampler(Sampler):
    """Yields (seed, step) for ever: rank r of W ranks gets the steps r, r + W, r + 2W, ..."""

    def __init__(self, dataset, seed: int | None = None):
        self.seed = 0 if seed is None else seed
        self.rank, self.world_size = get_rank(), get_world_size()
        self.length = len(dataset)

    def __iter__(self):
        return ((self.seed, step) for step in itertools.count(self.rank, self.world_size))

    def __len__(self):
        return self.length

    def set_epoch(self, epoch):
        """The stream of steps knows no epochs."""


@FUNCTIONS.register_module()
def one_step(items: list) -> dict:
    """Collate function: a batch is one step's item, as it is."""
    return items[0]
