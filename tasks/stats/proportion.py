"""Intervals of one proportion, and the test of an error rate against a limit."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri
from scipy.stats import binom

from tasks.types import Interval


def wilson(num_hits: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Score interval of a share: close to its nominal level on average. Source: Wilson 1927, JASA 22:209."""
    return _wilson(num_hits / n, n, confidence)


def _wilson(share: float, n: float, confidence: float) -> Interval:
    z = float(ndtri((1 + confidence) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return Interval(value=share, low=max(0.0, float(centre - half)), high=min(1.0, float(centre + half)))


def clopper_pearson(num_hits: float, n: float, *, confidence: float = 0.95) -> Interval:
    """Exact interval of a share: never below its nominal level. Source: Clopper and Pearson 1934."""
    tail = (1 - confidence) / 2
    return Interval(
        value=num_hits / n,
        low=_lower(num_hits, n, tail),
        high=1 - _lower(n - num_hits, n, tail),
    )


def weighted_share(hits_n: NDArray[np.bool_], weights_n: NDArray[np.floating]) -> Interval:
    """Share of hits where row i was drawn with a chance of 1 / weight: each stands for the rows that were not.

    Clopper and Pearson's interval for as many rows of equal weight as are as sure: theirs where the weights are equal.
    Source: Korn and Graubard 1998, Survey Methodology 24:193.
    """
    share = float(np.average(hits_n, weights=weights_n))
    n = effective_size(weights_n)
    return clopper_pearson(share * n, n)


def effective_size(weights_n: NDArray[np.floating]) -> float:
    """Rows of equal weight that are as sure as these. Source: Kish 1965."""
    return float(weights_n.sum() ** 2 / (weights_n**2).sum())


def _lower(num_hits: float, n: float, tail: float) -> float:
    return float(betaincinv(num_hits, n - num_hits + 1, tail)) if num_hits else 0.0


def upper_share(num_hits: int, n: int, miss: float) -> float:
    """Exact upper bound of a share, below the truth with a probability of at most `miss`."""
    return 1 - _lower(n - num_hits, n, miss)


def excess_error_p(num_errors: int, n: int, *, limit: float) -> float:
    """Exact p of H0 "the error rate is at most `limit`"; 1 without labels."""
    return float(binom.sf(num_errors - 1, n, min(1.0, limit)))


def ppi_accuracy(
    correct_n: NDArray[np.bool_],
    confidence_n: NDArray[np.floating],
    confidence_N: NDArray[np.floating],
    *,
    weights_n: NDArray[np.floating] | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Accuracy from few labelled rows, sharpened by the model's confidence on many rows.

    `correct_n` and `confidence_n` are of the randomly drawn labelled rows, each drawn with a chance of 1 / `weights_n`
    (equal chances without them); `confidence_N` of a sample of all rows, drawn or not. Unbiased however wrong the
    confidences are; where they tell nothing, their weight goes to 0. The interval is Wilson's for as many labels as
    would be as sharp without the confidences, since Wald's covers 80 % instead of 95 % where the accuracy is .97 and 50
    rows are labelled. Source: Angelopoulos 2023 (arXiv:2301.09633), weight of arXiv:2311.01453.
    """
    correct, N = correct_n.astype(np.float64), len(confidence_N)
    chances = np.ones(len(correct)) if weights_n is None else weights_n
    n = effective_size(chances)
    weight = _ppi_weight(correct, confidence_n, confidence_N, chances)
    rest = correct - weight * confidence_n
    value = float(np.clip(weight * confidence_N.mean() + np.average(rest, weights=chances), 0, 1))
    variance = float(weight**2 * confidence_N.var() / N + _variance(rest, chances) / n)
    plain = _variance(correct, chances) / n
    return _wilson(value, n * max(1.0, plain / variance) if variance > 0 else n, confidence)


def _ppi_weight(
    correct_n: NDArray[np.float64],
    confidence_n: NDArray[np.floating],
    confidence_N: NDArray[np.floating],
    chances_n: NDArray[np.floating],
) -> float:
    """PPI++'s weight, which makes the variance smallest, from 0 (plain accuracy) to 1 (plain PPI)."""
    spread = float(np.concatenate([confidence_n, confidence_N]).var())
    if spread == 0:
        return 0.0
    shared = float(np.cov(correct_n, confidence_n, aweights=chances_n, ddof=0)[0, 1])
    return float(np.clip(shared / (spread * (1 + len(correct_n) / len(confidence_N))), 0, 1))


def _variance(values_n: NDArray[np.floating], weights_n: NDArray[np.floating]) -> float:
    return float(np.average((values_n - np.average(values_n, weights=weights_n)) ** 2, weights=weights_n))
