import numpy as np
import pytest

from tasks.stats.log_odds import log_odds_z, two_sided_p


def test_z_is_that_of_the_formulas_in_the_paper():
    first, second = np.array([30, 70, 900]), np.array([10, 90, 900])
    prior = 500 * (first + second) / 2_000
    a0 = prior.sum()
    one = np.log((first + prior) / (1_000 + a0 - first - prior))
    other = np.log((second + prior) / (1_000 + a0 - second - prior))
    expected = (one - other) / np.sqrt(1 / (first + prior) + 1 / (second + prior))
    assert log_odds_z(first, second) == pytest.approx(expected)


def test_swapping_the_sets_turns_the_sign():
    first, second = np.array([30, 70, 5]), np.array([10, 90, 8])
    assert log_odds_z(first, second) == pytest.approx(-log_odds_z(second, first))


def test_a_word_seen_once_stands_out_less_than_one_seen_often():
    z_V = log_odds_z(np.array([1, 100, 900]), np.array([0, 40, 960]))
    assert z_V[1] > 3 > z_V[0] > 0


def test_equal_shares_are_far_from_significant_and_p_is_two_sided():
    assert two_sided_p(log_odds_z(np.array([50, 950]), np.array([100, 1_900]))).min() > 0.9
    assert two_sided_p(np.array([1.96, -1.96])) == pytest.approx([0.05, 0.05], abs=1e-4)
