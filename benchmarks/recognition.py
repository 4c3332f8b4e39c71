"""Open-set recognition of whole images: the paper's Setup I, and Setup II in small.

    python benchmarks/recognition.py digits
    python benchmarks/recognition.py cifar10 --data data/cifar-10-batches-bin --seeds 0 1 2

A split takes six of ten classes as known. A network learns those; every method reads its features
and logits. Setup I asks for the other four classes. Setup II takes the open examples of training
and of open validation from one source, and those of the test from each. The digits come with
scikit-learn. CIFAR-10 is the binary version of https://www.cs.toronto.edu/~kriz/cifar.html.

Shapes: n images, features (n, F), logits (n, K), scores (n,), larger = more open.
"""

import argparse
import math
import time
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from small_images import CLASSES, SmallImages, cifar10, digits, features_of, train
from torch import Tensor, nn

from mmseg_opengan.experiments.tables import markdown, mean, write_text
from mmseg_opengan.files import write_json
from mmseg_opengan.functional.detection import auroc, exact_bins
from mmseg_opengan.functional.recognition import RecognitionCounts, outcomes
from mmseg_opengan.functional.score_layout import ScoreLayout
from mmseg_opengan.functional.scores import fused
from mmseg_opengan.models.fusion import moments, scores_of_pixels
from mmseg_opengan.models.scorers.base import FitData, FittedScorer
from mmseg_opengan.models.scorers.distance_scorers import GDM, NearestNeighbour
from mmseg_opengan.models.scorers.logit_scorers import GEN, MSP, Entropy, MaxLogit
from mmseg_opengan.models.scorers.mixture_scorer import GMM
from mmseg_opengan.vectors import OpenGANDetector

NUM_KNOWN = 6
NUM_OPEN = 100  # open training examples of CLS and OpenGAN
TRAIN, VALIDATION, TEST = range(3)
UNKNOWN = 'unknown classes'  # the source of Setup I
#: Scores that need no open example; those of features at unit length (the paper's section 10).
FREE: dict[str, Any] = {
    'MSP': MSP,
    'entropy': Entropy,
    'max logit': MaxLogit,
    'GEN': GEN,
    'nearest neighbour': NearestNeighbour,
    'GDM': partial(GDM, normalize=True),
    'GMM': partial(GMM, num_components=5),
}


class Split(NamedTuple):
    """One choice of known classes, as the network sees it.

    Attributes:
        labels: (n,) of all images.
        truth: (n,) the known class, from 0; K for an open image.
        parts: (n,) ``TRAIN``, ``VALIDATION`` or ``TEST``.
        classifier: from features to logits.
    """

    seed: int
    labels: Tensor
    truth: Tensor
    parts: Tensor
    features: Tensor
    classifier: nn.Linear
    logits: Tensor

    def rows(self, part: int, open_labels: Collection[int] = ()) -> Tensor:
        """(n,) bool, the closed images of a part, and its open ones with these labels."""
        wanted = torch.isin(self.labels, torch.tensor([*open_labels], dtype=torch.long))
        return (self.parts == part) & (wanted | (self.truth < NUM_KNOWN))


def known_classes(images: SmallImages, seed: int) -> list[int]:
    """Six of ten labels at random; drawn again where a source would have no open class left."""
    rng = np.random.default_rng(seed)
    while True:
        known = set(rng.permutation(CLASSES)[:NUM_KNOWN].tolist())
        if all(set(labels) - known for labels in images.sources.values()):
            return sorted(known)


def truth_and_parts(images: SmallImages, seed: int) -> tuple[Tensor, Tensor]:
    """Of a :class:`Split`. A tenth of what is no test image is for open validation."""
    truth = torch.full_like(images.labels, NUM_KNOWN)
    for number, label in enumerate(known_classes(images, seed)):
        truth[images.labels == label] = number
    drawn = torch.rand(len(truth), generator=torch.Generator().manual_seed(seed))
    parts = torch.where(drawn < 0.1, VALIDATION, TRAIN)
    return truth, torch.where(images.is_test, TEST, parts)


@torch.no_grad()
def make_split(images: SmallImages, seed: int) -> Split:
    """Train the network, and read its features."""
    truth, parts = truth_and_parts(images, seed)
    rows = (truth < NUM_KNOWN) & (parts == TRAIN)
    with torch.enable_grad():
        network = train(images.images[rows], truth[rows], seed, **images.training)
    features, classifier = features_of(network, images.images), network[1]
    return Split(seed, images.labels, truth, parts, features, classifier, classifier(features))


@torch.no_grad()
def free_scores(split: Split) -> dict[str, Tensor]:
    """What needs no open example, fitted on the closed training images."""
    rows = split.rows(TRAIN)
    data = FitData(
        split.features[rows],
        split.logits[rows],
        split.truth[rows],
        split.classifier.weight,
        split.classifier.bias,
        seed=split.seed,
    )
    scores = {'feature length': -split.features.norm(dim=1)}
    for name, kind in FREE.items():
        scorer = kind().eval()
        if isinstance(scorer, FittedScorer):
            scorer.fit(data)
        scores[name] = scores_of_pixels(scorer, split.features, split.logits)
    return scores


def trained_scores(
    split: Split, free: Tensor, labels: Collection[int], steps: int
) -> dict[str, Tensor]:
    """CLS, OpenGAN-0, OpenGAN, and that one fused with a free score.

    Args:
        labels: of the open images that training and open validation see.
    """
    closed, validation = split.rows(TRAIN), split.rows(VALIDATION, labels)
    opened = (split.rows(TRAIN, labels) & ~closed).nonzero()[:, 0]
    rng = np.random.default_rng(split.seed)
    opened = opened[rng.permutation(len(opened))[:NUM_OPEN]]
    is_open = (split.truth[validation] == NUM_KNOWN).long()
    scores = {}
    for name in ('CLS', 'OpenGAN-0', 'OpenGAN'):
        detector = OpenGANDetector(
            generator=name != 'CLS',
            max_iter=steps,
            random_state=split.seed,
        )
        detector.fit(
            split.features[closed],
            X_open=None if name == 'OpenGAN-0' else split.features[opened],
            X_val=split.features[validation],
            y_val=is_open,
        )
        scores[name] = torch.from_numpy(detector.open_score(split.features))
    pair = torch.stack([scores['OpenGAN'].float(), free])
    scores['OpenGAN + GEN'] = fused((pair[0], pair[1]), *moments(pair[:, closed]), 0.5)
    return scores


def measure(
    split: Split, scores: Tensor, validated: Collection[int], tested: Collection[int]
) -> dict[str, float]:
    """AUROC, and macro-F1 over the K + 1 classes at the threshold that is best on validation.

    Args:
        validated, tested: labels of the open images of open validation and of the test.
    """
    counts = _counts(split, scores, split.rows(VALIDATION, validated))
    threshold = counts.best_macro_f1()[1]
    rows = split.rows(TEST, tested)
    found = _counts(split, scores, rows, [threshold] if math.isfinite(threshold) else [])
    bins = exact_bins(scores[rows], (split.truth[rows] == NUM_KNOWN).long())
    return dict(AUROC=auroc(bins), macro_F1=found.macro_f1_at(threshold))


def _counts(
    split: Split, scores: Tensor, rows: Tensor, thresholds: Sequence[float] = ()
) -> RecognitionCounts:
    scores, truth = scores[rows].float(), split.truth[rows]
    is_open = (truth == NUM_KNOWN).long()
    layout = ScoreLayout.of(scores, is_open)
    counts = RecognitionCounts(NUM_KNOWN, layout, thresholds=thresholds)
    found = outcomes(split.logits[rows].argmax(1), truth, is_open, num_classes=NUM_KNOWN)
    counts.add(layout.bins(scores), scores, found)
    return counts


def compare(split: Split, images: SmallImages, steps: int) -> list[dict]:
    """Both setups on a split: a row of numbers for each method, source and test."""
    found = []
    free, trained = free_scores(split), {}
    unknown: dict[str, Any] = {UNKNOWN: range(CLASSES)}
    for source, validated in (unknown | images.sources).items():
        same = frozenset(validated)  # the digits' source has all unknown classes
        if same not in trained:
            trained[same] = trained_scores(split, free['GEN'], validated, steps)
        scores = free | trained[same]
        for test, tested in (unknown if source == UNKNOWN else images.sources).items():
            for method, values in scores.items():
                row = dict(
                    seed=split.seed,
                    method=method,
                    source=source,
                    test=test,
                )
                found.append(row | measure(split, values, validated, tested))
    return found


def run(images: SmallImages, seeds: Sequence[int], steps: int, out: str) -> str:
    """Both setups on every split; returns the tables, which ``out`` keeps with every number.

    Args:
        seeds: of the splits; each also seeds its networks.
        steps: of D, and of G.
        out: folder for ``table.md`` and ``results.json``.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    splits, results = [], []
    for seed in seeds:
        begin = time.process_time()
        split = make_split(images, seed)
        rows = split.rows(TEST)
        correct = split.logits[rows].argmax(1) == split.truth[rows]
        results += compare(split, images, steps)
        splits.append(
            dict(
                seed=seed,
                known=known_classes(images, seed),
                accuracy=float(correct.double().mean()),
                processor_minutes=(time.process_time() - begin) / 60,
            )
        )
        write_json(
            Path(out, 'results.json'),
            dict(
                splits=splits,
                steps=steps,
                results=results,
            ),
        )
    text = tables(results, list(images.sources))
    write_text(Path(out, 'table.md'), text)
    return text


def tables(results: Sequence[dict], sources: Sequence[str]) -> str:
    """Setup I and Setup II in Markdown, means over splits."""

    def cell(number: str, *key: str) -> str:
        rows = [row for row in results if (row['method'], row['source'], row['test']) == key]
        return mean([row[number] for row in rows])

    pairs = [(source, test) for source in sources for test in sources]
    first, second = [], []
    for method in dict.fromkeys(row['method'] for row in results):
        key = (method, UNKNOWN, UNKNOWN)
        first.append((method, cell('AUROC', *key), cell('macro_F1', *key)))
        second.append((method, *(cell('AUROC', method, *pair) for pair in pairs)))
    heads = [f'{source} → {test}' for source, test in pairs]
    one = markdown(['Setup I', 'AUROC', 'macro-F1'], first)
    return one + '\n\n' + markdown(['Setup II, AUROC', *heads], second)


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', choices=['digits', 'cifar10'], help='what to recognise')
    parser.add_argument('--data', help="folder of CIFAR-10's files, data_batch_1.bin and so on")
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2, 3, 4], help='one a split')
    parser.add_argument('--steps', type=int, default=500, help='of D, and of G')
    parser.add_argument(
        '--out', help='folder of all that is written (work_dirs/recognition_IMAGES)'
    )
    args = parser.parse_args()
    if args.images == 'cifar10' and args.data is None:
        parser.error('--data: wanted the folder of CIFAR-10, found nothing')
    return args


def main():
    args = parse_args()
    torch.set_num_threads(1)  # the networks are small
    images = digits() if args.images == 'digits' else cifar10(args.data)
    out = args.out or f'work_dirs/recognition_{args.images}'
    print(run(images, args.seeds, args.steps, out))


if __name__ == '__main__':
    main()
