"""F1 of label sets against scikit-learn, its intervals against scipy's bootstrap, the threshold against a search."""

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import f1_score

from tasks.stats.multi_label import (
    best_threshold,
    macro_f1_of_sets,
    macro_f1_sets_difference,
    macro_f1_sets_interval,
    micro_f1,
    micro_f1_difference,
    micro_f1_interval,
)


def sets(num_rows, seed, noise=0.2, num_classes=5):
    rng = np.random.default_rng(seed)
    truth_NC = rng.random((num_rows, num_classes)) < np.linspace(0.05, 0.5, num_classes)
    flips_NC = rng.random(truth_NC.shape) < noise
    return truth_NC ^ flips_NC, truth_NC


@pytest.mark.parametrize("seed", range(3))
def test_f1_is_scikit_learns(seed):
    chosen_NC, truth_NC = sets(200, seed)
    assert micro_f1(chosen_NC, truth_NC) == pytest.approx(f1_score(truth_NC, chosen_NC, average="micro"))
    assert macro_f1_of_sets(chosen_NC, truth_NC) == pytest.approx(f1_score(truth_NC, chosen_NC, average="macro"))


def test_no_label_at_all_is_a_score_of_zero():
    nothing_NC = np.zeros((4, 3), dtype=bool)
    assert (micro_f1(nothing_NC, nothing_NC), macro_f1_of_sets(nothing_NC, nothing_NC)) == (0, 0)


@pytest.mark.parametrize(("interval", "average"), [(micro_f1_interval, "micro"), (macro_f1_sets_interval, "macro")])
def test_intervals_are_those_of_scipys_bootstrap(interval, average):
    chosen_NC, truth_NC = sets(300, 1)
    found = interval(chosen_NC, truth_NC, rng=np.random.default_rng(0), confidence=0.9)
    reference = bootstrap(
        (np.arange(300),), lambda rows: f1_score(truth_NC[rows], chosen_NC[rows], average=average),
        vectorized=False, n_resamples=999, confidence_level=0.9, rng=np.random.default_rng(1), method="BCa",
    ).confidence_interval  # fmt: skip
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.006)


@pytest.mark.parametrize("difference", [micro_f1_difference, macro_f1_sets_difference])
def test_a_model_does_not_differ_from_itself(difference):
    chosen_NC, truth_NC = sets(100, 2)
    found = difference(chosen_NC, chosen_NC, truth_NC, rng=np.random.default_rng(0), confidence=0.9)
    assert (found.value, found.high) == (0, 0)
    assert -0.045 < found.low < -0.025, "the rule of three: 3 of 100 rows, each with about as much as the mean of all"


def test_the_paired_interval_is_narrower_than_that_of_either_model():
    chosen_NC, truth_NC = sets(400, 3)
    other_NC = chosen_NC.copy()
    other_NC[:20] = truth_NC[:20]
    options = {"rng": np.random.default_rng(0), "confidence": 0.9}
    paired = micro_f1_difference(other_NC, chosen_NC, truth_NC, **options)
    alone = micro_f1_interval(chosen_NC, truth_NC, **options)
    assert paired.low > 0
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_is_better_than_the_best(seed):
    rng = np.random.default_rng(seed)
    _, truth_NC = sets(60, seed)
    probabilities_NC = np.round(np.clip(0.4 * truth_NC + rng.random(truth_NC.shape) * 0.6, 0, 1), 2)
    found = micro_f1(probabilities_NC >= best_threshold(probabilities_NC, truth_NC), truth_NC)
    assert found == pytest.approx(max(micro_f1(probabilities_NC >= at, truth_NC) for at in np.unique(probabilities_NC)))


def test_without_a_true_label_the_threshold_is_a_half():
    assert best_threshold(np.full((3, 2), 0.4), np.zeros((3, 2))) == 0.5


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        micro_f1_interval(np.zeros((0, 2)), np.zeros((0, 2)), rng=np.random.default_rng(0), confidence=0.9)
