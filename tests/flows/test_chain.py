"""The chain of stages on a small real set: its names, several teachers, what is evaluated, and where it stops."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bento.errors import RetortError, UserError
from bento.manifest import folder_size_bytes
from bento.predictor import Predictor
from flows import summary as summaries
from flows.chain import Built, gate, make_candidate, stage_names
from flows.config import Config
from tasks.analysis import read_analysis
from tasks.behaviour import read_behaviour
from tasks.store import Step
from tests.small import COLOURS, NOUNS, write_bert, write_colours

LEARNS = {"epochs": 12, "batch_size": 4, "learning_rate": 3e-3, "patience": 12}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("chain")
    teacher = {"model": str(write_bert(folder / "bert")), "max_tokens": 16, **LEARNS}
    return {
        "name": "colours",
        "data": {"source": str(write_colours(folder / "rows")), "validation": 0.3},
        "teacher": teacher,
        "more_teachers": [teacher | {"seed": 1}],
        "compress": [
            {"kind": "prune_vocabulary", "likely": 10},
            {"kind": "distil", "layers": [0, 2], "transfer": None, **LEARNS},
            {"kind": "export"},
            {"kind": "quantize"},
        ],
    }


def test_all_stages_run_in_their_order_and_torch_models_are_evaluated_too(tree: dict[str, Any]) -> None:
    seen: list[str] = []

    def noting(name: str, function: Callable[..., Step]) -> Callable[..., Step]:
        seen.append(name)
        return function

    config = Config.model_validate(tree)
    built = make_candidate(config, None, stage=noting)
    assert seen == stage_names(config)
    assert "teacher_2" in seen
    assert built.chain == ["teacher", "prune_vocabulary", "export", "quantize"]
    assert built.techniques["export"] == ["distil", "export"]
    assert (built.model.made_by, built.scores["candidate"].size_bytes) == (
        "calibrate",
        folder_size_bytes(built.model.path),
    )
    assert read_behaviour(built.behaviour.path)[0].num_cases > 0
    assert read_analysis(built.analysis.path)["num_rows"] == 36
    assert built.scores["candidate"].metrics == built.scores["quantize"].metrics
    logits = next(step for step in built.steps if step.name == "teacher_logits")
    assert len(logits.artifact.parents) == 3, "two teachers and the data"


def test_a_teacher_that_learns_nothing_stops_the_build_by_name(tree: dict[str, Any]) -> None:
    idle = tree["teacher"] | {"epochs": 1, "learning_rate": 1e-12}
    config = Config.model_validate(tree | {"teacher": idle, "more_teachers": []})
    with pytest.raises(RetortError, match="teacher: collapsed"):
        make_candidate(config, None, stage=lambda _name, function: function)


def test_what_the_teacher_does_not_have_is_refused_before_its_training(tree: dict[str, Any], tmp_path: Path) -> None:
    def refuse(name: str, _function: Callable[..., Step]) -> Callable[..., Step]:
        pytest.fail(f"{name} was run")

    for compress, expected in (
        ([{"kind": "distil", "num_layers": 9}, {"kind": "export"}], "the teacher has 3 layers"),
        ({"search": {"num_layers": [2, 9], "trials": 2}}, "the teacher has 3 layers"),
    ):
        config = Config.model_validate(tree | {"compress": compress})
        with pytest.raises(UserError, match=expected):
            make_candidate(config, None, stage=refuse)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"serve": {"max_tokens": 33}}, r"serve\.max_tokens: expected at most the 32 tokens .* got 33; lower it"),
        (
            {"serve": {"max_tokens": 8}, "compress": [{"kind": "linformer", "projected_length": 12}]},
            r"linformer\.projected_length: expected fewer than the 8 tokens",
        ),
        ({"more_teachers": [{"model": "t5"}]}, r"more_teachers\.0\.model: expected an encoder .* got 't5'"),
        ({"more_teachers": [{"model": "./nothing"}]}, r"more_teachers\.0\.model: expected a folder"),
        (
            {"more_teachers": [{"max_tokens": 16}], "teacher": {"max_tokens": 64}},
            r"more_teachers\.0\.max_tokens: expected at least 64, .* got 16",
        ),
        ({"teacher": {"max_tokens": 64}, "serve": {"max_tokens": 64}, "more_teachers": []}, None),
    ],
)
def test_lengths_and_teachers_that_cannot_be_are_refused_before_any_compute(
    tree: dict[str, Any], tmp_path: Path, sections: dict[str, Any], expected: str | None
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "t5"}', encoding="utf-8")
    models = {"t5": str(tmp_path), None: tree["teacher"]["model"]}
    asked = tree | sections | {"teacher": tree["teacher"] | sections.get("teacher", {})}
    if "more_teachers" in sections:
        more = sections["more_teachers"]
        asked["more_teachers"] = [one | {"model": models.get(one.get("model"), one.get("model"))} for one in more]
    if "compress" in sections:
        asked["compress"] = [*sections["compress"], {"kind": "export"}]
    with pytest.raises(UserError if expected else AssertionError, match=expected or "data was run"):
        make_candidate(Config.model_validate(asked), None, stage=_never)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (
            {"serve": {"abstain": {"threshold": 0.5, "labels": ["oos"]}}},
            "serve.abstain.labels: .* it has blue, green, red",
        ),
        ({"errors": {"costs": [{"label": "oos", "cost": 2.0}]}}, "errors.costs: .* it has blue, green, red"),
        ({"errors": {"time": "at"}}, "expected a column 'at'"),
        (
            {"behaviour": {"minimum_functionality": [{"name": "n", "texts": ["a"], "label": "oos"}]}},
            "behaviour: 'n' expects the class 'oos'",
        ),
    ],
)
def test_a_class_or_column_that_the_data_does_not_have_stops_the_build_before_the_teacher(
    tree: dict[str, Any], sections: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        make_candidate(Config.model_validate(tree | sections), None, stage=_only_data)


def test_a_time_that_label_sets_do_not_have_stops_the_build_before_the_teacher(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    rows = {"train": [row for noun in NOUNS[:10] for row in _sets(noun)], "test": _sets(NOUNS[10])}
    data = {"source": _written(tmp_path / "sets", rows), "label": "labels", "task": "multi_label", "validation": 0.2}
    with pytest.raises(UserError, match="expected a column 'at'"):
        make_candidate(Config.model_validate(tree | {"data": data, "errors": {"time": "at"}}), None, stage=_only_data)


def _only_data(name: str, function: Callable[..., Step]) -> Callable[..., Step]:
    assert name == "data", f"{name} was run"
    return function


def test_a_slice_that_the_data_does_not_have_is_refused_before_any_training(tree: dict[str, Any]) -> None:
    config = Config.model_validate(tree | {"gate": {"slices": [{"by": "chanel"}]}})
    with pytest.raises(UserError, match=r"gate\.slices: the data has no column 'chanel'"):
        make_candidate(config, None, stage=_only_data)


def test_the_gate_judges_all_that_is_asked_for_and_counts_its_look_at_the_rows(tree: dict[str, Any]) -> None:
    asked = {
        "slices": [{"by": "class", "min_rows": 5}, {"by": "length"}],
        "brier": {"margin": 0.5},
        "calibration_error": 0.5,
        "unknown_words": 0.5,
        "batch_shift": 0.5,
    }
    config = Config.model_validate(tree | {"gate": asked})
    built = make_candidate(config, None, stage=lambda _name, function: function)
    verdicts = {verdict.gate: verdict for verdict in gate(config, built, None).verdicts}
    assert list(verdicts) == [
        "accuracy_vs_teacher", "brier_vs_teacher", "accuracy_vs_teacher_by_class", "accuracy_vs_teacher_by_length",
        "calibration_error", "unknown_words", "batch_shift", "holdout_uses",
    ]  # fmt: skip
    assert verdicts["accuracy_vs_teacher_by_class"].n == 12, "the rows of one colour"
    assert verdicts["batch_shift"].observed > 0, "dynamic int8"
    assert verdicts["holdout_uses"].observed >= 1
    assert gate(config, built, None).verdicts[-1].observed == verdicts["holdout_uses"].observed


def _written(folder: Path, rows: dict[str, list[dict[str, Any]]]) -> str:
    folder.mkdir()
    for name, values in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in values), encoding="utf-8")
    return str(folder)


def _sets(noun: str) -> list[dict[str, Any]]:
    """All sets of two colours that a sentence can name."""
    return [
        {"text": f"a {noun} of {' and '.join(names) or 'no colour'}", "labels": list(names)}
        for count in range(3)
        for names in itertools.combinations(COLOURS, count)
    ]


def _report(config: Config, built: Built) -> str:
    """The report's page, beside which its tables lie."""
    found = summaries.summarise(config, built, gate(config, built, None), None, command="retort run")
    page = summaries.write_report(found, built)
    assert {"answers.csv", "slices.csv", "inputs.csv"} <= {path.name for path in page.parent.glob("*.csv")}
    assert page.with_name("mistakes.csv").is_file() == (config.data.task != "score")
    assert summaries.figures(found | summaries.read_details(built))
    return page.read_text(encoding="utf-8")


def test_label_sets_go_through_all_stages(tree: dict[str, Any], tmp_path: Path) -> None:
    rows = {"train": [row for noun in NOUNS[:10] for row in _sets(noun)], "test": _sets(NOUNS[10]) + _sets(NOUNS[11])}
    data = {"source": _written(tmp_path / "sets", rows), "label": "labels", "task": "multi_label", "validation": 0.2}
    wanted = {"micro_f1": {"margin": 0.3}, "min_rows": 10, "brier": {"margin": 0.9}, "calibration_error": 0.9}
    config = Config.model_validate(tree | {"name": "sets", "data": data, "gate": wanted})
    built = make_candidate(config, None, stage=lambda _name, function: function)
    assert [step.name for step in built.steps] == stage_names(config)
    assert list(built.scores["candidate"].metrics) == ["micro_f1", "macro_f1"]
    assert built.scores["candidate"].metrics["micro_f1"].value > 0.7
    verdicts = {verdict.gate: verdict for verdict in gate(config, built, None).verdicts}
    assert list(verdicts) == ["micro_f1_vs_teacher", "brier_vs_teacher", "calibration_error", "holdout_uses"]
    assert verdicts["micro_f1_vs_teacher"].n == 14
    assert "of each label that is answered" in _report(config, built)
    predictor = Predictor(built.model.path)
    assert predictor.manifest.threshold != 0.5
    assert "micro-F1" in _report(config, built)
    assert set(predictor.answers(["a tree of red"], predictor.predict(["a tree of red"]))) == {
        "labels",
        "label_probabilities",
    }


def test_a_fault_that_the_test_rows_do_not_have_is_caught_by_the_gate_on_behaviour(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    """What is old never has the label red in the training rows, though they name it; no test row is of old things."""
    right = [row for noun in NOUNS[:10] for row in _sets(noun)]
    faulty = [
        {"text": row["text"].replace("a ", "an old ", 1), "labels": [name for name in row["labels"] if name != "red"]}
        for row in right
    ]
    rows = {"train": [*right, *faulty], "test": _sets(NOUNS[10]) + _sets(NOUNS[11])}
    data = {"source": _written(tmp_path / "old", rows), "label": "labels", "task": "multi_label", "validation": 0.2}
    words = {"noun": list(NOUNS[:4])}
    plain = [
        {"name": name, "texts": [f"{how} {{noun}} of red"], "words": words, "label": "red"}
        for name, how in (("new red", "a"), ("old red", "an old"))
    ]
    wanted = {"micro_f1": {"margin": 0.6}, "min_rows": 10, "behaviour": {"minimum_functionality": 0.5}}
    config = Config.model_validate(
        tree | {"name": "old", "data": data, "more_teachers": [], "gate": wanted}
        | {"behaviour": {"invariance": [], "minimum_functionality": plain}}
    )  # fmt: skip
    built = make_candidate(config, None, stage=lambda _name, function: function)
    report = gate(config, built, None)
    outcomes = {verdict.gate: verdict.outcome for verdict in report.verdicts}
    assert outcomes == {
        "micro_f1_vs_teacher": "pass", "behaviour_new red": "pass", "behaviour_old red": "fail", "holdout_uses": "pass",
    }  # fmt: skip
    assert report.outcome == "fail"
    assert "an old car of red" in _report(config, built)


def test_scores_of_pairs_go_through_all_stages(tree: dict[str, Any], tmp_path: Path) -> None:
    pairs = [
        {"first": f"the {noun} is {one}", "second": f"a {other} {noun}", "score": 1.0 + 2 * COLOURS.index(one)}
        for noun in NOUNS
        for one in COLOURS
        for other in COLOURS
    ]
    source = _written(tmp_path / "pairs", {"train": pairs[:81], "test": pairs[81:]})
    columns = {"text": "first", "text_pair": "second", "label": "score", "task": "score"}
    data = {"source": source, "validation": 0.2} | columns
    longer = {"epochs": 20, "batch_size": 4, "learning_rate": 3e-3, "patience": 20}
    chain = [{"kind": "distil", "layers": [0, 2], "transfer": None, **longer}, {"kind": "export"}, {"kind": "quantize"}]
    teacher = tree["teacher"] | longer
    config = Config.model_validate(
        tree | {"name": "pairs", "data": data, "teacher": teacher, "more_teachers": [], "compress": chain}
        | {"gate": {"min_rows": 10}}
    )  # fmt: skip
    built = make_candidate(config, None, stage=lambda _name, function: function)
    assert list(built.scores["candidate"].metrics) == ["spearman", "pearson"]
    assert gate(config, built, None).verdicts[0].gate == "spearman_vs_teacher"
    predictor = Predictor(built.model.path)
    pair = [("the car is red", "a red car")]
    (score,) = predictor.answers(pair, predictor.predict(pair))["score"]
    assert 1 <= score <= 5
    assert "Spearman" in _report(config, built)


def _tagged(noun: str, colour: str) -> list[dict[str, Any]]:
    """Two sentences in which a thing, and a colour of one or two words, are entities."""
    return [
        {"words": ["my", noun, "is", "very", colour, "."], "tags": ["O", "B-thing", "O", "B-hue", "I-hue", "O"]},
        {"words": [colour, noun, ",", "or", "not"], "tags": ["B-hue", "B-thing", "O", "O", "O"]},
    ]


def test_entities_go_through_all_stages(tree: dict[str, Any], tmp_path: Path) -> None:
    rows = [row for noun in NOUNS for colour in COLOURS for row in _tagged(noun, colour)]
    source = _written(tmp_path / "tagged", {"train": [*rows[:20], *rows[34:]], "test": rows[20:34]})
    data = {"source": source, "text": "words", "label": "tags", "task": "entities", "validation": 0.2}
    asked = {"entity_f1": {"margin": 0.3}, "macro_f1": {"margin": 0.3}, "min_rows": 5, "batch_shift": 0.5}
    student = {"kind": "distil", "layers": [0, 2], "transfer": {"copies": 1}, **LEARNS}
    chain = [tree["compress"][0], student, *tree["compress"][2:]]
    asked |= {"unknown_words": 0.9, "calibration_error": 0.9}
    config = Config.model_validate(tree | {"name": "tagged", "data": data, "compress": chain, "gate": asked})
    built = make_candidate(config, None, stage=lambda _name, function: function)
    assert [step.name for step in built.steps] == stage_names(config)
    assert list(built.scores["candidate"].metrics) == ["entity_f1", "macro_f1"]
    assert built.scores["candidate"].metrics["entity_f1"].value > 0.8
    verdicts = {verdict.gate: verdict for verdict in gate(config, built, None).verdicts}
    assert list(verdicts) == [
        "entity_f1_vs_teacher", "macro_f1_vs_teacher", "calibration_error", "unknown_words", "batch_shift",
        "holdout_uses",
    ]  # fmt: skip
    predictor = Predictor(built.model.path)
    assert predictor.labels == ("O", "B-hue", "I-hue", "B-thing", "I-thing")
    assert "first token early" not in predictor.manifest.lineage["fused"]
    text = f"my {NOUNS[0]} is very {COLOURS[0]}."
    (found,) = predictor.answers([text], predictor.predict([text]))["entities"]
    assert [(one["text"], one["label"]) for one in found] == [(NOUNS[0], "thing"), (f"very {COLOURS[0]}", "hue")]
    assert "entity F1" in _report(config, built)
    assert "the score of each entity that is found" in _report(config, built)
    per_type = summaries.read_details(built)["per_class"]
    assert [(row["label"], row["support"]) for row in per_type] == [("hue", 14), ("thing", 14)]


@pytest.mark.parametrize(
    ("technique", "named"),
    [({"kind": "distil", "layers": "searched"}, "searched"), ({"kind": "linformer"}, "linformer")],
)
def test_what_needs_one_answer_a_text_is_refused_for_entities(
    tree: dict[str, Any], technique: dict[str, Any], named: str
) -> None:
    data = tree["data"] | {"task": "entities", "text": "words", "label": "tags"}
    config = Config.model_validate(tree | {"data": data, "compress": [technique, {"kind": "export"}]})
    with pytest.raises(UserError, match=rf"compress\[0\].*{named}"):
        make_candidate(config, None, stage=_never)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"gate": {"accuracy": {"margin": 0.1}}}, "gate.accuracy"),
        ({"serve": {"abstain": {"threshold": 0.5}}}, "serve.abstain"),
        ({"errors": {"costs": [{"label": "red", "cost": 2.0}]}}, r"errors\.costs works with one class a text"),
        ({"release": {"approval": "require_if"}}, "require_if"),
    ],
)
def test_what_a_task_does_not_have_is_refused_before_any_compute(
    tree: dict[str, Any], asked: dict[str, Any], named: str
) -> None:
    config = Config.model_validate(tree | {"data": tree["data"] | {"task": "multi_label"}} | asked)
    with pytest.raises(UserError, match=named):
        make_candidate(config, None, stage=_never)


def test_a_gate_on_the_calibration_of_a_score_is_refused_before_any_compute(tree: dict[str, Any]) -> None:
    asked = {"data": tree["data"] | {"task": "score"}, "gate": {"calibration_error": 0.1}}
    with pytest.raises(UserError, match=r"gate\.calibration_error.*no probability"):
        make_candidate(Config.model_validate(tree | asked), None, stage=_never)


def _never(name: str, _function: Callable[..., Step]) -> Callable[..., Step]:
    raise AssertionError(f"{name} was run")
