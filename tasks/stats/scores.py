"""Correlations of scores with their truth, and their bootstrap intervals.

Shapes: N rows, M rows with those that are lost (`tasks.stats.bootstrap`), B resamples.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from tasks.stats.bootstrap import NUM_RESAMPLES, about, bca_ends, row_weights
from tasks.stats.multi_label import difference
from tasks.stats.sums import MAX_LOST, SumStatistic, jackknife_skew, resampled_counts, sums_interval
from tasks.types import Interval

Floats = NDArray[np.float64]


def pearson(scores_N: NDArray[np.floating], truth_N: NDArray[np.floating]) -> float:
    """Pearson's correlation; 0 where either is constant."""
    return float(_pearson_of(_moments(scores_N, truth_N).sum(axis=0)[None])[0])


def spearman(scores_N: NDArray[np.floating], truth_N: NDArray[np.floating]) -> float:
    """Spearman's correlation, ties at their mean rank; 0 where either is constant."""
    return pearson(rankdata(scores_N), rankdata(truth_N))


def pearson_interval(
    scores_N: NDArray[np.floating], truth_N: NDArray[np.floating], *, rng: np.random.Generator, confidence: float
) -> Interval:
    """Pearson's correlation with its BCa interval, rows resampled."""
    return sums_interval(_moments(scores_N, truth_N), _pearson_of, rng=rng, confidence=confidence)


def pearson_difference(
    candidate_N: NDArray[np.floating],
    reference_N: NDArray[np.floating],
    truth_N: NDArray[np.floating],
    *,
    rng: np.random.Generator,
    confidence: float,
) -> Interval:
    """Pearson's correlation of the candidate less that of the reference, with its paired BCa interval.

    Among the rows is one more, for which the candidate has the score of another.
    """
    candidate_M, reference_M, truth_M = _with_lost(candidate_N, reference_N, truth_N, rng)
    terms_MK = np.hstack([_moments(candidate_M, truth_M), _moments(reference_M, truth_M)])
    terms_NK, lost_RK = np.split(terms_MK, [len(truth_N)])
    return sums_interval(terms_NK, difference(_pearson_of), rng=rng, confidence=confidence, lost_RK=lost_RK)


def spearman_interval(
    scores_N: NDArray[np.floating], truth_N: NDArray[np.floating], *, rng: np.random.Generator, confidence: float
) -> Interval:
    """Spearman's correlation with its BCa interval, rows resampled and ranked anew."""
    return _ranked_interval([scores_N], truth_N, 0, _pearson_of, rng, confidence)


def spearman_difference(
    candidate_N: NDArray[np.floating],
    reference_N: NDArray[np.floating],
    truth_N: NDArray[np.floating],
    *,
    rng: np.random.Generator,
    confidence: float,
) -> Interval:
    """Spearman's correlation of the candidate less that of the reference, with its paired BCa interval.

    Among the rows is one more, for which the candidate has the score of another.
    """
    candidate_M, reference_M, truth_M = _with_lost(candidate_N, reference_N, truth_N, rng)
    num_lost = len(truth_M) - len(truth_N)
    return _ranked_interval([candidate_M, reference_M], truth_M, num_lost, difference(_pearson_of), rng, confidence)


def _with_lost(
    candidate_N: NDArray[np.floating],
    reference_N: NDArray[np.floating],
    truth_N: NDArray[np.floating],
    rng: np.random.Generator,
) -> tuple[Floats, Floats, Floats]:
    """The rows, and behind them some once more, with the candidate's scores of others."""
    rows, others = (rng.permutation(len(truth_N))[:MAX_LOST] for _ in range(2))
    columns = ((candidate_N, others), (reference_N, rows), (truth_N, rows))
    found = [np.concatenate([each_N, each_N[more]]).astype(np.float64) for each_N, more in columns]
    return found[0], found[1], found[2]


def _ranked_interval(
    scores: list[NDArray[np.floating]],
    truth_M: NDArray[np.floating],
    num_lost: int,
    statistic: SumStatistic,
    rng: np.random.Generator,
    confidence: float,
) -> Interval:
    """The last `num_lost` of the rows are one together.

    The acceleration is that of the ranks of all rows: leaving a row out hardly moves the others'.
    """
    m, n = len(truth_M), len(truth_M) - num_lost
    if not n:
        raise ValueError("expected at least one row to resample, got none; check that the split is not empty")
    ranks = [_Ranks(each_M) for each_M in (*scores, truth_M)]

    def of_counts(counts_BM: Floats) -> Floats:
        *scores_BM, (truth_BM, truth_squares_B) = (rank(counts_BM) for rank in ranks)
        truth_BM *= counts_BM
        sums = []
        for ranks_BM, squares_B in scores_BM:
            sums += [counts_BM.sum(axis=1), *np.zeros((2, len(counts_BM)))]
            sums += [squares_B, truth_squares_B, np.einsum("bm,bm->b", ranks_BM, truth_BM)]
        return statistic(np.stack(sums, axis=1))

    drawn = resampled_counts(np.arange(m), m, num_lost=num_lost, rng=rng, num_resamples=NUM_RESAMPLES)
    resampled_B = np.concatenate([of_counts(counts_BM) for counts_BM in drawn])
    alone_M, with_lost_M = (np.arange(m) < n).astype(np.float64), row_weights(n, num_lost)
    *placed, truth_rank_M = (rank(alone_M[None])[0][0] for rank in ranks)
    terms_NK = np.hstack([_moments(each_M[:n], truth_rank_M[:n]) for each_M in placed])
    skew = jackknife_skew(terms_NK, statistic, np.ones(n, dtype=np.int64))
    found = bca_ends(float(of_counts(with_lost_M[None])[0]), resampled_B, skew, confidence)
    return about(float(of_counts(alone_M[None])[0]), found)


class _Ranks:
    """Ranks of values in resamples of them, ties at their mean rank, without sorting each resample."""

    def __init__(self, values_M: NDArray[np.floating]) -> None:
        _, self.place_M = np.unique(values_M, return_inverse=True)
        self.order_M = np.argsort(self.place_M, kind="stable")
        self.starts = np.flatnonzero(np.diff(self.place_M[self.order_M], prepend=-1))

    def __call__(self, counts_BM: Floats) -> tuple[Floats, Floats]:
        """ranks_BM about their mean, from how often each row is drawn, and the sum of their squares over what is drawn.

        Those of rows that are not drawn mean nothing.
        """
        tied_BD = counts_BM[:, self.order_M]
        if len(self.starts) < len(self.order_M):
            tied_BD = np.add.reduceat(tied_BD, self.starts, axis=1)
        ranks_BD = tied_BD.cumsum(axis=1)
        middle_B = ranks_BD[:, -1:] / 2
        ranks_BD -= tied_BD / 2
        ranks_BD -= middle_B
        return ranks_BD[:, self.place_M], np.einsum("bd,bd,bd->b", tied_BD, ranks_BD, ranks_BD)


def _moments(x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
    """The terms of Pearson's correlation on a new last axis, about the means, which keeps the digits."""
    x, y = (np.asarray(each, dtype=np.float64) for each in (x, y))
    x, y = (each - each.mean(axis=-1, keepdims=True) for each in (x, y))
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)


def _pearson_of(sums_BK: Floats) -> Floats:
    n, x, y, xx, yy, xy = sums_BK.T
    spread = (n * xx - x * x) * (n * yy - y * y)
    return np.asarray(np.where(spread > 1e-12 * (n * n), (n * xy - x * y) / np.sqrt(np.maximum(spread, 1e-300)), 0.0))
