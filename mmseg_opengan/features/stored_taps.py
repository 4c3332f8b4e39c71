"""Images together with what the frozen segmentor makes of them, computed once: validation without
the segmentor.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmseg.registry import DATASETS
from torch.utils.data import Dataset
from tqdm import tqdm

from ..contracts import TAP_FEATURES, TAP_LOGITS
from ..files import as_json, replacing, write_json
from .bank import VERSION, FeatureBankError, check_identity, locked, read_manifest, require_space
from .extraction import file_sizes, require_same_files
from .sources import named, on_main_process

_KEYS = (TAP_FEATURES, TAP_LOGITS)


def images_of(dataset: dict) -> dict:
    """The config of a data set, or of the images in it where it stores taps beside them."""
    return dataset['images'] if dataset['type'] == 'StoredTaps' else dataset


@DATASETS.register_module()
class StoredTaps(Dataset):
    """A dataset whose items also hold the image's tap, features (C, h, w) and logits (K, h, w),
    from a folder on disk.

    The tensors are those of the segmentor, unrounded, so every number of a validation is the
    ordinary one. The folder gets ``manifest.json`` and two ``.npy`` files an image, each written
    whole; it is completed where images are missing. An image takes 12 MB on CamVid (270 channels,
    90x120), 387 MB on Cityscapes (720 channels, 256x512).

    Args:
        root: the folder, made on first use.
        images: config of the dataset of images.
    """

    def __init__(self, *, root: str, images: dict):
        self.root = Path(root)
        self.images = DATASETS.build(images)
        self.pipeline = images.get('pipeline', [])
        self.files: list[dict] | None = None

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
        identity = as_json(dict(content='taps', segmentor=segmentor, pipeline=self.pipeline))
        if self.files is None:
            on_main_process(lambda: self._build(extract, identity))
            manifest = read_manifest(self.root)
            stored = {} if manifest is None else manifest['images']  # none of no images
            self.files = [stored[name] for name, *_ in named(self.images)]
            self._check()

    def _build(self, extract: Callable[..., tuple], identity: dict) -> None:
        with locked(self.root):
            manifest = read_manifest(self.root) or dict(
                version=VERSION, identity=identity, images={}
            )
            check_identity(self.root, manifest, identity)
            todo = []
            for name, dataset, index in named(self.images):
                if name in manifest['images']:
                    stored = manifest['images'][name].get('files')
                    require_same_files(self.root, name, stored, file_sizes(dataset, index)[:1])
                else:
                    todo.append((name, index))
            for done, (name, index) in enumerate(
                tqdm(todo, desc='Storing feature maps', unit='image')
            ):
                item = self.images[index]
                tap = [
                    part[0].cpu().numpy()
                    for part in extract(item['inputs'], item['data_samples'])[:2]
                ]
                if not np.isfinite(tap[0]).all():
                    raise ValueError(
                        f'{int((~np.isfinite(tap[0])).sum())} of {tap[0].size} features of '
                        f"'{name}' are "
                        'NaN or infinite'
                    )
                if not done:
                    require_space(self.root, len(todo) * sum(part.nbytes + 128 for part in tap))
                stem = f'{len(manifest["images"]):05d}'
                for key, part in zip(_KEYS, tap):
                    with replacing(self.root / f'{stem}.{key}.npy') as file:
                        np.save(file, part)
                manifest['images'][name] = dict(
                    stem=stem,
                    bytes=[(self.root / f'{stem}.{key}.npy').stat().st_size for key in _KEYS],
                    files=file_sizes(self.images, index)[:1],
                )
                write_json(self.root / 'manifest.json', manifest)

    def _check(self) -> None:
        assert self.files is not None
        for entry in self.files:
            for key, size in zip(_KEYS, entry['bytes']):
                path = self.root / f'{entry["stem"]}.{key}.npy'
                found = path.stat().st_size if path.exists() else None
                if found != size:
                    raise FeatureBankError(
                        f"'{path}': wanted {size} bytes, found {found or 'no file'}. Delete the "
                        'folder and let it be made again.'
                    )

    def __getitem__(self, index: int) -> dict:
        if self.files is None:
            raise RuntimeError(
                f"The feature maps in '{self.root}' are read before OpenGANHook prepared them. Add "
                "dict(type='OpenGANHook') to custom_hooks."
            )
        stem = self.files[index]['stem']
        maps = {key: torch.from_numpy(np.load(self.root / f'{stem}.{key}.npy')) for key in _KEYS}
        return {**self.images[index], **maps}
