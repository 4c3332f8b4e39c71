"""One bank from several processes: each extracts a run of its shards into a folder of its own, and
these are joined.

A part is a bank whose files have the names and the bytes that they have in the whole one: its
shards and images are numbered from where it begins. Joining only gives these files a second name.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from mmengine.logging import print_log

from .bank import (
    IMAGES_PER_SHARD,
    VERSION,
    FeatureBank,
    FeatureBankError,
    locked,
    read_manifest,
    remove_shards,
    write_record,
)


def part_of(
    root: Path, identity: dict, requests: dict[str, list], number: int, parts: int
) -> tuple[Path, dict, dict]:
    """Folder, identity and requests of one of the parts of a bank, a run of whole shards.

    Args:
        root: the whole bank's folder.
        identity: what it is made from.
        requests: for each group, (image name, dataset, index) in order.
        number: of the part, from 1.
        parts: how many there are.

    Raises:
        FeatureBankError: there is no such part, or more parts than shards.
    """
    names = list(dict.fromkeys(name for images in requests.values() for name, *_ in images))
    shards = -(-len(names) // IMAGES_PER_SHARD)
    if not 1 <= number <= parts <= shards:
        raise FeatureBankError(
            f"Feature bank '{root}', {shards} shards: wanted a part between 1/1 and "
            f'{shards}/{shards}, found {number}/{parts}'
        )
    first, end = (shards * n // parts for n in (number - 1, number))
    first_image = first * IMAGES_PER_SHARD
    chosen = set(names[first_image : end * IMAGES_PER_SHARD])
    requests = {
        group: [entry for entry in images if entry[0] in chosen]
        for group, images in requests.items()
    }
    of_groups = [[name for name, *_ in images] for images in requests.values()]
    part = dict(
        first_shard=first,
        shards=end - first,
        first_image=first_image,
        images_sha256=hashlib.sha256(json.dumps(of_groups).encode()).hexdigest(),
    )
    folder = root.with_name(f'{root.name}.part-{number}-of-{parts}')
    return folder, dict(identity, part=part), requests


def join_parts(root: Path, identity: dict, requests: dict[str, list], parts: int) -> None:
    """Make a bank of its parts: byte for byte the one that a single process writes. The parts stay
    as they are.

    All parts are compared with their checksums first, and the manifest is written last: a kill
    leaves no bank, and the next call makes it.

    Args:
        root: the bank's folder; one that is whole already is left alone.
        identity: what it must be made from.
        requests: for each group, (image name, dataset, index) in order.
        parts: how many there are.

    Raises:
        FeatureBankError: a part is unfinished, damaged or made from something else, or the bank in
            place is another.
        FileNotFoundError: a part is missing.
        OSError: a file can be neither linked nor copied.
    """
    with locked(root):
        if read_manifest(root) is None:
            numbers = range(1, max(parts, 1) + 1)
            found = [_open_part(*part_of(root, identity, requests, i, parts)[:2]) for i in numbers]
            for part in found:
                part.verify()
            remove_shards(root)
            for part in found:
                for path in part.root.glob('shard-*'):
                    if path.suffix != '.tmp':
                        _link(path, root / path.name)
            write_record(root / 'manifest.json', dict(version=VERSION, identity=identity))
        bank = FeatureBank(root, identity)
        for group, images in requests.items():
            bank.pool(group, [name for name, *_ in images])
    print_log(
        f"Feature bank '{root}' is whole; the folders of its parts are no longer needed",
        logger='current',
    )


def _link(old: Path, new: Path) -> None:
    """A second name for a file; its time, by which changed images are known, stays."""
    try:
        os.link(old, new)
    except OSError:  # a file system without hard links
        shutil.copy2(old, new)


def _open_part(root: Path, identity: dict) -> FeatureBank:
    bank, wanted = FeatureBank(root, identity), identity['part']['shards']
    if (found := len(bank.manifest['shards'])) != wanted:
        raise FeatureBankError(
            f"Feature bank part '{root}' is not finished: wanted {wanted} shards, found {found}"
        )
    return bank
