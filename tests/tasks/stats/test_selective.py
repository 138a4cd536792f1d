"""Coverage and risk by hand, and the promise of a risk by simulation."""

import numpy as np
import pytest

from tasks.stats.selective import risk_coverage, threshold_for_coverage, threshold_for_risk


def test_the_curve_of_four_rows_is_as_counted_by_hand():
    curve = risk_coverage(np.array([0.9, 0.5, 0.7, 0.5]), np.array([False, True, True, False]))
    assert curve.threshold_K.tolist() == [0.9, 0.7, 0.5]
    assert curve.coverage_K.tolist() == [0.25, 0.5, 1.0]
    assert curve.risk_K.tolist() == [0.0, 0.5, 0.5]
    assert curve.area == pytest.approx(0.25 * 0.25 + 0.5 * 0.5)


def test_rows_of_negative_confidence_are_never_answered():
    curve = risk_coverage(np.array([0.9, -1.0]), np.array([False, True]))
    assert (curve.coverage_K.tolist(), curve.risk_K.tolist()) == ([0.5], [0.0])
    nobody = risk_coverage(np.array([-1.0, -1.0]), np.array([False, True]))
    assert (len(nobody.coverage_K), nobody.area) == (0, 0.0)
    assert threshold_for_risk(np.array([-1.0]), np.array([False]), max_risk=0.5) is None


def test_the_risk_is_kept_on_new_rows_in_95_of_100_draws_and_most_are_answered():
    """Wrong with probability 1 - confidence, so the true risk of a threshold t is (1 - t) / 2."""
    rng = np.random.default_rng(0)
    broken, thresholds = 0, []
    for _ in range(400):
        confidence_N = rng.random(800)
        threshold = threshold_for_risk(confidence_N, rng.random(800) > confidence_N, max_risk=0.2)
        thresholds.append(1.0 if threshold is None else threshold)
        broken += (1 - thresholds[-1]) / 2 > 0.2
    assert broken / 400 <= 0.05
    assert 0.6 <= np.median(thresholds) <= 0.8


def test_a_risk_that_these_rows_cannot_show_has_no_threshold():
    assert threshold_for_risk(np.linspace(0.1, 1, 20), np.zeros(20, dtype=bool), max_risk=0.01) is None
    assert threshold_for_risk(np.linspace(0.1, 1, 500), np.ones(500, dtype=bool), max_risk=0.5) is None


def test_the_threshold_for_a_coverage_answers_as_many_rows():
    confidence_N = np.random.default_rng(1).random(1000)
    for coverage in (0.001, 0.5, 0.9, 1.0):
        assert (confidence_N >= threshold_for_coverage(confidence_N, coverage)).mean() == pytest.approx(coverage)
    assert threshold_for_coverage(np.array([0.9, -1.0]), 1.0) == 0.0
