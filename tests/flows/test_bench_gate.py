"""The gate's benchmark: its populations have the faults that they are named after, and its rows say who passed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from bento.predictor import Predictor
from flows import bench_gate
from flows import bench_gate_trials as trials
from flows.bench_gate import (
    accuracy_rows,
    calibration_row,
    class_row,
    curve_rows,
    evaluation_row,
    half_vocabulary,
    loss_rows,
    unknown_texts,
    vocabulary_row,
    worse_by,
)
from tasks.stats.paired import paired_counts
from tasks.types import Predictions
from tests.tiny import tiny_tokenizer, write_tiny_model


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "NUM_TRIALS", 40)
    monkeypatch.setattr(bench_gate, "NUM_MARGIN_TRIALS", 40)


@pytest.fixture(scope="module")
def teacher() -> Predictions:
    """Right on nine of ten rows, as confident as it should be."""
    rng = np.random.default_rng(0)
    labels_N = rng.integers(0, 4, 2_000)
    predicted_N = np.where(rng.random(2_000) < 0.9, labels_N, (labels_N + 1) % 4)
    return Predictions(
        ids=tuple(map(str, range(2_000))),
        probabilities_NC=(np.full((2_000, 4), 0.1 / 3) + (0.9 - 0.1 / 3) * np.eye(4)[predicted_N]).astype(np.float32),
        labels_N=labels_N,
        latency_ms_N=np.empty(0),
    )


@pytest.mark.parametrize("loss", [0.0, 0.02, 0.04])
def test_a_candidate_is_worse_by_what_was_planted(teacher: Predictions, loss: float) -> None:
    planted = worse_by(teacher, loss, 0.06, np.random.default_rng(0))
    counts = paired_counts(planted.correct_N, teacher.correct_N)
    assert counts.difference == pytest.approx(-loss, abs=1e-3)
    assert counts.disagreement == pytest.approx(0.06, abs=2e-3)
    assert np.allclose(planted.probabilities_NC.sum(axis=1), 1)


def test_a_reference_without_errors_to_mend_is_still_made_worse_by_the_loss(teacher: Predictions) -> None:
    perfect = replace(teacher, labels_N=teacher.probabilities_NC.argmax(axis=1))
    counts = paired_counts(worse_by(perfect, 0.02, 0.06, np.random.default_rng(0)).correct_N, perfect.correct_N)
    assert (counts.b, counts.c) == (0, 40)


def test_a_teacher_that_is_always_right_ends_the_trials(teacher: Predictions) -> None:
    perfect = replace(teacher, labels_N=teacher.probabilities_NC.argmax(axis=1))
    equal = accuracy_rows(perfect, 0.04, np.random.default_rng(0))[-1]
    assert (equal["value"], equal["met"]) == (0, True)
    assert "200 in the median" in equal["against"]


def test_every_fault_is_caught_and_equal_models_get_through(teacher: Predictions) -> None:
    rng = np.random.default_rng(0)
    margin, twice, order, equal = accuracy_rows(teacher, 0.04, rng)
    assert margin["value"] <= 15, "5 % of 40 trials"
    assert (twice["value"], order["value"]) == (0, 0)
    assert equal["value"] <= 30
    assert all(row["value"] <= 15 for row in loss_rows(teacher, rng))
    broken = class_row(teacher, rng)
    assert (broken["value"], broken["met"]) == (0, True)
    assert calibration_row(teacher, rng)["value"] == 0


def test_a_gate_that_lets_everything_pass_is_seen(teacher: Predictions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "passes", lambda verdicts: True)
    rows = accuracy_rows(teacher, 0.04, np.random.default_rng(0))
    assert [row["met"] for row in rows] == [False, False, False, True]
    assert [row["met"] for row in loss_rows(teacher, np.random.default_rng(0))] == [False, False]


def test_the_curves_meet_their_targets_and_show_walds_test_beside() -> None:
    rows = curve_rows()
    assert all(row["met"] is not False for row in rows)
    assert rows[0]["metric"] == "size, 300 rows, 2 % disagreement"
    assert rows[0]["against"] == "Wald: 8.5 %"
    assert sum(row["metric"].startswith("power") for row in rows) == 9


def test_half_of_a_vocabulary_makes_words_unknown() -> None:
    texts = ["my card is lost", "help"]
    assert not unknown_texts(tiny_tokenizer(), texts).any()
    assert unknown_texts(half_vocabulary(tiny_tokenizer()), texts).tolist() == [True, False]


@pytest.mark.parametrize("model", [models.BPE({"a": 0}, []), models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0)])
def test_a_tokenizer_of_another_type_has_a_row_that_says_so(model: models.Model, teacher: Predictions) -> None:
    found = vocabulary_row(Tokenizer(model), ["a"], teacher, np.random.default_rng(0))
    assert (found["value"], found["met"]) == (None, None)
    assert found["against"].startswith(f"does not apply to a tokenizer of type {type(model).__name__}")
    tiny = vocabulary_row(tiny_tokenizer(), ["my card is lost", "help"], teacher, np.random.default_rng(0))
    assert (tiny["value"], tiny["met"]) == (0, True)


def test_evaluation_is_compared_with_the_runtime_on_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_gate, "NUM_EVALUATED", 1_000)
    found = evaluation_row(Predictor(write_tiny_model(tmp_path)), ["my card is lost", "help"])
    assert found["ratio"] > 1
    assert found["target"] == "<= 1.3 times"
