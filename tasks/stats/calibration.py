"""Do the probabilities mean what they say?

Shapes: N rows, C classes; M answers, of which a row has one, or any number where labels or entities are found.
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
    confidence_M: Floats,
    right_M: NDArray[np.bool_],
    row_M: Ints,
    *,
    num_rows: int,
    rng: np.random.Generator,
    confidence: float = 0.9,
    num_bins: int = NUM_BINS,
    num_resamples: int = 1_000,
) -> Interval:
    """ECE of answers, of which a row, `row_M`, can have several or none, with its percentile bootstrap interval.

    Rows are resampled whole, for the answers of one row are right or wrong together. ECE overestimates on few answers,
    since noise within a bin counts as error, and each resample does so again: the upper end errs on the safe side (in
    simulations it covers the true ECE in 96 to 100 % of cases at a nominal 95 %).
    Raises: ValueError without an answer.
    """
    if not len(confidence_M):
        raise ValueError("expected at least one answer with a confidence, got none; the model finds nothing")
    bins_M = _bins(confidence_M, num_bins)
    gaps_M: Floats = right_M - np.asarray(confidence_M, dtype=np.float64)
    resampled_B = []
    for _ in range(num_resamples):
        weight_M = np.bincount(rng.integers(num_rows, size=num_rows), minlength=num_rows)[row_M]
        if weight_M.any():
            resampled_B.append(_error_of(bins_M, gaps_M, num_bins=num_bins, weight_M=weight_M))
    value = _error_of(bins_M, gaps_M, num_bins=num_bins)
    low, high = np.quantile(resampled_B, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))


def _gaps(probabilities_NC: Floats, labels_N: Ints, num_bins: int) -> tuple[Ints, Floats]:
    """Each row's bin of confidence, and by how much its being right (0 or 1) exceeds its confidence."""
    confidence_N = probabilities_NC.max(axis=1).astype(np.float64)
    correct_N = probabilities_NC.argmax(axis=1) == labels_N
    return _bins(confidence_N, num_bins), correct_N - confidence_N


def _bins(confidence_M: Floats, num_bins: int) -> Ints:
    bins_M: Ints = np.clip(np.ceil(confidence_M * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    return bins_M


def _error_of(bins_N: Ints, gaps_N: Floats, *, num_bins: int, weight_M: Ints | None = None) -> float:
    total = len(gaps_N) if weight_M is None else weight_M.sum()
    weighted_N = gaps_N if weight_M is None else gaps_N * weight_M
    return float(np.abs(np.bincount(bins_N, weights=weighted_N, minlength=num_bins)).sum() / total)


def reliability_curve(
    confidence_M: Floats, right_M: NDArray[np.bool_], *, num_bins: int = NUM_BINS
) -> dict[str, list[float]]:
    """`confidence`, `accuracy` and `num_answers` of each bin of confidence that has answers, for a drawing.

    Their mean distance, weighted by the answers, is the calibration error.
    """
    bins_M = _bins(confidence_M, num_bins)
    num_K = np.bincount(bins_M, minlength=num_bins)
    used_K = num_K > 0
    means = [
        np.bincount(bins_M, weights=values_M, minlength=num_bins)[used_K] / num_K[used_K]
        for values_M in (np.asarray(confidence_M, dtype=np.float64), right_M.astype(np.float64))
    ]
    return {
        "confidence": means[0].tolist(),
        "accuracy": means[1].tolist(),
        "num_answers": num_K[used_K].astype(float).tolist(),
    }


def brier_losses(probabilities_NC: Floats, labels_N: Ints) -> Floats:
    """Squared distance of each row's probabilities to its one-hot truth, in [0, 2]. Source: Brier 1950."""
    errors_NC = probabilities_NC.astype(np.float64)
    errors_NC[np.arange(len(labels_N)), labels_N] -= 1
    losses_N: Floats = (errors_NC**2).sum(axis=1)
    return losses_N


def set_brier_losses(probabilities_NC: Floats, truth_NC: Floats) -> Floats:
    """Squared distance of each row's label probabilities to its label set, in [0, C]."""
    losses_N: Floats = ((probabilities_NC.astype(np.float64) - truth_NC) ** 2).sum(axis=1)
    return losses_N


def brier_loss(probabilities_NC: Floats, labels_N: Ints) -> float:
    """Mean of `brier_losses`; its interval is `tasks.stats.bootstrap.mean_interval` of them."""
    return float(brier_losses(probabilities_NC, labels_N).mean())


def in_wrong_order(probabilities_NC: Floats) -> Floats:
    """probabilities_NC of a model that is wrong wherever it was right: each class's under the next one's name, or, of a
    label alone, what is left to 1."""
    return 1 - probabilities_NC if probabilities_NC.shape[1] == 1 else np.roll(probabilities_NC, 1, axis=1)


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
