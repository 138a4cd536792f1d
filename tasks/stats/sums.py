"""Paired bootstrap of statistics that are functions of sums over rows: F1 of label sets and entities, Pearson's r.

Shapes: N rows, K sums, D distinct rows, B resamples.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tasks.stats.bootstrap import NUM_RESAMPLES, bca_ends, skew
from tasks.types import Interval

Floats = NDArray[np.float64]
SumStatistic = Callable[[Floats], Floats]
"""sums_BK -> one value a resample."""

MAX_DRAWN = 200_000
"""Rows that are drawn at a time: few enough to stay in a processor's cache."""


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
    distinct_DK, row_N, count_D = np.unique(terms_NK, axis=0, return_inverse=True, return_counts=True)
    drawn = resampled_counts(row_N, len(distinct_DK), rng=rng, num_resamples=num_resamples)
    resampled_B = np.concatenate([statistic(counts_BD @ distinct_DK) for counts_BD in drawn])
    observed = float(statistic(terms_NK.sum(axis=0)[None])[0])
    return bca_ends(observed, resampled_B, jackknife_skew(distinct_DK, statistic, count_D), confidence)


def resampled_counts(
    row_N: NDArray[np.int64], num_distinct: int, *, rng: np.random.Generator, num_resamples: int
) -> Iterator[Floats]:
    """counts_BD of how often each distinct row is drawn, a part of the resamples at a time; `row_N` says which it is.

    Rows that are alike are counted together: an interval of a few kinds of rows costs a small matrix product.
    """
    n = len(row_N)
    chunk = max(1, MAX_DRAWN // max(n, num_distinct))
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        drawn_BN = row_N[rng.integers(n, size=(size, n))] + num_distinct * np.arange(size)[:, None]
        counts = np.bincount(drawn_BN.ravel(), minlength=size * num_distinct)
        yield counts.reshape(size, num_distinct).astype(np.float64)


def jackknife_skew(terms_DK: NDArray[np.floating], statistic: SumStatistic, count_D: NDArray[np.int64]) -> float:
    """Efron's acceleration, from the statistic without each row in turn; each row of the terms is there `count_D`
    times."""
    if count_D.sum() < 2:
        return 0.0
    left_out_D = statistic(count_D @ terms_DK - terms_DK)
    return skew(float(count_D @ left_out_D) / count_D.sum() - left_out_D, count_D.astype(np.float64))
