import numpy as np
import pytest

from bento.errors import UserError
from tasks.stats.prior import bbse_prior, saerens_prior


def sample(rng, n, shares_C):
    """Gaussian classes with exact posteriors under a uniform prior."""
    labels_N = rng.choice(len(shares_C), size=n, p=shares_C)
    values_N = rng.normal(2.0 * labels_N, 1)
    density_NC = np.exp(-((values_N[:, None] - 2.0 * np.arange(len(shares_C))) ** 2) / 2)
    return labels_N, density_NC / density_NC.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shares_C", [[0.7, 0.2, 0.1], [0.05, 0.05, 0.9], [1 / 3, 1 / 3, 1 / 3]])
def test_both_estimates_find_the_true_mix(shares_C):
    rng = np.random.default_rng(0)
    _, probabilities_NC = sample(rng, 4_000, shares_C)
    reference_labels_N, reference_NC = sample(rng, 4_000, [1 / 3, 1 / 3, 1 / 3])
    em = saerens_prior(probabilities_NC, np.full(3, 1 / 3))
    bbse = bbse_prior(probabilities_NC.argmax(axis=1), reference_NC.argmax(axis=1), reference_labels_N, 3)
    assert em == pytest.approx(shares_C, abs=0.03)
    assert bbse == pytest.approx(shares_C, abs=0.04)
    assert em.sum() == pytest.approx(1)


def test_counting_predictions_alone_would_be_further_off():
    labels = [0.8, 0.1, 0.1]
    _, probabilities_NC = sample(np.random.default_rng(0), 4_000, labels)
    counted = np.bincount(probabilities_NC.argmax(axis=1), minlength=3) / 4_000
    em = saerens_prior(probabilities_NC, np.full(3, 1 / 3))
    assert np.abs(em - labels).max() < np.abs(counted - labels).max() / 2


def test_a_class_without_prior_stays_without():
    assert saerens_prior(np.full((10, 3), 1 / 3), np.array([0.5, 0.5, 0.0]))[2] == 0


def test_confusions_that_cannot_be_inverted_are_refused():
    predicted_N = np.zeros(100, dtype=np.int64)
    with pytest.raises(UserError, match="condition number"):
        bbse_prior(predicted_N, predicted_N, np.arange(100) % 2, 2)
