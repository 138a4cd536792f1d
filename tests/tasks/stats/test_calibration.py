import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import brier_score_loss

from tasks.stats.bootstrap import mean_interval
from tasks.stats.calibration import (
    brier_loss,
    brier_losses,
    calibration_error,
    calibration_error_interval,
    fit_temperature,
    in_wrong_order,
    reliability_curve,
    set_brier_losses,
)


def sharpened(rng, n, factor):
    """Logits `factor` times too large for the labels drawn from them."""
    logits_NC = 2 * rng.normal(size=(n, 4))
    cumulative_NC = softmax(logits_NC, axis=1).cumsum(axis=1)
    labels_N = (rng.random((n, 1)) > cumulative_NC[:, :-1]).sum(axis=1)
    return factor * logits_NC, labels_N


def test_the_temperature_undoes_overconfidence():
    logits_NC, labels_N = sharpened(np.random.default_rng(0), 6_000, 3.0)
    temperature = fit_temperature(logits_NC, labels_N)
    assert temperature == pytest.approx(3.0, rel=0.07)
    before = calibration_error(softmax(logits_NC, axis=1), labels_N)
    after = calibration_error(softmax(logits_NC / temperature, axis=1), labels_N)
    assert after < 0.03 < before


def test_calibration_error_of_a_worked_example():
    probabilities_NC = np.array([[0.95, 0.05]] * 10 + [[0.35, 0.65]] * 10)
    labels_N = np.array([0] * 8 + [1] * 2 + [1] * 5 + [0] * 5)
    assert calibration_error(probabilities_NC, labels_N, num_bins=10) == pytest.approx(0.5 * 0.15 + 0.5 * 0.15)


def test_brier_of_two_classes_is_twice_scikit_learns():
    rng = np.random.default_rng(0)
    positive_N, labels_N = rng.random(200), rng.integers(0, 2, 200)
    probabilities_NC = np.stack([1 - positive_N, positive_N], axis=1)
    assert brier_loss(probabilities_NC, labels_N) == pytest.approx(2 * brier_score_loss(labels_N, positive_N))


def reference_error(probabilities_NC, labels_N, num_bins=15):
    """Equation 3 of Guo 2017 bin by bin, as it is written there."""
    confidence_N, predicted_N = probabilities_NC.max(axis=1), probabilities_NC.argmax(axis=1)
    total = 0.0
    for at in range(num_bins):
        inside = (confidence_N > at / num_bins) & (confidence_N <= (at + 1) / num_bins)
        if inside.any():
            accuracy = (predicted_N[inside] == labels_N[inside]).mean()
            total += inside.sum() / len(labels_N) * abs(accuracy - confidence_N[inside].mean())
    return total


def test_calibration_error_equals_the_equation_bin_by_bin():
    logits_NC, labels_N = sharpened(np.random.default_rng(3), 700, 2.0)
    probabilities_NC = softmax(logits_NC, axis=1)
    assert calibration_error(probabilities_NC, labels_N) == pytest.approx(reference_error(probabilities_NC, labels_N))


def test_the_upper_end_of_the_calibration_error_is_safe():
    """The true error is that of a million rows; a share of 5 % may lie above the bound."""
    rng = np.random.default_rng(0)
    logits_NC, labels_N = sharpened(rng, 1_000_000, 1.5)
    truth = calibration_error(softmax(logits_NC, axis=1), labels_N)
    covered = []
    for _ in range(100):
        logits_NC, labels_N = sharpened(rng, 600, 1.5)
        probabilities_NC = softmax(logits_NC, axis=1)
        answers = (probabilities_NC.max(axis=1), probabilities_NC.argmax(axis=1) == labels_N, np.arange(600))
        found = calibration_error_interval(*answers, num_rows=600, rng=rng, num_resamples=200)
        assert found.value == pytest.approx(calibration_error(probabilities_NC, labels_N))
        assert found.low <= found.high
        covered.append(found.high >= truth)
    assert np.mean(covered) >= 0.93


def test_answers_that_stand_together_in_their_rows_have_a_wider_interval():
    rng = np.random.default_rng(5)
    right_N = rng.random(400) < 0.7
    row_M = np.repeat(np.arange(400), 5)
    together = calibration_error_interval(
        np.full(2_000, 0.8), np.repeat(right_N, 5), row_M, num_rows=400, rng=np.random.default_rng(0)
    )
    apart = calibration_error_interval(
        np.full(2_000, 0.8), rng.permutation(np.repeat(right_N, 5)), row_M, num_rows=400, rng=np.random.default_rng(0)
    )
    assert together.value == pytest.approx(apart.value)
    assert together.high - together.low > 1.7 * (apart.high - apart.low)
    with pytest.raises(ValueError, match="at least one answer"):
        calibration_error_interval(np.empty(0), np.empty(0, dtype=bool), np.empty(0, dtype=int), num_rows=5, rng=rng)


def test_brier_of_label_sets_is_scikit_learns_of_each_label_added():
    rng = np.random.default_rng(6)
    probabilities_NC, truth_NC = rng.random((300, 3)), rng.integers(0, 2, (300, 3))
    each = [brier_score_loss(truth_NC[:, at], probabilities_NC[:, at]) for at in range(3)]
    assert set_brier_losses(probabilities_NC, truth_NC).mean() == pytest.approx(sum(each))


def test_the_interval_of_brier_covers_its_true_value_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    logits_NC, labels_N = sharpened(rng, 500_000, 1.5)
    truth = brier_loss(softmax(logits_NC, axis=1), labels_N)
    covered = []
    for _ in range(200):
        logits_NC, labels_N = sharpened(rng, 400, 1.5)
        losses_N = brier_losses(softmax(logits_NC, axis=1), labels_N)
        found = mean_interval(losses_N, rng=rng, num_resamples=400)
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) == pytest.approx(0.9, abs=0.06)


def test_the_reliability_curve_is_what_the_calibration_error_sums():
    logits_NC, labels_N = sharpened(np.random.default_rng(1), 500, 2.0)
    probabilities_NC = softmax(logits_NC, axis=1)
    found = reliability_curve(probabilities_NC.max(axis=1), probabilities_NC.argmax(axis=1) == labels_N)
    curve = {name: np.array(values) for name, values in found.items()}
    assert curve["num_answers"].sum() == 500
    error = (curve["num_answers"] * np.abs(curve["confidence"] - curve["accuracy"])).sum() / 500
    assert error == pytest.approx(calibration_error(probabilities_NC, labels_N))


def test_in_the_wrong_order_what_was_right_is_wrong():
    probabilities_NC = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    assert in_wrong_order(probabilities_NC).tolist() == [[0.1, 0.7, 0.2], [0.8, 0.1, 0.1]]
    assert in_wrong_order(np.array([[0.9]])) == pytest.approx(0.1)
