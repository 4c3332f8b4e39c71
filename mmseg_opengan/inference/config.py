"""What the inferencer needs to know of configs and checkpoints: scorers, classes, the pipeline."""

from collections.abc import Mapping, Sequence

from mmengine.config import Config
from mmseg.registry import DATASETS

from ..contracts import HYBRID, OPENGAN
from ..datasets.open_set_folder import made_up_palette
from ..models.frozen_segmentor import noted_segmentor, read_checkpoint, read_config
from ..models.scorers.base import SCORERS

#: Scores of a plain model where none are asked for.
DEFAULT_SCORERS = ('msp', 'entropy')
#: Data set wrappers keep the images' data set under one of these names.
_INNER = ('images', 'dataset', 'datasets')


def read_meta(checkpoint: str) -> dict:
    """The meta information of a checkpoint; empty where it has none."""
    return read_checkpoint(checkpoint)[1]


def config_in(checkpoint: str) -> Config:
    """The config of a training, from the checkpoint that it wrote.

    Raises:
        ValueError: the checkpoint does not hold one.
    """
    meta = read_meta(checkpoint)
    segmentor = noted_segmentor(meta)
    if not meta.get('cfg') or not segmentor:
        raise ValueError(
            f"'{checkpoint}': wanted a checkpoint that OpenGAN training wrote, which holds its "
            f'config, '
            'found none in it. Give the config too.'
        )
    cfg = Config.fromstring(meta['cfg'], '.py')
    cfg.model.segmentor = dict(config=segmentor['config'], checkpoint=segmentor['checkpoint'])
    return cfg


def find_segmentor(cfg: Config, checkpoint: str) -> None:
    """Where a config does not say where the segmentor's weights lie, take them from where D's
    checkpoint says.
    """
    segmentor = cfg.model.get('segmentor')
    if segmentor is not None and segmentor.get('checkpoint') is None:
        segmentor.checkpoint = noted_segmentor(read_meta(checkpoint)).get('checkpoint')


def open_set_config(cfg: Config, checkpoint) -> Config:
    """The config of an open-set model, without D, on a plain mmseg model and its weights.

    Raises:
        ValueError: no checkpoint.
    """
    if checkpoint is None:
        raise ValueError('checkpoint: wanted the weights of the segmentor, found None')
    kept = ('default_scope', 'custom_imports', 'test_dataloader', 'test_pipeline', 'val_dataloader')
    wrapped = {key: cfg[key] for key in kept if cfg.get(key) is not None}
    held = dict(config=read_config(cfg), checkpoint=str(checkpoint))
    wrapped['model'] = dict(type='OpenGANSegmentor', segmentor=held, resolution='image')
    return Config(wrapped)


def scorer_configs(
    scorers: Sequence[str] | Mapping[str, dict], own: Mapping[str, dict]
) -> dict[str, dict]:
    """Configs by name. A name means the scorer of the config, ``own``, or else that of the
    registry, in any case.

    ``opengan``, the discriminator's, and ``hybrid`` may be named too.

    Raises:
        ValueError: no such scorer.
    """
    if isinstance(scorers, Mapping):
        return dict(scorers)
    known = {name.lower(): name for name in SCORERS.module_dict}
    found, unknown = {}, []
    for name in scorers:
        if name in own:
            found[name] = own[name]
        elif name.lower() in known:
            found[name] = dict(type=known[name.lower()])
        elif name not in (OPENGAN, HYBRID):
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


def classes_of(
    cfg: Config, meta: dict, number: int
) -> tuple[tuple[str, ...], list[tuple[int, ...]]]:
    """Names and colours of the closed classes, read where mmseg's own tools read them.

    In this order: the checkpoint's ``dataset_meta``, its ``CLASSES``, the data set's ``metainfo``,
    its class. Where none has them, classes are numbered; missing colours are made up.
    """
    dataset = _test_dataset(cfg)
    kind = (
        DATASETS.get(dataset['type'])
        if isinstance(dataset.get('type'), str)
        else dataset.get('type')
    )
    upper = {key.lower(): meta[key] for key in ('CLASSES', 'PALETTE') if meta.get(key)}
    for found in (
        meta.get('dataset_meta'),
        upper,
        dataset.get('metainfo'),
        getattr(kind, 'METAINFO', None),
    ):
        classes = (found or {}).get('classes')
        if classes:
            palette = found.get('palette') or made_up_palette(len(classes))
            return tuple(classes), [tuple(colour) for colour in palette]
    return tuple(f'class {i}' for i in range(number)), made_up_palette(number)
