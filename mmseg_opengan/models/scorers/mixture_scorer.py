"""Likelihood under a Gaussian mixture of closed features."""

import torch
from torch import Tensor

from ...functional.distances import by_columns, project, unit_length
from ...functional.mixtures import log_constants, log_likelihood, whitening_of_components
from ..options import check_choices, check_whole
from .base import SCORERS, FittedScorer

CHANNELS = 50  # that PCA keeps
NUM_PIXELS = 50000  # that the mixture is fitted to; PCA is to all
COVARIANCES = ('full', 'tied', 'diag', 'spherical')


@SCORERS.register_module()
class GMM(FittedScorer):
    """Minus the log-likelihood under a Gaussian mixture: -log sum_j w_j N(P(x / |x|); mu_j, S_j), P
    a PCA.

    The paper's section 10 and [33]: features divided by their L2 norm, reduced by PCA to 50
    channels, a mixture whose number of components and kind of covariance open validation chooses.
    One mixture of all closed pixels: it is not class-conditional. What PCA leaves out does not
    count. Fitted by scikit-learn's PCA and GaussianMixture.

    Args:
        num_components: J.
        covariance: ``'full'``, ``'tied'``, ``'diag'`` or ``'spherical'``, as in scikit-learn.
        checkpoint: file that ``tools/fit_scorers.py`` wrote.
    """

    candidates = dict(num_components=[5, 10, 20], covariance=['full', 'diag', 'spherical'])

    def __init__(
        self, *, num_components: int = 20, covariance: str = 'full', checkpoint: str | None = None
    ):
        super().__init__()
        check_choices(covariance=(covariance, COVARIANCES))
        check_whole(num_components=num_components)
        self.num_components = num_components
        self.covariance = covariance
        self.load_file(checkpoint)

    def _fit(self, data):
        # Here: importing it takes a second, and scoring does not need it.
        from sklearn.decomposition import PCA
        from sklearn.mixture import GaussianMixture

        features = unit_length(data.features).cpu().numpy()
        channels = min(CHANNELS, *features.shape)
        pca = PCA(channels, svd_solver='covariance_eigh').fit(features)
        generator = torch.Generator().manual_seed(data.seed)
        chosen = torch.randperm(len(features), generator=generator)[:NUM_PIXELS]
        mixture = GaussianMixture(
            min(self.num_components, len(chosen)),
            covariance_type=self.covariance,
            random_state=data.seed,
        ).fit(pca.transform(features[chosen.numpy()]))
        means = torch.from_numpy(mixture.means_).double()
        cholesky = torch.from_numpy(mixture.precisions_cholesky_).double()
        log_weights = torch.from_numpy(mixture.weights_).double().log()
        whitening = whitening_of_components(self.covariance, cholesky, len(means), channels)
        projection = torch.from_numpy(pca.components_).double()
        learned = dict(
            projection_=projection,
            offset_=projection @ torch.from_numpy(pca.mean_).double(),
            whitening_=whitening,
            centres_=(whitening @ means[:, :, None])[..., 0],
            constants_=log_constants(log_weights, whitening),
        )
        return {name: value.float().to(data.features.device) for name, value in learned.items()}

    def _score(self, features, logits):
        def minus_log_likelihood(points: Tensor) -> Tensor:
            points = project(points, self.projection_, self.offset_, unit=True)
            return -log_likelihood(points, self.whitening_, self.centres_, self.constants_)

        return by_columns(minus_log_likelihood, features)
