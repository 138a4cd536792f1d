"""Distances between window and reference, as statistics of a matrix of relabellings.

Shapes: N pooled rows, D dimensions, F features, Q cut points, C classes, B relabellings (1 = window, 0 = reference).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.stats.permutation import Labels, Statistic, TestResult, permutation_tests

Floats = NDArray[np.float64]

NUM_CUTS = 50
"""Cut points of a binned Kolmogorov-Smirnov distance: every 2 % of the pooled rows."""
MAX_MEDIAN_ROWS = 1_000


def rbf_kernel(points_ND: NDArray[np.floating], *, same: bool = False) -> NDArray[np.float32]:
    """exp(-distance^2 / (2 s^2)) with s the median distance, zero diagonal, row and column means taken out.

    With `same` the diagonal is what two draws of the same row have in common, for rows drawn more than once.

    The median and the means are of the pooled rows, so no relabelling changes them; taking the means out changes no
    MMD, and keeps float32 exact enough. Source of the bandwidth: Gretton 2012, JMLR 13:723, section 8.
    """
    points_ND = np.asarray(points_ND, dtype=np.float32)
    points_ND = points_ND - points_ND.mean(axis=0)
    norms_N = np.sum(points_ND**2, axis=1)
    squared_NN = np.maximum(norms_N[:, None] + norms_N[None, :] - 2 * points_ND @ points_ND.T, 0)
    kernel_NN = np.exp(squared_NN / np.float32(-2 * _median_squared(squared_NN)))
    np.fill_diagonal(kernel_NN, 0)
    num_rows = len(kernel_NN)
    means_N = kernel_NN.sum(axis=1, dtype=np.float64) / max(num_rows - 1, 1)
    shift_N = (means_N - means_N.mean() / 2).astype(np.float32)
    kernel_NN -= shift_N[:, None] + shift_N[None, :]
    np.fill_diagonal(kernel_NN, 1 - 2 * shift_N if same else 0)
    return np.asarray(kernel_NN, dtype=np.float32)


def _median_squared(squared_NN: NDArray[np.float32]) -> float:
    """Median squared distance of different rows; 1 where all rows are the same."""
    step = -(-len(squared_NN) // MAX_MEDIAN_ROWS)
    some = squared_NN[::step, ::step]
    distances = some[np.triu_indices(len(some), 1)]
    positive = distances[distances > 1e-12]
    if not len(positive):
        return 1.0
    median = float(np.median(distances))
    return median if median > 1e-12 else float(np.mean(positive))


def mmd2_u(kernel_NN: NDArray[np.float32]) -> Statistic:
    """Unbiased squared maximum mean discrepancy. Source: Gretton 2012, equation 3."""
    row_sums_N = kernel_NN.sum(axis=1, dtype=np.float64)
    total = float(row_sums_N.sum())

    def statistic(labels_NB: Labels) -> Floats:
        num_window = labels_NB.sum(axis=0, dtype=np.float64)
        num_reference = len(labels_NB) - num_window
        inside_B = np.einsum("nb,nb->b", labels_NB, kernel_NN @ labels_NB, dtype=np.float64)
        touching_B = row_sums_N @ labels_NB
        outside_B = total - 2 * touching_B + inside_B
        within_B = inside_B / (num_window * (num_window - 1)) + outside_B / (num_reference * (num_reference - 1))
        return np.asarray(within_B - 2 * (touching_B - inside_B) / (num_window * num_reference))

    return statistic


def mmd_test(
    window_ND: NDArray[np.floating],
    reference_ND: NDArray[np.floating],
    *,
    rng: np.random.Generator,
    num_permutations: int = 9_999,
    blocks: NDArray[np.int64] | None = None,
) -> TestResult:
    """MMD^2_u of window and reference with its permutation p-value; `blocks` numbers the pooled rows, window first."""
    kernel_NN = rbf_kernel(np.concatenate([window_ND, reference_ND]))
    labels_N = np.repeat([1, 0], [len(window_ND), len(reference_ND)])
    tests = {"mmd": mmd2_u(kernel_NN)}
    return permutation_tests(tests, labels_N, num_permutations=num_permutations, rng=rng, blocks_N=blocks)["mmd"]


def ks_distances(values_NF: NDArray[np.floating], labels_N: ArrayLike) -> Floats:
    """Largest difference of the two distribution functions of each feature: distances_F.

    Taken at every 2 % of the pooled rows; exact where a feature has few distinct values.
    """
    labels_N1 = np.asarray(labels_N, dtype=np.float32)[:, None]
    return np.array([_gaps(below_QN, labels_N1).max() for below_QN in below_cuts(values_NF)])


def largest_ks(values_NF: NDArray[np.floating]) -> Statistic:
    """The largest Kolmogorov-Smirnov distance of any feature: one test for all, without a correction between them."""
    below_PN = np.concatenate(below_cuts(values_NF))
    return lambda labels_NB: np.asarray(_gaps(below_PN, labels_NB).max(axis=0))


def _gaps(below_PN: NDArray[np.float32], labels_NB: Labels) -> Floats:
    """Absolute differences of the two distribution functions at each cut: gaps_PB."""
    num_window = labels_NB.sum(axis=0, dtype=np.float64)
    window_PB = (below_PN @ labels_NB).astype(np.float64)
    reference_PB = below_PN.sum(axis=1, dtype=np.float64)[:, None] - window_PB
    return np.asarray(np.abs(window_PB / num_window - reference_PB / (len(labels_NB) - num_window)))


def below_cuts(values_NF: NDArray[np.floating]) -> list[NDArray[np.float32]]:
    """For each feature, which rows are at or below each cut point."""
    found = []
    for values_N in values_NF.T:
        cuts_Q = np.unique(values_N)
        if len(cuts_Q) > NUM_CUTS:
            cuts_Q = np.unique(np.quantile(values_N, np.arange(1, NUM_CUTS) / NUM_CUTS, method="lower"))
        found.append((values_N[None, :] <= cuts_Q[:, None]).astype(np.float32))
    return found


def chi2_counts(classes_N: NDArray[np.int64]) -> Statistic:
    """Pearson's chi-squared of class by sample, without continuity correction."""
    present, class_N = np.unique(classes_N, return_inverse=True)
    member_CN = (np.arange(len(present))[:, None] == class_N[None, :]).astype(np.float32)
    totals_C1 = member_CN.sum(axis=1, dtype=np.float64)[:, None]

    def statistic(labels_NB: Labels) -> Floats:
        share_B = labels_NB.mean(axis=0, dtype=np.float64)
        excess_CB = (member_CN @ labels_NB).astype(np.float64) - totals_C1 * share_B
        return np.asarray((excess_CB**2 / totals_C1).sum(axis=0) / (share_B * (1 - share_B)))

    return statistic


def stratum_weights(labels_N: NDArray[np.int64], strata_N: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Weights of a row as window and as reference, so that the reference has the window's mix of strata.

    Every stratum needs rows of both; only relabellings within the strata keep the weights right.
    """
    _, stratum_N = np.unique(strata_N, return_inverse=True)
    window_S = np.bincount(stratum_N, weights=labels_N)
    reference_S = np.bincount(stratum_N) - window_S
    num_window = float(labels_N.sum())
    return np.full(len(labels_N), 1 / num_window), (window_S / reference_S / num_window)[stratum_N]


def weighted_mmd(kernel_NN: NDArray[np.float32], weights: tuple[Floats, Floats]) -> Statistic:
    """Squared distance of the weighted mean embeddings, without the diagonal: MMD after the mix is taken out."""

    def statistic(labels_NB: Labels) -> Floats:
        signed_NB = _signed(labels_NB, weights)
        return np.asarray(np.einsum("nb,nb->b", signed_NB, kernel_NN @ signed_NB, dtype=np.float64))

    return statistic


def weighted_shift(features_NF: NDArray[np.floating], weights: tuple[Floats, Floats]) -> Statistic:
    """Largest difference of weighted feature means, in pooled standard deviations."""
    spread_F = features_NF.std(axis=0)
    standard_NF = ((features_NF - features_NF.mean(axis=0)) / np.where(spread_F > 0, spread_F, 1)).astype(np.float32)
    return lambda labels_NB: np.abs(standard_NF.T @ _signed(labels_NB, weights)).max(axis=0).astype(np.float64)


def _signed(labels_NB: Labels, weights: tuple[Floats, Floats]) -> NDArray[np.float32]:
    window_N1, reference_N1 = (weight.astype(np.float32)[:, None] for weight in weights)
    return labels_NB * (window_N1 + reference_N1) - reference_N1
