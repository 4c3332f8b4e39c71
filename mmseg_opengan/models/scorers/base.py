"""The contract of every open-set scorer, and the registry it is built from.

Shape letters: N images, C channels, K closed classes, h and w the feature grid, n and m sampled
pixels.
"""

import inspect
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.registry import Registry
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ...files import replacing
from ..frozen_segmentor import load_whole
from ..safe_types import require_registered_types

SCORERS = Registry('open-set scorer', scope='mmseg')


class NotFittedError(RuntimeError):
    """A scorer that learns was asked for scores before it had learned anything."""


class FitData(NamedTuple):
    """Sampled training pixels, what every scorer that learns may look at."""

    features: Tensor  # (n, C) float32, of closed pixels
    logits: Tensor  # (n, K) float32, what conv_seg makes of them
    labels: Tensor  # (n,) int64, their true closed classes
    weight: Tensor  # (K, C) of conv_seg: logits = features @ weight.T + bias
    bias: Tensor  # (K,)
    open_features: Tensor | None = (
        None  # (m, C) float32, for methods that train on open pixels; most never look
    )
    seed: int = 0


class Scorer(nn.Module, metaclass=ABCMeta):
    """Maps a segmentor's features and logits to an open-set score; larger = more open.

    A scorer takes tensors and never reaches back for the model. Options are keyword arguments of
    ``__init__``, kept under their own names. A class that takes ``checkpoint`` ends ``__init__``
    with ``self.load_file(checkpoint)``.
    """

    #: What the score is made of: ``'features'`` and logits, ``'logits'`` alone, ``'image'``
    #: (``score_image`` is called), or ``'queries'`` of a mask head (``score_queries`` is called).
    #: At image resolution scorers of logits alone see those that mmseg has resized, the convention
    #: of the anomaly benchmarks; the others' maps are computed on the grid, then resized.
    reads: str = 'features'
    #: True for scorers whose score is an open logit: its sigmoid is a probability of open.
    is_logit = False
    #: True where the segmentor has open as its last class: the closed prediction is the best of the
    #: others.
    last_class_is_open = False
    #: What the scorer does with a mask head's class scores L >= 0 (see ``functional.mask_scores``):
    #: ``'as_logits'`` reads log(L / sum L), ``'raw'`` reads L itself and accepts no true logits,
    #: ``'refused'`` has no meaning there.
    class_scores: str = 'as_logits'
    #: How open pixels come into the score: ``'unused'``, ``'fitted'`` (``fit`` reads those of its
    #: data), or ``'stored'`` (in weights that came from a file).
    open_pixels: str = 'unused'
    #: Values of options that fitting tries where the config says nothing; open validation chooses
    #: among all products.
    candidates: dict[str, list] = {}
    #: Digest of the segmentor that a loaded file belongs to; None where the scorer does not depend
    #: on one.
    segmentor_sha256: str | None = None

    @abstractmethod
    def score(self, features: Tensor | None, logits: Tensor) -> Tensor:
        """Scores of feature maps; gradients are followed to them where they are enabled.

        Args:
            features: (N, C, h, w), what enters ``conv_seg``; None for scorers of logits at image
                resolution.
            logits: (N, K, h, w), what leaves it.

        Returns:
            (N, h, w) float32 scores, larger = more open.
        """

    def score_image(self, inputs: Tensor, forward: Callable[[Tensor], Any]) -> Tensor:
        """Scores of images, for scorers with ``reads = 'image'``.

        Args:
            inputs: (N, 3, H, W), what enters the segmentor: normalised and padded.
            forward: runs the segmentor: images like ``inputs`` -> a tap with ``features`` and
                ``logits``. It follows gradients to its input where they are enabled. It costs as
                much as the segmentor.

        Returns:
            (N, h', w') float32 scores on any grid that spans the image; they are resized to the
            other maps' grid.
        """
        raise NotImplementedError

    def forward(self, features: Tensor | None, logits: Tensor) -> Tensor:
        return self.score(features, logits)

    # ------------------------------------------------------------------ options and files

    def options(self) -> dict:
        """The options by name, as plain values."""
        named = inspect.getfullargspec(type(self).__init__).kwonlyargs
        return {name: getattr(self, name) for name in named if name != 'checkpoint'}

    def as_config(self) -> dict:
        """Type and all options, without a checkpoint."""
        return dict(type=type(self).__name__, **self.options())

    def save_file(self, path: str | Path, **meta: Any) -> None:
        """Write what was learned, the options, and ``meta`` (plain values; ``segmentor_sha256``
        above all).
        """
        meta.update(scorer=type(self).__name__, options=self.options())
        with replacing(path) as file:
            torch.save(dict(state_dict=self.state_dict(), meta=meta), file)

    def load_file(self, path: str | None) -> None:
        """Take state and options from a file that ``save_file`` wrote; None leaves everything as it
        is.

        The file's options replace those given: they are what the state was learned with.

        Raises:
            RuntimeError: the file belongs to another kind of scorer, does not hold exactly this
                scorer's state, or names a type that is no registered part.
        """
        if path is None:
            return
        checkpoint = CheckpointLoader.load_checkpoint(
            str(path), map_location='cpu', logger='silent'
        )
        meta = checkpoint.get('meta', {})
        own = type(self).__name__
        if meta.get('scorer') != own:
            raise RuntimeError(
                f"'{path}': wanted a file of the scorer {own}, found "
                f'{meta.get("scorer") or "one that names no scorer"}. tools/fit_scorers.py '
                f'writes them.'
            )
        require_registered_types(meta['options'], str(path))
        self._take_options(meta['options'])
        self.segmentor_sha256 = meta.get('segmentor_sha256')
        load_whole(self, checkpoint['state_dict'], own, f"'{path}'")

    def _take_options(self, options: dict) -> None:
        """Use the options of a file."""
        for name in options.keys() & self.options():
            setattr(self, name, options[name])


class FittedScorer(Scorer):
    """A scorer that learns from sampled training pixels before it scores.

    A subclass writes ``_fit``, which returns what it learns, and ``_score``::

        class Mean(FittedScorer):
            def __init__(self, *, checkpoint=None):
                super().__init__()
                self.load_file(checkpoint)

            def _fit(self, data):
                return dict(mean_=data.features.mean(0))

            def _score(self, features, logits):
                return (features - self.mean_[:, None, None]).norm(dim=1)

    What is learned lives in buffers, so that it moves between devices and saves with
    ``state_dict``; an unfitted scorer loads the state of a fitted one.
    """

    def __getattr__(self, name: str) -> Any:  # for type checkers: what is learned is a tensor
        return super().__getattr__(name)

    @property
    def fitted(self) -> bool:
        return bool(self._buffers)

    def fit(self, data: FitData) -> 'FittedScorer':
        """Learn from sampled pixels; what was learned before is forgotten. The same data and seed
        learn the same.

        Raises:
            ValueError: the shapes of ``data`` do not agree, or it has no pixels.
        """
        _check(data)
        learned = self._fit(data)
        self._buffers = {
            name: value.detach().contiguous().clone() for name, value in learned.items()
        }
        return self.eval().requires_grad_(False)

    def score(self, features: Tensor | None, logits: Tensor) -> Tensor:
        if not self.fitted:
            raise NotFittedError(
                f'{type(self).__name__} has learned nothing yet: call fit, or give the checkpoint '
                'that tools/fit_scorers.py wrote'
            )
        return self._score(None if features is None else features.float(), logits.float())

    @abstractmethod
    def _fit(self, data: FitData) -> dict[str, Tensor]:
        """What is learned, by names that end in ``_``."""

    @abstractmethod
    def _score(self, features: Any, logits: Tensor) -> Tensor:
        """As ``score``; the inputs are float32."""

    def load_file(self, path: str | None) -> None:
        super().load_file(path)
        if path is not None and not self.fitted:
            raise RuntimeError(
                f"'{path}' does not hold the state of a fitted {type(self).__name__}"
            )

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        for key, value in state_dict.items():
            name = key.removeprefix(prefix)
            if key.startswith(prefix) and '.' not in name:  # its shape is known only now
                self._buffers[name] = torch.empty_like(value)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _check(data: FitData) -> None:
    number, channels = data.features.shape
    classes = len(data.weight)
    wanted = [(number, classes), (number,), (classes, channels), (classes,)]
    found = [tuple(value.shape) for value in data[1:5]]
    if not number or found != wanted:
        raise ValueError(
            'fit: wanted features (n, C) of at least one pixel and, to match them, logits, labels, '
            f'weight and bias of shapes {wanted}, found features {tuple(data.features.shape)} '
            f'and {found}'
        )
