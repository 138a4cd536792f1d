import numpy as np
import pytest

from tasks.stats.budget import alpha_per_look, holm, permutations_needed, spent


def test_independent_looks_at_this_level_spend_just_the_budget():
    assert 1 - (1 - alpha_per_look(0.1, 90)) ** 90 == pytest.approx(0.1)


def test_the_chance_of_a_false_alarm_grows_with_the_looks_up_to_the_budget():
    assert [spent(0.1, 90, looks) for looks in (0, 1, 90)] == pytest.approx([0, alpha_per_look(0.1, 90), 0.1])


def test_enough_permutations_that_the_smallest_p_passes():
    assert permutations_needed(0.05) == 9_999
    alpha = alpha_per_look(0.05, 1_000)
    assert 1 / (permutations_needed(alpha, num_tests=4) + 1) <= alpha / 4


def test_holm_of_a_worked_example():
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def test_holm_keeps_the_family_wise_error():
    rng = np.random.default_rng(0)
    alarms = [min(holm(dict(zip("abcd", p, strict=True))).values()) <= 0.05 for p in rng.random((4_000, 4))]
    assert np.mean(alarms) <= 0.06
