"""Paired bootstrap of statistics that are functions of sums over rows: F1 of label sets and entities, Pearson's r.

Shapes: N rows, R rows that the candidate could have lost (`tasks.stats.bootstrap`), M = N + R, K sums, D distinct rows,
B resamples.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tasks.stats.bootstrap import NUM_RESAMPLES, about, bca_ends, draw_rows, row_weights, skew
from tasks.types import Interval

Floats = NDArray[np.float64]
SumStatistic = Callable[[Floats], Floats]
"""sums_BK -> one value a resample."""

MAX_LOST = 100
"""Of the rows that could be lost so many stand for all: each may make a distinct row more."""
MAX_DRAWN = 200_000
"""Rows that are drawn at a time: few enough to stay in a processor's cache."""


def sums_interval(
    terms_NK: NDArray[np.floating],
    statistic: SumStatistic,
    *,
    rng: np.random.Generator,
    confidence: float,
    num_resamples: int = NUM_RESAMPLES,
    lost_RK: NDArray[np.floating] | None = None,
) -> Interval:
    """The statistic of the column sums with its BCa interval, the rows resampled whole, one of `lost_RK` with them.

    With the columns of two models side by side and a difference as the statistic, this is the paired interval; at
    confidence 1 - 2 alpha each end is a one-sided bound at alpha. Raises: ValueError without rows.
    """
    terms_NK = np.asarray(terms_NK, dtype=np.float64)
    if not len(terms_NK):
        raise ValueError("expected at least one row to resample, got none; check that the split is not empty")
    num_lost = 0 if lost_RK is None else len(lost_RK)
    terms_MK = terms_NK if lost_RK is None else np.vstack([terms_NK, lost_RK])
    distinct_DK, place_M = np.unique(terms_MK, axis=0, return_inverse=True)
    drawn = resampled_counts(place_M, len(distinct_DK), num_lost=num_lost, rng=rng, num_resamples=num_resamples)
    resampled_B = np.concatenate([statistic(counts_BD @ distinct_DK) for counts_BD in drawn])
    middle = float(statistic((row_weights(len(terms_NK), num_lost) @ terms_MK)[None])[0])
    rows_only_D = np.bincount(place_M[: len(terms_NK)], minlength=len(distinct_DK))
    found = bca_ends(middle, resampled_B, jackknife_skew(distinct_DK, statistic, rows_only_D), confidence)
    return about(float(statistic(terms_NK.sum(axis=0)[None])[0]), found)


def resampled_counts(
    place_M: NDArray[np.int64], num_distinct: int, *, num_lost: int = 0, rng: np.random.Generator, num_resamples: int
) -> Iterator[Floats]:
    """counts_BD of how often each distinct row is drawn, a part of the resamples at a time; `place_M` says which it is.

    Rows that are alike are counted together: an interval of a few kinds of rows costs a small matrix product.
    """
    n = len(place_M) - num_lost
    chunk = max(1, MAX_DRAWN // max(n, num_distinct))
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        drawn_BN = place_M[draw_rows(n, num_lost, rng=rng, size=size)] + num_distinct * np.arange(size)[:, None]
        counts = np.bincount(drawn_BN.ravel(), minlength=size * num_distinct)
        yield counts.reshape(size, num_distinct).astype(np.float64)


def jackknife_skew(terms_DK: NDArray[np.floating], statistic: SumStatistic, count_D: NDArray[np.int64]) -> float:
    """Efron's acceleration, from the statistic without each row in turn; each row of the terms is there `count_D`
    times."""
    if count_D.sum() < 2:
        return 0.0
    left_out_D = statistic(count_D @ terms_DK - terms_DK)
    return skew(float(count_D @ left_out_D) / count_D.sum() - left_out_D, count_D.astype(np.float64))
