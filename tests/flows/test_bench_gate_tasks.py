"""Populations of label sets, scores and entities have the faults that they are named after, and the gate sees them."""

import json
from typing import Any

import numpy as np
import pytest

from flows import bench_gate_tasks
from flows import bench_gate_trials as trials
from flows.bench_gate_tasks import metric_value, miscalibrated, task_rows, without_class, worse_by
from tasks.confidences import answered
from tasks.data.truths import write_entities
from tasks.gate import GateConfig
from tasks.types import EntityPredictions, SigmoidPredictions

N = 1_500
FIRST = {"multi_label": "micro_f1", "score": "spearman", "entities": "entity_f1"}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "NUM_TRIALS", 12)
    monkeypatch.setattr(bench_gate_tasks, "MAX_ROWS", 1_500)


def teacher(task: str) -> Any:
    """Right on most rows."""
    rng, ids = np.random.default_rng(0), tuple(map(str, range(N)))
    if task == "entities":
        truth = [[(5 * at, 5 * at + 4, "abc"[rng.integers(3)]) for at in range(rng.integers(4))] for _ in ids]
        answers = [[one for one in row if rng.random() < 0.85] for row in truth]
        written = (tuple(write_entities(row) for row in rows) for rows in (answers, truth))
        return EntityPredictions(
            ids=ids, types=("a", "b", "c"), **dict(zip(("answers", "truth"), written, strict=True)),
            latency_ms_N=np.empty(0), confidences=tuple(json.dumps([0.97] * len(row)) for row in answers),
        )  # fmt: skip
    if task == "score":
        truth_NC = rng.random((N, 1))
        given_NC = truth_NC + 0.15 * rng.normal(size=(N, 1))
    else:
        truth_NC = (rng.random((N, 4)) < 0.3).astype(float)
        given_NC = np.where(rng.random((N, 4)) < 0.08, 1 - truth_NC, truth_NC)
    return SigmoidPredictions(
        ids=ids, task=task, probabilities_NC=given_NC.astype(np.float32),  # type: ignore[arg-type]
        truth_NC=truth_NC.astype(np.float32), threshold=0.5, latency_ms_N=np.empty(0),
    )  # fmt: skip


@pytest.mark.parametrize("loss", [0.0, 0.03, 0.06])
@pytest.mark.parametrize("task", FIRST)
def test_a_candidate_is_worse_by_what_was_planted_and_answers_otherwise(task: str, loss: float) -> None:
    whole = teacher(task)
    planted = worse_by(whole, loss, np.random.default_rng(1))
    assert metric_value(whole) - metric_value(planted) == pytest.approx(loss, abs=2e-3)
    assert metric_value(whole) - metric_value(planted) >= loss - 1e-6
    before, after = (one.answers if task == "entities" else one.probabilities_NC for one in (whole, planted))
    assert np.mean([np.any(one != other) for one, other in zip(before, after, strict=True)]) > 0.03


@pytest.mark.parametrize("task", FIRST)
def test_a_candidate_that_only_loses_differs_on_few_rows(task: str) -> None:
    whole = teacher(task)
    planted = worse_by(whole, 0.03, np.random.default_rng(1), gained=0.0)
    assert metric_value(whole) - metric_value(planted) == pytest.approx(0.03, abs=5e-3)
    before, after = (one.answers if task == "entities" else one.probabilities_NC for one in (whole, planted))
    assert 0 < np.mean([np.any(one != other) for one, other in zip(before, after, strict=True)]) < 0.15


@pytest.mark.parametrize("task", FIRST)
def test_every_fault_is_caught_and_equal_models_get_through(task: str) -> None:
    chosen = GateConfig.model_validate({FIRST[task]: {"margin": 0.04}})
    rows = task_rows(teacher(task), chosen, np.random.default_rng(0))
    margin, twice, order, few, equal, *broken = rows
    assert max(margin["value"], few["value"]) <= 20, "5 % of 12 trials"
    assert (twice["value"], order["value"]) == (0, 0)
    assert equal["value"] <= 50
    assert [row["value"] for row in broken] == [0] * {"score": 0, "entities": 2, "multi_label": 3}[task]


@pytest.mark.parametrize("task", ["multi_label", "entities"])
def test_a_planted_confidence_is_wrong_and_leaves_the_answers(task: str) -> None:
    whole = teacher(task)
    planted = miscalibrated(whole)
    before, after = (one.answers if task == "entities" else one.chosen_NC for one in (whole, planted))
    assert np.array_equal(before, after)
    given = answered(planted)
    assert given is not None
    assert abs(given.confidence_M.mean() - given.right_M.mean()) > 0.2


def test_a_gate_that_lets_everything_pass_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "passes", lambda verdicts: True)
    rows = task_rows(teacher("multi_label"), GateConfig(), np.random.default_rng(0))
    margin, twice, order, few, _, broken, calibration, brier = [row["met"] for row in rows]
    assert not any((margin, twice, order, few, broken, calibration, brier))


def test_a_broken_label_is_never_answered() -> None:
    assert not without_class(teacher("multi_label"), 2).chosen_NC[:, 2].any()
    assert not any('"b"' in row for row in without_class(teacher("entities"), 1).answers)
