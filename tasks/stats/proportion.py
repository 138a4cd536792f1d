"""Intervals of one proportion, and tests of an error rate against a baseline that was itself measured."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri
from scipy.stats import binom

from tasks.types import Interval


def wilson(num_hits: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Score interval of a share: close to its nominal level on average. Source: Wilson 1927, JASA 22:209."""
    z = float(ndtri((1 + confidence) / 2))
    share = num_hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return Interval(value=share, low=max(0.0, float(centre - half)), high=min(1.0, float(centre + half)))


def clopper_pearson(num_hits: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Exact interval of a share: never below its nominal level. Source: Clopper and Pearson 1934."""
    tail = (1 - confidence) / 2
    return Interval(
        value=num_hits / n,
        low=_lower(num_hits, n, tail),
        high=1 - _lower(n - num_hits, n, tail),
    )


def _lower(num_hits: int, n: int, tail: float) -> float:
    return float(betaincinv(num_hits, n - num_hits + 1, tail)) if num_hits else 0.0


def excess_error_p(
    num_errors: int, n: int, *, baseline_errors: int, baseline_n: int, tolerance: float, alpha: float
) -> float:
    """p of H0 "the error rate is at most the baseline's plus `tolerance`", where the baseline is an estimate too.

    The binomial tail grows with the error rate, so its largest value over a confidence set of the baseline is at the
    set's upper end; adding the chance that the set misses keeps the test exact for every n.
    Source: Berger and Boos 1994, JASA 89:1012. A tenth of `alpha` is spent on the set.
    """
    miss = alpha / 10
    baseline_high = 1 - _lower(baseline_n - baseline_errors, baseline_n, miss)
    tail = float(binom.sf(num_errors - 1, n, min(1.0, baseline_high + tolerance)))
    return min(1.0, tail + miss)


def ppi_accuracy(
    correct_n: NDArray[np.bool_],
    confidence_n: NDArray[np.floating],
    confidence_N: NDArray[np.floating],
    *,
    confidence: float = 0.95,
) -> Interval:
    """Accuracy from few labelled rows, sharpened by the model's confidence on many unlabelled ones.

    `correct_n` and `confidence_n` are of the randomly drawn labelled rows, `confidence_N` of the unlabelled. Unbiased
    however wrong the confidences are; where they tell nothing, their weight goes to 0.
    Source: Angelopoulos 2023 (arXiv:2301.09633), weight of arXiv:2311.01453.
    """
    correct = correct_n.astype(np.float64)
    n, N = len(correct), len(confidence_N)
    spread = float(confidence_n.var())
    weight = float(np.cov(correct, confidence_n, bias=True)[0, 1]) / (spread * (1 + n / N)) if spread > 0 else 0.0
    rest = correct - weight * confidence_n
    value = weight * float(confidence_N.mean()) + float(rest.mean())
    half = float(ndtri((1 + confidence) / 2)) * float(np.sqrt(weight**2 * confidence_N.var() / N + rest.var() / n))
    return Interval(value=value, low=max(0.0, value - half), high=min(1.0, value + half))
