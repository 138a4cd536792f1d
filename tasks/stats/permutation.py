"""Permutation tests of "window and reference come from one distribution", many statistics in one pass.

A relabelling is a column of 0 (reference) and 1 (window), and each statistic turns a matrix of such columns into one
value a column; so a test of any of them is a few matrix products, and all share the same relabellings.

Shapes: N pooled rows, B relabellings.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Labels = NDArray[np.float32]
Floats = NDArray[np.float64]
Statistic = Callable[[Labels], Floats]
"""labels_NB -> values_B; large values speak against H0."""

CHUNK = 1_000
"""Relabellings at a time, which bounds memory to a few arrays of N x 1,000 floats."""
FIRST_CHUNK = 250
"""The first ones, with which most looks without drift are done."""
ENOUGH = 25
"""Relabellings as extreme as what was observed after which a test is done; its p is then known to a fifth of itself."""


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """An observed statistic and its p-value."""

    statistic: float
    p_value: float


TestResult.__test__ = False  # type: ignore[attr-defined]  # its name is not that of a test case


def permutation_tests(
    statistics: Mapping[str, Statistic],
    labels_N: ArrayLike,
    *,
    num_permutations: int,
    rng: np.random.Generator,
    blocks_N: NDArray[np.int64] | None = None,
    strata_N: NDArray[np.int64] | None = None,
    observed: Mapping[str, float] | None = None,
) -> dict[str, TestResult]:
    """The observed value and p = (1 + #{T* >= T}) / (B + 1) of each statistic.

    Rows of one block move together, for rows that resemble their neighbours in time. Labels are exchanged only within a
    stratum, whose number of window rows therefore stays. A statistic that `ENOUGH` relabellings have reached is done:
    its p is ENOUGH over the relabellings until then, which is as valid, and large. `observed` takes the place of what
    the labels give, for values that dependence has inflated and a caller has corrected.
    Sources: Phipson and Smyth 2010 (never 0, so it can be held against any budget); Besag and Clifford 1991,
    Biometrika 78:301 (sequential).
    """
    labels_N = np.asarray(labels_N, dtype=np.float32)
    plain = {name: float(statistic(labels_N[:, None])[0]) for name, statistic in statistics.items()}
    observed = plain if observed is None else observed
    as_large = dict.fromkeys(statistics, 0)
    p_values: dict[str, float] = {}
    num_drawn = 0
    for labels_NB in relabellings(labels_N, num_permutations, rng, blocks_N=blocks_N, strata_N=strata_N):
        for name in statistics.keys() - p_values.keys():
            limit = observed[name] - 1e-6 * abs(observed[name])  # ties count, whatever the rounding
            reached = np.flatnonzero(statistics[name](labels_NB) >= limit)
            missing = ENOUGH - as_large[name]
            as_large[name] += len(reached)
            if len(reached) >= missing:
                p_values[name] = ENOUGH / (num_drawn + int(reached[missing - 1]) + 1)
        num_drawn += labels_NB.shape[1]
        if len(p_values) == len(statistics):
            break
    whole = {name: (1 + as_large[name]) / (num_permutations + 1) for name in statistics}
    return {name: TestResult(statistic=observed[name], p_value=p_values.get(name, whole[name])) for name in statistics}


def relabellings(
    labels_N: Labels,
    num_permutations: int,
    rng: np.random.Generator,
    *,
    blocks_N: NDArray[np.int64] | None = None,
    strata_N: NDArray[np.int64] | None = None,
) -> Iterator[Labels]:
    """Chunks labels_NB of random relabellings with the given number of window rows (per stratum)."""
    blocks_N = np.arange(len(labels_N)) if blocks_N is None else blocks_N
    strata_N = np.zeros(len(labels_N), dtype=np.int64) if strata_N is None else strata_N
    members = [np.flatnonzero(strata_N == stratum) for stratum in np.unique(strata_N)]
    start = 0
    while start < num_permutations:
        size = min(CHUNK if start else FIRST_CHUNK, num_permutations - start)
        start += size
        labels_BN = np.zeros((size, len(labels_N)), dtype=np.float32)
        for rows in members:
            labels_BN[:, rows] = _choose(int(labels_N[rows].sum()), blocks_N[rows], size, rng)
        yield labels_BN.T


def _choose(num_window: int, blocks_N: NDArray[np.int64], size: int, rng: np.random.Generator) -> Labels:
    """Put the blocks into random order and let the first `num_window` rows be the window.

    At most one block is cut, so the number of rows stays fixed.
    """
    _, block_N = np.unique(blocks_N, return_inverse=True)
    chosen_BN = np.zeros((size, len(blocks_N)), dtype=np.float32)
    if num_window in (0, len(blocks_N)):
        chosen_BN[:] = float(num_window > 0)
        return chosen_BN
    keys = rng.random((size, int(block_N.max()) + 1), dtype=np.float32)
    keys_BN = keys if len(blocks_N) == keys.shape[1] else keys[:, block_N]
    first_BN = np.argpartition(keys_BN, num_window - 1, axis=1)[:, :num_window]
    np.put_along_axis(chosen_BN, first_BN, 1.0, axis=1)
    return chosen_BN


def time_blocks(timestamps_s_N: NDArray[np.float64], *, block_s: float = 3600.0) -> NDArray[np.int64]:
    """A block number a row: its hour, cut into runs of at most sqrt(N) rows so that one busy hour is many blocks."""
    order = np.argsort(timestamps_s_N, kind="stable")
    most = max(1, int(np.sqrt(len(order))))
    hours = np.floor(timestamps_s_N[order] / block_s).astype(np.int64)
    starts = np.flatnonzero(np.diff(hours, prepend=hours[:1] - 1))
    position = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    runs = np.cumsum((np.diff(hours, prepend=hours[:1]) != 0) | (position % most == 0)) - 1
    blocks_N = np.empty(len(order), dtype=np.int64)
    blocks_N[order] = runs
    return blocks_N
