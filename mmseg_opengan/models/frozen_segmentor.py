"""The closed segmentor: mmseg's own model, built from a config and loaded before anything listens
to it.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import CheckpointLoader
from mmengine.utils import import_modules_from_strings
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..contracts import OPENGAN
from ..files import json_bytes
from ..shipped import read_config_file

#: What is kept of a segmentor's config, where it is there.
_KEPT = ('model', 'custom_imports', 'default_scope')
#: Options, at any depth, of training or of what is done with logits; features do not depend on
#: them, nor on rates of dropping and where files lie.
_BESIDE_FEATURES = {
    'data_preprocessor',  # its values count, see preprocessing_of
    'frozen_stages',
    'ignore_index',
    'init_cfg',
    'inplace',
    'norm_eval',
    'pretrained',
    'requires_grad',
    'sampler',
    'test_cfg',
    'train_cfg',
    'with_cp',
}
_BESIDE_FEATURES_LIKE = re.compile('loss_.*|.*drop.*|.*_path')


def read_config(config: str | Path | Config | dict) -> dict:
    """The parts of a segmentor's config that make its network, as plain values.

    Args:
        config: path of a config file (``'mmseg::fcn/...py'`` names one of an installed package), a
            Config, or a dict with the key ``model``.

    Raises:
        FileNotFoundError: no such file or package.
        ValueError: the config has no ``model``.
    """
    name = config if isinstance(config, (str, Path)) else 'the config given'
    if isinstance(config, (str, Path)):
        config = read_config_file(config)
    found = {key: plain(config[key]) for key in _KEPT if config.get(key) is not None}
    if 'model' not in found:
        raise ValueError(f"segmentor.config: wanted a config with 'model', found none in {name}")
    if 'segmentor' in found['model']:
        raise ValueError(
            f'segmentor.config: wanted a plain mmseg model, found the open-set model of {name}'
        )
    found['model'] = without_downloads(found['model'])
    found['model'].pop('auxiliary_head', None)  # used in its own training only
    return found


def plain(value: Any) -> Any:
    """A config as dicts, lists and plain values; classes of new-style configs become their
    names.
    """
    if isinstance(value, dict):
        return {key: plain(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    if callable(value):
        return f'{value.__module__}.{value.__qualname__}'
    return value


def without_downloads(value: Any) -> Any:
    """The config with nothing in it that would fetch pretrained weights: the checkpoint has them
    all.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(without_downloads(item) for item in value)
    if not isinstance(value, dict):
        return value
    found = {}
    for key, item in value.items():
        parts = item if isinstance(item, (list, tuple)) else [item]
        fetches = any(isinstance(part, dict) and 'checkpoint' in part for part in parts)
        if key == 'pretrained':
            found[key] = False if isinstance(item, bool) else None
        elif key == 'init_cfg' and fetches:
            found[key] = None
        else:
            found[key] = without_downloads(item)
    return found


def import_modules_of(*configs: Mapping) -> None:
    """Import the modules that configs name as their ``custom_imports``."""
    for config in configs:
        if config.get('custom_imports'):
            import_modules_from_strings(**config['custom_imports'])


class FrozenSegmentor:
    """mmseg's own model in eval mode, and where its weights come from.

    Attributes:
        network: the model.
        config: what :func:`read_config` made of its config.
        source: path or URL of its weights, None where they are random or were given as tensors.
        meta: meta information of that checkpoint: class names above all.
        digest: (32,) uint8, SHA-256 of all that makes features of an image: weights, the network's
            options, preprocessing; zeros: the weights are random.
    """

    def __init__(self, config: Any, checkpoint: str | None = None, test_cfg: dict | None = None):
        self.config = read_config(config)
        if test_cfg is not None:
            self.config['model']['test_cfg'] = plain(test_cfg)
        self.config['model']['test_cfg'] = _checked_test_cfg(self.config['model'].get('test_cfg'))
        import_modules_of(self.config)
        model = MODELS.build(ConfigDict(self.config['model']))
        self.network: Any = revert_sync_batchnorm(model).eval()
        self.source: str | None = None
        self.meta: dict = {}
        self.digest = torch.zeros(32, dtype=torch.uint8)
        if checkpoint is not None:
            try:
                weights, self.meta = read_checkpoint(checkpoint)
            except FileNotFoundError as error:
                raise FileNotFoundError(
                    f"model.segmentor.checkpoint: '{checkpoint}', the segmentor's weights, is not "
                    'there'
                ) from error
            self.load(weights, checkpoint)

    @property
    def loaded(self) -> bool:
        return bool(self.digest.any())

    def load(self, weights: dict[str, Tensor], source: str | None = None) -> None:
        """Take all weights, under mmseg's names; those of an auxiliary head are not needed.

        Raises:
            RuntimeError: a weight is missing, unknown or of another shape; it is named.
            ValueError: a weight is NaN; it is named.
        """
        require_numbers(weights, source)
        load_whole(self.network, _own(weights), 'segmentor', f"The checkpoint '{source}'")
        self.source = absolute(source)
        parts = dict(
            weights=digest_of(self.network.state_dict()),
            options=options_of_features(self.config['model']),
            preprocessing=preprocessing_of(self.network.data_preprocessor),
        )
        del parts['preprocessing']['test_cfg']  # D serves other paddings too
        digest = hashlib.sha256(json_bytes(parts)).digest()
        self.digest = torch.tensor(list(digest), dtype=torch.uint8)

    def holds(self, weights: dict[str, Tensor]) -> bool:
        """Whether the weights given are those that are loaded."""
        own = self.network.state_dict()
        return all(
            key in own and torch.equal(own[key].cpu(), value.cpu())
            for key, value in _own(weights).items()
        )


def options_of_features(config: Any) -> Any:
    """What features depend on in a network's config, whichever way the config is written."""
    if isinstance(config, (list, tuple)):
        return [options_of_features(item) for item in config]
    if not isinstance(config, dict):
        return config
    found = {
        key: options_of_features(value)
        for key, value in sorted(config.items())
        if key not in _BESIDE_FEATURES and not _BESIDE_FEATURES_LIKE.fullmatch(key)
    }
    if isinstance(found.get('type'), str):
        part = MODELS.get(found['type'])  # of either style of config
        name = getattr(part, '__name__', found['type'])
        if name != 'Upsample':  # 'nearest' and 'bilinear' are both
            found['type'] = 'BatchNorm2d' if name == 'SyncBatchNorm' else name
    return found


def preprocessing_of(preprocessor: Any) -> dict:
    """What is done to an image before the network reads it, as plain values."""
    found: dict = dict(type=type(preprocessor).__name__)
    for name in ('mean', 'std', 'channel_conversion', 'test_cfg'):
        value = getattr(preprocessor, name, None)
        found[name] = value.flatten().tolist() if isinstance(value, Tensor) else value
    return found


def _checked_test_cfg(test_cfg: dict | None) -> dict:
    """``test_cfg`` of whole images, or of windows that cover them; else a ValueError."""
    found = dict(test_cfg or dict(mode='whole'))
    mode = found.setdefault('mode', 'whole')
    if mode not in ('whole', 'slide'):
        raise ValueError(f"model.test_cfg.mode: wanted 'whole' or 'slide', found {mode!r}")
    crop = found.get('crop_size')
    stride = found.get('stride')
    if mode == 'slide' and not (_is_size(crop) and _is_size(stride) and _fits(stride, crop)):
        raise ValueError(
            'model.test_cfg: wanted crop_size=(rows, columns) and a stride=(rows, columns) not '
            f'above it, found crop_size={crop} and stride={stride}'
        )
    return found


def _is_size(value: Any) -> bool:
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    return is_pair and all(isinstance(one, int) and one > 0 for one in value)


def _fits(stride: Any, crop: Any) -> bool:
    return stride[0] <= crop[0] and stride[1] <= crop[1]


def part_of(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What lies under ``prefix`` in a state dict, without it."""
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


def require_numbers(state: dict[str, Tensor], source: str | None) -> None:
    """Raise a ValueError where weights of a checkpoint are NaN."""
    wrong = [key for key, value in state.items() if value.isnan().any()]
    if wrong:
        raise ValueError(
            f"'{source}': wanted numbers as weights, found NaN in {', '.join(wrong[:5])} "
            f'({len(wrong)} in all)'
        )


def _own(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {key.removeprefix('module.'): value for key, value in weights.items()}
    return {key: value for key, value in found.items() if not key.startswith('auxiliary_head.')}


def load_whole(network: nn.Module, state: dict[str, Tensor], name: str, source: str) -> None:
    """Load all weights of a network; ``name`` and ``source`` say in an error what did not fit.

    Raises:
        RuntimeError: a weight is missing, unknown or of another shape; it is named.
    """
    try:
        missing, unknown = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise RuntimeError(f'{source} does not fit the {name}. {error}') from error
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    found = ''
    for what, keys in (('unknown to the model', unknown), ('missing in the checkpoint', missing)):
        if keys:
            found += f' {what}: {", ".join(keys[:5])} ({len(keys)} in all).'
    if found:
        raise RuntimeError(
            f'{source} does not fit the {name}, which would stay partly random.{found}'
        )


def read_checkpoint(source: str) -> tuple[dict[str, Tensor], dict]:
    """The state dict and the meta information of a checkpoint file or URL."""
    checkpoint = CheckpointLoader.load_checkpoint(source, map_location='cpu')
    if 'state_dict' not in checkpoint:
        return checkpoint, {}
    return checkpoint['state_dict'], checkpoint.get('meta') or {}


def noted_segmentor(meta: dict) -> dict:
    """What the meta of D's checkpoint says of its segmentor: ``config``, ``checkpoint``,
    ``sha256``.
    """
    return meta.get(OPENGAN, {}).get('segmentor', {})


def digest_of(state: dict[str, Tensor]) -> str:
    """SHA-256 of names and values, in hexadecimal, whatever their order and device."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def absolute(source: str | None) -> str | None:
    """A local file's full path, so that a checkpoint finds it from any folder; URLs stay."""
    return os.path.abspath(source) if source and '://' not in source else source
