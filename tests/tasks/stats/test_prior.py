import numpy as np
import pytest

from bento.errors import UserError
from tasks.stats.prior import (
    confusions,
    effective_rows,
    estimate_mix,
    fitted_prior,
    gain_at_mix,
    keep_a_chance,
    saerens_prior,
    thin_to_mix,
)


def sample(rng, n, shares_C):
    """Gaussian classes with exact posteriors under a uniform prior."""
    labels_N = rng.choice(len(shares_C), size=n, p=shares_C)
    values_N = rng.normal(2.0 * labels_N, 1)
    density_NC = np.exp(-((values_N[:, None] - 2.0 * np.arange(len(shares_C))) ** 2) / 2)
    return labels_N, density_NC / density_NC.sum(axis=1, keepdims=True)


def mix(probabilities_NC, reference_NC, reference_labels_N, **options):
    """Both estimates, the classifier being calibrated for equal shares."""
    return estimate_mix(
        probabilities_NC,
        np.full(3, 1 / 3),
        reference_probabilities_MC=reference_NC,
        reference_labels_M=reference_labels_N,
        rng=np.random.default_rng(1),
        **options,
    )


@pytest.mark.parametrize("shares_C", [[0.7, 0.2, 0.1], [0.05, 0.05, 0.9], [1 / 3, 1 / 3, 1 / 3]])
def test_both_estimates_find_the_true_mix(shares_C):
    rng = np.random.default_rng(0)
    _, probabilities_NC = sample(rng, 4_000, shares_C)
    reference_labels_N, reference_NC = sample(rng, 4_000, [1 / 3, 1 / 3, 1 / 3])
    found = mix(probabilities_NC, reference_NC, reference_labels_N)
    assert found.shares_C == pytest.approx(shares_C, abs=0.03)
    assert found.check_C == pytest.approx(shares_C, abs=0.04)
    assert found.shares_C.sum() == pytest.approx(1)
    assert found.agrees


def test_a_model_that_favours_a_class_is_seen_through():
    rng, shares_C, favour_C = np.random.default_rng(0), np.array([0.6, 0.3, 0.1]), np.array([4.0, 1.0, 0.5])

    def favouring(probabilities_NC):
        return probabilities_NC * favour_C / (probabilities_NC * favour_C).sum(axis=1, keepdims=True)

    _, probabilities_NC = sample(rng, 4_000, shares_C)
    labels_N, reference_NC = sample(rng, 4_000, [1 / 3, 1 / 3, 1 / 3])
    naive_C = saerens_prior(favouring(probabilities_NC), np.full(3, 1 / 3))
    found = mix(favouring(probabilities_NC), favouring(reference_NC), labels_N)
    assert np.abs(naive_C - shares_C).max() > 0.1
    assert found.shares_C == pytest.approx(shares_C, abs=0.03)
    assert found.agrees
    fitted_C = fitted_prior(favouring(reference_NC), labels_N, np.full(3, 1 / 3))
    assert fitted_C == pytest.approx(favour_C / favour_C.sum(), abs=0.03)


def test_a_class_without_labels_is_left_as_it_is():
    rng = np.random.default_rng(0)
    labels_N, reference_NC = sample(rng, 2_000, [0.5, 0.5, 0.0])
    fitted_C = fitted_prior(reference_NC, labels_N, np.full(3, 1 / 3))
    assert fitted_C == pytest.approx(np.full(3, 1 / 3), abs=0.05)
    assert (fitted_prior(reference_NC, labels_N, np.array([0.5, 0.5, 0.0]))[2]) == 0


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
        confusions(predicted_N, np.arange(100) % 2, 2)


def test_without_a_check_the_refusal_says_why_and_the_estimate_stands_alone():
    rng = np.random.default_rng(0)
    _, probabilities_NC = sample(rng, 300, [0.6, 0.2, 0.2])
    found = mix(probabilities_NC, probabilities_NC, np.zeros(300, dtype=np.int64))
    assert (found.check_C, found.agrees) == (None, None)
    assert "condition number" in found.refusal
    assert found.shares_C[0] == pytest.approx(0.6, abs=0.1)


def test_the_interval_of_the_mix_covers_the_truth_as_often_as_it_says():
    rng, shares_C, covered = np.random.default_rng(0), np.array([0.6, 0.3, 0.1]), 0
    reference_labels_N, reference_NC = sample(rng, 2_000, [1 / 3, 1 / 3, 1 / 3])
    for _ in range(60):
        _, probabilities_NC = sample(rng, 400, shares_C)
        low_C, high_C = mix(probabilities_NC, reference_NC, reference_labels_N).interval(0.95)
        covered += int(((low_C <= shares_C) & (shares_C <= high_C)).sum())
    assert 0.9 <= covered / 180 <= 0.99


def test_the_two_estimates_differ_by_chance_alone_until_the_probabilities_are_no_longer_calibrated():
    rng, refused = np.random.default_rng(0), 0
    reference_labels_N, reference_NC = sample(rng, 2_000, [1 / 3, 1 / 3, 1 / 3])
    for _ in range(30):
        _, probabilities_NC = sample(rng, 500, [0.6, 0.3, 0.1])
        refused += not mix(probabilities_NC, reference_NC, reference_labels_N).agrees
    assert refused <= 3
    refused = 0
    for _ in range(10):
        reference_labels_N, reference_NC = sample(rng, 4_000, [1 / 3, 1 / 3, 1 / 3])
        _, probabilities_NC = sample(rng, 4_000, [0.6, 0.3, 0.1])
        uncalibrated_NC = probabilities_NC**0.3 / (probabilities_NC**0.3).sum(axis=1, keepdims=True)
        refused += not mix(uncalibrated_NC, reference_NC, reference_labels_N).agrees
    assert refused >= 8


def test_rows_of_one_hour_make_the_interval_wider():
    rng = np.random.default_rng(0)
    labels_N = np.repeat(rng.choice(3, size=30), 20)
    probabilities_NC = np.full((600, 3), 0.05)
    probabilities_NC[np.arange(600), labels_N] = 0.9
    options = {"reference_NC": probabilities_NC, "reference_labels_N": labels_N}
    alone = mix(probabilities_NC, **options).draws_BC.std(axis=0)
    together = mix(probabilities_NC, **options, blocks_N=np.repeat(np.arange(30), 20)).draws_BC.std(axis=0)
    assert (together > 2 * alone).all()


def test_a_class_not_seen_in_the_window_keeps_a_chance():
    shares_C = keep_a_chance(np.array([0.7, 0.3, 0.0]), np.array([0.4, 0.4, 0.2]), 97)
    assert shares_C == pytest.approx([0.691, 0.303, 0.006])
    assert shares_C.sum() == pytest.approx(1)


def test_thinned_rows_have_the_mix_that_was_asked_for():
    labels_N = np.repeat([0, 1, 2], [1_000, 1_000, 2_000])
    kept = thin_to_mix(labels_N, np.array([0.6, 0.3, 0.1]), np.random.default_rng(0))
    assert np.bincount(labels_N[kept]) / len(kept) == pytest.approx([0.6, 0.3, 0.1], abs=0.02)
    assert len(kept) == pytest.approx(1_000 / 0.6, rel=0.1)


def test_a_gain_at_another_mix_is_covered_as_often_as_it_says():
    rng, chances_C, shares_C, below = np.random.default_rng(0), np.array([0.1, 0.3, 0.6]), np.array([0.7, 0.2, 0.1]), 0
    truth = float(chances_C @ shares_C)
    for _ in range(200):
        labels_N = rng.choice(3, size=300)
        gain_N = rng.random(300) < chances_C[labels_N]
        draws_BC = rng.multinomial(400, rng.multinomial(400, shares_C) / 400, size=200) / 400
        below += gain_at_mix(gain_N, labels_N, draws_BC, rng=rng).low > truth
    assert below / 200 <= 0.09


def test_rows_reweighted_to_their_own_mix_lose_nothing_and_to_a_rare_class_nearly_all():
    labels_N = np.repeat([0, 1], [90, 10])
    assert effective_rows(labels_N, np.array([0.9, 0.1])) == pytest.approx(100)
    assert effective_rows(labels_N, np.array([0.0, 1.0])) == pytest.approx(10)
