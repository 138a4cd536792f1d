import numpy as np
import pytest
from scipy.stats import binom, binomtest

from tasks.stats.proportion import clopper_pearson, excess_error_p, ppi_accuracy, upper_share, weighted_share, wilson


@pytest.mark.parametrize(("num_hits", "n"), [(0, 20), (7, 20), (20, 20), (480, 500)])
@pytest.mark.parametrize(("interval", "method"), [(wilson, "wilson"), (clopper_pearson, "exact")])
def test_intervals_equal_scipys(interval, method, num_hits, n):
    expected = binomtest(num_hits, n).proportion_ci(0.95, method=method)
    found = interval(num_hits, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == num_hits / n


def test_the_exact_test_is_the_binomial_tail():
    assert excess_error_p(30, 200, limit=0.1) == pytest.approx(binomtest(30, 200, 0.1, alternative="greater").pvalue)
    assert excess_error_p(0, 0, limit=0.1) == 1


@pytest.mark.parametrize("baseline_n", [60, 400])
def test_a_baseline_of_few_rows_is_allowed_for_exactly(baseline_n):
    """Sum over every outcome of both samples, so no simulation error: the test's level and the baseline's miss."""
    error, tolerance, alpha, miss, n = 0.08, 0.05, 0.02, 0.01, 80
    rate, num_errors = 0.0, np.arange(n + 1)
    chances = binom.pmf(np.arange(baseline_n + 1), baseline_n, error)
    for baseline_errors in np.flatnonzero(chances > 1e-9):
        limit = upper_share(baseline_errors, baseline_n, miss) + tolerance
        alarms = np.array([excess_error_p(k, n, limit=limit) <= alpha for k in num_errors])
        rate += binom.pmf(num_errors, n, error + tolerance)[alarms].sum() * chances[baseline_errors]
    assert rate <= alpha + miss


def test_prediction_powered_accuracy_covers_the_truth_and_is_narrower_where_confidence_tells_something():
    rng = np.random.default_rng(0)
    covered, widths, plain_widths = 0, [], []
    for _ in range(400):
        confidence = rng.beta(2, 1, size=4_200)
        correct = rng.random(4_200) < confidence
        found = ppi_accuracy(correct[:200], confidence[:200], confidence[200:])
        plain = wilson(int(correct[:200].sum()), 200)
        covered += found.low <= 2 / 3 <= found.high
        widths.append(found.high - found.low)
        plain_widths.append(plain.high - plain.low)
    assert covered / 400 >= 0.92
    assert np.mean(widths) < 0.95 * np.mean(plain_widths)


def test_constant_confidence_leaves_the_plain_accuracy():
    correct = np.array([True] * 80 + [False] * 20)
    assert ppi_accuracy(correct, np.full(100, 0.9), np.full(1_000, 0.9)).value == pytest.approx(0.8)


@pytest.mark.parametrize(("n", "sharpness"), [(50, 5), (50, 30), (200, 12), (30, 30)])
@pytest.mark.parametrize("overconfident", [False, True])
def test_the_prediction_powered_interval_covers_the_truth_at_high_accuracy_and_few_labels(n, sharpness, overconfident):
    """Confidences from a beta distribution, right as often as they say or less; 95 % less 2.5 points of noise."""
    rng, covered, truth = np.random.default_rng(0), 0, sharpness / (sharpness + 1)
    for _ in range(600):
        right = rng.beta(sharpness, 1, size=n + 1_000)
        correct = rng.random(n) < right[:n]
        confidence = right**0.3 if overconfident else right
        found = ppi_accuracy(correct, confidence[:n], confidence[n:])
        covered += found.low <= truth <= found.high
    assert covered / 600 >= 0.92


def test_labels_without_an_error_do_not_make_the_accuracy_certain():
    found = ppi_accuracy(np.ones(50, dtype=bool), np.full(50, 0.9), np.full(1_000, 0.9))
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(wilson(50, 50).low)


def test_equal_weights_give_the_exact_interval():
    hits = np.arange(40) < 31
    assert weighted_share(hits, np.full(40, 20.0)) == clopper_pearson(31, 40)


@pytest.mark.parametrize("sharpened", [False, True])
def test_accuracy_is_unbiased_and_covered_where_more_is_drawn_while_more_is_wrong(sharpened):
    """3,000 rows of which a twentieth is drawn, then 1,000 with three times the errors of which three tenths are."""
    rng, rate_N = np.random.default_rng(0), np.repeat([0.05, 0.3], [3_000, 1_000])
    truth_N = np.repeat([0.9, 0.7], [3_000, 1_000])
    values, plain, covered = [], [], 0
    for _ in range(400):
        correct_N, drawn_N = rng.random(4_000) < truth_N, rng.random(4_000) < rate_N
        confidence_N = np.clip(truth_N + 0.1 * (correct_N - truth_N) + 0.05 * rng.normal(size=4_000), 0, 1)
        hits_n, weights_n = correct_N[drawn_N], 1 / rate_N[drawn_N]
        found = weighted_share(hits_n, weights_n)
        if sharpened:
            found = ppi_accuracy(hits_n, confidence_N[drawn_N], confidence_N, weights_n=weights_n)
        values.append(found.value)
        plain.append(hits_n.mean())
        covered += found.low <= truth_N.mean() <= found.high
    assert np.mean(values) == pytest.approx(truth_N.mean(), abs=0.005)
    assert np.mean(plain) < truth_N.mean() - 0.05, "without weights the bad time would count too much"
    assert covered / 400 >= 0.925
