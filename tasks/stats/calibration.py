"""Do the probabilities mean what they say?

Shapes: N rows, C classes.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from tasks.types import Interval

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

NUM_BINS = 15


def calibration_error(probabilities_NC: Floats, labels_N: Ints, *, num_bins: int = NUM_BINS) -> float:
    """Expected calibration error (ECE): mean distance of confidence and accuracy over equally wide bins of confidence.

    Source: Guo 2017 (arXiv:1706.04599), equation 3.
    """
    return _error_of(*_gaps(probabilities_NC, labels_N, num_bins), num_bins=num_bins)


def calibration_error_interval(
    probabilities_NC: Floats,
    labels_N: Ints,
    *,
    rng: np.random.Generator,
    confidence: float = 0.9,
    num_bins: int = NUM_BINS,
    num_resamples: int = 1_000,
) -> Interval:
    """ECE with its percentile bootstrap interval.

    ECE overestimates on few rows, since noise within a bin counts as error, and each resample does so again: the upper
    end errs on the safe side (in simulations it covers the true ECE in 96 to 100 % of cases at a nominal 95 %).
    """
    bins_N, gaps_N = _gaps(probabilities_NC, labels_N, num_bins)
    n = len(gaps_N)
    rows_BN = (rng.integers(n, size=n) for _ in range(num_resamples))
    resampled_B = [_error_of(bins_N[rows_N], gaps_N[rows_N], num_bins=num_bins) for rows_N in rows_BN]
    low, high = np.quantile(resampled_B, [(1 - confidence) / 2, (1 + confidence) / 2])
    value = _error_of(bins_N, gaps_N, num_bins=num_bins)
    return Interval(value=value, low=min(float(low), value), high=float(high))


def _gaps(probabilities_NC: Floats, labels_N: Ints, num_bins: int) -> tuple[Ints, Floats]:
    """Each row's bin of confidence, and by how much its being right (0 or 1) exceeds its confidence."""
    confidence_N = probabilities_NC.max(axis=1).astype(np.float64)
    correct_N = probabilities_NC.argmax(axis=1) == labels_N
    bins_N = np.clip(np.ceil(confidence_N * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    return bins_N, correct_N - confidence_N


def _error_of(bins_N: Ints, gaps_N: Floats, *, num_bins: int) -> float:
    return float(np.abs(np.bincount(bins_N, weights=gaps_N, minlength=num_bins)).sum() / len(gaps_N))


def reliability_curve(probabilities_NC: Floats, labels_N: Ints, *, num_bins: int = NUM_BINS) -> dict[str, list[float]]:
    """`confidence`, `accuracy` and `num_rows` of each bin of `calibration_error` that has rows, for a drawing."""
    bins_N, gaps_N = _gaps(probabilities_NC, labels_N, num_bins)
    num_rows_K = np.bincount(bins_N, minlength=num_bins)
    used_K = num_rows_K > 0
    confidence_N = probabilities_NC.max(axis=1).astype(np.float64)
    means = [
        np.bincount(bins_N, weights=values_N, minlength=num_bins)[used_K] / num_rows_K[used_K]
        for values_N in (confidence_N, confidence_N + gaps_N)
    ]
    return {
        "confidence": means[0].tolist(),
        "accuracy": means[1].tolist(),
        "num_rows": num_rows_K[used_K].astype(float).tolist(),
    }


def brier_losses(probabilities_NC: Floats, labels_N: Ints) -> Floats:
    """Squared distance of each row's probabilities to its one-hot truth, in [0, 2]. Source: Brier 1950."""
    errors_NC = probabilities_NC.astype(np.float64)
    errors_NC[np.arange(len(labels_N)), labels_N] -= 1
    losses_N: Floats = (errors_NC**2).sum(axis=1)
    return losses_N


def brier_loss(probabilities_NC: Floats, labels_N: Ints) -> float:
    """Mean of `brier_losses`; its interval is `tasks.stats.bootstrap.mean_interval` of them."""
    return float(brier_losses(probabilities_NC, labels_N).mean())


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
