"""Two models on the same rows: is the candidate not worse than the reference by more than a margin?

`b` counts rows that only the candidate gets right, `c` rows that only the reference gets right, `n` all rows; the
difference in accuracy is (b - c) / n.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PairedCounts:
    """The discordant rows of two models, which are all that their difference depends on."""

    b: int
    """Only the candidate is right."""
    c: int
    """Only the reference is right."""
    n: int

    @property
    def difference(self) -> float:
        """Accuracy of the candidate less that of the reference."""
        return (self.b - self.c) / self.n

    @property
    def disagreement(self) -> float:
        """Share of the rows that exactly one of the two gets right."""
        return (self.b + self.c) / self.n


def paired_counts(candidate_correct_N: NDArray[np.bool_], reference_correct_N: NDArray[np.bool_]) -> PairedCounts:
    """Count who alone was right."""
    b = int((candidate_correct_N & ~reference_correct_N).sum())
    c = int((~candidate_correct_N & reference_correct_N).sum())
    return PairedCounts(b=b, c=c, n=len(candidate_correct_N))


def tango_z(b: Any, c: Any, n: Any, difference: Any) -> Floats:
    """Score statistic of H0 "the accuracies differ by `difference`"; large values say the candidate is better.

    Unlike Wald's, it keeps its size when few rows disagree. Arguments broadcast.
    Source: Tango 1998, Statistics in Medicine 17:891, equations 2 and 3.
    """
    b, c, n, D = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (b, c, n, difference)))
    score = b - c - n * D
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(score) < 1e-12, 0.0, score / np.sqrt(n * _null_variance(b, c, n, D)))


def _null_variance(b: Any, c: Any, n: Any, D: Any) -> Any:
    """Variance of one row's d under the likeliest shares at which the accuracies differ by `D`."""
    linear = -b - c + (2 * n - b + c) * D
    constant = -c * D * (1 - D)
    q = (np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0)) - linear) / (4 * n)
    return np.maximum(2 * q + D * (1 - D), 0)


def tango_p(b: Any, c: Any, n: Any, margin: Any) -> Floats:
    """One-sided p of H0 "the candidate is worse by `margin` or more": small means non-inferior."""
    return np.asarray(ndtr(-tango_z(b, c, n, -np.asarray(margin, dtype=np.float64))), dtype=np.float64)


def tango_interval(counts: PairedCounts, *, confidence: float = 0.9) -> tuple[float, float]:
    """All differences that Tango's test does not reject, two-sided.

    At confidence 1 - 2 alpha its lower end exceeds -margin exactly when the one-sided test at alpha passes.
    """
    limit = float(ndtri((1 + confidence) / 2))
    edge = 1 - 1e-9

    def excess(difference: float, target: float) -> float:
        return float(tango_z(counts.b, counts.c, counts.n, difference)) - target

    low = -1.0 if excess(-edge, limit) <= 0 else float(brentq(excess, -edge, counts.difference, args=(limit,)))
    high = 1.0 if excess(edge, -limit) >= 0 else float(brentq(excess, counts.difference, edge, args=(-limit,)))
    return low, high


def mcnemar_p(counts: PairedCounts) -> float:
    """Exact one-sided p of "the candidate is no better than the reference", for claims of superiority."""
    if counts.b + counts.c == 0:
        return 1.0
    return float(binomtest(counts.b, counts.b + counts.c, 0.5, alternative="greater").pvalue)


def needed_n(
    disagreement: float, margin: float, *, difference: float = 0.0, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """Rows with which the non-inferiority test would pass with `power`, were `difference` true; None if none would do.

    The normal approximation for a score test, whose variance under the null hypothesis is the greater one, so the
    power is kept on few rows too; at least the rows that perfect agreement needs to pass.
    """
    if difference <= -margin:
        return None
    z_alpha, z_power = float(ndtri(1 - alpha)), float(ndtri(power))
    shares = (disagreement + difference) / 2, (disagreement - difference) / 2
    null = float(_null_variance(*shares, 1.0, -margin))
    spread = z_alpha * math.sqrt(null) + z_power * math.sqrt(max(disagreement - difference**2, 0.0))
    return math.ceil(max((spread / (margin + difference)) ** 2, z_alpha**2 * (1 - margin) / margin))
