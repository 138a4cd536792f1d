"""Guardrails: planted faults are seen, no data is no pass, and what ails both models is not the new one's fault."""

import numpy as np
import pytest

from tasks.experiment.guardrails import judge


@pytest.mark.parametrize(
    ("new", "old", "outcome"),
    [
        ((0, 0), (0, 0), "inconclusive"),
        ((0, 99), (0, 500), "inconclusive"),
        ((1, 400), (0, 500), "pass"),
        ((30, 400), (0, 500), "fail"),
        ((30, 400), (40, 500), "pass"),
        ((6, 400), (0, 500), "inconclusive"),
    ],
)
def test_the_verdict_on_planted_counts(new: tuple[int, int], old: tuple[int, int], outcome: str) -> None:
    assert judge("error_rate", new, old, 0.01, min_n=100, alpha=0.05).outcome == outcome


def test_a_model_at_its_limit_fails_in_at_most_5_of_100_trials_though_looked_at_often() -> None:
    rng = np.random.default_rng(1)
    failed = 0
    for _ in range(400):
        hits = np.cumsum(rng.random(2_000) < 0.05)
        looks = (judge("x", (int(hits[n - 1]), n), (0, 0), 0.05, min_n=100, alpha=0.05) for n in range(50, 2_001, 50))
        failed += any(one.outcome == "fail" for one in looks)
    assert failed / 400 <= 0.05
