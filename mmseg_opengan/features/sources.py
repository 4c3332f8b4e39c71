"""Where training features come from: a bank on disk, or whole images sent through the segmentor at
every step.

Both are datasets indexed by (seed, step), so that every batch is a pure function of the two, and
both yield a dict with ``draw`` (all random choices of the step), ``open`` (No, C) cached open
features or None, and either ``closed`` (Nc, C) features or the raw ``inputs`` and ``data_samples``
of the images that give them.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence, Sized
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.registry import FUNCTIONS
from mmseg.registry import DATA_SAMPLERS, DATASETS, TASK_UTILS
from torch.utils.data import Dataset, Sampler

from ..datasets.open_set_dataset import OpenSetDataset
from ..files import as_json, json_bytes
from .bank import GROUPS, FeatureBank, RowPool, locked
from .bank_parts import join_parts, part_of
from .extraction import extract_to_bank
from .pixel_choice import PixelChoice
from .pixel_sampler import PixelDraw


def build_open(open: dict | None, sampler: Any) -> BaseDataset | None:
    """The data set of open pixels, or None where there is none or the sampler draws none; then it
    draws none.
    """
    if open is None:
        sampler.num_open = 0
    return None if sampler.num_open == 0 else DATASETS.build(open)


def require_labelled(option: str, dataset: Any) -> None:
    """Refuse images that cannot be stored as features, each once and whole.

    Raises:
        TypeError: a wrapper around data sets, or a data set of another package.
        ValueError: a step that crops, pads or flips.
    """
    if not isinstance(dataset, OpenSetDataset):
        raise TypeError(
            f'{option}: wanted one data set derived from OpenSetDataset, found '
            f'{type(dataset).__name__}. Take one data set with a data_root that holds all images; '
            'each is stored once.'
        )
    dataset.require_whole_images(can_flip=False)


class _BankSource(Dataset):
    """What both sources share: the labelled images, the sampler, and the bank that caches open
    pixels.

    Args:
        root: folder of the feature bank; built there on first use.
        sampler: config of a :class:`PixelSampler`.
        closed: config of the dataset whose images give closed pixels.
        open: config of the dataset whose images give open pixels; None where none are used
            (OpenGAN-0).
        closed_per_image: closed pixels stored per image (store only); None stores all.
        bank_seed: seed of the choice of stored closed pixels.
        leave_out: open classes whose pixels stay in the bank and are never drawn.
        part: (i, n): :meth:`prepare` builds the i-th of n parts of the bank, 1 <= i <= n, in a
            folder beside ``root``.
        join: n: :meth:`prepare` makes the bank of its n parts, without images.
    """

    stores_closed = False

    def __init__(
        self,
        *,
        root: str,
        sampler: dict,
        closed: dict,
        open: dict | None = None,
        closed_per_image: int | None = 5000,
        bank_seed: int = 0,
        leave_out: Sequence[str] = (),
        part: tuple[int, int] | None = None,
        join: int | None = None,
    ):
        self.root = Path(root)
        self.sampler = TASK_UTILS.build(sampler)
        self.closed_images = DATASETS.build(closed)
        require_labelled('closed', self.closed_images)
        self.open_images = build_open(open, self.sampler)
        if self.open_images is not None:
            require_labelled('open', self.open_images)
        self.pipeline = closed.get('pipeline', [])
        of_open = (open or {}).get('pipeline', [])
        if self.open_images is not None and as_json(of_open) != as_json(self.pipeline):
            raise ValueError(
                f'open.pipeline: wanted that of closed, {self.pipeline}, whose images may be the '
                f'same ones, found {of_open}'
            )
        if not self.stores_closed and self.sampler.closed_images_per_batch == 'all':
            raise ValueError(
                "closed_images_per_batch='all' needs type='StoreSource': an online source sends "
                'every image of a batch through the segmentor'
            )
        self.choice = PixelChoice(closed_per_image, bank_seed)
        self.part, self.join = part, join
        self.leave_out = list(leave_out)
        self.identity: dict | None = None
        self._bank: FeatureBank | None = None

    @property
    def metainfo(self) -> dict:
        return self.closed_images.metainfo

    def __len__(self) -> int:
        """Images in an epoch of closed pixels."""
        return len(self.closed_images)

    def _requests(self) -> dict[str, list[tuple[str, BaseDataset, int]]]:
        """For each group that the bank must hold, (image name, dataset, index) in order."""
        closed = self.closed_images if self.stores_closed else None
        sets = dict(zip(GROUPS, (closed, self.open_images)))
        return {
            group: [] if images is None else list(named(images)) for group, images in sets.items()
        }

    def files_sha256(self) -> str:
        """Digest of the images and labels that the stored features of this source come from."""
        files = self.bank.files
        found = {
            group: [(name, files[name][group]) for name, *_ in images]
            for group, images in self._requests().items()
        }
        return hashlib.sha256(json_bytes(found)).hexdigest()

    def prepare(self, extract: Callable[..., torch.Tensor], segmentor: dict) -> None:
        """Build the missing part of the bank, or check that the bank in place belongs to this
        segmentor and policy. There is none where nothing is stored.

        Args:
            extract: maps a raw image (3, H, W) and its data sample to features (C, h, w).
            segmentor: what identifies the frozen segmentor (``name``, ``sha256``, ``channels``,
                ``preprocessor``).

        Raises:
            FeatureBankError: the bank in place was made from something else, the disk is too small,
                or ``join`` finds a part that is unfinished, damaged or made from something else.
            FileNotFoundError: ``join`` lacks a part.
            ValueError: features that are NaN or beyond float16.
            RuntimeError: on the other ranks, when the rank that builds the bank failed.
        """
        if not self.stores_closed and self.open_images is None:
            return
        open_images = self.open_images or self.closed_images
        policies = [one.metainfo['label_policy'] for one in (self.closed_images, open_images)]
        same = policies[0] == policies[1]
        self.identity = as_json(
            dict(
                segmentor=segmentor['name'],
                segmentor_sha256=segmentor['sha256'],
                channels=segmentor['channels'],
                preprocessor=segmentor['preprocessor'],
                pipeline=self.pipeline,
                label_policy=policies[:1] if same else dict(zip(GROUPS, policies)),
                closed_per_image=self.choice.limit,
                seed=self.choice.seed,
                closed_classes=self.metainfo['classes'],
                open_classes=open_images.metainfo['open_classes'],
            )
        )
        on_main_process(lambda: self._build(extract))
        self._bank = None

    def _build(self, extract: Callable[..., torch.Tensor]) -> None:
        root, identity, requests = self.root, self.identity, self._requests()
        assert identity is not None  # prepare has set it
        if self.join is not None:
            join_parts(root, identity, requests, self.join)
            return
        if self.part is not None:
            root, identity, requests = part_of(root, identity, requests, *self.part)
        with locked(root):
            extract_to_bank(root, identity, requests, extract, self.choice)

    @property
    def bank(self) -> FeatureBank:
        """The bank, opened on first use in each process."""
        if self._bank is None:
            bank = FeatureBank(self.root, self.identity)
            requests = self._requests()
            self._pools = {
                group: bank.pool(group, [name for name, *_ in images])
                for group, images in requests.items()
            }
            if self.leave_out:
                self._pools['open'] = self._pools['open'].without(self._left_out(bank))
            for group, images in requests.items():
                if images and not len(self._pools[group]):
                    raise ValueError(self._no_pixel(group, len(images)))
            self._bank = bank
        return self._bank

    def _no_pixel(self, group: str, number: int) -> str:
        text = (
            f'No {group} pixel to train on: the {number} images that should give some have none in '
            f"the feature bank '{self.root}'"
        )
        if group == 'open':
            text += '. OpenGAN-0 needs none: open=None, sampler.num_open=0'
        return text

    def _left_out(self, bank: FeatureBank) -> np.ndarray:
        """(rows,) bool, the bank's open pixels of classes that are left out."""
        known = list(bank.manifest['identity']['open_classes'])
        strange = sorted(set(self.leave_out) - set(known))
        if strange:
            raise ValueError(f'leave_out: wanted some of the open classes {known}, found {strange}')
        labels = [known.index(name) for name in self.leave_out]
        return np.isin(bank.pixels('open')['label'], labels)

    def pool(self, group: str) -> RowPool:
        """The rows of the bank that this source may draw from, of a group that it stores."""
        self.bank  # noqa: B018 - opens it
        return self._pools[group]

    def _open_features(self, draw: PixelDraw) -> torch.Tensor | None:
        if self.open_images is None:
            return None
        bank, pool = self.bank, self._pools['open']
        return bank.gather('open', pool.rows(draw.open(len(pool))))

    def __getitem__(self, seed_and_step: tuple[int, int] | None) -> dict:
        """The batch of one step; an empty one for None, a step that is skipped because it was
        trained before.
        """
        return {} if seed_and_step is None else self._batch(self.sampler.at(*seed_and_step))

    def _batch(self, draw: PixelDraw) -> dict:
        raise NotImplementedError

    def __getstate__(self) -> dict:
        return dict(self.__dict__, _bank=None)  # memory maps are opened anew in each worker


@DATASETS.register_module()
class StoreSource(_BankSource):
    """Closed and open features from the bank; no segmentor runs while D and G train."""

    stores_closed = True

    def closed_sample(self) -> torch.Tensor:
        """(n, C) float32, at most 20,000 closed pixels of all images; the same at every call."""
        return self.bank.gather('closed', self.pool('closed').sample(20000, 0)).float()

    def _batch(self, draw: PixelDraw) -> dict:
        bank, pool = self.bank, self._pools['closed']
        if self.sampler.closed_images_per_batch != 'all':
            pool = pool.select(draw.images(len(self.closed_images)))
        return dict(
            draw=draw,
            closed=bank.gather('closed', pool.rows(draw.closed(len(pool)))),
            open=self._open_features(draw),
        )


@DATASETS.register_module()
class OnlineSource(_BankSource):
    """The paper's way: a whole image goes through the segmentor at every step; only open pixels are
    cached.

    Raises:
        ValueError: ``closed_images_per_batch='all'``, which needs a store.
    """

    def _batch(self, draw: PixelDraw) -> dict:
        items = [self.closed_images[int(i)] for i in draw.images(len(self.closed_images))]
        return dict(
            draw=draw,
            inputs=[item['inputs'] for item in items],
            data_samples=[item['data_samples'] for item in items],
            open=self._open_features(draw),
        )


def on_main_process(work: Callable[[], object]) -> None:
    """Run ``work`` on rank 0 while the others wait, for days if need be; if it fails, no rank goes
    on.

    At a plain barrier the others would end after the backend's timeout (10 minutes for NCCL), or
    wait for a rank that has raised.
    """
    if get_world_size() == 1:
        work()
        return
    waiting_room = torch.distributed.new_group(backend='gloo', timeout=timedelta(days=30))
    failure: list[str | None] = ['interrupted']
    try:
        if is_main_process():
            work()
            failure = [None]
    except Exception as error:
        failure = [f'{type(error).__name__}: {error}']
        raise
    finally:
        torch.distributed.broadcast_object_list(failure, src=0, group=waiting_room)
    if failure[0] is not None:
        raise RuntimeError(f'The main process could not build the feature bank. {failure[0]}')


def named(dataset: BaseDataset) -> Iterator[tuple[str, BaseDataset, int]]:
    """(name, dataset, index) of each image; the path is the name, below the dataset's own root
    where it has one.
    """
    root = Path(dataset.data_root) if dataset.data_root else None
    for index in range(len(dataset)):
        path = Path(dataset.get_data_info(index)['img_path'])
        if root is not None and path.is_relative_to(root):
            path = path.relative_to(root)
        yield path.as_posix(), dataset, index


@DATA_SAMPLERS.register_module()
class StepSampler(Sampler):
    """Yields (seed, step) for ever: rank r of W ranks gets the steps r, r + W, r + 2W, ...

    The first ``num_skipped`` items are None: mmengine's loop advances its loader over all steps
    that were trained before it resumes, and a None costs nothing to load.
    """

    def __init__(self, dataset: Sized, seed: int | None = None):
        self.seed = 0 if seed is None else seed
        self.num_skipped = 0
        self.rank, self.world_size = get_rank(), get_world_size()
        self.length = len(dataset)

    def __iter__(self) -> Iterator[tuple[int, int] | None]:
        for item, step in enumerate(itertools.count(self.rank, self.world_size)):
            yield None if item < self.num_skipped else (self.seed, step)

    def __len__(self) -> int:
        return self.length


@FUNCTIONS.register_module()
def one_step(items: list) -> dict:
    """Collate function: a batch is one step's item, as it is.

    Raises:
        ValueError: a loader with another batch size than 1.
    """
    if len(items) != 1:
        raise ValueError(
            'train_dataloader.batch_size: wanted 1, as an item is the batch of a whole step, '
            f'found {len(items)}. Pixels of a step are set in the sampler: num_closed, '
            'closed_images_per_batch.'
        )
    return items[0]
