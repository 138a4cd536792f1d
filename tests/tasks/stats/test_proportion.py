import numpy as np
import pytest
from scipy.stats import binom, binomtest

from tasks.stats.proportion import clopper_pearson, excess_error_p, ppi_accuracy, wilson


@pytest.mark.parametrize(("num_hits", "n"), [(0, 20), (7, 20), (20, 20), (480, 500)])
@pytest.mark.parametrize(("interval", "method"), [(wilson, "wilson"), (clopper_pearson, "exact")])
def test_intervals_equal_scipys(interval, method, num_hits, n):
    expected = binomtest(num_hits, n).proportion_ci(0.95, method=method)
    found = interval(num_hits, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == num_hits / n


@pytest.mark.parametrize("n", [50, 200])
def test_the_harm_test_keeps_its_level_exactly_at_the_tolerated_error(n):
    """Sum over every outcome of both samples, so no simulation error."""
    error, tolerance, alpha, baseline_n = 0.08, 0.05, 0.05, 400
    num_errors = np.arange(n + 1)
    rate = 0.0
    for baseline_errors in range(5, 75):
        p = [
            excess_error_p(
                k, n, baseline_errors=baseline_errors, baseline_n=baseline_n, tolerance=tolerance, alpha=alpha
            )
            for k in range(n + 1)
        ]
        alarm = binom.pmf(num_errors, n, error + tolerance)[np.array(p) <= alpha].sum()
        rate += alarm * binom.pmf(baseline_errors, baseline_n, error)
    assert rate <= alpha


def test_the_harm_test_finds_a_large_rise_and_spares_an_equal_error():
    options = {"baseline_errors": 160, "baseline_n": 2_000, "tolerance": 0.05, "alpha": 0.001}
    assert excess_error_p(60, 200, **options) < 0.001
    assert excess_error_p(16, 200, **options) > 0.5


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
