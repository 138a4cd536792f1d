"""Flips, costs, neighbours, inputs, time, and the whole step on a small real model."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, models

from bento.errors import DataError, UserError
from bento.manifest import Manifest
from bento.predictor import Predictor
from tasks.analysis import ErrorsConfig, analyse, check_errors, read_analysis
from tasks.analysis.calibrated import abstention, calibration
from tasks.analysis.config import Cost
from tasks.analysis.flips import confusions, flips, mean_cost
from tasks.analysis.inputs import by_reading, read_inputs
from tasks.analysis.neighbours import nearest
from tasks.analysis.over_time import by_period, read_times, trend_p
from tasks.calibrate import AbstainConfig, calibrate
from tasks.compress.context import Context
from tasks.evaluate import evaluate
from tasks.types import Artifact, Predictions, Split
from tests.tiny import write_tiny_model

LABELS = ("a", "b", "c")


def predictions(predicted: list[int], true: list[int], sureness: float = 0.8) -> Predictions:
    probabilities_NC = np.full((len(predicted), 3), (1 - sureness) / 2, dtype=np.float32)
    probabilities_NC[np.arange(len(predicted)), predicted] = sureness
    ids = tuple(f"row-{at}" for at in range(len(predicted)))
    return Predictions(ids=ids, probabilities_NC=probabilities_NC, labels_N=np.array(true), latency_ms_N=np.empty(0))


def split(true: list[int]) -> Split:
    return Split(
        name="test",
        ids=tuple(f"row-{at}" for at in range(len(true))),
        texts=tuple(f"text {at}" for at in range(len(true))),
        labels=tuple(LABELS[at] for at in true),
    )


def test_lost_and_gained_rows_are_told_apart() -> None:
    true = [0, 1, 2, 0]
    rows = flips(split(true), predictions([0, 1, 0, 1], true), predictions([0, 2, 2, 1], true), LABELS)
    assert [(row["flip"], row["id"], row["teacher"], row["candidate"]) for row in rows] == [
        ("lost", "row-1", "b", "c"), ("gained", "row-2", "a", "c"),
    ]  # fmt: skip


def test_a_rare_dear_confusion_comes_before_a_frequent_cheap_one() -> None:
    true = [0, 0, 0, 1, 2]
    teacher, candidate = predictions(true, true), predictions([1, 1, 0, 2, 2], true)
    costs_CC = ErrorsConfig(costs=[Cost(label="b", cost=5.0), Cost(label="b", predicted="a", cost=9.0)]).costs_CC(
        LABELS
    )
    assert costs_CC.tolist() == [[0, 1, 1], [9, 0, 5], [1, 1, 0]]
    rows = confusions(split(true), teacher, candidate, LABELS, costs_CC)
    assert [(row["true"], row["predicted"], row["count"], row["total_cost"]) for row in rows] == [
        ("b", "c", 1, 5.0), ("a", "b", 2, 2.0),
    ]  # fmt: skip
    assert rows[1]["example"] == "text 0"
    assert (mean_cost(teacher, costs_CC), mean_cost(candidate, costs_CC)) == (0.0, 7 / 5)


def test_costs_of_no_class_or_an_unknown_one_are_refused() -> None:
    with pytest.raises(ValidationError, match="expected label, predicted or both"):
        Cost(cost=2.0)
    with pytest.raises(UserError, match=r"got \['d'\]; it has a, b, c"):
        ErrorsConfig(costs=[Cost(label="d", cost=2.0)]).check_classes(LABELS)


def test_the_nearest_training_text_shares_the_rare_words() -> None:
    training = ["where is my card", "refund me now", "my card was stolen abroad"] + ["my card"] * 10
    rows_QK, cosines_QK = nearest(["stolen abroad", "refund me now"], training, most=2)
    assert rows_QK[:, 0].tolist() == [2, 1]
    assert cosines_QK[1, 0] == pytest.approx(1.0)
    assert (cosines_QK[:, 0] >= cosines_QK[:, 1]).all()
    assert nearest(["a"], ["b"], most=3)[0].shape == (1, 1)
    assert nearest([], ["b"], most=3)[0].shape == (0, 1)


def test_unknown_tokens_new_words_and_cut_texts_are_grouped(tmp_path: Path) -> None:
    predictor = Predictor(write_tiny_model(tmp_path / "model", max_tokens=8))
    texts = ["my card", "my yacht", "card " * 20]
    reading = read_inputs(predictor, texts, ["my card is lost", "yacht"])
    assert reading.unknown_N.tolist() == [False, True, False]
    assert reading.cut_N.tolist() == [False, False, True]
    assert reading.new_words == [[], [], []]
    rows = by_reading(reading, np.array([True, False, True]), np.array([True, True, True]))
    assert {row["group"]: (row["rows"], row["candidate_accuracy"]) for row in rows} == {
        "has an unknown token": (1, 0.0),
        "has a word that training never shows": (0, None),
        "cut at the length limit": (1, 1.0),
        "none of these": (1, 1.0),
    }


def test_a_piece_that_a_unigram_tokenizer_does_not_know_is_seen(tmp_path: Path) -> None:
    predictor = Predictor(write_tiny_model(tmp_path / "model"))
    predictor.tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))
    assert read_inputs(predictor, ["a", "b"], []).unknown_N.tolist() == [False, True]


def write_times(folder: Path, times: list[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    frame = pd.DataFrame({"id": range(len(times)), "text": "a", "label": "x", "at": times})
    frame.to_parquet(folder / "test.parquet")
    return folder


def test_errors_that_come_with_time_show_in_the_periods_and_the_trend(tmp_path: Path) -> None:
    days = pd.date_range("2026-01-01", periods=200, freq="D")
    times_N = read_times(write_times(tmp_path, [day.isoformat() for day in days]), "at")
    assert times_N[1] - times_N[0] == 86_400
    late_N = np.arange(200) < 120
    rows = by_period(times_N, late_N, np.ones(200, dtype=bool))
    assert (rows[0]["from"], rows[0]["to"], rows[0]["rows"]) == ("2026-01-01", "2026-01-20", 20)
    assert [row["candidate_accuracy"] for row in rows] == [1.0] * 6 + [0.0] * 4
    assert trend_p(times_N, late_N) < 1e-6
    assert trend_p(times_N, np.random.default_rng(0).random(200) < 0.8) > 0.05
    assert trend_p(times_N, np.ones(200, dtype=bool)) == 1.0
    assert read_times(write_times(tmp_path, [1.8e9, 1.9e9]), "at").tolist() == [1_800_000_000, 1_900_000_000]


def test_a_time_column_that_is_missing_or_holds_no_times_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a column 'when'.*others are: at"):
        read_times(write_times(tmp_path, ["2026-01-01"]), "when")
    with pytest.raises(DataError, match="1 of 2 test rows have none, such as 'soon'"):
        read_times(write_times(tmp_path, ["2026-01-01", "soon"]), "at")


def test_the_temperature_is_undone_to_show_what_it_changed(tmp_path: Path) -> None:
    manifest = Manifest.read(write_tiny_model(tmp_path / "model", labels=LABELS)).model_copy(
        update={"temperature": 2.0}
    )
    logits_NC = np.array([[4.0, 0.0, 0.0]])
    served_NC = np.exp(logits_NC / 2) / np.exp(logits_NC / 2).sum()
    raw_NC = np.exp(logits_NC) / np.exp(logits_NC).sum()
    found = calibration(
        Predictions(ids=("r",), probabilities_NC=served_NC, labels_N=np.array([0]), latency_ms_N=np.empty(0)), manifest
    )
    assert found["calibration_error"] == pytest.approx(1 - served_NC[0, 0])
    assert found["calibration_error_before"] == pytest.approx(1 - raw_NC[0, 0])


def test_abstention_is_counted_in_and_out_of_scope(tmp_path: Path) -> None:
    from bento.abstention import Abstention

    true = [0, 0, 1, 2, 2]
    found = abstention(predictions([0, 1, 1, 2, 0], true), LABELS, Abstention(threshold=0.5, labels=("c",)))
    shares = {key: value["value"] for key, value in found.items() if isinstance(value, dict)}
    assert shares == {
        "coverage": 0.8, "risk": 0.5, "risk_without": 0.4, "coverage_in_scope": 1.0, "abstained_out_of_scope": 0.5,
    }  # fmt: skip
    nobody = abstention(predictions([0], [0]), LABELS, Abstention(threshold=0.9))
    assert nobody["risk"] is None
    assert nobody["abstained_out_of_scope"] is None


@pytest.fixture(scope="module")
def analysed(context: Context, exported: Artifact) -> Path:
    candidate = calibrate(model=exported, data=context.data, abstain=AbstainConfig(threshold=0.4)).artifact
    models = {"teacher": exported, "export": candidate}
    evaluation = evaluate(data=context.data, teacher=context.teacher, models=models, seed=0).artifact
    step = analyse(
        config=ErrorsConfig(), data=context.data, evaluation=evaluation, teacher_logits=context.teacher_logits,
        candidate=candidate, candidate_name="export", seed=0,
    )  # fmt: skip
    return step.artifact.path


def test_every_table_is_a_file_and_the_report_has_its_beginning(analysed: Path) -> None:
    found = read_analysis(analysed)
    for name, number in found["num"].items():
        with (analysed / f"{name}.csv").open(encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) == number, name
        assert len(found["tables"][name]) <= 200
    assert (found["num_lost"], found["num_gained"]) == (0, 0), "a model flips nothing against itself"
    assert found["num"]["errors"] > 0
    assert found["tables"]["errors"][0]["nearest_label_1"] in ("red", "green", "blue")
    assert found["abstention"]["threshold"] == 0.4
    json.dumps(found, allow_nan=False)


def test_what_the_data_does_not_have_is_refused_before_any_compute(context: Context) -> None:
    with pytest.raises(DataError, match="expected a column 'at'"):
        check_errors(ErrorsConfig(time="at"), context.data.path)
    with pytest.raises(UserError, match="it has blue, green, red"):
        check_errors(ErrorsConfig(costs=[Cost(label="pink", cost=2.0)]), context.data.path)
