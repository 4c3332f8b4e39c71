"""Scorers of the logits that are calibrated on training pixels or on open validation."""

import torch

from ...functional.mc_dropout import dropout_uncertainty
from ...functional.odin import perturbed
from ...functional.scores import max_logit_statistics, msp_log_odds, standardized_max_logit
from ..options import check_choices, check_numbers, check_whole
from .base import SCORERS, FittedScorer, Scorer


@SCORERS.register_module()
class StandardizedMaxLogit(FittedScorer):
    """Minus the largest logit, standardised for the predicted class c: -(max_k v_k - mean_c) /
    std_c.

    mean_c and std_c are those of the largest logit of the training pixels *predicted* as c. Jung et
    al., ICCV 2021, "Standardized Max Logits"; without their smoothing of class boundaries
    afterwards, which needs no learning.

    Args:
        checkpoint: file that ``tools/fit_scorers.py`` wrote.
    """

    reads = 'logits'

    def __init__(self, *, checkpoint: str | None = None):
        super().__init__()
        self.load_file(checkpoint)

    def _fit(self, data):
        mean, deviation = max_logit_statistics(data.logits)
        return dict(mean_=mean.float(), deviation_=deviation.clamp(min=1e-6).float())

    def _score(self, features, logits):
        return standardized_max_logit(logits, self.mean_, self.deviation_)


@SCORERS.register_module()
class MSPc(Scorer):
    """Calibrated maximum softmax probability, 1 - max_k softmax(f(x~) / T)_k, the paper's MSP_c
    [36], known as ODIN.

    The score orders pixels as that number does, see :func:`functional.scores.msp_log_odds`.
    x~ = x - epsilon sign(-grad_x sum_p log max_k softmax(f(x)_p / T)_k): Liang et al., ICLR 2018.
    Nothing is learned; T and epsilon are chosen on open validation. It costs one more pass and one
    backward pass through the segmentor, and a second pass on x~; with epsilon = 0, one more pass.
    The map is made on the feature grid and resized, also at image resolution. ``score`` alone
    cannot perturb: it gives the map for epsilon = 0.

    Args:
        temperature: T > 0.
        epsilon: length of the step, in units of the network's input (normalised; for inputs divided
            by a standard deviation of about 57, .01 is half a grey level of 255).
        checkpoint: file that ``tools/fit_scorers.py`` wrote: T and epsilon.
    """

    reads = 'image'
    candidates = dict(temperature=[1.0, 5.0, 100.0, 1000.0], epsilon=[0.0, 0.002, 0.02])

    def __init__(
        self, *, temperature: float = 1000.0, epsilon: float = 0.001, checkpoint: str | None = None
    ):
        super().__init__()
        check_numbers('(0, inf)', temperature=temperature)
        check_numbers('[0, inf)', epsilon=epsilon)
        self.temperature = temperature
        self.epsilon = epsilon
        self.load_file(checkpoint)

    def score(self, features, logits):
        return msp_log_odds(logits, self.temperature)

    def score_image(self, inputs, forward):
        inputs = inputs.float()
        if self.epsilon:
            inputs = perturbed(
                inputs, lambda images: forward(images).logits, self.temperature, self.epsilon
            )
        with torch.no_grad():
            return self.score(None, forward(inputs).logits)


@SCORERS.register_module()
class MCDropout(FittedScorer):
    """Uncertainty of the class under dropout before the classifier, by S samples (Gal and
    Ghahramani, ICML 2016).

    ``'entropy'``: predictive entropy H(mean_s p_s); ``'mutual_information'``: H(mean_s p_s) -
    mean_s H(p_s). A sample drops whole channels, for all pixels alike, as the Dropout2d before
    ``conv_seg`` in mmseg's heads does: it is one draw of the classifier's weights. The masks are
    drawn once, in ``fit``, so that scores repeat and windows agree. Only the classifier runs again:
    S K C multiply-adds a pixel, 224 GMAC for the 32,768 pixels of a 512x1024 image with S = 500
    (the paper's), K = 19, C = 720.

    Args:
        rate: probability that a channel is dropped.
        uncertainty: ``'entropy'`` or ``'mutual_information'``.
        num_samples: S.
        checkpoint: file that ``tools/fit_scorers.py`` wrote.
    """

    candidates = dict(rate=[0.1, 0.3, 0.5], uncertainty=['entropy', 'mutual_information'])

    def __init__(
        self,
        *,
        rate: float = 0.5,
        uncertainty: str = 'entropy',
        num_samples: int = 500,
        checkpoint: str | None = None,
    ):
        super().__init__()
        check_choices(uncertainty=(uncertainty, self.candidates['uncertainty']))
        check_numbers('(0, 1)', rate=rate)
        check_whole(num_samples=num_samples)
        self.rate = rate
        self.uncertainty = uncertainty
        self.num_samples = num_samples
        self.load_file(checkpoint)

    def _fit(self, data):
        generator = torch.Generator().manual_seed(data.seed)
        kept = torch.rand(self.num_samples, data.weight.shape[1], generator=generator) >= self.rate
        return dict(
            weight_=data.weight.float(),
            bias_=data.bias.float(),
            kept_=kept.to(data.weight.device),
        )

    def _score(self, features, logits):
        weights = self.weight_ * self.kept_[:, None] / (1 - self.rate)  # (S, K, C)
        found = dropout_uncertainty(
            features.flatten(2),
            weights,
            self.bias_,
            mutual_information=self.uncertainty == 'mutual_information',
        )
        return found.view(len(features), *features.shape[2:])
