"""Images, folders, arrays or videos in; label maps, open-set score maps and pictures out.

    inferencer = OpenSetInferencer('config.py', 'checkpoint.pth')
    result = inferencer('street.jpg')[0]
    result.labels, result.scores['opengan'], result.picture

Shapes: an image has H x W pixels at its original size, before any resizing of the pipeline.
"""

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from mmengine.utils import ProgressBar
from mmseg.registry import DATASETS, MODELS, TRANSFORMS

from .. import register  # noqa: F401
from ..contracts import CLOSED, GT_OPEN_MAP, OPEN_SCORES, OPENGAN, VOID
from ..datasets.transforms import require_whole_images
from ..evaluation.evaluation_hook import OPEN_VALIDATION
from ..evaluation.open_validation import decisions_of
from ..features.stored_taps import images_of
from ..functional.decisions import is_rule
from ..functional.detection import resolve_threshold
from ..functional.overlay import LogitThreshold
from ..functional.pixels import labels_on_grid
from ..functional.score_counts import ScoreCounts
from ..models.frozen_segmentor import plain
from ..pictures.visualizer import panel_fields
from ..shipped import read_config_file
from .config import (
    DEFAULT_SCORERS,
    classes_of,
    config_in,
    find_segmentor,
    open_set_config,
    scorer_configs,
    test_pipeline,
)
from .results import OpenSetResult, check_out_dir, list_inputs

Inputs = str | Path | np.ndarray | Sequence[str | Path | np.ndarray] | BaseDataset
#: The data loader whose dataset a split of the config means.
SPLITS = {'test': 'test_dataloader', 'open_val': 'val_dataloader'}


class OpenSetInferencer:
    """A trained model, ready for images: the scores are those of ``tools/test.py``.

    Score maps come at the image's original size (``model.resolution='image'``) unless
    ``cfg_options`` says ``{'model.resolution': 'feature'}``, the un-resized maps of the paper's
    evaluation.

    Without any training, a plain config of mmseg and its checkpoint give the scores that need
    none::

        OpenSetInferencer('my_segmentor.py', 'my_segmentor.pth', scorers=['energy', 'entropy'])

    Args:
        config: config file or Config, of an open-set model or of a plain mmseg model. Its test
            pipeline prepares the images. A checkpoint of D (``.pth``) knows its config, and may
            stand here alone.
        checkpoint: what training wrote (D and G only; the segmentor is found through the config),
            or the segmentor's weights where there is no D.
        scorers: scores to give beside D's: names (those of the config, or of the registry in any
            case: ``'energy'``) or configs by name. None: those of the config; of a plain config,
            MSP and entropy.
        device: e.g. ``'cpu'``, ``'cuda:1'``; None takes an accelerator where there is one.
        cfg_options: overrides of the config, keys with dots.
        segmentor_checkpoint: where the frozen segmentor's weights lie, if no longer where the
            config says.

    Raises:
        FileNotFoundError: the config or a checkpoint is missing.
        RuntimeError: a checkpoint does not fit the model, or would leave a part of it random.
        ValueError: a test pipeline that does not begin with ``LoadImageFromFile``, or an unknown
            scorer.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        *,
        scorers: Sequence[str] | Mapping[str, dict] | None = None,
        device: str | None = None,
        cfg_options: Mapping | None = None,
        segmentor_checkpoint: str | Path | None = None,
    ):
        if checkpoint is None and isinstance(config, (str, Path)) and Path(config).suffix == '.pth':
            config, checkpoint = config_in(str(config)), config
        self.cfg = copy.deepcopy(config) if isinstance(config, Config) else read_config_file(config)
        if 'segmentor' not in self.cfg.model:
            self.cfg = open_set_config(self.cfg, checkpoint)
            checkpoint = None
            scorers = scorers or DEFAULT_SCORERS
        self.cfg.merge_from_dict({'model.resolution': 'image'})
        self.cfg.merge_from_dict(dict(cfg_options or {}))
        segmentor = self.cfg.model.segmentor
        if segmentor_checkpoint is not None:
            segmentor.checkpoint = str(segmentor_checkpoint)
        elif checkpoint is not None:
            find_segmentor(self.cfg, str(checkpoint))
        if scorers is not None:
            self.cfg.model.scorers = scorer_configs(scorers, self.cfg.model.get('scorers') or {})
        self.cfg.model.generator = None  # only training needs it
        init_default_scope(self.cfg.get('default_scope', 'mmseg'))
        self._load, self._prepare = _pipeline(self.cfg)
        self.model, meta = _trained_model(self.cfg, None if checkpoint is None else str(checkpoint))
        self.model.to(device or get_device()).eval()
        stored = decisions_of(
            meta.get(OPENGAN, {}).get(OPEN_VALIDATION),
            self.model.resolution,
            self.model.test_cfg.get('mode', 'whole'),
            self.model.smoothing,
        )
        self._thresholds = (
            dict(stored[OPENGAN].thresholds) if OPENGAN in stored else {}
        )  # rule -> open logit
        self.classes, self.palette = classes_of(self.cfg, meta, self.model.head.num_classes)

    @property
    def scorers(self) -> dict[str, bool]:
        """Names of the model's score maps, and whether each is an open logit, to which a sigmoid
        applies.
        """
        return dict(sorted(self.model.score_names.items()))

    def threshold(self, rule: str) -> float:
        """The open logit at and above which a pixel is called open, by a rule on the open
        validation set.

        Args:
            rule: ``'fpr=0.05'``, ``'tpr=0.95'`` or ``'f1'``, with any rate. The checkpoint holds
                these three for the resolution at which training validated; for another, the
                config's open validation set is run once.

        Raises:
            ValueError: no such rule, or no discriminator whose open logits it could apply to.
        """
        if getattr(self.model, 'discriminator', None) is None:
            raise ValueError(
                f"thresholds: the rule '{rule}' needs a discriminator's open logits, found none"
            )
        if rule not in self._thresholds:
            counts = ScoreCounts(num_open_classes=1)
            for _, _, sample in self._results(list_inputs(self.dataset('open_val'))[1], 1):
                scores, open_map = (
                    sample.get(OPEN_SCORES).get(OPENGAN)[0],
                    sample.get(GT_OPEN_MAP).data[0],
                )
                labels = (
                    open_map
                    if scores.shape == open_map.shape
                    else labels_on_grid(open_map, scores.shape)
                )
                labels = torch.where(labels == VOID, VOID, (labels != CLOSED).to(labels))
                counts.update(scores, labels.to(scores.device))
            self._thresholds[rule] = resolve_threshold(rule, counts.bins())
        return self._thresholds[rule]

    def dataset(self, split: str) -> BaseDataset:
        """The dataset on which the config tests (``'test'``) or validates (``'open_val'``), as an
        input.
        """
        if split not in SPLITS:
            raise ValueError(f'split: wanted one of {tuple(SPLITS)}, found {split!r}')
        return DATASETS.build(images_of(self.cfg[SPLITS[split]].dataset))

    def __call__(
        self,
        inputs: Inputs,
        *,
        batch_size: int = 1,
        out_dir: str | Path | None = None,
        save_scores: bool = True,
        save_pictures: bool = True,
        show_progress: bool = True,
        **options,
    ) -> list[OpenSetResult] | list[dict[str, Path]]:
        """Results of all inputs; with ``out_dir`` they go to files, and memory does not grow with
        their number.

        Args:
            inputs: path of an image, a folder (with the folders in it) or a video; a BGR array (H,
                W, 3) uint8; a list of image paths or arrays; a dataset, whose ground truth is then
                drawn too.
            batch_size: images that are read and, where they are of one size, run together.
            out_dir: folder for the files of :meth:`OpenSetResult.save`.
            save_scores: write score maps (``.npy`` and 16-bit ``.png``).
            save_pictures: write the panels.
            show_progress: show a progress bar on stderr.
            **options: ``scorers``, ``thresholds`` and ``limit`` of :meth:`stream`.

        Returns:
            One :class:`OpenSetResult` for each image; with ``out_dir``, its files by what they
            hold.

        Raises:
            FileNotFoundError: an input is missing.
            ValueError, TypeError: an input that cannot be read, an empty folder, two images of one
                name, or an ``out_dir`` in which outputs would mix with inputs.
        """
        total, results = self._open(inputs, batch_size=batch_size, out_dir=out_dir, **options)
        progress = ProgressBar(total, file=sys.stderr) if show_progress else None
        found = []
        for result in results:
            found.append(
                result
                if out_dir is None
                else result.save(out_dir, scores=save_scores, picture=save_pictures)
            )
            if progress is not None:
                progress.update()
        if progress is not None:
            progress.file.write('\n')
        return found

    def stream(
        self,
        inputs: Inputs,
        *,
        batch_size: int = 1,
        scorers: Sequence[str] | None = None,
        thresholds: Sequence[float | str] = (0.6, 0.7, 0.8, 0.9),
        limit: int | None = None,
    ) -> Iterator[OpenSetResult]:
        """Results one by one, in the order of the inputs; no more than a batch is in memory.

        Args:
            inputs, batch_size: as in :meth:`__call__`.
            scorers: names of the score maps to give; None gives all.
            thresholds: probabilities of open above which the pictures whiten a pixel; or rules such
                as ``'fpr=0.05'``, resolved on open validation, see :meth:`threshold`.
            limit: stop after so many images.
        """
        return self._open(
            inputs, batch_size=batch_size, scorers=scorers, thresholds=thresholds, limit=limit
        )[1]

    def _open(
        self,
        inputs,
        *,
        batch_size,
        out_dir=None,
        scorers=None,
        thresholds=(0.6, 0.7, 0.8, 0.9),
        limit=None,
    ):
        """(number of images or 0 if unknown, iterator of results); raises what can be known before
        the first image.
        """
        unknown = sorted(set(scorers or ()) - set(self.scorers))
        if unknown:
            raise ValueError(f'scorers: wanted some of {tuple(self.scorers)}, found {unknown}')
        for name, value in (('batch_size', batch_size), ('limit', 1 if limit is None else limit)):
            if value < 1:
                raise ValueError(f'{name}: wanted at least 1, found {value}')
        total, entries = list_inputs(inputs)
        if out_dir is not None:
            check_out_dir(out_dir, inputs)
        total = total if limit is None else min(limit, total)
        thresholds = [
            LogitThreshold(self.threshold(one)) if is_rule(one) else float(one)
            for one in thresholds
        ]
        results = self._results(islice(entries, limit), batch_size)
        return total, (
            self._finish(*result, scorers or tuple(self.scorers), thresholds) for result in results
        )

    def _results(self, entries, batch_size):
        """(name, RGB image, data sample) of every entry, in order."""
        while batch := [
            (name, *self._read(name, source)) for name, source in islice(entries, batch_size)
        ]:
            # only images of one size share a forward pass: padding would change the scores
            sizes = {}
            for i, (_, _, packed) in enumerate(batch):
                sizes.setdefault(packed['inputs'].shape, []).append(i)
            samples = {}
            for places in sizes.values():
                packed = [batch[i][2] for i in places]
                with torch.no_grad():
                    found = self.model.test_step(
                        {key: [one[key] for one in packed] for key in packed[0]}
                    )
                samples.update(zip(places, found))
            for i, (name, image, _) in enumerate(batch):
                yield name, image, samples[i]

    def _read(self, name, source):
        """(RGB image (H, W, 3) uint8, network input and data sample) of a path, an array, or
        (dataset, index).
        """
        if isinstance(source, tuple):
            dataset, index = source
            packed = dataset[index]
            return mmcv.imread(
                dataset.get_data_info(index)['img_path'], channel_order='rgb'
            ), packed
        try:
            loaded = self._load(source)
        except (AssertionError, cv2.error) as error:
            # mmcv asserts that a file could be decoded, and OpenCV fails on an empty one without
            # naming it.
            raise ValueError(
                f"Image '{source}' cannot be decoded: wanted an image file, found "
                f'{Path(source).stat().st_size} bytes that OpenCV cannot read.'
            ) from error
        image = np.ascontiguousarray(loaded['img'][..., ::-1], np.uint8)
        return image, self._prepare({**loaded, 'img_path': loaded['img_path'] or name})

    def _finish(self, name, image, sample, scorers, thresholds) -> OpenSetResult:
        fields = panel_fields(sample)
        scores = {scorer: fields['scores'][scorer] for scorer in scorers}
        return OpenSetResult(
            name=name,
            image=image,
            labels=fields['pred'].astype(np.uint8),
            scores=scores,
            logits=frozenset(scorer for scorer in scorers if self.scorers[scorer]),
            panel=dict(
                gt=fields.get('gt'),
                open_map=fields.get('open_map'),
                classes=self.classes,
                palette=self.palette,
                thresholds=thresholds,
            ),
        )


def _pipeline(cfg: Config) -> tuple:
    """The test pipeline without its labels: what loads a path or an array, and the steps after
    it.
    """
    steps = [plain(step) for step in test_pipeline(cfg)]
    names = [step['type'].rsplit('.', 1)[-1] for step in steps]
    steps = [step for step, name in zip(steps, names) if 'Annotation' not in name]
    if not steps or names[0] != 'LoadImageFromFile':
        raise ValueError(
            "test_dataloader.dataset.pipeline: wanted 'LoadImageFromFile' as its first step, found "
            f'{names}'
        )
    prepare = Compose(steps[1:])
    require_whole_images(prepare.transforms, 'test_dataloader.dataset.pipeline')
    return TRANSFORMS.build({**steps[0], 'type': 'InferencerLoader'}), prepare


def _trained_model(cfg: Config, checkpoint: str | None) -> tuple:
    """The config's model with all its weights, and the checkpoint's meta information."""
    model = MODELS.build(cfg.model)
    if checkpoint is None:
        model.check_segmentor()
        if model.discriminator is not None:
            raise RuntimeError(
                'The discriminator has random weights. Give a checkpoint that OpenGAN '
                'training wrote, '
                'or set model.discriminator=None to use the other scorers alone.'
            )
        return model, model.held.meta
    content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    state = {
        key.removeprefix('module.'): value
        for key, value in content.get('state_dict', content).items()
    }
    model.load_state_dict(state, strict=False)
    model.check_segmentor()
    return model, content.get('meta', {})
