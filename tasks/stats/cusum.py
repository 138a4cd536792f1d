"""An alarm over a stream of labels that a rise of the error rate sets off whenever it begins: e-CUSUM.

Shapes: N labels in order, B bets, R simulated streams.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

BETS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""How much is staked on an error rate above the limit: small bets find small rises."""
NUM_STREAMS = 2_000
UNSURE = 0.05
"""Chance that the simulated level is too low."""
LARGEST_LOG = 600.0
"""Evidence is not counted further, so that it stays a finite number."""


def e_cusum(errors_N: NDArray[np.bool_], limit: float) -> NDArray[np.float64]:
    """Evidence after each label that the error rate is above `limit` by now; of several streams where the shape is RN.

    M <- max(M, 1)(1 + b(e - limit)), averaged over the bets b: a product of fair bets, started again whenever it has
    lost. While the rate is at most `limit`, the mean number of labels until M >= A is at least A, for any A.
    Source: Shin, Ramdas and Rinaldo 2024 (arXiv:2203.03532).
    """
    wrong_N = np.asarray(errors_N, dtype=bool)
    evidence_N, num_bets = np.zeros(wrong_N.shape), 0
    for won, lost in zip(*_log_bets(limit), strict=True):
        evidence_N += np.exp(np.minimum(_since_lowest(np.where(wrong_N, won, lost)), LARGEST_LOG))
        num_bets += 1
    return evidence_N / num_bets


def _log_bets(limit: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each bet that could be paid brings at an error and at a right answer, as logarithms."""
    bets_B = np.array([bet for bet in BETS if bet * limit < 1])
    return np.log1p(bets_B * (1 - limit)), np.log1p(-bets_B * limit)


def _since_lowest(steps_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """m <- max(m, 0) + step, as a sum less its lowest value before (Lindley's recursion)."""
    sums_N = np.cumsum(steps_N, axis=-1)
    before_N = np.concatenate([np.zeros((*sums_N.shape[:-1], 1)), sums_N[..., :-1]], axis=-1)
    rise_N: NDArray[np.float64] = sums_N - np.minimum.accumulate(before_N, axis=-1)
    return rise_N


@lru_cache(maxsize=64)
def alarm_level(limit: float, num_labels: int, false_alarm: float) -> float:
    """The evidence that `num_labels` labels reach at any time with a probability of at most `false_alarm`.

    Simulated at an error rate of `limit`, which is the worst that is no harm, since evidence grows with every error.
    The level is taken so high that with 95 % confidence the simulation's own error does not make it too low. Where too
    few streams are simulated for that, the proven bound `num_labels / false_alarm` is taken (Doob's inequality).
    """
    num_above = int(binom.ppf(UNSURE, NUM_STREAMS, false_alarm)) - 1
    if num_above < 0:
        return num_labels / false_alarm
    highest_R = _highest(limit, num_labels, np.random.default_rng(0))
    return float(np.nextafter(np.sort(highest_R)[-1 - num_above], np.inf))


def _highest(limit: float, num_labels: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Most evidence of each simulated stream. It rises at errors alone, so only those are simulated, and their gaps."""
    won_B, lost_B = _log_bets(limit)
    logs_RB, highest_R = np.zeros((NUM_STREAMS, len(won_B))), np.ones(NUM_STREAMS)
    place_R = np.zeros(NUM_STREAMS)
    while (place_R < num_labels).any():
        gap_R = rng.geometric(limit, NUM_STREAMS)
        place_R += gap_R
        logs_RB = np.maximum(logs_RB + (gap_R[:, None] - 1) * lost_B, 0) + won_B
        evidence_R = np.exp(np.minimum(logs_RB, LARGEST_LOG)).mean(axis=1)
        highest_R = np.where(place_R <= num_labels, np.maximum(highest_R, evidence_R), highest_R)
    return highest_R


def thinned(values_N: NDArray[np.floating], most: int = 200) -> tuple[tuple[int, float], ...]:
    """(number of labels, value) at up to `most` places, the largest of each stretch, for a drawing."""
    stretch = max(1, math.ceil(len(values_N) / most))
    starts = range(0, len(values_N), stretch)
    places = [start + int(np.argmax(values_N[start : start + stretch])) for start in starts]
    return tuple((place + 1, float(values_N[place])) for place in places)
