import time

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import f1_score

from tasks.stats.bootstrap import accuracy_interval, macro_f1, macro_f1_difference, macro_f1_interval, mean_interval


def answers(rng, n, num_classes, accuracy):
    labels_N = rng.integers(0, num_classes, n)
    return labels_N, np.where(rng.random(n) < accuracy, labels_N, rng.integers(0, num_classes, n))


@pytest.mark.parametrize(("n", "num_classes"), [(1, 2), (30, 10), (500, 77)])
def test_macro_f1_equals_scikit_learns(n, num_classes):
    labels_N, predicted_N = answers(np.random.default_rng(0), n, num_classes, 0.7)
    assert macro_f1(labels_N, predicted_N) == pytest.approx(f1_score(labels_N, predicted_N, average="macro"))


def test_the_interval_equals_scipys_bca_bootstrap():
    labels_N, predicted_N = answers(np.random.default_rng(0), 300, 5, 0.8)
    found = macro_f1_interval(labels_N, predicted_N, rng=np.random.default_rng(1), num_resamples=20_000)
    expected = bootstrap(
        (labels_N, predicted_N),
        macro_f1,
        paired=True,
        vectorized=False,
        n_resamples=2_000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.008)


def test_the_paired_difference_equals_scipys():
    rng = np.random.default_rng(0)
    labels_N, reference_N = answers(rng, 300, 5, 0.8)
    candidate_N = np.where(rng.random(300) < 0.1, rng.integers(0, 5, 300), reference_N)
    found = macro_f1_difference(labels_N, candidate_N, reference_N, rng=np.random.default_rng(1), num_resamples=20_000)

    def difference(labels_N, candidate_N, reference_N):
        return macro_f1(labels_N, candidate_N) - macro_f1(labels_N, reference_N)

    expected = bootstrap(
        (labels_N, candidate_N, reference_N),
        difference,
        paired=True,
        vectorized=False,
        confidence_level=0.9,
        n_resamples=2_000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.006)


def test_the_accuracy_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        labels_N, hit_N = np.ones(400, dtype=np.int64), (rng.random(400) < 0.9).astype(np.int64)
        found = accuracy_interval(labels_N, hit_N, rng=rng, num_resamples=500)
        covered += found.low <= 0.9 <= found.high
    assert covered / 300 >= 0.91


def test_the_same_seed_gives_the_same_interval():
    labels_N, predicted_N = answers(np.random.default_rng(0), 300, 5, 0.8)
    first, second = (macro_f1_interval(labels_N, predicted_N, rng=np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_all_right_is_a_point():
    labels_N = np.arange(50)
    found = macro_f1_interval(labels_N, labels_N, rng=np.random.default_rng(0))
    assert (found.low, found.value, found.high) == (1, 1, 1)


def test_without_a_loss_the_lower_end_is_that_of_the_rule_of_three():
    rng = np.random.default_rng(0)
    labels_N, candidate_N = answers(rng, 1_000, 4, 0.9)
    found = macro_f1_difference(labels_N, candidate_N, candidate_N, rng=rng)
    assert (found.value, found.high) == (0, 0)
    assert -0.004 < found.low < -0.0025
    found = mean_interval(np.zeros(1_000), rng=rng, lost_R=np.ones(7))
    assert (found.low, found.value, found.high) == pytest.approx((0, 0, 3 / 1_001))


@pytest.mark.parametrize("gained", [0.0, 0.005])
@pytest.mark.parametrize(("num_rows", "most"), [(100, 8), (300, 32), (600, 32)])
def test_a_loss_of_the_margin_on_few_rows_is_passed_no_more_often_than_said(gained, num_rows, most):
    rng = np.random.default_rng(num_rows)
    margin, passed = 0.01, 0
    for _ in range(400):
        gained_N, lost_N = np.split(rng.random((2, num_rows)) < [[gained], [gained + margin]], 2)
        differences_N = gained_N[0].astype(float) - lost_N[0]
        found = mean_interval(differences_N, rng=rng, num_resamples=500, lost_R=np.array([-1.0]))
        passed += found.low > -margin
    assert passed <= most, "5 % of 400 are 20; 32 or more have a chance below 1 %; without the lost row a third passes"


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        accuracy_interval(np.array([]), np.array([]), rng=np.random.default_rng(0))


def test_5_000_rows_of_150_classes_take_seconds_at_most():
    labels_N, predicted_N = answers(np.random.default_rng(0), 5_000, 150, 0.9)
    start = time.process_time()
    macro_f1_interval(labels_N, predicted_N, rng=np.random.default_rng(0))
    assert time.process_time() - start < 4


def test_the_interval_of_a_mean_equals_scipys_bca_bootstrap():
    values_N = np.random.default_rng(0).lognormal(size=400)
    found = mean_interval(values_N, rng=np.random.default_rng(1), num_resamples=20_000)
    expected = bootstrap(
        (values_N,), np.mean, confidence_level=0.9, n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.value == values_N.mean()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_the_upper_end_of_a_skewed_mean_covers_it_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = [mean_interval(rng.exponential(size=300), rng=rng, num_resamples=500).high >= 1 for _ in range(400)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)


def test_a_constant_has_no_width_and_no_rows_are_refused():
    found = mean_interval(np.full(50, 0.25), rng=np.random.default_rng(0))
    assert (found.low, found.value, found.high) == (0.25, 0.25, 0.25)
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval(np.empty(0), rng=np.random.default_rng(0))
