import numpy as np
import pytest

from tasks.stats.paired import needed_n, tango_p
from tasks.stats.power import pass_rate


def tango(b, c, n):
    return tango_p(b, c, n, 0.01) < 0.05


@pytest.mark.parametrize(("n", "disagreement", "difference"), [(200, 0.1, -0.01), (300, 0.02, 0.0), (50, 0.6, 0.3)])
def test_the_rate_equals_that_of_a_simulation(n, disagreement, difference):
    shares = [(disagreement + difference) / 2, (disagreement - difference) / 2, 1 - disagreement]
    b, c, _ = np.random.default_rng(0).multinomial(n, shares, size=200_000).T
    simulated = tango(b, c, n).mean()
    assert pass_rate(tango, n, disagreement=disagreement, difference=difference) == pytest.approx(simulated, abs=0.004)


def test_a_test_that_always_passes_has_rate_1():
    found = pass_rate(lambda b, c, n: np.ones(np.broadcast(b, c).shape, bool), 500, disagreement=0.3, difference=0.1)
    assert found == pytest.approx(1.0, abs=1e-6)


def test_complete_disagreement_and_none_are_possible():
    assert pass_rate(tango, 100, disagreement=1.0, difference=1.0) == pytest.approx(1.0)
    assert pass_rate(tango, 300, disagreement=0.0, difference=0.0) == pytest.approx(1.0)


def test_walds_test_is_too_generous_where_tangos_is_not():
    """The figures for which Tango's test was chosen: 300 rows of which 2 % disagree."""

    def wald(b, c, n):
        difference = (b - c) / n
        with np.errstate(divide="ignore", invalid="ignore"):
            return (difference + 0.01) / np.sqrt(((b + c) / n - difference**2) / n) > 1.6449

    sizes = [pass_rate(test, 300, disagreement=0.02, difference=-0.01) for test in (wald, tango)]
    assert sizes[0] > 0.08
    assert sizes[1] <= 0.053


def test_power_at_the_needed_n_is_what_was_asked_for():
    n = needed_n(0.04, 0.01)
    assert pass_rate(tango, n, disagreement=0.04, difference=0.0) == pytest.approx(0.8, abs=0.01)


def test_a_difference_beyond_the_disagreement_is_refused():
    with pytest.raises(ValueError, match="disagreement"):
        pass_rate(tango, 100, disagreement=0.01, difference=0.02)
