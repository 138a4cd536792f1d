"""Paired bootstrap of statistics that are functions of sums over rows: F1 of label sets and entities, Pearson's r.

Shapes: N rows, K sums, B resamples.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tasks.stats.bootstrap import NUM_RESAMPLES, bca_ends, skew
from tasks.types import Interval

Floats = NDArray[np.float64]
SumStatistic = Callable[[Floats], Floats]
"""sums_BK -> one value a resample."""

MAX_WEIGHTS = 4_000_000
"""Row counts that are drawn at a time, which bounds the memory."""


def sums_interval(
    terms_NK: NDArray[np.floating],
    statistic: SumStatistic,
    *,
    rng: np.random.Generator,
    confidence: float,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """The statistic of the column sums with its BCa interval, the rows resampled whole.

    With the columns of two models side by side and a difference as the statistic, this is the paired interval; at
    confidence 1 - 2 alpha each end is a one-sided bound at alpha. Raises: ValueError without rows.
    """
    terms_NK = np.asarray(terms_NK, dtype=np.float64)
    n = len(terms_NK)
    if not n:
        raise ValueError("expected at least one row to resample, got none; check that the split is not empty")
    chunk = max(1, MAX_WEIGHTS // n)
    resampled = []
    for start in range(0, num_resamples, chunk):
        counts_BN = rng.multinomial(n, np.full(n, 1 / n), size=min(chunk, num_resamples - start))
        resampled.append(statistic(counts_BN.astype(np.float64) @ terms_NK))
    total_K = terms_NK.sum(axis=0)
    return bca_ends(
        float(statistic(total_K[None])[0]), np.concatenate(resampled), jackknife_skew(terms_NK, statistic), confidence
    )


def jackknife_skew(terms_NK: NDArray[np.floating], statistic: SumStatistic) -> float:
    """Efron's acceleration, from the statistic without each row in turn."""
    if len(terms_NK) < 2:
        return 0.0
    left_out_N = statistic(terms_NK.sum(axis=0) - terms_NK)
    return skew(left_out_N.mean() - left_out_N, np.ones(len(terms_NK)))
