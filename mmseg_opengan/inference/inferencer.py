"""Images, folders, arrays or videos in; label maps, open-set score maps and pictures out.

    inferencer = OpenSetInferencer('config.py', 'checkpoint.pth')
    result = inferencer('street.jpg')[0]
    result.labels, result.scores['opengan'], result.picture

Shapes: an image has H x W pixels at its original size, before any resizing of the pipeline.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from tqdm import tqdm

from .. import register  # noqa: F401
from ..contracts import HYBRID, OPENGAN
from ..evaluation.decided import DATA_ERRORS, RULES, OpenValidation, build_data
from ..evaluation.evaluation_hook import OPEN_VALIDATION
from ..features.stored_taps import images_of
from ..files import label_type
from ..functional.calibration import Calibration
from ..functional.decisions import Decisions, is_rule, plain_rule
from ..models.fusion import main_score
from ..pictures.overlay import LogitThreshold, robust_range
from ..pictures.visualizer import panel_fields
from .config import classes_of, load_model, test_pipeline
from .inputs import Inputs, check_outputs, list_inputs
from .reading import ImageReader
from .results import OpenSetResult
from .video import video_writer

#: The data loader whose dataset a split of the config means.
SPLITS = {'test': 'test_dataloader', 'open_val': 'val_dataloader'}
#: Probabilities of open that panels show where the score is an open logit (the paper's).
PROBABILITIES = (0.6, 0.7, 0.8, 0.9)


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
            stand here alone; so may a bundle, the one file that ``tools/bundle.py`` writes.
        checkpoint: what training wrote (D and G only; the segmentor is found through the config),
            or the segmentor's weights where there is no D.
        scorers: names of the scores to give beside D's: those of the config, or of the registry in
            any case: ``'energy'``. None: those of the config; of a plain config, MSP and entropy.
        device: e.g. ``'cpu'``, ``'cuda:1'``; None takes an accelerator where there is one.
        cfg_options: overrides of the config, keys with dots.
        segmentor_checkpoint: the segmentor's weights, if no longer where the config says.
        font: file (``.ttf``, ``.otf``) for class names whose letters the usual one lacks.

    Raises:
        FileNotFoundError: the config or a checkpoint is missing.
        RuntimeError: a checkpoint does not fit the model, or would leave a part of it random.
        ValueError: a test pipeline that does not begin with ``LoadImageFromFile``, an unknown
            scorer, weights that are NaN, or another number of class names than of classes.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        *,
        scorers: Sequence[str] | None = None,
        device: str | None = None,
        cfg_options: Mapping | None = None,
        segmentor_checkpoint: str | Path | None = None,
        font: str | Path | None = None,
    ):
        self.cfg, self.model, meta, checkpoint = load_model(
            config,
            None if checkpoint is None else str(checkpoint),
            scorers=scorers,
            cfg_options=cfg_options,
            segmentor_checkpoint=segmentor_checkpoint,
        )
        self.classes, self.palette = classes_of(self.cfg, meta, self.model)
        self.model.to(device or get_device()).eval()
        self.reader = ImageReader(test_pipeline(self.cfg))
        self.font = font
        self._validation = OpenValidation(
            self.model,
            checkpoint,
            meta.get(OPENGAN, {}).get(OPEN_VALIDATION),
            self.cfg.get('val_dataloader'),
        )

    @property
    def scorers(self) -> dict[str, bool]:
        """Names of the model's score maps, and whether each is an open logit, to which a sigmoid
        applies.
        """
        return dict(sorted(self.model.score_names.items()))

    @property
    def main(self) -> str:
        """Name of the score that thresholds mean: the fused one, else D's, else the first."""
        return main_score(self.model.score_names)

    # ------------------------------------------------------------------ decided on validation

    @property
    def decides(self) -> bool:
        """Whether thresholds are known, or there are validation images to find them on."""
        return self._validation.has(self.scorers, scales=True)

    def threshold(self, rule: str, scorer: str | None = None) -> float:
        """The score at and above which a pixel is called open, by a rule on the open validation
        set.

        The set is run once, for all scorers. What was found is kept beside the checkpoint, in
        ``{checkpoint}.decided.json``.

        Args:
            rule: ``'fpr=0.05'``, which needs closed pixels only; ``'tpr=0.95'`` or ``'f1'``.
            scorer: name of the score; by default :attr:`main`.

        Returns:
            float: infinite where no score would be called open.

        Raises:
            ValueError: no such rule or score, or a rule that validation leaves undefined.
        """
        scorer = scorer or self.main
        self._require_scorers([scorer])
        rule = plain_rule(rule)
        found = self._validation.find([scorer], [rule])
        thresholds = Decisions.from_json(found['scorers'][scorer]).thresholds
        if rule not in thresholds:
            raise ValueError(
                f"threshold '{rule}' of '{scorer}': undefined on the {found['num_closed']} closed "
                f"and {found['num_open']} open pixels of val_dataloader. 'fpr=RATE' needs closed "
                'ones only.'
            )
        return thresholds[rule]

    def calibration(self, scorer: str | None = None) -> Calibration | None:
        """From a score to p(open), fitted on open validation; None where it has no open pixels."""
        scorer = scorer or self.main
        found = self._validation.find([scorer], ())
        return Decisions.from_json(found['scorers'][scorer]).calibration

    def scales(self) -> dict[str, tuple[float, float]]:
        """By scorer, the scores of the darkest and the brightest colour: most of validation's
        pixels lie between. They are the same for every image and frame.
        """
        found = self._validation.find(self.scorers, (), scales=True)['scorers']
        return {name: tuple(found[name]['scale']) for name in self.scorers}

    def decisions(self) -> dict:
        """Thresholds, calibration and colour scales of all scores, as plain values."""
        return self._validation.find(self.scorers, RULES, scales=True)

    def dataset(self, split: str) -> BaseDataset:
        """The data set on which the config tests (``'test'``) or validates (``'open_val'``)."""
        if split not in SPLITS:
            raise ValueError(f'split: wanted one of {[*SPLITS]}, found {split!r}')
        found = images_of(self.cfg[SPLITS[split]].dataset)
        if 'dataset' in found or 'datasets' in found:
            raise TypeError(
                f'{SPLITS[split]}.dataset: wanted one data set, found {found.type}. Take one whose '
                'data_root holds all images.'
            )
        return build_data(found)

    # ------------------------------------------------------------------ prediction

    def __call__(
        self,
        inputs: Inputs,
        *,
        out_dir: str | Path | None = None,
        video: str | Path | None = None,
        save_scores: bool = True,
        save_overlays: bool = False,
        threshold: float | str | None = None,
        unknown_id: int = 255,
        show_progress: bool = True,
        **options,
    ) -> list[OpenSetResult] | list[dict[str, Path]]:
        """Results of all inputs; with ``out_dir`` or ``video`` they go to files, and memory does
        not grow with their number.

        Args:
            inputs: path of an image, a folder (with the folders in it), a video or a list of images
                (``.txt``, a path in each line); a BGR array (H, W, 3) or (H, W) uint8; a list of
                image paths or arrays; a dataset, whose ground truth is then drawn too.
            out_dir: folder for the files of :meth:`OpenSetResult.save`.
            video: file for the overlays as a video, of one colour scale.
            save_scores: write score maps (``.npy`` and 16-bit ``.png``).
            save_overlays: write the images with the main score on top.
            threshold: of the main score, a number in its units or a rule: where label maps are
                unknown, overlays are outlined and, without ``thresholds``, panels whiten.
            unknown_id: what label maps hold at unknown pixels.
            show_progress: show a progress bar on stderr.
            **options: ``batch_size``, ``scorers``, ``thresholds``, ``limit`` and ``bad`` of
                :meth:`stream`.

        Returns:
            One :class:`OpenSetResult` for each image; with ``out_dir`` or ``video``, its files by
            what they hold.

        Raises:
            FileNotFoundError: an input is missing.
            ValueError, TypeError: an input that cannot be read, an empty folder, two images of one
                name, or an ``out_dir`` or ``video`` with which outputs would mix with inputs.
        """
        entries = list_inputs(inputs)
        check_outputs(inputs, entries, out_dir, video)
        if is_rule(threshold):
            main = main_score(options.get('scorers') or self.model.score_names)
            threshold = self.threshold(str(threshold), main)
        if threshold is not None and options.get('thresholds') is None:
            options['thresholds'] = [LogitThreshold(threshold)]
        threshold = None if threshold is None else float(threshold)
        files = dict(scores=save_scores, overlay=save_overlays, unknown_id=unknown_id)
        total = min(options.get('limit') or entries.total, entries.total) or None
        results = self.stream(entries, scaled=save_overlays or video is not None, **options)
        found: list = []
        with ExitStack() as stack:
            add = video and stack.enter_context(video_writer(video, entries.fps))
            for result in tqdm(
                results,
                total=total,
                unit='image',
                disable=not show_progress,
            ):
                if add:
                    add(result.overlay(threshold))
                if out_dir is not None:
                    found.append(result.save(out_dir, threshold=threshold, **files))
                else:
                    found.append({} if video else result)
        return found

    def read(self, name: str, source) -> tuple[np.ndarray, dict]:
        """The picture (H, W, 3) uint8 RGB of a path, an array or (dataset, index), and the
        network's input with its data sample; raises as :meth:`ImageReader.read`.
        """
        if not isinstance(source, tuple):
            return self.reader.read(name, source)
        dataset, index = source
        path = dataset.get_data_info(index)['img_path']
        return self.reader.picture_of(path), dataset[index]

    def stream(
        self,
        inputs: Inputs,
        *,
        batch_size: int = 1,
        scorers: Sequence[str] | None = None,
        thresholds: Sequence[float | str] | None = None,
        limit: int | None = None,
        bad: list[tuple[str, str]] | None = None,
        scaled: bool = False,
    ) -> Iterator[OpenSetResult]:
        """Results one by one, in the order of the inputs; no more than a batch is in memory.

        Args:
            inputs: as in :meth:`__call__`.
            batch_size: images that are read and, where they are of one size, run together.
            scorers: names of the score maps to give; None gives all.
            thresholds: at which panels whiten pixels of the main score: of an open logit, and of
                the fused score where open validation calibrates it, probabilities; of another score
                its own values; or rules such as ``'fpr=0.05'``, see :meth:`threshold`. None:
                probabilities .6 to .9, those of D's score where the main one has none.
            limit: stop after so many images.
            bad: takes (name, error) of every file that cannot be read, and the others go on. None:
                such a file ends the run with its error.
            scaled: give overlays the colour scale of open validation; where it cannot run, that of
                the first image.
        """
        main = main_score(scorers or self.model.score_names)
        scorers = tuple(self.scorers) if scorers is None else tuple(scorers)
        self._require_scorers(scorers)
        for name, value in (('batch_size', batch_size), ('limit', 1 if limit is None else limit)):
            if value < 1:
                raise ValueError(f'{name}: wanted at least 1, found {value}')
        pairs = islice(list_inputs(inputs).pairs, limit)
        scales: dict | None = {}
        if scaled:
            otherwise = 'Colours have the scale of the first image'
            scales = self._found_or_none(self.scales, otherwise) if self.decides else None
        panel = dict(classes=self.classes, palette=self.palette, font=self.font)
        thresholded = cache(partial(self._panel_thresholds, thresholds, main, scorers))
        if thresholds is not None:
            thresholded()  # wrong ones are an error before the first image
        results = self._results(pairs, batch_size, bad)
        return self._finished(results, main, scorers, panel, thresholded, scales)

    def _require_scorers(self, names: Sequence[str]) -> None:
        unknown = sorted(set(names) - set(self.scorers))
        if unknown or not names:
            raise ValueError(f'scorers: wanted some of {tuple(self.scorers)}, found {unknown}')

    def _found_or_none(self, find: Callable[[], Any], otherwise: str) -> Any:
        """What open validation decides; None where it cannot run: pictures do not need it."""
        try:
            return find()
        except DATA_ERRORS as error:
            cause = f'{type(error).__name__}: {error}'
            warnings.warn(f'{otherwise}, as open validation cannot run: {cause}', stacklevel=5)
            return None

    def _panel_thresholds(self, thresholds, main: str, scorers) -> dict:
        """Name of the score that panels threshold, and the thresholds, for ``draw_panel``."""
        calibration = None
        wants_probability = thresholds is None or not all(
            is_rule(one) or isinstance(one, LogitThreshold) for one in thresholds
        )
        if main == HYBRID and wants_probability and self._validation.has([main], scales=False):
            otherwise = 'The fused score is not calibrated'
            calibration = self._found_or_none(self.calibration, otherwise)
        if thresholds is None and calibration is None:
            name = OPENGAN if OPENGAN in scorers else main
            found = list(PROBABILITIES) if self.scorers[name] else []
            return dict(threshold_of=name, thresholds=found)
        found = []
        for one in PROBABILITIES if thresholds is None else thresholds:
            if is_rule(one):
                one = LogitThreshold(self.threshold(str(one), main))
            if isinstance(one, LogitThreshold):
                found.append(one)
            elif calibration is not None:
                found.append(LogitThreshold(calibration.score_of(float(one)), float(one)))
            else:
                found.append(float(one) if self.scorers[main] else LogitThreshold(one))
        return dict(threshold_of=main, thresholds=found)

    def _results(self, pairs, batch_size, bad=None):
        """(name, RGB image, data sample) of every entry that can be read, in order; the sample's
        ``img_path`` is the file.
        """
        while batch := list(islice(pairs, batch_size)):
            images = []
            for name, source in batch:
                try:
                    images.append((name, *self.read(name, source)))
                except (OSError, ValueError) as error:
                    if bad is None:
                        raise
                    bad.append((name, str(error)))
            # only images of one size share a forward pass: padding would change the scores
            sizes: dict = {}
            for i, (_, _, packed) in enumerate(images):
                sizes.setdefault(packed['inputs'].shape, []).append(i)
            samples: dict = {}
            for places in sizes.values():
                packed = [images[i][2] for i in places]
                together = {key: [one[key] for one in packed] for key in packed[0]}
                with torch.no_grad():
                    samples.update(zip(places, self.model.test_step(together)))
            for i, (name, image, _) in enumerate(images):
                yield name, image, samples[i]

    def _finished(self, results, main, scorers, panel, thresholded, scales) -> Iterator:
        for name, image, sample in results:
            fields = panel_fields(sample)
            scores = {scorer: fields['scores'][scorer] for scorer in scorers}
            for scorer, score in scores.items():
                if np.isnan(score).any():
                    raise ValueError(
                        f"'{name}': wanted numbers as scores, found NaN in those of '{scorer}'"
                    )
            if scales is None:
                scales = {scorer: robust_range(score) for scorer, score in scores.items()}
            yield OpenSetResult(
                name=name,
                image=image,
                labels=fields['pred'].astype(label_type(len(self.classes))),
                scores=scores,
                main=main,
                logits=frozenset(scorer for scorer in scorers if self.scorers[scorer]),
                panel=dict(panel, gt=fields.get('gt'), open_map=fields.get('open_map')),
                scales=scales,
                source=None if (path := sample.get('img_path')) == name else path,
                thresholded=thresholded,
            )
