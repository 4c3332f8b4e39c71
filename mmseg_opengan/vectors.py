"""OpenGAN on rows of any features, as one of scikit-learn's outlier detectors.

D, G, their losses and their step are those of the segmentation model. Neither mmengine nor mmseg is
needed.

Shapes: X (n, C), a row for each example.
"""

import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from numbers import Integral, Real

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_array, check_consistent_length, check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import Tensor, nn

from .functional.detection import auroc, exact_bins
from .functional.pixels import choose_closed, choose_open, step_rng
from .models.gan_step import gan_step, logits_of_rows
from .models.networks import FeatureDiscriminator, FeatureGenerator

__all__ = ['OpenGANDetector']

_CHUNK = 65536  # rows scored at a time
_NOISE_CHANNELS = 64  # of z, as in the paper
_CLOSED, _OPEN, _NOISE = range(3)  # independent random streams of one step
#: Kind, least, largest and open ends of the options that are numbers.
_LIMITS: dict[str, tuple] = dict(
    lambda_open=(Real, 0, None, 'neither'),
    lambda_fake=(Real, 0, None, 'neither'),
    learning_rate=(Real, 0, None, 'neither'),
    batch_size=(Integral, 4, None, 'both'),
    max_iter=(Integral, 1, None, 'both'),
    validate_every=(Integral, 1, None, 'both'),
    contamination=(Real, 0, 0.5, 'right'),
)


class OpenGANDetector(OutlierMixin, BaseEstimator):
    """A discriminator D between closed rows on one side, open and generated ones on the other.

    OpenGAN has everything. OpenGAN-0 is fitted without ``X_open``. CLS has no generator. Open
    validation, ``X_val`` and ``y_val``, chooses the step at which D is kept: give it where you can.

    D reads the features as they are. Where columns differ much in scale, standardise them first;
    do the same to ``X_open`` and ``X_val``, which a pipeline does not transform. OpenGAN-0 is no
    outlier detector for any data: see ``docs/recognition.md``.

    Args:
        generator: train G too. False: CLS.
        lambda_open, lambda_fake: weights of Eq. 2, above 0, see
            :func:`functional.gan_losses.discriminator_loss`. Rows of no weight would move D's batch
            norm.
        learning_rate: Adam's, of G; D's is two thirds of it, as in the authors' notebook.
        batch_size: closed rows a step, at least 4; half as many are open, and half are generated.
        max_iter: steps.
        validate_every: steps between open validations; one more is at the end.
        contamination: share of closed rows that ``predict`` calls open, above 0 and at most .5. It
            is measured on the closed rows of ``X_val``, or else on ``X``.
        random_state: seed or generator; an integer gives the same D each time.

    Attributes:
        state_: D's weights and buffers, arrays by name.
        offset_: the least ``score_samples`` of what is called closed.
        open_validation_: (step, AUROC) of each open validation.
        n_iter_: steps after which D was kept.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> closed, unknown = rng.normal(0, 1, (500, 8)), rng.normal(2, 1, (100, 8))
        >>> rows, is_open = np.vstack([closed[400:], unknown[20:50]]), np.repeat([0, 1], [100, 30])
        >>> detector = OpenGANDetector(max_iter=100, batch_size=32, random_state=0)
        >>> _ = detector.fit(closed[:400], X_open=unknown[:20], X_val=rows, y_val=is_open)
        >>> float((detector.predict(unknown[50:]) == -1).mean())
        1.0
    """

    def __init__(
        self,
        *,
        generator=True,
        lambda_open=1.0,
        lambda_fake=0.2,
        learning_rate=1e-4,
        batch_size=128,
        max_iter=2000,
        validate_every=50,
        contamination=0.05,
        random_state=None,
    ):
        self.generator = generator
        self.lambda_open = lambda_open
        self.lambda_fake = lambda_fake
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.validate_every = validate_every
        self.contamination = contamination
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        X_open: ArrayLike | None = None,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
    ) -> 'OpenGANDetector':
        """Train D, and G.

        Args:
            X: closed rows.
            y: ignored.
            X_open: open rows to train on.
            X_val: closed and open rows that are not trained on.
            y_val: (n,) 0 for a closed row of ``X_val``, 1 for an open one.

        Raises:
            ValueError: wrong options or rows; neither a generator nor open rows.
        """
        for name, (kind, low, high, ends) in _LIMITS.items():
            check_scalar(
                getattr(self, name), name, kind, min_val=low, max_val=high, include_boundaries=ends
            )
        if not self.generator and X_open is None:
            raise ValueError('fit: wanted X_open or generator=True, found neither')
        closed = validate_data(self, X, dtype=np.float32, ensure_min_samples=2)
        open_ = closed[:0] if X_open is None else self._further(X_open, 'X_open')
        validation = None
        if X_val is not None:
            validation = self._further(X_val, 'X_val'), self._is_open(X_val, y_val)
        else:
            warnings.warn(
                'OpenGANDetector: the last step is kept, because fit was given no X_val and y_val. '
                'Long training can spoil D; open validation chooses the step.',
                stacklevel=2,
            )
        self._train(torch.tensor(closed), torch.tensor(open_), validation)
        measured = closed if validation is None else validation[0][validation[1] == 0]
        self.offset_ = np.percentile(self._closed_logits(measured), 100 * self.contamination)
        return self

    def _further(self, rows: ArrayLike, name: str) -> np.ndarray:
        """Rows besides ``X``, of as many columns."""
        found = check_array(rows, dtype=np.float32, input_name=name)
        if found.shape[1] != self.n_features_in_:
            raise ValueError(
                f'{name}: wanted {self.n_features_in_} columns as in X, found {found.shape[1]}'
            )
        return found

    def _is_open(self, X_val: ArrayLike, y_val: ArrayLike | None) -> np.ndarray:
        is_open = column_or_1d(y_val)
        check_consistent_length(X_val, is_open)
        values = np.unique(is_open).tolist()
        if values != [0, 1]:
            raise ValueError(f'y_val: wanted 0 for closed and 1 for open rows, found {values[:5]}')
        return is_open.astype(np.int64)

    def _train(self, closed: Tensor, open_: Tensor, validation) -> None:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            discriminator = FeatureDiscriminator(self.n_features_in_)
            optimizers = dict(discriminator=_Adam(discriminator, self.learning_rate / 1.5))
            generator = None
            if self.generator:
                generator = FeatureGenerator(self.n_features_in_, out_act='auto')
                generator.observe(closed)
                optimizers['generator'] = _Adam(generator, self.learning_rate)
        self.open_validation_: list[tuple[int, float]] = []
        best, half = -np.inf, self.batch_size // 2
        for step in range(self.max_iter):
            rng = partial(step_rng, seed, step)
            rows = (
                closed[choose_closed(len(closed), self.batch_size, rng(_CLOSED))],
                open_[choose_open(len(open_), half, rng(_OPEN))],
            )
            noise = rng(_NOISE).standard_normal((2, half, _NOISE_CHANNELS), dtype=np.float32)
            gan_step(
                (discriminator, generator),
                optimizers,
                torch.from_numpy(noise),
                partial(logits_of_rows, discriminator, *rows),
                lambda network, made: network(made),
                loss_options=dict(lambda_open=self.lambda_open, lambda_fake=self.lambda_fake),
                kind='non_saturating',
            )
            done = step + 1
            if done < self.max_iter and (validation is None or done % self.validate_every):
                continue
            state = discriminator.state_dict().items()
            self.state_ = {name: value.numpy().copy() for name, value in state}
            found = 0.0
            if validation is not None:
                scores, is_open = -self._closed_logits(validation[0]), validation[1]
                found = auroc(exact_bins(torch.from_numpy(scores), torch.from_numpy(is_open)))
                self.open_validation_.append((done, found))
            if found > best:
                best, self.n_iter_, kept = found, done, self.state_
        self.state_ = kept

    @property
    def discriminator_(self) -> FeatureDiscriminator:
        """D itself, in eval mode and float64."""
        check_is_fitted(self)
        with torch.device('meta'):
            network = FeatureDiscriminator(self.n_features_in_)
        state = {name: torch.tensor(value) for name, value in self.state_.items()}
        network.load_state_dict(state, assign=True)
        return network.double().eval()

    @torch.no_grad()
    def _closed_logits(self, rows: np.ndarray) -> np.ndarray:
        network = self.discriminator_
        parts = torch.tensor(rows, dtype=torch.float64).split(_CHUNK)
        return torch.cat([network(part) for part in parts]).numpy()

    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """(n,) float64, D's raw logits, the log-odds of closed. Larger means more closed."""
        check_is_fitted(self)
        return self._closed_logits(validate_data(self, X, reset=False, dtype=np.float64))

    def open_score(self, X: ArrayLike) -> np.ndarray:
        """(n,) float64, the open score of the rest of the package: larger means more open."""
        return -self.score_samples(X)

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """(n,) float64, ``score_samples`` less ``offset_``: open rows are below 0."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> np.ndarray:
        """(n,) integers, 1 for a closed row and -1 for an open one."""
        return np.where(self.decision_function(X) >= 0, 1, -1)


class _Adam(torch.optim.Adam):
    """torch's as the authors set it, with what a step calls of mmengine's ``OptimWrapper``."""

    def __init__(self, network: nn.Module, learning_rate: float):
        super().__init__(network.parameters(), lr=learning_rate, betas=(0.5, 0.999))

    def optim_context(self, network: nn.Module) -> AbstractContextManager:
        return nullcontext()

    def update_params(self, loss: Tensor) -> None:
        self.zero_grad()
        loss.backward()
        self.step()
