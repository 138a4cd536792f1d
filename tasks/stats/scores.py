"""Correlations of scores with their truth, and their bootstrap intervals.

Shapes: N rows, B resamples.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from tasks.stats.bootstrap import NUM_RESAMPLES, bca_ends
from tasks.stats.multi_label import difference
from tasks.stats.sums import SumStatistic, jackknife_skew, resampled_counts, sums_interval
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
    """Pearson's correlation of the candidate less that of the reference, with its paired BCa interval."""
    terms_NK = np.hstack([_moments(candidate_N, truth_N), _moments(reference_N, truth_N)])
    return sums_interval(terms_NK, difference(_pearson_of), rng=rng, confidence=confidence)


def spearman_interval(
    scores_N: NDArray[np.floating], truth_N: NDArray[np.floating], *, rng: np.random.Generator, confidence: float
) -> Interval:
    """Spearman's correlation with its BCa interval, rows resampled and ranked anew."""
    return _ranked_interval([scores_N], truth_N, _pearson_of, rng, confidence)


def spearman_difference(
    candidate_N: NDArray[np.floating],
    reference_N: NDArray[np.floating],
    truth_N: NDArray[np.floating],
    *,
    rng: np.random.Generator,
    confidence: float,
) -> Interval:
    """Spearman's correlation of the candidate less that of the reference, with its paired BCa interval."""
    return _ranked_interval([candidate_N, reference_N], truth_N, difference(_pearson_of), rng, confidence)


def _ranked_interval(
    scores: list[NDArray[np.floating]],
    truth_N: NDArray[np.floating],
    statistic: SumStatistic,
    rng: np.random.Generator,
    confidence: float,
) -> Interval:
    """The acceleration is that of the ranks of all rows: leaving a row out hardly moves the others'."""
    n = len(truth_N)
    if not n:
        raise ValueError("expected at least one row to resample, got none; check that the split is not empty")
    terms_NK = np.hstack([_moments(rankdata(each_N), rankdata(truth_N)) for each_N in scores])
    rank_scores, rank_truth = [_Ranks(each_N) for each_N in scores], _Ranks(truth_N)
    resampled = []
    for counts_BN in resampled_counts(np.arange(n), n, rng=rng, num_resamples=NUM_RESAMPLES):
        truth_BN, truth_squares_B = rank_truth(counts_BN)
        truth_BN *= counts_BN
        sums = []
        for rank in rank_scores:
            ranks_BN, squares_B = rank(counts_BN)
            sums += [np.full(len(counts_BN), n), *np.zeros((2, len(counts_BN)))]
            sums += [squares_B, truth_squares_B, np.einsum("bn,bn->b", ranks_BN, truth_BN)]
        resampled.append(statistic(np.stack(sums, axis=1)))
    observed = float(statistic(terms_NK.sum(axis=0)[None])[0])
    skew = jackknife_skew(terms_NK, statistic, np.ones(n, dtype=np.int64))
    return bca_ends(observed, np.concatenate(resampled), skew, confidence)


class _Ranks:
    """Ranks of values in resamples of them, ties at their mean rank, without sorting each resample."""

    def __init__(self, values_N: NDArray[np.floating]) -> None:
        _, self.place_N = np.unique(values_N, return_inverse=True)
        self.order_N = np.argsort(self.place_N, kind="stable")
        self.starts = np.flatnonzero(np.diff(self.place_N[self.order_N], prepend=-1))

    def __call__(self, counts_BN: Floats) -> tuple[Floats, Floats]:
        """ranks_BN about their mean, from how often each row is drawn, and the sum of their squares over what is drawn.

        Those of rows that are not drawn mean nothing.
        """
        tied_BD = counts_BN[:, self.order_N]
        if len(self.starts) < len(self.order_N):
            tied_BD = np.add.reduceat(tied_BD, self.starts, axis=1)
        ranks_BD = tied_BD.cumsum(axis=1)
        ranks_BD -= tied_BD / 2
        ranks_BD -= len(self.order_N) / 2
        return ranks_BD[:, self.place_N], np.einsum("bd,bd,bd->b", tied_BD, ranks_BD, ranks_BD)


def _moments(x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
    """The terms of Pearson's correlation on a new last axis, about the means, which keeps the digits."""
    x, y = (np.asarray(each, dtype=np.float64) for each in (x, y))
    x, y = (each - each.mean(axis=-1, keepdims=True) for each in (x, y))
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)


def _pearson_of(sums_BK: Floats) -> Floats:
    n, x, y, xx, yy, xy = sums_BK.T
    spread = (n * xx - x * x) * (n * yy - y * y)
    return np.asarray(np.where(spread > 1e-12 * (n * n), (n * xy - x * y) / np.sqrt(np.maximum(spread, 1e-300)), 0.0))
