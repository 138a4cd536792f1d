"""F1 of label sets, its bootstrap intervals, and the threshold that gives most of it.

Shapes: N rows, C classes, B resamples.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.stats.sums import MAX_LOST, SumStatistic, sums_interval
from tasks.types import Interval

Bools = NDArray[np.bool_]


def micro_f1(chosen_NC: Any, truth_NC: Any) -> float:
    """F1 of all rows' labels together, 2 TP / (answered + true); 0 where there are none of either."""
    return float(micro_statistic(f1_terms(chosen_NC, truth_NC).sum(axis=0)[None])[0])


def macro_f1_of_sets(chosen_NC: Any, truth_NC: Any) -> float:
    """Mean F1 of the classes that occur in truth or answers, as `tasks.stats.bootstrap.macro_f1`."""
    return float(macro_statistic(f1_terms(chosen_NC, truth_NC).sum(axis=0)[None])[0])


def best_threshold(probabilities_NC: Any, truth_NC: Any) -> float:
    """The threshold for all labels with the largest micro-F1, halfway to the next lower probability.

    One threshold for all: a threshold a class would overfit the rare ones (Lipton 2014, arXiv:1402.1892).
    0.5 where no label is true.
    """
    flat_M = np.asarray(probabilities_NC, dtype=np.float64).ravel()
    order_M = np.argsort(-flat_M, kind="stable")
    ranked_M, hits_M = flat_M[order_M], np.cumsum(np.asarray(truth_NC).ravel()[order_M] > 0)
    if not len(hits_M) or hits_M[-1] == 0:
        return 0.5
    f1_M = 2 * hits_M / (np.arange(1, len(flat_M) + 1) + hits_M[-1])
    f1_M[:-1][ranked_M[:-1] == ranked_M[1:]] = -1  # equal probabilities are on one side of any threshold
    best = int(np.argmax(f1_M))
    below = ranked_M[best + 1] if best + 1 < len(ranked_M) else ranked_M[best]
    return float((ranked_M[best] + below) / 2)


def micro_f1_interval(chosen_NC: Bools, truth_NC: Any, *, rng: np.random.Generator, confidence: float) -> Interval:
    """Micro-F1 with its BCa interval, rows resampled."""
    return sums_interval(_overall(chosen_NC, truth_NC), micro_statistic, rng=rng, confidence=confidence)


def macro_f1_sets_interval(chosen_NC: Bools, truth_NC: Any, *, rng: np.random.Generator, confidence: float) -> Interval:
    """Macro-F1 with its BCa interval, rows resampled."""
    return sums_interval(f1_terms(chosen_NC, truth_NC), macro_statistic, rng=rng, confidence=confidence)


def micro_f1_difference(
    candidate_NC: Bools, reference_NC: Bools, truth_NC: Any, *, rng: np.random.Generator, confidence: float
) -> Interval:
    """Micro-F1 of the candidate less that of the reference, with its paired BCa interval."""
    both = [_overall(chosen_NC, truth_NC) for chosen_NC in (candidate_NC, reference_NC)]
    return f1_difference(both[0], both[1], micro_statistic, rng=rng, confidence=confidence)


def macro_f1_sets_difference(
    candidate_NC: Bools, reference_NC: Bools, truth_NC: Any, *, rng: np.random.Generator, confidence: float
) -> Interval:
    """Macro-F1 of the candidate less that of the reference, with its paired BCa interval."""
    both = [f1_terms(chosen_NC, truth_NC) for chosen_NC in (candidate_NC, reference_NC)]
    return f1_difference(both[0], both[1], macro_statistic, rng=rng, confidence=confidence)


def f1_difference(
    candidate_NK: NDArray[np.float64],
    reference_NK: NDArray[np.float64],
    statistic: SumStatistic,
    *,
    rng: np.random.Generator,
    confidence: float,
) -> Interval:
    """An F1 of the candidate less that of the reference, from the terms of both, with its paired BCa interval.

    Among the rows is one more, of those where the candidate is right, with as many answers that are wrong.
    """
    terms_NK = np.hstack([candidate_NK, reference_NK])
    num_hits = candidate_NK.shape[1] // 2
    found = np.flatnonzero(candidate_NK[:, :num_hits].any(axis=1))
    lost_RK = terms_NK[rng.permutation(found)[:MAX_LOST]]
    lost_RK[:, :num_hits] = 0
    return sums_interval(terms_NK, difference(statistic), rng=rng, confidence=confidence, lost_RK=lost_RK)


def f1_terms(chosen_NC: Any, truth_NC: Any) -> NDArray[np.float64]:
    """terms_N2C: each label's hits doubled, then its answers and truths added; F1 is the ratio of their sums."""
    chosen_NC, truth_NC = np.asarray(chosen_NC) > 0, np.asarray(truth_NC) > 0
    return np.hstack([2.0 * (chosen_NC & truth_NC), chosen_NC.astype(np.float64) + truth_NC])


def _overall(chosen_NC: Any, truth_NC: Any) -> NDArray[np.float64]:
    return all_together(f1_terms(chosen_NC, truth_NC))


def all_together(terms_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """terms_N2 of all labels, from those of each: many rows are alike in them, which makes their resamples quick."""
    return np.stack([half_NC.sum(axis=1) for half_NC in np.split(terms_NK, 2, axis=1)], axis=1)


def micro_statistic(sums_BK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of sums of `f1_terms`."""
    hits_B, support_B = (half.sum(axis=1) for half in np.split(sums_BK, 2, axis=1))
    return np.asarray(hits_B / np.maximum(support_B, 1))


def macro_statistic(sums_BK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of sums of `f1_terms`."""
    hits_BC, support_BC = np.split(sums_BK, 2, axis=1)
    num_B = np.maximum((support_BC > 0).sum(axis=1), 1)
    return np.asarray((hits_BC / np.maximum(support_BC, 1)).sum(axis=1) / num_B)


def difference(statistic: SumStatistic) -> SumStatistic:
    """Of the left half of the sums less of the right half."""

    def of_both(sums_BK: NDArray[np.float64]) -> NDArray[np.float64]:
        left_BK, right_BK = np.split(sums_BK, 2, axis=1)
        return statistic(left_BK) - statistic(right_BK)

    return of_both
