"""Which weights of a checkpoint are the frozen segmentor's, and which were trained on top of it."""

import hashlib
import os

from mmengine.runner import CheckpointLoader
from torch import Tensor

TRAINED = ('discriminator.', 'generator.')
#: Beginnings of the names that are not the segmentor's.
OWN = (*TRAINED, 'scorers.')


def segmentor_part(state) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(OWN)}


def discriminator_part(state) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.startswith(TRAINED[0])}


def digest_of(state: dict[str, Tensor]) -> str:
    """SHA-256 of names and values, in hexadecimal, whatever their order and device."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def require_fit(part: str, own: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Raise unless a checkpoint that holds a part of the model holds exactly that part's weights."""
    if not own or not given:
        return
    missing = [key for key in own if key not in given and not key.endswith('num_batches_tracked')]
    extra = [key for key in given if key not in own]
    shapes = [f'{key} (model {tuple(own[key].shape)}, checkpoint {tuple(given[key].shape)})'
              for key in own if key in given and own[key].shape != given[key].shape]
    if missing or extra or shapes:
        raise RuntimeError(
            f'The checkpoint does not fit the {part}, which would stay partly random. '
            + '; '.join(f'{what}: {", ".join(keys[:5])}{f" and {len(keys) - 5} more" * (len(keys) > 5)}'
                        for what, keys in (('missing in the checkpoint', missing), ('unknown to the model', extra),
                                           ('shapes differ', shapes)) if keys))


def absolute(source: str | None) -> str | None:
    """A local file's full path, so that a checkpoint finds it from any folder; URLs stay as they are."""
    return os.path.abspath(source) if source and '://' not in source else source


def read_segmentor(source: str) -> dict[str, Tensor]:
    checkpoint = CheckpointLoader.load_checkpoint(source, map_location='cpu')
    return {key.removeprefix('module.'): value for key, value in checkpoint.get('state_dict', checkpoint).items()
            if not key.startswith(OWN)}
