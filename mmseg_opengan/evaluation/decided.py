"""Thresholds, calibration and colour scales of every score, decided on open validation and kept.

They are kept in ``{checkpoint}.decided.json``, beside the weights that they belong to, and used as
long as the weights, the scorers, their resolution and the validation images are the same.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import torch
from mmengine.dataset import BaseDataset
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample
from tqdm import tqdm

from ..contracts import CLOSED, GT_OPEN_MAP, HYBRID, IGNORE, LABEL_POLICY, OPEN_SCORES, VOID
from ..features.stored_taps import images_of
from ..files import as_json, json_bytes, sha256_of, write_json
from ..functional.decisions import STANDARD_RULES, decide
from ..functional.detection import ScoreBins
from ..functional.recognition import RecognitionCounts
from ..functional.score_counts import ScoreCounts
from ..models.frozen_segmentor import digest_of, plain
from .scorer_counts import GroundTruth

#: Rules that are applied whenever validation runs.
RULES = (*STANDARD_RULES, 'fpr=0.01')
#: Of an image, as mmseg's data sets name them.
KINDS_OF_FILES = ('img_path', 'seg_map_path')
#: What a data set raises that is missing, damaged or not labelled.
DATA_ERRORS = (AssertionError, ImportError, LookupError, OSError, TypeError, ValueError, cv2.error)
#: Ends of a colour scale: the scores that this share of the pixels lies below and above.
_TAIL = 0.01


def conditions_of(model) -> dict:
    """How score maps are made: decisions of others mean nothing."""
    return dict(
        resolution=model.resolution,
        mode=model.test_cfg.get('mode', 'whole'),
        smoothing=model.smoothing,
    )


def maker_of(model, name: str) -> dict:
    """What makes a score besides D: type, options and what was learned; and windows."""
    found: dict = {}  # of D's
    if name == HYBRID and getattr(model, 'fusion', None) is not None:
        found = model.fusion.options()
    elif name in model.scorers:
        scorer = model.scorers[name]
        found = dict(scorer.as_config(), state=digest_of(scorer.state_dict()))
    return as_json(dict(found, test_cfg=plain(dict(model.test_cfg))))


def makers_of(model) -> dict[str, dict]:
    """:func:`maker_of` every score."""
    return {name: maker_of(model, name) for name in model.score_names}


def state_of(model) -> dict:
    """All that its score maps depend on besides the image, as JSON gives it back."""
    scorers = {name: one.as_config() for name, one in model.scorers.items()}
    weights = {
        key: value for key, value in model.state_dict().items() if not key.startswith('generator.')
    }
    return as_json(
        dict(
            conditions_of(model),
            segmentor=model.segmentor_identity(),
            test_cfg=plain(dict(model.test_cfg)),
            model=digest_of(weights),
            scorers=scorers,
        )
    )


def decide_scores(
    samples: Iterable[SegDataSample], rules: Sequence[str], *, num_classes: int
) -> dict:
    """Thresholds, calibration and colour scale of every score of labelled samples.

    Closed pixels are those of the open map, or without one those of ``gt_sem_seg``. A rule that
    needs open pixels where there are none is left out, as a calibration is.

    Returns:
        dict: plain values: ``scorers`` by name, each with ``thresholds``, ``calibration`` and
        ``scale``; ``num_images``; ``num_closed`` and ``num_open`` pixels.
    """
    counts: dict[str, ScoreCounts] = {}
    recognition: dict[str, RecognitionCounts] = {}
    num_images = 0
    for sample in samples:
        num_images += 1
        labels, truths = _labels_of(sample), {}
        for name, scores in sample.get(OPEN_SCORES).items():
            scores = scores[0].cpu()
            if scores.shape not in truths:
                truths[scores.shape] = GroundTruth.on_grid(
                    scores.shape, *labels, num_classes=num_classes
                )
            truth = truths[scores.shape]
            of_scorer = counts.setdefault(name, ScoreCounts(num_open_classes=1))
            placed, label = of_scorer.binned(scores, truth.open_map)
            of_scorer.add(placed, label)
            if truth.outcomes is None or of_scorer.layout is None:
                continue
            if name not in recognition:
                recognition[name] = RecognitionCounts(num_classes, of_scorer.layout)
            recognition[name].add(placed, scores, truth.outcomes)
    found: dict = dict(
        scorers={},
        num_images=num_images,
        num_closed=0,
        num_open=0,
    )
    for name, of_scorer in counts.items():
        bins = of_scorer.bins()
        one = decide(bins, recognition.get(name), rules=rules).to_json()
        found['scorers'][name] = dict(one, scale=_scale(bins))
        found['num_closed'], found['num_open'] = int(bins.closed.sum()), int(bins.open.sum())
    return found


def _labels_of(sample: SegDataSample) -> list[torch.Tensor]:
    """(H, W): 0 closed, 1 open, 255 void; and with closed classes the predicted and the true
    ones.
    """
    if 'gt_sem_seg' not in sample and GT_OPEN_MAP not in sample:
        raise ValueError(
            f'{sample.get("img_path")}: wanted labels, on which thresholds are decided, found none '
            'in val_dataloader. Its pipeline has to load them (LoadAnnotations or '
            'LoadOpenSetAnnotations).'
        )
    closed = []
    if 'gt_sem_seg' in sample:
        closed = [one.data[0].cpu() for one in (sample.pred_sem_seg, sample.gt_sem_seg)]
    if GT_OPEN_MAP in sample:
        open_map = sample.get(GT_OPEN_MAP).data[0].cpu()
        is_open = (open_map != CLOSED).to(torch.uint8)
        return [torch.where(open_map == VOID, VOID, is_open), *closed]
    known = closed[1] != IGNORE
    return [torch.where(known, CLOSED, VOID).to(torch.uint8), *closed]


def _scale(bins: ScoreBins) -> tuple[float, float]:
    """(lo, hi) between which all but a share ``_TAIL`` of the pixels at each end lie."""
    below = (bins.closed + bins.open).cumsum(0)
    wanted = torch.tensor([_TAIL, 1 - _TAIL], dtype=torch.float64) * int(below[-1])
    places = torch.searchsorted(below.double(), wanted).clamp_(max=len(below) - 1)
    lo, hi = bins.lower[places].tolist()
    return lo, hi


class OpenValidation:
    """What open validation decides for a model: asked of its checkpoint, else of the file beside
    it, else found by running the validation images once.

    Args:
        model: the open-set model.
        checkpoint: file of its weights.
        stored: what the checkpoint itself holds; None: nothing.
        loader: config of the validation images' data loader; None: there are none.
    """

    def __init__(self, model, checkpoint: str, stored: dict | None, loader: dict | None):
        self._model = model
        self._data = None if loader is None else images_of(loader['dataset'])
        self._path = Path(f'{checkpoint}.decided.json')
        self._known: dict = stored or {}

    def find(self, scorers: Iterable[str], rules: Sequence[str], *, scales: bool = False) -> dict:
        """The decisions of scores, see :func:`decide_scores`; of all that have to be found now.

        Args:
            scorers: names of the scores.
            rules: thresholds that are wanted of them.
            scales: whether colour scales are wanted.

        Raises:
            ValueError: they have to be found, and there are no validation images, or no labels.
        """
        if self._answers(self._known, scorers, rules, scales):
            return self._known
        if self._data is None:
            wanted = 'colour scales' if scales else ', '.join(rules)
            decided = self._known.get('scorers', {}).values()
            known = {rule for one in decided for rule in one['thresholds']}
            raise ValueError(
                f'{wanted}: wanted val_dataloader in the config, labelled images on which they are '
                f'decided, found none. Give a number, or a rule that is known: {sorted(known)}.'
            )
        dataset = build_data(self._data)
        made_from = self._made_from(dataset)
        entries = self._read()
        stored = next((one for one in entries if one['made_from'] == made_from), {})
        if not self._answers(stored, scorers, rules, scales):
            rules = [*dict.fromkeys([*RULES, *stored.get('rules', []), *rules])]
            model = self._model
            num_classes = model.head.num_classes - model.has_open_class
            stored = dict(
                decide_scores(self._samples(dataset), rules, num_classes=num_classes),
                **conditions_of(model),
                makers=makers_of(model),
                label_policy=dataset.metainfo.get(LABEL_POLICY),
                rules=rules,
                made_from=made_from,
            )
            self._write([one for one in entries if one['made_from'] != made_from] + [stored])
        self._known = {key: value for key, value in stored.items() if key != 'made_from'}
        return self._known

    def has(self, scorers: Iterable[str], *, scales: bool) -> bool:
        """Whether decisions of scores, or also colour scales, are known or can be found."""
        return self._data is not None or self._answers(self._known, scorers, (), scales)

    def _samples(self, dataset: BaseDataset) -> Iterator[SegDataSample]:
        self._model.eval()
        for i in tqdm(range(len(dataset)), 'Open validation', unit='image'):
            packed = {key: [value] for key, value in dataset[i].items()}
            with torch.no_grad():
                yield from self._model.test_step(packed)

    def _answers(
        self, stored: dict, scorers: Iterable[str], rules: Sequence[str], scales: bool
    ) -> bool:
        """Whether stored decisions are of this model's maps, and of all that is wanted."""
        conditions = {key: stored.get(key, 0.0) for key in conditions_of(self._model)}
        if conditions != conditions_of(self._model):
            return False
        scorers, makers = list(scorers), stored.get('makers', {})
        if any(makers.get(name) != maker_of(self._model, name) for name in scorers):
            return False
        found = [stored['scorers'].get(name) for name in scorers]
        tried = stored.get('rules', [])  # also where pixels left them undefined
        return all(
            one is not None
            and ('scale' in one or not scales)
            and all(rule in one['thresholds'] or rule in tried for rule in rules)
            for one in found
        )

    def _made_from(self, dataset: BaseDataset) -> dict:
        files = digest_of_dataset(dataset)
        return as_json(dict(state_of(self._model), data=plain(self._data), files=files))

    def _read(self) -> list[dict]:
        parts = {'made_from', 'scorers'}
        try:
            entries = json.loads(self._path.read_text())
            wrong = [one for one in entries if not parts <= set(one)]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError) as error:
            wrong = [error]
        if wrong:
            raise ValueError(
                f"'{self._path}': wanted a list of decisions in JSON, found {wrong[0]!r}. Remove "
                'the file; they are found again.'
            )
        return entries

    def _write(self, entries: list[dict]) -> None:
        try:
            write_json(self._path, entries)
        except OSError as error:
            warnings.warn(f'Thresholds are not kept for the next start: {error}', stacklevel=2)


def build_data(config: dict) -> BaseDataset:
    """The data set of a config.

    Raises:
        ValueError: it has no image.
    """
    try:
        dataset = DATASETS.build(config)
        number = len(dataset)
    except ValueError as error:
        if 'need at least one array' not in str(error):  # mmengine joins the entries that it lists
            raise
        number = 0
    if number == 0:
        place = {key: config.get(key) for key in ('data_root', 'data_prefix', 'ann_file')}
        raise ValueError(f'{config["type"]}: wanted at least one image, found none by {place}')
    return dataset


def digest_of_data(config: dict) -> str:
    """:func:`digest_of_dataset` of the images of a data set's config."""
    return digest_of_dataset(DATASETS.build(images_of(config)))


def digest_of_dataset(dataset: BaseDataset) -> str:
    """Of names and bytes of images and labels, and of what the labels' ids mean: an edited file is
    noticed, whatever its time and its folder.
    """
    known = getattr(dataset, 'metainfo', {})
    meaning = [known.get(key) for key in (LABEL_POLICY, 'classes', 'open_classes')]
    digest = hashlib.sha256(json_bytes(meaning))
    for i in tqdm(range(len(dataset)), 'Comparing images', unit='image', delay=2):
        info = dataset.get_data_info(i)
        for path in filter(None, map(info.get, KINDS_OF_FILES)):
            if Path(path).is_file():
                status = os.stat(path)
                state = status.st_size, status.st_mtime_ns, status.st_ctime_ns
                digest.update(f'{Path(path).name} {_sha256_once(path, state)}\n'.encode())
    return digest.hexdigest()


@lru_cache(maxsize=100_000)
def _sha256_once(path: str, state: tuple) -> str:
    """Of a file as it is: several data sets of one process read the same ones."""
    return sha256_of(path)
