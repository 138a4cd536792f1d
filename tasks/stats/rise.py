"""Is an error rate above another, estimated one by more than a margin? Looked at again and again while labels come.

Both rates are uncertain, and the test knows it: a limit that is surely above the baseline's rate would add the two
uncertainties up, where together they weigh only the root of their squares. Shapes: N places, R simulated streams.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, xlogy
from scipy.stats import binom

Floats = NDArray[np.float64]

NUM_STREAMS = 4_000
UNSURE = 0.05
"""Chance that the simulated level is too low."""
STRIDE = 10
"""Labels between two places at which the test is looked at."""


@dataclass(frozen=True, kw_only=True)
class BaseRate:
    """The rate that another is compared with, as it was estimated, and by how much that may exceed it."""

    num_errors: int
    num_rows: int
    margin: float
    """As a fraction."""


def rise(num_errors_N: ArrayLike, num_labels_N: ArrayLike, baseline: BaseRate) -> Floats:
    """Signed root of the likelihood ratio of H0 "the rate is at most the baseline's and the margin", at each place.

    `num_errors_N` of the first `num_labels_N` labels are wrong. About a standard normal at the edge of H0, and higher
    the more speaks against it. The rates under H0 are those of Farrington and Manning 1990, Statistics in Medicine
    9:1447, appendix 1.
    """
    return _rise(np.asarray(num_errors_N, float), np.asarray(num_labels_N, float), float(baseline.num_errors),
                 baseline.num_rows, baseline.margin)  # fmt: skip


def _rise(errors: Floats, labels: Floats, base_errors: ArrayLike, base_rows: int, margin: float) -> Floats:
    base_errors = np.asarray(base_errors, float)
    now, before = errors / labels, base_errors / base_rows
    at_edge = _rate_at_edge(now, before, base_rows / labels, margin)
    root = np.sqrt(np.maximum(0.0, 2 * (
        _log_likelihood(errors, labels, now) - _log_likelihood(errors, labels, at_edge)
        + _log_likelihood(base_errors, base_rows, before) - _log_likelihood(base_errors, base_rows, at_edge - margin)
    )))  # fmt: skip
    return np.asarray(np.sign(now - before - margin) * root)


def _log_likelihood(hits: Floats, rows: ArrayLike, rate: Floats) -> Floats:
    return np.asarray(xlogy(hits, rate) + xlogy(np.asarray(rows) - hits, 1 - rate))


def _rate_at_edge(now: Floats, before: Floats, ratio: Floats, margin: float) -> Floats:
    """The likeliest rate now if it is the margin above the one before, as the root of a cubic."""
    a = 1 + ratio
    b = -(1 + ratio + now + ratio * before + margin * (ratio + 2))
    c = margin**2 + margin * (2 * now + ratio + 1) + now + ratio * before
    d = -now * margin * (1 + margin)
    v = b**3 / (27 * a**3) - b * c / (6 * a**2) + d / (2 * a)
    u = np.where(v < 0, -1.0, 1.0) * np.sqrt(np.maximum(b**2 / (9 * a**2) - c / (3 * a), 1e-300))
    angle = (np.pi + np.arccos(np.clip(v / u**3, -1, 1))) / 3
    return np.asarray(np.clip(2 * u * np.cos(angle) - b / (3 * a), margin, 1.0))


def places(num_labels: int, *, first: int) -> NDArray[np.int64]:
    """Numbers of labels at which the test is looked at."""
    return np.arange(first, num_labels + 1, STRIDE)


@lru_cache(maxsize=64)
def rise_level(baseline: BaseRate, *, first: int, num_labels: int, false_alarm: float) -> float:
    """The rise that any of the `places` up to `num_labels` reaches with a probability of at most `false_alarm`.

    Simulated at the edge of H0, the baseline's rows with it, and so high that with 95 % confidence the simulation's own
    error does not make it too low.
    """
    rng = np.random.default_rng(0)
    rate = (baseline.num_errors + 0.5) / (baseline.num_rows + 1)
    base_R = rng.binomial(baseline.num_rows, rate, NUM_STREAMS)
    at_N = places(num_labels, first=first)
    new_RN = rng.binomial(np.diff(at_N, prepend=0), min(1.0, rate + baseline.margin), (NUM_STREAMS, len(at_N)))
    rises_RN = _rise(new_RN.cumsum(axis=1).astype(float), at_N.astype(float), base_R[:, None], baseline.num_rows,
                     baseline.margin)  # fmt: skip
    num_above = max(0, int(binom.ppf(UNSURE, NUM_STREAMS, false_alarm)) - 1)
    simulated = np.sort(rises_RN.max(axis=1))[-1 - num_above]
    return max(float(np.nextafter(simulated, np.inf)), float(ndtri(1 - false_alarm)))  # one place alone needs as much
