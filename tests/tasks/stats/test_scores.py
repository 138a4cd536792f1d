"""Correlations against scipy, and their intervals against scipy's bootstrap."""

import numpy as np
import pytest
from scipy.stats import bootstrap, pearsonr, rankdata, spearmanr

from tasks.stats.scores import (
    _Ranks,
    pearson,
    pearson_difference,
    pearson_interval,
    spearman,
    spearman_difference,
    spearman_interval,
)


def scores(num_rows, seed, noise=0.5):
    rng = np.random.default_rng(seed)
    truth_N = np.round(rng.random(num_rows) * 5) / 5
    return truth_N + rng.normal(size=num_rows) * noise, truth_N


@pytest.mark.parametrize("seed", range(3))
def test_correlations_are_scipys_ties_included(seed):
    given_N, truth_N = scores(200, seed)
    assert pearson(given_N, truth_N) == pytest.approx(pearsonr(given_N, truth_N).statistic)
    assert spearman(given_N, truth_N) == pytest.approx(spearmanr(given_N, truth_N).statistic)


def test_a_constant_goes_with_nothing():
    assert spearman(np.ones(9), np.arange(9)) == 0
    assert pearson(np.arange(9), np.full(9, 0.3)) == 0


@pytest.mark.parametrize(("interval", "of"), [(pearson_interval, pearsonr), (spearman_interval, spearmanr)])
def test_intervals_are_those_of_scipys_bootstrap(interval, of):
    given_N, truth_N = scores(300, 1)
    found = interval(given_N, truth_N, rng=np.random.default_rng(0), confidence=0.9)
    reference = bootstrap(
        (given_N, truth_N), lambda x, y: of(x, y).statistic, paired=True, vectorized=False, n_resamples=999,
        confidence_level=0.9, rng=np.random.default_rng(1), method="BCa",
    ).confidence_interval  # fmt: skip
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.01)


@pytest.mark.parametrize("difference", [pearson_difference, spearman_difference])
def test_a_model_does_not_differ_from_itself_and_is_above_a_noisier_one(difference):
    given_N, truth_N = scores(300, 2)
    noisier_N = given_N + np.random.default_rng(3).normal(size=300)
    options = {"rng": np.random.default_rng(0), "confidence": 0.9}
    same = difference(given_N, given_N, truth_N, **options)
    assert (same.value, same.high) == pytest.approx((0, 0), abs=1e-12)
    assert -6 / 300 < same.low < -2 / 300, "of three rows that had the score of another"
    assert difference(given_N, noisier_N, truth_N, **options).low > 0


@pytest.mark.parametrize("num_values", [30, 10**9])
def test_ranks_of_a_resample_are_scipys_of_the_drawn_rows_about_their_mean(num_values):
    rng = np.random.default_rng(4)
    values_N = rng.integers(0, num_values, 80).astype(float)
    rows_N = rng.integers(80, size=80)
    counts_N = np.bincount(rows_N, minlength=80).astype(float)
    ranks_BN, squares_B = _Ranks(values_N)(counts_N[None])
    expected_N = rankdata(values_N[rows_N]) - 81 / 2
    assert ranks_BN[0, rows_N] == pytest.approx(expected_N)
    assert squares_B == pytest.approx([(expected_N**2).sum()])
