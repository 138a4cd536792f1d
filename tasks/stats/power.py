"""Exact size and power of a test of two models on the same rows: all outcomes that can happen, with their chance."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import binom

Test = Callable[[Any, Any, int], Any]
"""b, c (arrays that broadcast) and n -> whether the candidate passes; letters as in `tasks.stats.paired`."""

LEFT_OUT = 1e-7
"""Chance of the outcomes beyond those that are added up."""


def pass_rate(test: Test, n: int, *, disagreement: float, difference: float) -> float:
    """Chance that `test` passes a candidate whose accuracy differs by `difference` from the reference's.

    `disagreement` is the share of rows that exactly one of the two gets right. At `difference` = -margin this is the
    test's size, at 0 its power. (b, c) is trinomial. Raises: ValueError where |difference| > disagreement.
    """
    if not abs(difference) <= disagreement <= 1:
        raise ValueError(f"expected |difference| <= disagreement <= 1, got {difference} and {disagreement}")
    b_share, c_share = (disagreement + difference) / 2, (disagreement - difference) / 2
    b_B1, c_C = _likely(n, b_share)[:, None], _likely(n, c_share)
    chance_BC = binom.pmf(b_B1, n, b_share) * binom.pmf(c_C, n - b_B1, c_share / (1 - b_share) if b_share < 1 else 0.0)
    possible_BC = b_B1 + c_C <= n
    passed_BC = np.asarray(test(b_B1, np.minimum(c_C, n - b_B1), n))
    return float(chance_BC[possible_BC & passed_BC].sum())


def _likely(n: int, share: float) -> Any:
    """The counts of `n` rows outside of which hardly any outcome lies."""
    low, high = (float(binom.ppf(tail, n, share)) for tail in (LEFT_OUT / 4, 1 - LEFT_OUT / 4))
    return np.arange(int(max(low, 0)), int(high) + 1)
