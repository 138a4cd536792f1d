import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import brier_score_loss

from tasks.stats.calibration import brier_loss, calibration_error, fit_temperature


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
