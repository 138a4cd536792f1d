"""Bootstrap intervals of accuracy, macro-F1 and means.

Rows with the same truth and the same predictions are interchangeable, so resampling rows is drawing the counts of the
distinct cells from a multinomial: thousands of resamples cost one matrix product.

Where no row, or hardly one, speaks against a candidate, resamples of the rows cannot either: an interval of no width
would say that a model without a loss among a hundred rows has none among a million. So paired intervals resample one
row more, any of those that the candidate could have lost: with no loss among n rows the lower end is then about -3/n,
as it is of an exact interval (the "rule of three"), and among many losses it hardly counts. The acceleration is that of
the rows alone.

Shapes: N rows, R rows as they would be if the candidate had lost them, M = N + R; K distinct cells, C classes, B
resamples.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri

from tasks.types import Interval

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""counts_BK of the cells -> one value a resample."""

NUM_RESAMPLES = 2_000
ROUNDING = 1e-12
"""Values that differ by less are the same, summed in another order."""
MAX_DRAWN = 2_000_000
"""Rows that are drawn at a time, which bounds the memory."""


def macro_f1(labels_N: Ints, predicted_N: Ints) -> float:
    """Mean F1 of the classes that occur in truth or predictions, as scikit-learn's `f1_score(average="macro")`."""
    cells_KJ, counts_K = _cells(labels_N, predicted_N)
    return float(_macro_f1_of(cells_KJ[:, 0], cells_KJ[:, 1])(counts_K[None])[0])


def accuracy_interval(
    labels_N: Ints,
    predicted_N: Ints,
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Accuracy with its BCa bootstrap interval. Raises: ValueError without rows."""
    correct_N = (np.asarray(labels_N) == np.asarray(predicted_N)).astype(np.int64)
    cells_KJ, counts_K = _cells(correct_N)
    return _bca(_share_of(cells_KJ[:, 0]), counts_K, rng, confidence, num_resamples)


def macro_f1_interval(
    labels_N: Ints,
    predicted_N: Ints,
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Macro-F1 with its BCa bootstrap interval. Raises: ValueError without rows."""
    cells_KJ, counts_K = _cells(labels_N, predicted_N)
    return _bca(_macro_f1_of(cells_KJ[:, 0], cells_KJ[:, 1]), counts_K, rng, confidence, num_resamples)


def macro_f1_difference(
    labels_N: Ints,
    candidate_N: Ints,
    reference_N: Ints,
    *,
    rng: np.random.Generator,
    confidence: float = 0.9,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Macro-F1 of the candidate less that of the reference, with its paired BCa interval.

    The same rows are drawn for both, among them one more of those where the candidate is right, with the next class as
    its answer. At confidence 1 - 2 alpha the lower end is the one-sided bound at alpha.
    """
    cells_KJ, counts_K = _cells(labels_N, candidate_N, reference_N)
    right_K = cells_KJ[:, 0] == cells_KJ[:, 1]
    lost_RJ, lost_R = cells_KJ[right_K], counts_K[right_K] / max(1.0, counts_K[right_K].sum())
    lost_RJ[:, 1] = (lost_RJ[:, 1] + 1) % max(2, cells_KJ.max() + 1)
    cells_MJ = np.vstack([cells_KJ, lost_RJ])
    candidate = _macro_f1_of(cells_MJ[:, 0], cells_MJ[:, 1])
    reference = _macro_f1_of(cells_MJ[:, 0], cells_MJ[:, 2])
    return _bca(
        lambda counts_BM: candidate(counts_BM) - reference(counts_BM), counts_K, rng, confidence, num_resamples, lost_R
    )  # fmt: skip


def mean_interval(
    values_N: Floats,
    *,
    rng: np.random.Generator,
    confidence: float = 0.9,
    num_resamples: int = NUM_RESAMPLES,
    lost_R: Floats | None = None,
) -> Interval:
    """Mean of one value a row with its BCa bootstrap interval; of paired differences, this is the paired interval.

    `lost_R` are the values that rows would have if the candidate had lost them. At confidence 1 - 2 alpha each end is a
    one-sided bound at alpha. Raises: ValueError without rows.
    """
    values_N = np.asarray(values_N, dtype=np.float64)
    if not len(values_N):
        raise ValueError("expected at least one value to resample, got none; check that the split is not empty")
    n, num_lost = len(values_N), 0 if lost_R is None else len(lost_R)
    values_M = values_N if lost_R is None else np.concatenate([values_N, lost_R])
    chunk = max(1, MAX_DRAWN // n)
    sizes = [min(chunk, num_resamples - start) for start in range(0, num_resamples, chunk)]
    resampled_B = np.concatenate([values_M[draw_rows(n, num_lost, rng=rng, size=size)].mean(axis=1) for size in sizes])
    middle = float(np.average(values_M, weights=row_weights(n, num_lost)))
    found = bca_ends(middle, resampled_B, skew(values_N - values_N.mean(), np.ones(n)), confidence)
    return about(float(values_N.mean()), found)


def draw_rows(num_rows: int, num_lost: int, *, rng: np.random.Generator, size: int) -> Ints:
    """rows_BN of `size` resamples; with lost ones there is one row more, which is any of them each time it is drawn."""
    n = num_rows + bool(num_lost)
    rows_BN = rng.integers(n, size=(size, n))
    if num_lost:
        more_BN = rows_BN == num_rows
        rows_BN[more_BN] += rng.integers(num_lost, size=np.count_nonzero(more_BN))
    return rows_BN


def row_weights(num_rows: int, num_lost: int) -> Floats:
    """weight_M of the rows in the mean resample: those that are lost are one row together."""
    return np.concatenate([np.ones(num_rows), np.full(num_lost, 1 / max(1, num_lost))])


def about(value: float, found: Interval) -> Interval:
    """The interval with the value of the rows alone."""
    return Interval(value=value, low=min(found.low, value), high=max(found.high, value))


def _cells(*columns: Ints) -> tuple[Ints, Floats]:
    """The distinct rows of the columns, and how often each occurs."""
    cells_KJ, counts_K = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
    if not len(cells_KJ):
        raise ValueError("expected at least one row to resample, got none; check that the split is not empty")
    return cells_KJ, counts_K.astype(np.float64)


def _share_of(hits_K: Ints) -> Statistic:
    return lambda counts_BK: np.asarray(counts_BK @ hits_K / counts_BK.sum(axis=1))


def _macro_f1_of(true_K: Ints, predicted_K: Ints) -> Statistic:
    num_classes = int(max(true_K.max(), predicted_K.max())) + 1
    hit_KC = _one_hot(true_K, num_classes, weights_K=(true_K == predicted_K))
    support_KC = _one_hot(true_K, num_classes) + _one_hot(predicted_K, num_classes)

    def statistic(counts_BK: Floats) -> Floats:
        support_BC = counts_BK @ support_KC
        f1_BC = 2 * (counts_BK @ hit_KC) / np.maximum(support_BC, 1e-300)
        return np.asarray(f1_BC.sum(axis=1) / (support_BC > 0).sum(axis=1))

    return statistic


def _one_hot(index_K: Ints, num_classes: int, weights_K: Any = None) -> Any:
    values_K = np.ones(len(index_K)) if weights_K is None else weights_K.astype(np.float64)
    return csr_array((values_K, (np.arange(len(index_K)), index_K)), shape=(len(index_K), num_classes))


def _bca(
    statistic: Statistic,
    counts_K: Floats,
    rng: np.random.Generator,
    confidence: float,
    num_resamples: int,
    lost_R: Floats | None = None,
) -> Interval:
    """The statistic is one of the K cells, and of those of the lost row behind them where there is one."""
    with_lost_M = counts_K if lost_R is None else np.concatenate([counts_K, lost_R])
    alone_M = np.pad(counts_K, (0, len(with_lost_M) - len(counts_K)))
    n = round(with_lost_M.sum())
    resampled_B = statistic(rng.multinomial(n, with_lost_M / with_lost_M.sum(), size=num_resamples).astype(np.float64))
    middle = float(statistic(with_lost_M[None])[0])
    found = bca_ends(middle, resampled_B, _acceleration(statistic, alone_M), confidence)
    return about(float(statistic(alone_M[None])[0]), found)


def bca_ends(observed: float, resampled_B: Floats, acceleration: float, confidence: float) -> Interval:
    """Bias-corrected and accelerated interval. Source: Efron 1987, JASA 82:171."""
    num_resamples = len(resampled_B)
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if np.ptp(resampled_B) == 0:
        return Interval(value=observed, low=observed, high=observed)
    below = (np.sum(resampled_B < observed - ROUNDING) + np.sum(resampled_B <= observed + ROUNDING)) / (
        2 * num_resamples
    )
    bias = ndtri(np.clip(below, 1 / num_resamples, 1 - 1 / num_resamples))
    shifted = bias + ndtri(tails)
    low, high = np.quantile(resampled_B, ndtr(bias + shifted / (1 - acceleration * shifted)))
    return Interval(value=observed, low=float(low), high=float(high))


def _acceleration(statistic: Statistic, counts_K: Floats) -> float:
    """Skewness of the jackknife, where leaving out any row of one cell gives the same value."""
    n, there_K = counts_K.sum(), counts_K > 0
    if n < 2:
        return 0.0
    left_out_K = np.concatenate([statistic(counts_bK) for counts_bK in _leave_one_out(counts_K)])
    return skew((counts_K[there_K] @ left_out_K) / n - left_out_K, counts_K[there_K])


def skew(influence_K: Floats, counts_K: Floats) -> float:
    """Efron's acceleration of the influences of the rows, each of which occurs `counts_K` times."""
    spread = float(counts_K @ influence_K**2)
    return float(counts_K @ influence_K**3) / (6 * spread**1.5) if spread > 0 else 0.0


def _leave_one_out(counts_K: Floats, chunk: int = 500) -> Iterator[Floats]:
    """The counts without one row of each cell that has any, a few hundred cells at a time to bound memory."""
    there = np.flatnonzero(counts_K)
    for start in range(0, len(there), chunk):
        rows = there[start : start + chunk]
        counts_bK = np.tile(counts_K, (len(rows), 1))
        counts_bK[np.arange(len(rows)), rows] -= 1
        yield counts_bK
