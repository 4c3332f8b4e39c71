"""OpenGANDetector: scikit-learn's contract, the package's own D, and open validation."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from mmseg_opengan.models.gan_step import gan_step
from mmseg_opengan.models.networks import FeatureDiscriminator
from mmseg_opengan.vectors import OpenGANDetector

ROOT = Path(__file__).resolve().parents[1]
LAST_STEP = 'ignore:OpenGANDetector. the last step is kept'
SMALL = dict(max_iter=3, batch_size=16, random_state=0)


def rows(number: int, centre: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(centre, 1, (number, 6))


CLOSED, OPEN = rows(200, 0, 0), rows(20, 3, 1)
VALIDATION = dict(X_val=np.vstack([rows(50, 0, 2), rows(30, 3, 3)]), y_val=[0] * 50 + [1] * 30)


def fitted(X_open=OPEN, **options) -> OpenGANDetector:
    return OpenGANDetector(**SMALL | options).fit(CLOSED, X_open=X_open, **VALIDATION)


@pytest.mark.filterwarnings(LAST_STEP)
@parametrize_with_checks([OpenGANDetector(max_iter=2, batch_size=8)])
def test_what_scikit_learn_asks_of_an_outlier_detector(estimator, check):
    check(estimator)


def test_its_scores_are_those_of_the_packages_d():
    detector = fitted()
    network = FeatureDiscriminator(6)
    network.load_state_dict({name: torch.tensor(one) for name, one in detector.state_.items()})
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(CLOSED).float())
    np.testing.assert_allclose(detector.score_samples(CLOSED), expected, atol=1e-6)
    np.testing.assert_array_equal(detector.open_score(CLOSED), -detector.score_samples(CLOSED))


@pytest.mark.parametrize(
    ('options', 'X_open', 'groups'),
    [
        (dict(), OPEN, ['closed', 'open', 'fake']),
        (dict(), None, ['closed', 'fake']),
        (dict(generator=False), OPEN, ['closed', 'open']),
    ],
    ids=['OpenGAN', 'OpenGAN-0', 'CLS'],
)
def test_the_method_follows_from_what_is_given(options, X_open, groups, monkeypatch):
    seen = []

    def step(*given, **more):
        seen.append(gan_step(*given, **more))
        return seen[-1]

    monkeypatch.setattr('mmseg_opengan.vectors.gan_step', step)
    fitted(X_open, **options)
    assert len(seen) == 3
    for log in seen:
        assert [name.removeprefix('D_') for name in log if name.startswith('D_')] == groups


def test_open_validation_keeps_the_best_step():
    detector = fitted(max_iter=25, validate_every=4, learning_rate=1e-3)
    steps, numbers = zip(*detector.open_validation_)
    assert steps == (4, 8, 12, 16, 20, 24, 25)
    assert detector.n_iter_ == steps[np.argmax(numbers)]
    found = roc_auc_score(VALIDATION['y_val'], detector.open_score(VALIDATION['X_val']))
    assert found == pytest.approx(max(numbers))
    shorter = fitted(
        max_iter=detector.n_iter_,
        validate_every=4,
        learning_rate=1e-3,
    )
    np.testing.assert_array_equal(shorter.score_samples(OPEN), detector.score_samples(OPEN))


def test_without_validation_it_warns_and_keeps_the_last_step():
    detector = OpenGANDetector(**SMALL)
    with pytest.warns(UserWarning, match='the last step is kept, because .* no X_val and y_val'):
        detector.fit(CLOSED)
    assert (detector.n_iter_, detector.open_validation_) == (3, [])
    assert (detector.predict(CLOSED) == -1).mean() == pytest.approx(0.05)


def test_the_threshold_is_measured_on_closed_validation_rows():
    detector = fitted(contamination=0.1)
    closed = VALIDATION['X_val'][:50]
    assert (detector.predict(closed) == -1).mean() == pytest.approx(0.1)


def test_a_seed_gives_one_d_and_leaves_torchs_own_generator_alone():
    before = torch.get_rng_state()
    first, again = fitted(), clone(fitted()).fit(CLOSED, X_open=OPEN, **VALIDATION)
    other = fitted(random_state=1)
    np.testing.assert_array_equal(first.score_samples(OPEN), again.score_samples(OPEN))
    assert (first.score_samples(OPEN) != other.score_samples(OPEN)).any()
    assert torch.equal(torch.get_rng_state(), before)


def test_it_finds_open_rows_of_the_kind_that_it_was_shown():
    detector = fitted(max_iter=100, batch_size=32)
    assert (
        roc_auc_score([0] * 200 + [1] * 50, detector.open_score([*CLOSED, *rows(50, 3, 4)])) > 0.9
    )


def test_a_pickle_holds_arrays_and_numbers_only():
    detector = fitted()
    plain = (int, float, str, type(None), list, np.ndarray, np.floating)
    held = {**vars(detector), **detector.state_}
    del held['state_']
    assert all(isinstance(value, plain) for value in held.values())
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(again.score_samples(OPEN), detector.score_samples(OPEN))


@pytest.mark.filterwarnings(LAST_STEP)
@pytest.mark.parametrize(
    ('options', 'given', 'message'),
    [
        (dict(generator=False), {}, 'wanted X_open or generator=True, found neither'),
        ({}, dict(X_open=OPEN[:, :5]), 'X_open: wanted 6 columns as in X, found 5'),
        ({}, VALIDATION | dict(y_val=[1] * 80), r'y_val: wanted 0 for .* found \[1\]'),
        ({}, VALIDATION | dict(y_val=[0, 1]), 'inconsistent numbers of samples'),
        (dict(batch_size=3), {}, 'batch_size == 3, must be >= 4'),
        (dict(contamination=0.6), {}, 'contamination == 0.6, must be <= 0.5'),
        (dict(max_iter=0), {}, 'max_iter == 0, must be >= 1'),
    ],
)
def test_errors(options, given, message):
    detector = OpenGANDetector(**SMALL | options)
    with pytest.raises(ValueError, match=message):
        detector.fit(CLOSED, **given)


def test_it_needs_no_openmmlab():
    code = """
import sys
for name in ('mmcv', 'mmengine', 'mmseg', 'cv2', 'matplotlib'):
    sys.modules[name] = None
from mmseg_opengan.vectors import OpenGANDetector
print(OpenGANDetector().get_params()['lambda_fake'])
"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == ('0.2\n', 0), done.stderr
