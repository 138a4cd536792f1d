"""`retort gate` on models of label sets, scores and entities: Retort's folders, optimum's graphs, torch folders."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from typer.testing import CliRunner

from bento.entities import tags_of
from bento.errors import DataError, UserError
from bento.manifest import MANIFEST_FILE, ONNX_FILE
from bento.predictor import Predictor
from bento.task_types import Target
from flows.cli import app
from tasks.any_model import open_model
from tests.small import write_torch
from tests.tiny import WORDS, write_tiny_model

LABELS = {
    "multi_label": ("joy", "love", "fear"),
    "score": ("score",),
    "entities": ("O", "B-person", "I-person", "B-place", "I-place"),
}
TARGETS = {
    "multi_label": Target(task="multi_label"),
    "score": Target(task="score", low=0, high=5),
    "entities": Target(task="entities"),
}
FIRST = {"multi_label": "micro_f1", "score": "spearman", "entities": "entity_f1"}
TASKS = tuple(TARGETS)
KNOWN = WORDS[:-1]
PAIRS = [f"{first} {second}" for first in KNOWN for second in KNOWN]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tasks.evaluate.PAUSE_S", 0)


def retort(folder: Path, task: str, seed: int = 0) -> Path:
    return write_tiny_model(folder, labels=LABELS[task], target=TARGETS[task], seed=seed)


def plain(folder: Path, task: str, seed: int = 0, **config: Any) -> Path:
    """The same model as other tools write it."""
    model = retort(folder.with_name(f"{folder.name}-retort"), task, seed)
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns(MANIFEST_FILE, "onnx"))
    shutil.copyfile(model / ONNX_FILE, folder / "model.onnx")
    problems = {"multi_label": "multi_label_classification", "score": "regression"}
    said = {"problem_type": problems[task]} if task in problems else {"architectures": ["BertForTokenClassification"]}
    whole = json.loads((folder / "config.json").read_text()) | said | config
    (folder / "config.json").write_text(json.dumps(whole))
    return folder


def write_rows(path: Path, task: str, model: Path, texts: Sequence[Any] = PAIRS) -> Path:
    """Rows that are labelled as this Retort model answers."""
    predictor = Predictor(model)
    answers = predictor.answers(texts, predictor.predict(texts))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "other"])
        for at, text in enumerate(texts):
            words, other = (text, "b") if isinstance(text, str) else text
            if task == "entities":
                spans = [(one["start"], one["end"], one["label"]) for one in answers["entities"][at]]
                words, truth = json.dumps(words.split()), tags_of(predictor.words(text), spans)
            else:
                truth = answers["score" if task == "score" else "labels"][at]
            writer.writerow([words, json.dumps(truth), other])
    return path


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["gate", *map(str, arguments)], catch_exceptions=False)


def document(*arguments: Any, code: int = 0) -> Any:
    done = call(*arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def wide(task: str) -> tuple[str, str]:
    return "--set", f"gate.{FIRST[task]}.margin=0.2"


@pytest.mark.parametrize("task", TASKS)
def test_a_retort_model_says_its_task_and_passes_against_itself_while_another_fails(task: str, tmp_path: Path) -> None:
    model = retort(tmp_path / "model", task)
    data = write_rows(tmp_path / "rows.csv", task, model)
    found = document(model, data, "--against", model, *wide(task))
    assert (found["outcome"], found["task"], found["num_rows"]) == ("passed", task, 121)
    assert [row["gate"] for row in found["verdicts"]] == [f"{FIRST[task]}_vs_reference", "holdout_uses"]
    assert found["scores"]["candidate"][FIRST[task]] == pytest.approx(1, abs=1e-4)
    worse = document(retort(tmp_path / "other", task, seed=5), data, "--against", model, *wide(task), code=3)
    assert worse["verdicts"][0]["outcome"] == "fail"


@pytest.mark.parametrize("task", TASKS)
def test_a_graph_of_other_tools_is_judged_as_the_retort_folder_of_the_same_model(task: str, tmp_path: Path) -> None:
    model = retort(tmp_path / "model", task)
    data = write_rows(tmp_path / "rows.csv", task, model)
    found = document(plain(tmp_path / "plain", task), data, "--against", model, *wide(task))
    assert found["verdicts"][0]["observed"] == pytest.approx(0, abs=1e-4)
    turned = {"id2label": dict(enumerate(LABELS[task][::-1]))}
    if task != "score":
        worse = document(plain(tmp_path / "turned", task, **turned), data, "--against", model, *wide(task), code=3)
        assert worse["verdicts"][0]["observed"] < -0.2


@pytest.mark.parametrize("task", TASKS)
def test_a_torch_folder_is_judged_eagerly(task: str, tmp_path: Path) -> None:
    torch = write_torch(tmp_path / "torch", task, LABELS[task])
    data = write_rows(tmp_path / "rows.csv", task, retort(tmp_path / "model", task))
    found = document(torch, data, "--against", torch, *wide(task), code=0)
    assert (found["task"], found["scores"]["candidate"]["num_rows"]) == (task, 121)


def test_words_of_a_foreign_tagger_are_those_of_its_data(tmp_path: Path) -> None:
    """Retort reads "card-lost" as three words; others are trained to answer for it at its first token alone."""
    texts = [f"{first}-{second} help" for first in KNOWN for second in KNOWN]
    model = open_model(plain(tmp_path / "plain", "entities"), tmp_path, TARGETS["entities"]).classifier
    found = [one["text"] for row in model.answers(texts, model.predict(texts))["entities"] for one in row]
    assert any("-" in name for name in found)
    assert {word for name in found for word in name.split()} <= {word for text in texts for word in text.split()}


def test_the_threshold_of_a_foreign_model_is_one_half_unless_it_is_given(tmp_path: Path) -> None:
    model = retort(tmp_path / "model", "multi_label")
    data = write_rows(tmp_path / "rows.csv", "multi_label", model)
    foreign = plain(tmp_path / "plain", "multi_label")
    asked = (foreign, data, "--against", model, *wide("multi_label"))
    assert document(*asked)["thresholds"] == {"candidate": 0.5, "reference": 0.5}
    found = document(*asked, "--set", "threshold=0.9", code=3)
    assert found["thresholds"] == {"candidate": 0.9, "reference": 0.5}
    assert found["verdicts"][0]["observed"] < -0.05
    assert "answers a label from a probability of 0.9 on" in call(*asked, "--set", "threshold=0.9").stdout.replace(
        "\n", " "
    )


def test_a_regression_answers_scores_and_a_cross_encoder_with_a_sigmoid_shares(tmp_path: Path) -> None:
    model = retort(tmp_path / "model", "score")
    data = write_rows(tmp_path / "rows.csv", "score", model)
    asked = ("--against", model, "--set", "gate.spearman.margin=0.2", "--set", "gate.parity=0.001")
    sigmoid = {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}
    assert document(plain(tmp_path / "shares", "score", **sigmoid), data, *asked)["outcome"] == "passed"
    raw = document(plain(tmp_path / "raw", "score"), data, *asked, code=3)
    assert {row["gate"]: row["outcome"] for row in raw["verdicts"]}["parity_vs_reference"] == "fail"


def test_a_scale_that_nobody_says_is_asked_for_where_it_matters(tmp_path: Path) -> None:
    model = plain(tmp_path / "plain", "score")
    data = write_rows(tmp_path / "rows.csv", "score", tmp_path / "plain-retort")
    asked = (model, data, "--against", model, "--set", "gate.spearman.margin=0.2")
    assert document(*asked)["outcome"] == "passed"
    with pytest.raises(UserError, match=r"neither model's folder says its ends; give them, as in --set data.scale"):
        call(*asked, "--set", "gate.parity=0.001")
    assert document(*asked, "--set", "gate.parity=0.001", "--set", "data.scale=[0,5]")["outcome"] == "passed"
    with pytest.raises(UserError, match=r"data\.scale: expected the lower end and then the upper one, got \[5"):
        call(*asked, "--set", "data.scale=[5,0]")


def test_pairs_with_a_score_are_judged(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model", labels=("score",), target=TARGETS["score"], pairs=True)
    data = write_rows(tmp_path / "rows.csv", "score", model, [(one, "help") for one in PAIRS])
    found = document(model, data, "--against", model, *wide("score"), "--set", "data.text_pair=other")
    assert found["scores"]["candidate"]["spearman"] == pytest.approx(1, abs=1e-4)


def test_a_model_of_another_task_is_refused(tmp_path: Path) -> None:
    sets, scores = retort(tmp_path / "sets", "multi_label"), plain(tmp_path / "scores", "score")
    data = write_rows(tmp_path / "rows.csv", "multi_label", sets)
    with pytest.raises(
        UserError, match=r"expected a model of data\.task multi_label, as the other is, got one of score"
    ):
        call(sets, data, "--against", scores)
    with pytest.raises(UserError, match=r"expected a model of data\.task entities, as was asked for, got one of multi"):
        call(sets, data, "--against", sets, "--set", "data.task=entities")
    with pytest.raises(UserError, match=r"gate\.kl: a model of data.task multi_label is not judged by it"):
        call(sets, data, "--against", sets, "--set", "gate.kl=0.1")
    with pytest.raises(UserError, match=r"gate\.micro_f1 compares with a reference"):
        call(sets, data, "--set", "gate.micro_f1={}")


@pytest.mark.parametrize(("task", "name"), [("multi_label", "hate"), ("entities", "thing")])
def test_labels_that_the_model_does_not_know_are_counted(task: str, name: str, tmp_path: Path) -> None:
    model = retort(tmp_path / "model", task)
    data = write_rows(tmp_path / "rows.csv", task, model)
    with data.open("a", newline="") as file:
        truth = [name] if task == "multi_label" else [f"B-{name}", "O"]
        text = "please money" if task == "multi_label" else json.dumps(["one", "two"])
        csv.writer(file).writerow([text.replace("please", "some"), json.dumps(truth), "b"])
    with pytest.raises(DataError, match=rf"1 of 122 rows have a label that the candidate .* not know: {name} \(1\)"):
        call(model, data, "--against", model)


def test_rows_on_which_every_model_is_equally_good_are_refused(tmp_path: Path) -> None:
    model, data = retort(tmp_path / "model", "score"), tmp_path / "rows.csv"
    data.write_text("text,label\nhelp,2\nmoney,2\n")
    with pytest.raises(DataError, match=r"expected scores that differ, got 2\.0 in every row"):
        call(model, data, "--against", model)
    data.write_text("text,label\nhelp,[]\nmoney,[]\n")
    with pytest.raises(DataError, match="expected rows with labels, got no label in 2 rows"):
        call(retort(tmp_path / "sets", "multi_label"), data, "--against", tmp_path / "sets")


@pytest.mark.parametrize(("task", "last"), [("multi_label", "Sigmoid"), ("entities", "Softmax")])
def test_a_graph_of_probabilities_is_refused(task: str, last: str, tmp_path: Path) -> None:
    model = plain(tmp_path / "plain", task)
    data = write_rows(tmp_path / "rows.csv", task, tmp_path / "plain-retort")
    graph = onnx.load(model / "model.onnx")
    options = {"axis": -1} if last == "Softmax" else {}
    graph.graph.node.append(helper.make_node(last, ["logits"], ["probabilities"], **options))
    graph.graph.output[0].name = "probabilities"
    onnx.save(graph, model / "model.onnx")
    with pytest.raises(UserError, match=f"got probabilities; export it without its {last.lower()}"):
        call(model, data, "--against", model)


def test_tags_that_are_not_bio_and_graphs_of_another_shape_are_refused(tmp_path: Path) -> None:
    model = plain(
        tmp_path / "plain", "entities", id2label={"0": "O", "1": "S-person", "2": "E-person", "3": "X", "4": "Y"}
    )
    data = write_rows(tmp_path / "rows.csv", "entities", tmp_path / "plain-retort")
    with pytest.raises(UserError, match=r"expected tags O, B-type or I-type .* got S-person, E-person, X, Y"):
        call(model, data, "--against", model)
    texts = plain(tmp_path / "texts", "multi_label", problem_type=None)
    with pytest.raises(UserError, match="expected tags O"):
        call(texts, data, "--against", texts, "--set", "data.task=entities")
    named = {"0": "O", "1": "B-person", "2": "I-person"}
    texts = plain(tmp_path / "texts-2", "multi_label", problem_type=None, id2label=named)
    with pytest.raises(UserError, match=r"3 logits a token, one for each tag .* got shape \(1, 3\)"):
        call(texts, data, "--against", texts, "--set", "data.task=entities")


def test_the_margins_of_a_whole_build_of_any_task_are_read() -> None:
    from flows.config import load_gates

    for name, task in (("goemotions", "multi_label"), ("stsb", "score"), ("wnut17_ner", "entities")):
        found = load_gates(Path(__file__).parents[2] / "configs" / f"{name}.yaml")
        assert found.data.task == task
        assert getattr(found.gate, FIRST[task]).margin in (0.02, 0.03)
    assert np.isclose(found.threshold, 0.5)
