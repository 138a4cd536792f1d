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
) -> dict[str, TestResult]:
    """The observed value and p = (1 + #{T* >= T}) / (B + 1) of each statistic.

    Rows of one block move together, for rows that resemble their neighbours in time. Labels are exchanged only within a
    stratum, whose number of window rows therefore stays.
    Source of the p-value: Phipson and Smyth 2010 (never 0, so it can be held against any budget).
    """
    labels_N = np.asarray(labels_N, dtype=np.float32)
    observed = {name: float(statistic(labels_N[:, None])[0]) for name, statistic in statistics.items()}
    as_large = dict.fromkeys(statistics, 0)
    for labels_NB in relabellings(labels_N, num_permutations, rng, blocks_N=blocks_N, strata_N=strata_N):
        for name, statistic in statistics.items():
            limit = observed[name] - 1e-6 * abs(observed[name])  # ties count, whatever the rounding
            as_large[name] += int(np.sum(statistic(labels_NB) >= limit))
    return {
        name: TestResult(statistic=observed[name], p_value=(1 + as_large[name]) / (num_permutations + 1))
        for name in statistics
    }


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
    for start in range(0, num_permutations, CHUNK):
        size = min(CHUNK, num_permutations - start)
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
