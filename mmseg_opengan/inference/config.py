"""What the inferencer needs to know of configs and checkpoints: scorers, classes, the pipeline."""

import ast
import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from torch import nn

from ..contracts import HYBRID, OPENGAN
from ..datasets.open_set_folder import made_up_palette
from ..models.frozen_segmentor import (
    import_modules_of,
    noted_segmentor,
    read_checkpoint,
    read_config,
    require_numbers,
)
from ..models.safe_types import require_registered_types
from ..models.scorers.base import SCORERS
from ..shipped import read_config_file
from .bundle import read_bundle

#: Data set wrappers keep the images' data set under one of these names.
_INNER = ('images', 'dataset', 'datasets')


def config_in(checkpoint: str) -> Config:
    """The config of a training, from the checkpoint that it wrote.

    Raises:
        ValueError: the checkpoint does not hold one.
    """
    meta = read_checkpoint(checkpoint)[1]
    segmentor = noted_segmentor(meta)
    if not meta.get('cfg') or not segmentor:
        raise ValueError(
            f"'{checkpoint}': wanted a checkpoint that OpenGAN training wrote, which holds its "
            f'config, '
            'found none in it. Give the config too.'
        )
    cfg = _config_of_text(meta['cfg'], checkpoint)
    cfg.model.segmentor = dict(config=segmentor['config'], checkpoint=segmentor['checkpoint'])
    import_modules_of(cfg, segmentor['config'])
    require_registered_types(cfg.to_dict(), checkpoint)
    return cfg


def _config_of_text(text: str, checkpoint: str) -> Config:
    """The config that training wrote into its checkpoint, read and not run: a file from elsewhere
    may hold any text.
    """
    values = {}
    try:
        for line in _DictCalls().visit(ast.parse(text)).body:
            if not isinstance(line, ast.Assign) or not isinstance(line.targets[0], ast.Name):
                raise ValueError(f'line {line.lineno} is more than NAME = VALUE')
            values[line.targets[0].id] = ast.literal_eval(line.value)
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"'{checkpoint}': wanted a config of plain values in it, found {error}. Give the "
            'config too.'
        ) from error
    return Config(values)


class _DictCalls(ast.NodeTransformer):
    """Writes ``dict(a=1)`` as ``{'a': 1}``, which is a literal; other calls stay."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        names = [one.arg for one in node.keywords]
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict' or node.args:
            return node
        if None in names:
            return node
        return ast.Dict(
            [ast.Constant(name) for name in names], [one.value for one in node.keywords]
        )


def find_segmentor(cfg: Config, checkpoint: str) -> None:
    """Where a config does not say where the segmentor's weights lie, take them from where D's
    checkpoint says.
    """
    segmentor = cfg.model.get('segmentor')
    if segmentor is not None and segmentor.get('checkpoint') is None:
        segmentor.checkpoint = noted_segmentor(read_checkpoint(checkpoint)[1]).get('checkpoint')


def scorer_configs(scorers: Sequence[str], own: dict[str, dict]) -> dict[str, dict]:
    """Configs by name. A name means the scorer of the config, ``own``, or else that of the
    registry, in any case.

    ``opengan``, the discriminator's, and ``hybrid`` may be named too.

    Raises:
        ValueError: no such scorer.
    """
    known = {name.lower(): name for name in SCORERS.module_dict}
    found, unknown = {}, []
    for name in scorers:
        if name in own:
            found[name] = own[name]
        elif name in (OPENGAN, HYBRID):  # D's, and that of model.fuse
            continue
        elif name.lower() in known:
            found[name] = dict(type=known[name.lower()])
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(f'scorers: wanted some of {sorted({*known, *own})}, found {unknown}')
    return found


def _test_dataset(cfg: Config) -> dict:
    """The config of the test images, inside whatever wraps them; empty where there is none."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    while not dataset.get('pipeline'):
        inner = next((dataset[key] for key in _INNER if dataset.get(key)), None)
        if inner is None:
            break
        dataset = inner[0] if isinstance(inner, (list, tuple)) else inner
    return dataset


def test_pipeline(cfg: Config) -> list[dict]:
    """The steps that prepare a test image: the test data's, or ``test_pipeline``; else load and
    pack.
    """
    steps = _test_dataset(cfg).get('pipeline') or cfg.get('test_pipeline')
    return steps or [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]


def classes_of(cfg: Config, meta: dict, model) -> tuple[tuple[str, ...], list[tuple[int, ...]]]:
    """Names and colours of a model's closed classes, read where mmseg's own tools read them.

    In this order: the checkpoint's ``dataset_meta``, its ``CLASSES``, the data set's ``metainfo``,
    its class. Where none has them, classes are numbered; missing colours are made up.

    Raises:
        ValueError: another number of names than of classes.
    """
    largest = model.head.num_classes
    smallest = largest - model.has_open_class
    dataset = _test_dataset(cfg)
    kind = dataset.get('type')
    if isinstance(kind, str):
        kind = DATASETS.get(kind)
    upper = {key.lower(): meta[key] for key in ('CLASSES', 'PALETTE') if meta.get(key)}
    of_class = getattr(kind, 'METAINFO', None)
    for found in (meta.get('dataset_meta'), upper, dataset.get('metainfo'), of_class):
        classes = (found or {}).get('classes')
        if not classes:
            continue
        if not smallest <= len(classes) <= largest:
            raise ValueError(
                f'classes: wanted a name for each of the {smallest} classes of the network, found '
                f"{len(classes)}: {', '.join(classes)}. They are those of the checkpoint's "
                "dataset_meta, or else of test_dataloader's dataset (metainfo=dict(classes=...))."
            )
        palette = found.get('palette') or made_up_palette(len(classes))
        return tuple(classes), [tuple(colour) for colour in palette]
    return tuple(f'class {i}' for i in range(largest)), made_up_palette(largest)


def load_model(
    config: str | Path | Config,
    checkpoint: str | None,
    *,
    scorers: Sequence[str] | None = None,
    cfg_options: Mapping | None = None,
    segmentor_checkpoint: str | Path | None = None,
) -> tuple[Config, Any, dict, str]:
    """The model of a config and its checkpoint, of D's checkpoint alone, or of a bundle; see
    :class:`OpenSetInferencer` for the arguments and errors.

    Returns:
        tuple: config, model with all its weights, meta information of the checkpoint, and the file
            of the weights.
    """
    if checkpoint is None and isinstance(config, (str, Path)) and Path(config).suffix == '.pth':
        checkpoint = str(config)
        bundle = read_bundle(checkpoint)
        if bundle is not None:
            if cfg_options is not None or segmentor_checkpoint is not None:
                raise ValueError(
                    'a bundle has its model whole: wanted no cfg_options and no '
                    'segmentor_checkpoint'
                )
            cfg, model, meta = bundle
            if scorers is not None:
                _choose_scorers(model, scorers)
            return cfg, model, meta, checkpoint
        config = config_in(checkpoint)
    if isinstance(config, Config):
        cfg = copy.deepcopy(config)
    else:
        cfg = read_config_file(config)
    weights = checkpoint
    if 'segmentor' not in cfg.model:
        if checkpoint is None:
            raise ValueError('checkpoint: wanted the weights of the segmentor, found None')
        held = dict(config=read_config(cfg), checkpoint=checkpoint)
        cfg.model = dict(type='OpenGANSegmentor', segmentor=held)
        weights = None
        scorers = scorers or ('msp', 'entropy')
    cfg.merge_from_dict({'model.resolution': 'image'})
    cfg.merge_from_dict(dict(cfg_options or {}))
    if segmentor_checkpoint is not None:
        cfg.model.segmentor.checkpoint = str(segmentor_checkpoint)
    elif weights is not None:
        find_segmentor(cfg, weights)
    if scorers is not None:
        cfg.model.scorers = scorer_configs(scorers, cfg.model.get('scorers') or {})
    cfg.model.generator = None  # only training needs it
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    model, meta = _trained_model(cfg, weights)
    return cfg, model, meta, checkpoint or str(cfg.model.segmentor.checkpoint)


def _choose_scorers(model, names: Sequence[str]) -> None:
    """Leave the named scorers in a bundle's model, in the order of the names."""
    unknown = sorted(set(names) - set(model.score_names))
    if unknown:
        wanted = tuple(model.score_names)
        raise ValueError(f'scorers: wanted some of {wanted}, which the bundle has, found {unknown}')
    chosen = {name: model.scorers[name] for name in names if name in model.scorers}
    model.scorers = nn.ModuleDict(chosen).eval()


def _trained_model(cfg: Config, checkpoint: str | None) -> tuple:
    """The config's model with all its weights, and the checkpoint's meta information."""
    model = MODELS.build(cfg.model)
    if checkpoint is None:
        model.check_segmentor()
        if model.discriminator is not None:
            raise RuntimeError(
                'The discriminator has random weights. Give a checkpoint that OpenGAN '
                'training wrote, or set model.discriminator=None to use the other scorers alone.'
            )
        return model, model.held.meta
    weights, meta = read_checkpoint(checkpoint)
    state = {key.removeprefix('module.'): value for key, value in weights.items()}
    require_numbers(state, checkpoint)
    model.load_state_dict(state, strict=False)
    model.check_segmentor()
    return model, meta
