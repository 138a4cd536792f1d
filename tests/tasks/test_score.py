"""Batch scoring: every format, whole or not at all, and the answers of the predictor that serves."""

import json
from pathlib import Path

import pandas as pd
import pytest

from bento.entities import entity_tags
from bento.errors import DataError
from bento.predictor import Predictor
from bento.task_types import Target, Task
from tasks.score import score_file
from tests.tiny import write_tiny_model

LABELS = ("card_lost", "refund", "transfer")
TEXTS = ["my card is lost", "refund please", "where, is my balance"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


def write(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".jsonl":
        return pd.read_json(path, lines=True)
    return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_file_comes_back_with_the_predictors_answers(model: Path, tmp_path: Path, suffix: str) -> None:
    source = write(pd.DataFrame({"id": [7, 8, 9], "text": TEXTS}), tmp_path / f"in{suffix}")
    out = tmp_path / f"out{suffix}"
    assert score_file(model, source, out, text="text", text_pair=None) == 3
    found, predictor = read(out), Predictor(model)
    expected_NC = predictor.predict(TEXTS)
    assert found["id"].tolist() == [7, 8, 9]
    assert found["text"].tolist() == TEXTS
    assert found["predicted_label"].tolist() == [predictor.labels[best] for best in expected_NC.argmax(axis=1)]
    assert found["probability"].tolist() == pytest.approx(expected_NC.max(axis=1).tolist())


@pytest.mark.parametrize(
    ("task", "labels", "column"),
    [
        ("multi_label", LABELS, "predicted_labels"),
        ("score", LABELS[:1], "predicted_score"),
        ("entities", tuple(entity_tags(["LOC", "PER"])), "predicted_entities"),
    ],
)
def test_lists_are_written_as_json_and_scores_as_numbers(
    tmp_path: Path, task: Task, labels: tuple[str, ...], column: str
) -> None:
    model = write_tiny_model(tmp_path / "model", labels=labels, seed=3, target=Target(task=task))
    source, out = write(pd.DataFrame({"text": TEXTS}), tmp_path / "in.csv"), tmp_path / "out.csv"
    assert score_file(model, source, out, text="text", text_pair=None) == 3
    predictor = Predictor(model)
    expected = next(iter(predictor.answers(TEXTS, predictor.predict(TEXTS)).values()))
    found = read(out)[column].tolist()
    assert (found if task == "score" else [json.loads(value) for value in found]) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", "sentence\nhello\n", "expected a column 'text', it has: sentence"),
        ("in.csv", "text\n", "it is empty"),
        ("in.csv", "", "could not be read"),
        ("in.jsonl", "{oops\n", "could not be read"),
        ("in.parquet", "PAR1", "could not be read"),
        ("in.txt", "hello", "expected a name ending in"),
    ],
)
def test_a_file_that_cannot_be_scored_leaves_nothing(
    model: Path, tmp_path: Path, name: str, content: str, message: str
) -> None:
    source = tmp_path / name
    source.write_text(content, encoding="utf-8")
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match=message):
        score_file(model, source, tmp_path / "out.csv", text="text", text_pair=None)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_missing_file_and_an_unknown_output_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        score_file(model, tmp_path / "nothing.csv", tmp_path / "out.csv", text="text", text_pair=None)
    source = write(pd.DataFrame({"text": TEXTS}), tmp_path / "in.csv")
    with pytest.raises(DataError, match="expected an output name ending in"):
        score_file(model, source, tmp_path / "out.xlsx", text="text", text_pair=None)


def test_pairs_need_both_columns_and_single_texts_only_one(model: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["card", "money"], "other": ["lost", "refund"]})
    source, out = write(frame, tmp_path / "in.csv"), tmp_path / "out.csv"
    of_pairs = write_tiny_model(tmp_path / "pairs", pairs=True)
    with pytest.raises(DataError, match="reads pairs: name the second column with --text-pair"):
        score_file(of_pairs, source, out, text="text", text_pair=None)
    with pytest.raises(DataError, match="reads single texts: leave --text-pair out"):
        score_file(model, source, out, text="text", text_pair="other")
    assert score_file(of_pairs, source, out, text="text", text_pair="other") == 2
    expected_NC = Predictor(of_pairs).predict([("card", "lost"), ("money", "refund")])
    assert read(out)["probability"].tolist() == pytest.approx(expected_NC.max(axis=1).tolist())
