import time

import numpy as np
import pytest
from scipy.stats import chi2_contingency, ks_2samp, kstest

from tasks.stats.permutation import permutation_tests
from tasks.stats.two_sample import (
    chi2_counts,
    ks_distances,
    largest_ks,
    mmd2_u,
    mmd_test,
    rbf_kernel,
    stratum_weights,
    weighted_mmd,
    weighted_shift,
)


def labels(num_window, num_reference):
    return np.repeat([1.0, 0.0], [num_window, num_reference]).astype(np.float32)


def reference_mmd2(window_ND, reference_ND):
    """The double sums of Gretton's equation 3, one pair at a time."""
    pooled = np.concatenate([window_ND, reference_ND])
    distances = np.sqrt(((pooled[:, None] - pooled[None]) ** 2).sum(-1))
    scale = np.median(distances[np.triu_indices(len(pooled), 1)])
    kernel = np.exp(-(distances**2) / (2 * scale**2))
    n, m = len(window_ND), len(reference_ND)
    xx = sum(kernel[i, j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel[i, j] for i in range(n, n + m) for j in range(n, n + m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * kernel[:n, n:].mean()


def test_mmd_equals_the_double_sums():
    rng = np.random.default_rng(0)
    window_ND, reference_ND = rng.normal(size=(12, 4)), rng.normal(0.5, 1, size=(25, 4))
    found = mmd2_u(rbf_kernel(np.concatenate([window_ND, reference_ND])))(labels(12, 25)[:, None])[0]
    assert found == pytest.approx(reference_mmd2(window_ND, reference_ND), abs=1e-6)


def test_mmd_p_is_uniform_without_a_shift():
    rng = np.random.default_rng(0)
    p = [
        mmd_test(rng.normal(size=(40, 3)), rng.normal(size=(60, 3)), rng=rng, num_permutations=199).p_value
        for _ in range(200)
    ]
    assert kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) <= 0.08


def test_mmd_finds_a_shift_of_the_mean_and_of_the_spread():
    rng = np.random.default_rng(0)
    reference_ND = rng.normal(size=(200, 8))
    for window_ND in (rng.normal(0.4, 1, size=(100, 8)), rng.normal(0, 1.5, size=(100, 8))):
        assert mmd_test(window_ND, reference_ND, rng=rng, num_permutations=999).p_value == 0.001


def test_identical_rows_are_no_drift():
    assert mmd_test(np.ones((20, 3)), np.ones((30, 3)), rng=np.random.default_rng(0), num_permutations=99).p_value == 1


def test_a_full_look_takes_seconds_at_most():
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    mmd_test(rng.normal(size=(1_000, 32)), rng.normal(size=(2_000, 32)), rng=rng, num_permutations=2_000)
    assert time.perf_counter() - start < 10


def test_ks_distances_equal_scipys():
    rng = np.random.default_rng(0)
    values_NF = np.stack([rng.integers(0, 6, 300), rng.random(300) < 0.3], axis=1).astype(float)
    found = ks_distances(values_NF, labels(100, 200))
    expected = [ks_2samp(values_NF[:100, f], values_NF[100:, f]).statistic for f in range(2)]
    assert found == pytest.approx(expected)


def test_binned_ks_of_continuous_values_is_near_the_exact_one():
    rng = np.random.default_rng(0)
    values_NF = np.concatenate([rng.normal(0.5, 1, 400), rng.normal(size=800)])[:, None]
    exact = ks_2samp(values_NF[:400, 0], values_NF[400:, 0]).statistic
    assert ks_distances(values_NF, labels(400, 800))[0] == pytest.approx(exact, abs=0.03)


def test_largest_ks_is_the_largest_distance():
    values_NF = np.random.default_rng(0).normal(size=(300, 5))
    labels_N = labels(100, 200)
    assert largest_ks(values_NF)(labels_N[:, None])[0] == pytest.approx(ks_distances(values_NF, labels_N).max())


def test_chi2_equals_scipys():
    classes_N = np.random.default_rng(0).integers(0, 5, 300)
    table = np.stack([np.bincount(classes_N[:100], minlength=5), np.bincount(classes_N[100:], minlength=5)])
    expected = chi2_contingency(table, correction=False).statistic
    assert chi2_counts(classes_N)(labels(100, 200)[:, None])[0] == pytest.approx(expected, rel=1e-5)


def mixture(rng, n, share, shift=0.0):
    """Two classes far apart; `shift` moves the second."""
    class_N = (rng.random(n) < share).astype(np.int64)
    return class_N, rng.normal(size=(n, 4)) + 4 * class_N[:, None] + shift * class_N[:, None]


@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 0.0, 0.1), (0.8, 0.95, 1.0)])
def test_within_strata_only_a_change_beyond_the_mix_is_found(shift, least, most):
    rng = np.random.default_rng(0)
    alarms = {"mmd": 0, "shift": 0}
    labels_N = labels(150, 200)
    for _ in range(60):
        window, reference = mixture(rng, 150, 0.8, shift), mixture(rng, 200, 0.3)
        strata_N = np.concatenate([window[0], reference[0]])
        points_ND = np.concatenate([window[1], reference[1]])
        weights = stratum_weights(labels_N.astype(np.int64), strata_N)
        tests = {
            "mmd": weighted_mmd(rbf_kernel(points_ND), weights),
            "shift": weighted_shift(points_ND, weights),
        }
        found = permutation_tests(tests, labels_N, num_permutations=199, rng=rng, strata_N=strata_N)
        for name in alarms:
            alarms[name] += found[name].p_value <= 0.05
    assert all(least <= count / 60 <= most for count in alarms.values())
