import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import binomtest

from tasks.stats.paired import (
    PairedCounts,
    mcnemar_p,
    needed_n,
    paired_counts,
    tango_interval,
    tango_p,
    tango_z,
)
from tasks.stats.power import pass_rate


def reference_z(b, c, n, difference):
    """The score statistic with its nuisance parameter found by maximising the likelihood numerically."""

    def loss(q):
        return -(xlogy(b, q + difference) + xlogy(c, q) + xlogy(n - b - c, 1 - 2 * q - difference))

    bounds = (max(0.0, -difference) + 1e-12, (1 - difference) / 2 - 1e-12)
    q = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-13}).x
    return (b - c - n * difference) / np.sqrt(n * (2 * q + difference * (1 - difference)))


@pytest.mark.parametrize("difference", [-0.3, -0.05, -0.01, 0.0, 0.02, 0.4])
@pytest.mark.parametrize(("b", "c", "n"), [(12, 9, 86), (3, 30, 200), (0, 7, 50), (7, 0, 50), (40, 50, 2_310)])
def test_z_equals_that_of_a_numeric_constrained_likelihood(b, c, n, difference):
    assert float(tango_z(b, c, n, difference)) == pytest.approx(reference_z(b, c, n, difference), rel=1e-4, abs=1e-4)


def test_z_without_a_margin_is_mcnemars():
    assert float(tango_z(30, 12, 500, 0.0)) == pytest.approx((30 - 12) / np.sqrt(30 + 12))


def test_exchanging_the_models_turns_the_sign():
    assert float(tango_z(30, 12, 500, 0.05)) == pytest.approx(-float(tango_z(12, 30, 500, -0.05)))


def test_perfect_agreement_has_the_z_of_a_single_proportion():
    assert float(tango_z(0, 0, 400, -0.01)) == pytest.approx(np.sqrt(400 * 0.01 / 0.99))


@pytest.mark.parametrize(("b", "c", "n"), [(12, 9, 86), (3, 30, 200), (0, 0, 300), (0, 50, 50), (50, 0, 50)])
def test_the_interval_ends_where_the_test_stops_rejecting(b, c, n):
    low, high = tango_interval(PairedCounts(b=b, c=c, n=n), confidence=0.9)
    assert -1 <= low <= (b - c) / n <= high <= 1
    if low > -1:
        assert float(tango_z(b, c, n, low)) == pytest.approx(1.6449, abs=1e-3)
    if high < 1:
        assert float(tango_z(b, c, n, high)) == pytest.approx(-1.6449, abs=1e-3)


@pytest.mark.parametrize("n", [300, 1_000, 3_000])
@pytest.mark.parametrize("disagreement", [0.02, 0.04, 0.1])
def test_size_at_the_margin_stays_near_its_level(n, disagreement):
    margin, rng = 0.01, np.random.default_rng(0)
    shares = [(disagreement - margin) / 2, (disagreement + margin) / 2, 1 - disagreement]
    b, c, _ = rng.multinomial(n, shares, size=20_000).T
    assert (tango_p(b, c, n, margin) < 0.05).mean() <= 0.055


def test_power_at_the_needed_n_is_as_asked():
    rng = np.random.default_rng(1)
    n = needed_n(0.04, 0.01)
    assert 2_474 < n < 1.04 * 2_474, "a little more than the textbook's (z + z)^2 disagreement / margin^2"
    b, c, _ = rng.multinomial(n, [0.02, 0.02, 0.96], size=20_000).T
    assert (tango_p(b, c, n, 0.01) < 0.05).mean() == pytest.approx(0.8, abs=0.02)


def test_needed_n_grows_with_an_observed_loss_and_ends_at_the_margin():
    assert 619 < needed_n(0.04, 0.02) < 1.13 * 619
    assert needed_n(0.04, 0.02, difference=-0.01) > needed_n(0.04, 0.02)
    assert needed_n(0.04, 0.02, difference=-0.02) is None


def test_needed_n_of_perfect_agreement_is_just_enough():
    n = needed_n(0.0, 0.01)
    assert float(tango_p(0, 0, n, 0.01)) < 0.05 < float(tango_p(0, 0, n - 1, 0.01))


def test_counts_are_who_alone_was_right():
    candidate_N = np.array([1, 1, 0, 0, 1], dtype=bool)
    reference_N = np.array([1, 0, 1, 0, 0], dtype=bool)
    counts = paired_counts(candidate_N, reference_N)
    assert counts == PairedCounts(b=2, c=1, n=5)
    assert (counts.difference, counts.disagreement) == (0.2, 0.6)


def test_mcnemar_is_the_exact_binomial_and_1_without_discordant_rows():
    assert mcnemar_p(PairedCounts(b=15, c=5, n=100)) == binomtest(15, 20, 0.5, alternative="greater").pvalue
    assert mcnemar_p(PairedCounts(b=0, c=0, n=100)) == 1.0


@pytest.mark.parametrize(
    ("disagreement", "margin", "difference"),
    [
        (0.02, 0.01, 0.0),
        (0.04, 0.02, 0.0),
        (0.02, 0.02, 0.0),
        (0.1, 0.05, 0.0),
        (0.06, 0.02, -0.005),
        (0.005, 0.01, 0.0),
    ],
)
def test_the_needed_n_keeps_its_power_on_few_rows_too(disagreement, margin, difference):
    n = needed_n(disagreement, margin, difference=difference)
    power = pass_rate(
        lambda b, c, n: tango_p(b, c, n, margin) < 0.05, n, disagreement=disagreement, difference=difference
    )
    assert 0.8 <= power < 0.85
