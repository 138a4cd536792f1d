"""`retort gate` on folders of a tiny model: what it says, its exit codes, and what it refuses."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bento.errors import ConfigError, DataError, UserError
from bento.predictor import Predictor
from flows.cli import app
from flows.config import load_gates
from tests.tiny import WORDS, write_tiny_model

ROOT = Path(__file__).parents[2]
WIDE = ("--set", "gate.accuracy.margin=0.2")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tasks.evaluate.PAUSE_S", 0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


@pytest.fixture
def data(tmp_path: Path, model: Path) -> Path:
    """All pairs of words, labelled as the model answers, from two channels."""
    texts = [f"{first} {second}" for first in WORDS[:-1] for second in WORDS[:-1]]
    predictor = Predictor(model)
    labels = [predictor.labels[at] for at in predictor.predict(texts).argmax(axis=1)]
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "channel"])
        writer.writerows(
            (text, label, "ab"[at % 2]) for at, (text, label) in enumerate(zip(texts, labels, strict=True))
        )
    return path


def answer_of(model: Path, text: str) -> str:
    predictor = Predictor(model)
    return predictor.labels[int(predictor.predict([text]).argmax())]


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["gate", *map(str, arguments)], catch_exceptions=False)


def document(*arguments: Any, code: int = 0) -> Any:
    done = call(*arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_a_model_passes_against_itself_and_says_all_that_a_build_says(model: Path, data: Path) -> None:
    found = document(model, data, "--against", model, *WIDE, "--set", "gate.slices=[{by: channel, margin: 0.3}]")
    assert (found["outcome"], found["num_rows"]) == ("passed", 121)
    assert [row["gate"] for row in found["verdicts"]] == [
        "accuracy_vs_reference", "accuracy_vs_reference_by_channel", "holdout_uses",
    ]  # fmt: skip
    assert {"gate", "outcome", "observed", "limit", "n", "needed_n", "interval", "reason"} <= found["verdicts"][
        0
    ].keys()
    assert [row["gate"] for row in found["slices"]] == [
        "accuracy_vs_reference[channel=a]", "accuracy_vs_reference[channel=b]",
    ]  # fmt: skip
    assert found["scores"]["candidate"]["accuracy"] == 1


def test_a_worse_model_is_exit_3_and_too_few_rows_are_exit_4(model: Path, data: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", seed=5)
    worse = document(other, data, "--against", model, *WIDE, code=3)
    assert (worse["outcome"], worse["verdicts"][0]["outcome"]) == ("blocked", "fail")
    few = document(model, data, "--against", model, code=4)
    assert (few["outcome"], few["verdicts"][0]["needed_n"]) == ("inconclusive", 268)


def test_a_wrong_label_order_is_caught(model: Path, data: Path, tmp_path: Path) -> None:
    turned = write_tiny_model(tmp_path / "turned", labels=("refund", "transfer", "card_lost"))
    found = document(turned, data, "--against", model, *WIDE, code=3)
    assert found["verdicts"][0]["observed"] < -0.5


def test_the_table_names_the_parts_that_did_not_pass(model: Path, data: Path) -> None:
    done = call(model, data, "--against", model, *WIDE, "--set", "gate.slices=[{by: channel, min_rows: 100}]")
    assert done.exit_code == 4
    assert "Parts that did not pass: 2" in done.stdout
    assert "channel=a" in done.stdout


def test_each_look_at_the_rows_is_counted_and_may_be_limited(model: Path, data: Path, tmp_path: Path) -> None:
    limited = ("--set", "gate.min_accuracy=0.2", "--set", "gate.holdout.limit=1")
    for _ in range(2):
        assert document(model, data, *limited)["verdicts"][-1]["observed"] == 1
    other = write_tiny_model(tmp_path / "other", seed=5)
    found = document(other, data, "--set", "gate.min_accuracy=0.01", "--set", "gate.holdout.limit=1", code=4)
    assert (found["verdicts"][-1]["gate"], found["verdicts"][-1]["observed"]) == ("holdout_uses", 2)


def test_without_a_reference_something_else_must_be_asked_for(model: Path, data: Path) -> None:
    with pytest.raises(UserError, match="nothing to judge: name a reference with --against"):
        call(model, data)
    with pytest.raises(UserError, match=r"gate\.macro_f1 compares with a reference"):
        call(model, data, "--set", "gate.macro_f1={}")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("gate.accuracc.margin=0.1", "gate.accuracc: unknown key; did you mean 'accuracy'"),
        ("gate.slices=[{bye: class}]", "gate.slices.0.bye: unknown key; did you mean 'by'"),
        ("gate.xyz=0.9", "gate.xyz: unknown key; known here: accuracy, macro_f1"),
    ],
)
def test_a_gate_that_does_not_exist_is_refused(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match="unknown key") as caught:
        load_gates(None, [override])
    assert told in str(caught.value)


def test_behavioural_tests_are_tried_on_the_rows(model: Path, data: Path, tmp_path: Path) -> None:
    tests = (
        "--set", "behaviour.invariance=[case, whitespace]", "--set", "gate.behaviour.invariance=0.05",
        "--set", "behaviour.minimum_functionality=[{name: plain, texts: [card], label: card_lost}]",
        "--set", "gate.behaviour.minimum_functionality=0",
    )  # fmt: skip
    found = document(model, data, *tests, code=3 if answer_of(model, "card") != "card_lost" else 0)
    case, spaces, plain, _ = found["verdicts"]
    assert [row["gate"] for row in found["verdicts"][:3]] == [
        "behaviour_case",
        "behaviour_whitespace",
        "behaviour_plain",
    ]
    assert (case["outcome"], spaces["outcome"]) == ("pass", "pass")
    assert case["reason"].startswith("0 of 121 cases failed (")
    assert plain["observed"] == (answer_of(model, "card") != "card_lost")
    beside = document(model, data, "--against", model, *WIDE, *tests[:4])
    assert beside["verdicts"][1]["reason"].startswith("0 of 121 cases failed, 0 by the reference")
    with pytest.raises(UserError, match="'plain' expects the class 'lost', which the candidate does not have"):
        call(model, data, *tests, "--set", "behaviour.minimum_functionality.0.label=lost")


@pytest.mark.parametrize(("file", "text"), [("retort.json", "garbage"), ("retort.json", "{}"), ("config.json", "[1]")])
def test_a_folder_whose_own_words_are_none_is_refused(data: Path, tmp_path: Path, file: str, text: str) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.onnx").touch()
    (broken / "config.json").write_text("{}")
    (broken / file).write_text(text)
    with pytest.raises(UserError, match=rf"{file}: expected"):
        call(broken, data, "--set", "gate.min_accuracy=0.5")


def test_labels_that_the_model_does_not_know_are_refused(data: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", labels=("LABEL_0", "refund", "transfer"))
    with pytest.raises(DataError, match=r"rows have a label that the candidate .* does not know: card_lost \(\d+\)"):
        call(other, data, "--set", "gate.min_accuracy=0.5")


def test_a_slice_column_that_is_missing_is_refused_before_any_answer(model: Path, data: Path) -> None:
    with pytest.raises(DataError, match="no column 'chanel'; did you mean 'channel'"):
        call(model, data, "--against", model, "--set", "gate.slices=[{by: chanel}]")


def test_pairs_for_a_model_of_single_texts_are_refused(model: Path, data: Path) -> None:
    with pytest.raises(DataError, match="reads single texts, the data has pairs"):
        call(model, data, "--against", model, "--set", "data.text_pair=channel")


def test_the_gates_are_those_of_a_file_or_of_a_whole_build(tmp_path: Path) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text("data: {label: intent}\ngate:\n  accuracy: {margin: 0.03}\n  slices:\n    - {by: class}\n")
    found = load_gates(path, ["gate.size_mb=5"])
    assert (found.data.label, found.gate.accuracy.margin, found.gate.size_mb) == ("intent", 0.03, 5)
    whole = load_gates(ROOT / "configs" / "banking77.yaml")
    assert (whole.data.label, whole.gate.accuracy.margin) == ("label_text", 0.02)
    whole = load_gates(ROOT / "configs" / "banking77.yaml", ["behaviour.invariance=[case]"])
    assert whole.behaviour.invariance == ["case"]
    path.write_text("gate: {behaviour: {directional: 0.1}}\n")
    with pytest.raises(ConfigError, match=r"gate\.behaviour\.directional: expected tests in behaviour\.directional"):
        load_gates(path)
    path.write_text("compress: []\n")
    with pytest.raises(ConfigError, match=r"gates\.yaml:1: compress: unknown key"):
        load_gates(path)
