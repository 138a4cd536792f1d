"""Selective classification: what a model that may abstain answers, and how often it is wrong then.

Coverage is the share of the rows that are answered, risk the share of wrong answers among those.

Shapes: N rows, K thresholds.
"""

from dataclasses import dataclass
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray

from tasks.stats.proportion import clopper_pearson

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Coverage and risk at every threshold that makes a difference, the strictest first."""

    threshold_K: Floats
    coverage_K: Floats
    risk_K: Floats
    num_answered_K: NDArray[np.int64]
    num_wrong_K: NDArray[np.int64]

    @property
    def area(self) -> float:
        """Risk integrated over coverage (AURC): small where wrong answers come with little confidence."""
        if not len(self.risk_K):
            return 0.0
        return float(np.trapezoid(self.risk_K, self.coverage_K) + self.risk_K[0] * self.coverage_K[0])


def risk_coverage(confidence_N: Floats, wrong_N: Bools) -> Curve:
    """The coverage-risk curve; rows of equal confidence are answered together, negative ones never.

    Source: El-Yaniv and Wiener 2010, JMLR 11:1605.
    """
    order = np.argsort(-confidence_N, kind="stable")
    sorted_N = confidence_N[order]
    last_K = np.flatnonzero(np.append(np.diff(sorted_N) != 0, True))
    last_K = last_K[sorted_N[last_K] >= 0]
    num_wrong_K = np.cumsum(wrong_N[order])[last_K].astype(np.int64)
    num_answered_K = (last_K + 1).astype(np.int64)
    return Curve(
        threshold_K=sorted_N[last_K],
        coverage_K=num_answered_K / len(confidence_N),
        risk_K=num_wrong_K / num_answered_K,
        num_answered_K=num_answered_K,
        num_wrong_K=num_wrong_K,
    )


def threshold_for_risk(confidence_N: Floats, wrong_N: Bools, *, max_risk: float, delta: float = 0.05) -> float | None:
    """A threshold, as low as a binary search finds, whose risk on new rows is at most `max_risk`.

    It holds with probability 1 - `delta` over the draw of these rows, since each of the search's ceil(log2 N) looks
    spends an equal part of it on an exact binomial bound. None where not even the most confident rows can show it.
    Source: Geifman and El-Yaniv 2017 (arXiv:1705.08500), algorithm 1.
    """
    curve = risk_coverage(confidence_N, wrong_N)
    num_looks = ceil(log2(max(1, len(curve.threshold_K)))) + 1
    low, high, found = 0, len(curve.threshold_K) - 1, None
    while low <= high:
        at = (low + high + 1) // 2
        bound = clopper_pearson(
            int(curve.num_wrong_K[at]), int(curve.num_answered_K[at]), confidence=1 - 2 * delta / num_looks
        ).high
        if bound <= max_risk:
            found, low = float(curve.threshold_K[at]), at + 1
        else:
            high = at - 1
    return found


def threshold_for_coverage(confidence_N: Floats, min_coverage: float) -> float:
    """The highest threshold that still answers `min_coverage` of these rows; 0 where none answers so many."""
    num_answered = ceil(min_coverage * len(confidence_N))
    return max(0.0, float(np.sort(confidence_N)[::-1][max(num_answered, 1) - 1]))
