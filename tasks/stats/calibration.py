"""Do the probabilities mean what they say?

Shapes: N rows, C classes.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


def calibration_error(probabilities_NC: Floats, labels_N: Ints, *, num_bins: int = 15) -> float:
    """Expected calibration error (ECE): mean distance of confidence and accuracy over equally wide bins of confidence.

    Source: Guo 2017 (arXiv:1706.04599), equation 3.
    """
    confidence_N = probabilities_NC.max(axis=1).astype(np.float64)
    correct_N = probabilities_NC.argmax(axis=1) == labels_N
    bin_N = np.clip(np.ceil(confidence_N * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    gaps = np.bincount(bin_N, weights=correct_N - confidence_N, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(labels_N))


def brier_loss(probabilities_NC: Floats, labels_N: Ints) -> float:
    """Mean squared distance of the probabilities to the one-hot truth, in [0, 2]. Source: Brier 1950."""
    errors_NC = probabilities_NC.astype(np.float64)
    errors_NC[np.arange(len(labels_N)), labels_N] -= 1
    return float((errors_NC**2).sum(axis=1).mean())


def fit_temperature(logits_NC: Floats, labels_N: Ints) -> float:
    """The temperature in [0.05, 20] whose softmax has the least negative log-likelihood on these rows.

    It changes no ranking, so it cannot cost accuracy. Source: Guo 2017, section 4.2.
    """
    logits_NC = logits_NC.astype(np.float64)
    true_N = logits_NC[np.arange(len(labels_N)), labels_N]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(logsumexp(logits_NC * scale, axis=1) - true_N * scale))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))
