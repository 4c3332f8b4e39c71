"""One file for a colleague: network, segmentor, D, scorers, what validation decided, classes.

It holds tensors and plain values only, and needs neither configs nor data nor label modules.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from mmseg.registry import MODELS
from torch import nn

from ..contracts import OPENGAN
from ..evaluation.evaluation_hook import OPEN_VALIDATION
from ..files import as_json, replacing
from ..models.frozen_segmentor import import_modules_of, plain, require_numbers
from ..models.safe_types import require_registered_types
from ..models.scorers.fused_scorers import whole_config

_BUNDLE = 'bundle'


def write_bundle(path: str | Path, inferencer, decisions: dict | None) -> None:
    """Write an inferencer as one file, whole or not at all.

    Args:
        path: the file, ``.pth``.
        inferencer: of the model.
        decisions: of ``inferencer.decisions()``; None: the bundle has no thresholds.

    Raises:
        ValueError: another suffix, or a config that is more than plain values.
    """
    if Path(path).suffix != '.pth':
        raise ValueError(f"bundle: wanted a file that ends in .pth, found '{path}'")
    model = inferencer.model
    described = plain(inferencer.cfg.model)
    held = dict(model.held.config, custom_imports=_imports(model.held.config, inferencer))
    described['segmentor'] = dict(config=held, checkpoint=None)
    described['scorers'] = {
        name: scorer_config(described['scorers'][name], one) for name, one in model.scorers.items()
    }
    parts = dict(
        model=described,
        custom_imports=_imports(inferencer.cfg, inferencer),
        test_pipeline=inferencer.reader.steps,
    )
    meta = {_BUNDLE: parts}
    if decisions is not None:
        meta[OPEN_VALIDATION] = as_json(decisions)
    palette = [list(colour) for colour in inferencer.palette]
    dataset = dict(classes=list(inferencer.classes), palette=palette)
    content = dict(
        state_dict=model.state_dict(),
        segmentor=model.segmentor.state_dict(),
        meta={OPENGAN: meta, 'dataset_meta': dataset},
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        torch.save(content, file)


def read_bundle(path: str) -> tuple[Config, Any, dict] | None:
    """(config, model with its weights, meta information) of a bundle; None of another
    checkpoint.
    """
    content = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    meta = content.get('meta') or {}
    parts = meta.get(OPENGAN, {}).get(_BUNDLE)
    if parts is None:
        return None
    held = parts['model'].get('segmentor') or {}
    import_modules_of(parts, held.get('config') or {})
    require_registered_types(parts, path)
    init_default_scope('mmseg')
    model: Any = MODELS.build(parts['model'])
    require_numbers(content['state_dict'], path)
    model.load_segmentor(content['segmentor'], path)
    model.load_state_dict(content['state_dict'])
    return Config(parts), model, meta


def scorer_config(config: dict, scorer: nn.Module) -> dict:
    """The config of a scorer whose state lies beside it, with the options that were learned."""
    options = {
        name: value for name, value in scorer.options().items() if not isinstance(value, nn.Module)
    }
    return {**whole_config(config, scorer), **plain(options)}


def _imports(config: Mapping, inferencer) -> dict:
    """``custom_imports`` with the modules of a config that define a part of the network, a scorer
    or a step; data and labels are not.
    """
    imports = plain(config.get('custom_imports') or {}).get('imports', [])
    imports = [imports] if isinstance(imports, str) else imports
    model = inferencer.model
    used = [*model.modules(), *model.segmentor.modules(), *inferencer.reader.transforms]
    homes = {type(one).__module__ for one in used}
    needed = [name for name in imports if any(f'{home}.'.startswith(f'{name}.') for home in homes)]
    return dict(imports=needed)
