"""Images together with what the frozen segmentor makes of them, computed once: validation without
the segmentor.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import torch
from mmseg.registry import DATASETS
from torch.utils.data import Dataset
from tqdm import tqdm

from ..contracts import TAP_FEATURES, TAP_LOGITS
from ..files import as_json, replacing, sha256_of
from .bank import (
    VERSION,
    FeatureBankError,
    check_identity,
    locked,
    read_manifest,
    require_space,
    write_record,
)
from .extraction import file_digests, require_same_files
from .sources import named, on_main_process, require_labelled


def images_of(dataset: dict) -> dict:
    """The config of a data set, or of the images in it where it stores taps beside them."""
    return dataset['images'] if dataset['type'] == 'StoredTaps' else dataset


@DATASETS.register_module()
class StoredTaps(Dataset):
    """A dataset whose items also hold the image's tap, features (C, h, w) and logits (K, h, w),
    from a folder on disk.

    The tensors are those of the segmentor, unrounded, so every number of a validation is the
    ordinary one. The folder gets ``manifest.json`` and a file for each image, each written whole;
    it is completed where images are missing. An image takes 12 MB on CamVid (270 channels, 90x120),
    387 MB on Cityscapes (720 channels, 256x512).

    Args:
        root: the folder, made on first use.
        images: config of the dataset of images.
    """

    def __init__(self, *, root: str, images: dict):
        self.root = Path(root)
        self.images = DATASETS.build(images)
        require_labelled('images', self.images)
        self.pipeline = images.get('pipeline', [])
        self.stored: list[dict] | None = None

    @property
    def metainfo(self) -> dict:
        return self.images.metainfo

    def __len__(self) -> int:
        return len(self.images)

    def prepare(self, extract: Callable[..., tuple], segmentor: dict) -> None:
        """Store what is missing, or check that what is there belongs to this segmentor.

        Args:
            extract: maps a raw image (3, H, W) and its data sample to features (1, C, h, w) and
                logits (1, K, h, w).
            segmentor: what identifies the frozen segmentor, as for a feature source.

        Raises:
            FeatureBankError: the folder was made from something else, other images of the same
                names included, or the disk is too small.
            ValueError: features that are NaN or infinite.
            RuntimeError: on the other ranks, when the rank that extracts failed.
        """
        identity = as_json(
            dict(
                content='taps',
                segmentor=segmentor,
                pipeline=self.pipeline,
            )
        )
        if self.stored is None:
            on_main_process(lambda: self._build(extract, identity))
            manifest = read_manifest(self.root)
            stored = {} if manifest is None else manifest['images']  # none of no images
            self.stored = [stored[name] for name, *_ in named(self.images)]

    def _build(self, extract: Callable[..., tuple], identity: dict) -> None:
        with locked(self.root):
            manifest = read_manifest(self.root) or dict(
                version=VERSION, identity=identity, images={}
            )
            check_identity(self.root, manifest, identity)
            stored, todo = manifest['images'], []
            for name, dataset, index in named(self.images):
                if name in stored:
                    found = file_digests(dataset, index)[:1]
                    require_same_files(self.root, name, stored[name]['files'], found)
                else:
                    todo.append((name, index))
            for name, index in tqdm(todo, desc='Storing feature maps', unit='image'):
                item = self.images[index]
                tap = extract(item['inputs'], item['data_samples'])
                features, logits = (part[0].cpu().clone() for part in tap[:2])
                bad = int((~features.isfinite()).sum())
                if bad:
                    raise ValueError(
                        f"{bad} of {features.numel()} features of '{name}' are NaN or infinite"
                    )
                path = self.root / f'{len(stored):05d}.pt'
                with replacing(path) as file:
                    torch.save({TAP_FEATURES: features, TAP_LOGITS: logits}, file)
                if name == todo[0][0]:
                    require_space(self.root, (len(todo) - 1) * path.stat().st_size)
                stored[name] = dict(
                    file=path.name,
                    sha256=sha256_of(path),
                    files=file_digests(self.images, index)[:1],
                )
                write_record(self.root / 'manifest.json', manifest)

    def __getitem__(self, index: int) -> dict:
        if self.stored is None:
            raise RuntimeError(
                f"The feature maps in '{self.root}' are read before OpenGANHook prepared them. Add "
                "dict(type='OpenGANHook') to custom_hooks."
            )
        entry = self.stored[index]
        path = self.root / entry['file']
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != entry['sha256']:
            raise FeatureBankError(
                f"'{path}' is damaged: wanted sha256 {entry['sha256'][:12]}. Delete the folder and "
                'let it be made again.'
            )
        return {**self.images[index], **torch.load(io.BytesIO(data), weights_only=True)}
