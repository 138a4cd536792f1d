"""Each policy alarms when it should, and keeps quiet when nothing happens."""

import numpy as np
import pytest

from flows.bench_drift.policies import (
    BASELINES,
    at_random,
    atc_accuracy,
    domain_auc,
    retort,
    smallest_ks_p,
)
from flows.bench_drift.replay import Run, replay

CHANGE = 10
"""The look after which the rows are others."""


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def retrains(run: Run, name: str) -> list[int]:
    return replay(run, name, BASELINES[name](run, rng())).retrains


def test_retort_calls_the_change_suspect_and_retrains_when_labels_show_the_harm(shifted: Run) -> None:
    trace = replay(shifted, "Retort", retort(shifted, rng()))
    assert set(trace.states[:CHANGE]) == {"no_drift"}
    assert trace.states[CHANGE] == "suspect"
    assert CHANGE + 1 < trace.retrains[0] <= CHANGE + 8
    assert set(trace.states[CHANGE : trace.retrains[0] - 1]) == {"suspect"}


def test_retort_leaves_a_stream_alone_that_does_not_change(still: Run) -> None:
    assert set(replay(still, "Retort", retort(still, rng())).states) == {"no_drift"}


@pytest.mark.parametrize("name", ["domain classifier", "KS p < .05", "MMD p < .05"])
def test_a_test_of_the_input_retrains_at_the_first_look_after_a_change(name: str, shifted: Run) -> None:
    assert CHANGE + 1 in retrains(shifted, name)


def test_confidence_falls_where_rows_are_strange(shifted: Run, still: Run) -> None:
    assert any(look > CHANGE for look in retrains(shifted, "ATC"))
    assert retrains(still, "ATC") == []


def test_fixed_plans_retrain_as_planned(still: Run) -> None:
    assert retrains(still, "never") == []
    assert retrains(still, "always") == list(range(1, 21))
    assert retrains(still, "periodic") == [10, 20]
    assert len(replay(still, "random", at_random(3, still, rng())).retrains) == 3


def test_the_classifier_tells_clouds_apart_and_not_one_from_itself() -> None:
    points = rng().normal(size=(900, 5))
    assert domain_auc(points[:300], points[300:], rng()) == pytest.approx(0.5, abs=0.06)
    assert domain_auc(points[:300] + 1, points[300:], rng()) > 0.9


def test_the_smallest_p_is_that_of_the_dimension_that_moved() -> None:
    points = rng().normal(size=(900, 5))
    moved = points[:300] + np.array([0, 0, 0.8, 0, 0])
    assert smallest_ks_p(moved, points[300:]) < 1e-10
    assert smallest_ks_p(points[:300], points[300:]) > 1e-3


def test_the_guess_from_confidence_is_the_accuracy_where_nothing_changed() -> None:
    sure = rng().uniform(0.5, 1, 2_000)
    probabilities = np.stack([sure, 1 - sure], axis=1)
    right = rng().random(2_000) < 0.8
    assert atc_accuracy(probabilities, probabilities, right) == pytest.approx(right.mean(), abs=0.01)
    assert atc_accuracy(np.full((100, 2), 0.5), probabilities, right) == 0
