"""Tests that may be looked at any time: e-processes of paired differences and of counts.

An e-process is the wealth of somebody who bets against a hypothesis and cannot win on average while it holds. So it
ever reaches 1/alpha with a probability of alpha at most (Ville 1939), however often and for whatever reason one looks.

N observations in the order of their arrival, L bets.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LARGEST_BET = 0.9
BETS_L: Floats = np.geomspace(0.03, LARGEST_BET, 8)
"""What is staked, from what pays where half of all answers differ to what pays where almost none do."""
RESTART_EVERY = 100
"""Observations between two beginnings of a process that looks for a change."""


def log_wealth(x_N: Floats, lowest: float) -> Floats:
    """Log of the e-process against "the mean of x, whatever came before, is at most 0", after each observation.

    The average of the products Prod(1 + bet x) over fixed bets, which is one product with predictable bets: those that
    did well so far weigh more. `lowest` is the smallest value that x can have, below 0; the bets end short of ruin.
    Each factor grows with x, so whoever puts a lower value for an x that is not known yet gets a lower process.
    Source: Waudby-Smith and Ramdas 2023 (arXiv:2010.09686), section 5.8; Cover 1991.
    """
    return _log_mean(_log_products(x_N, lowest))


def _log_mean(logs_NL: Floats) -> Floats:
    """Log of the mean over the bets; several times faster than scipy's logsumexp on rows this short."""
    top_N = logs_NL.max(axis=1, initial=-np.inf)
    return np.asarray(top_N + np.log(np.exp(logs_NL - top_N[:, None]).mean(axis=1)))


def _log_products(x_N: Floats, lowest: float) -> Floats:
    """Shape (N, L)."""
    bets_L = BETS_L / max(1.0, -lowest)
    return np.cumsum(np.log1p(x_N[:, None] * bets_L), axis=0)


def log_wealth_of_change(x_N: Floats, lowest: float, every: int = RESTART_EVERY) -> Floats:
    """As `log_wealth`, yet as quick where the mean rises above 0 late: new money enters after each `every`.

    The k-th beginning gets 1/(k (k + 1)) of the money, which is 1 in all, and keeps it unspent until then; so it is an
    e-process too. Source: Shin, Ramdas and Rinaldo 2023 (arXiv:2203.03532).
    """
    sums_NL = _log_products(x_N, lowest)
    before_KL = np.vstack([np.zeros(len(BETS_L)), sums_NL[every - 1 : -1 : every]])
    k_K = np.arange(1, len(before_KL) + 1)
    money_KL = np.logaddexp.accumulate(-np.log(k_K * (k_K + 1))[:, None] - before_KL)
    k_N = np.arange(len(x_N)) // every
    spent_N = _log_mean(sums_NL + money_KL[k_N])
    return np.asarray(np.logaddexp(spent_N, -np.log(k_N + 2)))


def log_wealth_of_count(num_hits: int, n: int, limit: float) -> float:
    """Log of the e-process against "a hit has a probability of at most `limit`", from the counts alone.

    With fixed bets the order of the hits does not matter. A rare hit pays more, so the bets are scaled by the limit.
    """
    bets_L = BETS_L / limit
    logs_L = num_hits * np.log1p(bets_L * (1 - limit)) + (n - num_hits) * np.log1p(-BETS_L)
    return float(_log_mean(logs_L[None])[0])


def not_worse(d_N: Floats, delta: float) -> Floats:
    """Log e-process against "the new model is worse by `delta` or more": high values speak for the new one.

    `d_N` is new correct - old correct: -1, 0 or 1.
    """
    return log_wealth(np.asarray(d_N, dtype=np.float64) + delta, delta - 1)


def worse(d_N: Floats, delta: float, *, late: bool = False) -> Floats:
    """The mirrored process against "the new model is not worse by more than `delta`": high values speak against it.

    With `late`, against one that became worse on its way.
    """
    x_N = -np.asarray(d_N, dtype=np.float64) - delta
    return (log_wealth_of_change if late else log_wealth)(x_N, -1 - delta)
