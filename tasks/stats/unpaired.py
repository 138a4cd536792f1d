"""A/B arms that answer different requests: an interval that holds at all looks, and whether the split is as planned."""

import numpy as np
from scipy.stats import chisquare

from tasks.types import Interval

TUNED_FOR = 1_000
"""Observations at which the interval is narrowest."""
FIRST_RATIO_LOOK = 1_000


def difference_sequence(
    new: tuple[int, float, float], old: tuple[int, float, float], *, alpha: float = 0.05, tuned_for: int = TUNED_FOR
) -> Interval | None:
    """Mean of the new arm less the old one's, with an interval that covers the truth at all looks at once.

    Each arm is (n, mean, variance). D +- s sqrt(2 (t r^2 + 1) / (t^2 r^2) log(sqrt(t r^2 + 1) / alpha)), where t counts
    both arms and s^2/t is the variance of D. Asymptotic: None below two observations an arm, and not to be trusted
    below some hundreds. Source: Waudby-Smith 2021 (arXiv:2103.06476), theorem 2.2 and its choice of r for `tuned_for`.
    """
    (n_new, mean_new, variance_new), (n_old, mean_old, variance_old) = new, old
    if min(n_new, n_old) < 2:
        return None
    t = n_new + n_old
    spread = np.sqrt(t * (variance_new / n_new + variance_old / n_old))
    r2 = (-2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha))) / tuned_for
    half = float(spread * np.sqrt(2 * (t * r2 + 1) / (t**2 * r2) * np.log(np.sqrt(t * r2 + 1) / alpha)))
    value = mean_new - mean_old
    return Interval(value=value, low=value - half, high=value + half)


def ratio_look(num_units: int) -> int | None:
    """Which look at the ratio is due: number k from FIRST_RATIO_LOOK 2^k units on, None before the first.

    So few looks, at sizes that were fixed before, keep a level for each of them meaningful.
    """
    return None if num_units < FIRST_RATIO_LOOK else int(np.log2(num_units / FIRST_RATIO_LOOK))


def ratio_p(num_new: int, num_old: int, share: float) -> float:
    """p of "each unit had the chance `share` of the new arm", by chi-square; units must be independent draws."""
    total = num_new + num_old
    return float(chisquare([num_new, num_old], [share * total, (1 - share) * total]).pvalue)
