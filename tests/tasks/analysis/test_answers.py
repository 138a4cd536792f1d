"""What is listed of answers that have parts, or are more or less far off, and where planted faults are found."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bento.entities import entity_tags
from bento.task_types import Target
from tasks.analysis import ErrorsConfig, read_analysis
from tasks.analysis.answers import analyse_answers, answer_rows, named
from tasks.analysis.slices import describe, find_slices
from tasks.data.parts import write_parts
from tasks.data.rows import Row
from tasks.data.truths import class_names, read_truth, write_entities
from tasks.evaluate import write_predictions
from tasks.types import Artifact, EntityPredictions, SigmoidPredictions, Split
from tests.tiny import WORDS, write_tiny_model

IDS = ("1", "2", "3")


def split(*truths: str) -> Split:
    return Split(name="test", ids=IDS, texts=("Anna of York", "b", "c"), labels=truths)


def sigmoids(task: str, probabilities: Any, truth: Any, ids: Sequence[str] = IDS) -> SigmoidPredictions:
    return SigmoidPredictions(
        ids=tuple(ids), task=task, probabilities_NC=np.array(probabilities, dtype=np.float32),
        truth_NC=np.array(truth, dtype=np.float32), threshold=0.5, latency_ms_N=np.empty(0),
    )  # fmt: skip


def test_sets_that_the_teacher_had_right_come_first_and_right_ones_not_at_all() -> None:
    truth = [[1, 0], [1, 1], [0, 0]]
    teacher = sigmoids("multi_label", [[0.1, 0.9], [0.9, 0.9], [0, 0]], truth)
    candidate = sigmoids("multi_label", [[0.1, 0.9], [0.9, 0.1], [0, 0]], truth)
    test = split('["joy"]', '["joy", "love"]', "[]")
    rows = answer_rows(test, teacher, candidate, ("joy", "love"), Target(task="multi_label"))
    assert [(row["id"], row["truth"], row["teacher"], row["candidate"]) for row in rows] == [
        ("2", "joy, love", "joy, love", "joy"),
        ("1", "joy", "love", "love"),
    ]
    assert [(row["off"], row["teacher_off"]) for row in rows] == [(1, 0), (2, 2)]


def test_scores_are_told_on_their_scale_the_furthest_off_first() -> None:
    found = sigmoids("score", [[0.5], [0.1], [1.0]], [[0.5], [0.3], [0.0]])
    rows = answer_rows(split("2.5", "1.5", "0.0"), found, found, ("score",), Target(task="score", low=0, high=5))
    assert [(row["id"], row["truth"], row["candidate"]) for row in rows] == [
        ("3", "0.00", "5.00"),
        ("2", "1.50", "0.50"),
    ]
    assert np.isclose(rows[0]["off"], 5)


def test_entities_are_told_by_their_text() -> None:
    true = (write_entities([(0, 4, "PER"), (8, 12, "LOC")]), "[]", "[]")
    answers = (write_entities([(0, 4, "LOC")]), "[]", write_entities([(0, 1, "LOC")]))
    whole = {"ids": IDS, "types": ("LOC", "PER"), "truth": true, "latency_ms_N": np.empty(0)}
    teacher, candidate = (EntityPredictions(answers=found, **whole) for found in (true, answers))
    first, second = answer_rows(split(*true), teacher, candidate, (), Target(task="entities"))
    assert (first["truth"], first["candidate"], first["off"]) == ("Anna (PER), York (LOC)", "Anna (LOC)", 3)
    assert (second["truth"], second["candidate"], second["off"]) == ("", "c (LOC)", 1)


def test_a_slice_can_name_labels_of_a_row_types_or_the_quarter_of_its_score() -> None:
    sets = named(('["joy", "love"]', "[]"), Target(task="multi_label"))
    assert sets == [{"label joy", "label love"}, {"no label"}]
    twice = write_entities([(0, 1, "PER"), (2, 3, "PER")])
    assert named((twice, "[]"), Target(task="entities")) == [{"type PER"}, {"no entity"}]
    assert named(("0.0", "1.5", "2.0", "5.0"), Target(task="score", high=5)) == [
        {"true score up to 0"}, {"true score above 0 up to 1.5"}, {"true score above 1.5 up to 2"},
        {"true score above 2"},
    ]  # fmt: skip


def test_two_labels_that_meet_can_make_a_slice() -> None:
    rng = np.random.default_rng(0)
    sets = [{f"label {name}" for name in "abc" if rng.random() < 0.5} for _ in range(1200)]
    wrong_N = np.array([rng.random() < (0.6 if {"label a", "label b"} <= labels else 0.05) for labels in sets])
    first = find_slices(describe(["text"] * 1200, sets), wrong_N, rng, most=20)[0]
    assert (first["slice"], first["confirmed"]) == ("label a and label b", True)


NUM_ROWS = 800
JOYS = ("joy", "love")
TRUTHS: dict[str, tuple[str, ...]] = {
    "multi_label": ('["joy"]', '["joy", "love"]', "[]"),
    "score": ("0.0", "2.0", "5.0"),
    "entities": (write_entities([(0, 4, "PER")]), "[]"),
}
"""Truths of rows by turns; every text begins with a word of four letters."""


def written(folder: Path, task: str, rng: np.random.Generator) -> tuple[Path, Split]:
    """A data artifact of texts of a few words, every fifth one about a refund, a day apart, and its test split."""
    words = [word for word in WORDS if word not in ("refund", "##s")]
    rows = [
        Row(
            id=f"{name}-{at:04}", text=" ".join(("card", *(("refund",) if rng.random() < 0.2 else ()), *more)),
            text_pair=None, label=(truth := TRUTHS[task][at % len(TRUTHS[task])]), names=class_names(truth, task),
            split=name, file="f", line=at, further={"at": 86_400 * at},
        )
        for name, count in (("train", 40), ("validation", 5), ("test", NUM_ROWS))
        for at in range(count)
        for more in [rng.choice(words, int(rng.integers(1, 7)))]
    ]  # fmt: skip
    target = Target(task=task, high=5.0 if task == "score" else 1.0)
    labels = {"multi_label": JOYS, "score": ("score",), "entities": tuple(entity_tags(("LOC", "PER")))}[task]
    folder.mkdir()
    write_parts(folder, rows, labels, target, {})
    test = [row for row in rows if row.split == "test"]
    texts, truths = tuple(row.text for row in test), tuple(row.label for row in test)
    return folder, Split(name="test", ids=tuple(row.id for row in test), texts=texts, labels=truths)


def answered(test: Split, task: str, fails_N: Any, rng: np.random.Generator) -> Any:
    """Answers that are right but in the rows that fail."""
    if task == "entities":
        answers = tuple("[]" if fails and truth != "[]" else truth if not fails else write_entities([(0, 4, "LOC")])
                        for truth, fails in zip(test.labels, fails_N, strict=True))  # fmt: skip
        return EntityPredictions(
            ids=test.ids, types=("LOC", "PER"), answers=answers, truth=test.labels, latency_ms_N=np.empty(0)
        )
    if task == "score":
        truth_NC = np.array([[float(truth) / 5] for truth in test.labels])
        off_NC = np.where(fails_N, 0.6, 0.1 * rng.random(len(test)))[:, None]
        return sigmoids(task, np.abs(truth_NC - off_NC), truth_NC, test.ids)
    truth_NC = np.array([[name in class_names(truth, task) for name in JOYS] for truth in test.labels], dtype=float)
    return sigmoids(task, np.abs(truth_NC - 0.9 * fails_N[:, None]), truth_NC, test.ids)


def analysed(tmp_path: Path, task: str, *, errors: dict[str, Any] | None = None) -> Path:
    """The analysis of a candidate that fails on most texts about a refund, after a teacher that fails now and then."""
    rng = np.random.default_rng(0)
    data, test = written(tmp_path / "data", task, rng)
    about_N = np.array(["refund" in text for text in test.texts])
    teacher_N, candidate_N = (rng.random(NUM_ROWS) < rate for rate in (0.05, np.where(about_N, 0.7, 0.05)))
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    for name, fails_N in (("teacher", teacher_N), ("quantize", candidate_N)):
        write_predictions(evaluation, name, answered(test, task, fails_N, rng))
    model = write_tiny_model(tmp_path / "model", max_tokens=8)
    paths = {"data": ("data", data), "evaluation": ("scores", evaluation), "candidate": ("onnx", model)}
    artifacts = {
        name: Artifact(kind=kind, path=path, sha256=f"{path}", parents=(), made_by=name)
        for name, (kind, path) in paths.items()
    }
    step = analyse_answers(config=ErrorsConfig(**(errors or {})), candidate_name="quantize", seed=0, **artifacts)
    return step.artifact.path


@pytest.mark.parametrize("task", list(TRUTHS))
def test_a_word_on_which_the_candidate_fails_is_confirmed_and_every_table_is_a_file(tmp_path: Path, task: str) -> None:
    folder = analysed(tmp_path, task, errors={"time": "at"})
    found = read_analysis(folder)
    assert found["tables"]["slices"][0]["slice"] == "word 'refund'"
    assert found["tables"]["slices"][0]["confirmed"]
    assert found["tables"]["slices"][0]["error_rate"] > 0.5
    tables = {"slices", "inputs", "over_time", "answers"} | ({"mistakes"} if task != "score" else set())
    assert set(found["tables"]) == {path.stem for path in folder.glob("*.csv")} == tables
    for name, number in found["num"].items():
        with (folder / f"{name}.csv").open(encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) == number, name


def test_right_is_every_part_of_an_answer_or_a_score_within_the_teachers_three_quarters(tmp_path: Path) -> None:
    for task, measure in (("multi_label", "exact_match"), ("score", "within_bound")):
        (tmp_path / task).mkdir()
        found = read_analysis(analysed(tmp_path / task, task, errors={"time": "at"}))
        assert found["measure"] == measure
        inputs, periods = found["tables"]["inputs"], found["tables"]["over_time"]
        assert [row["group"] for row in inputs][2] == "cut at the length limit"
        assert inputs[2]["rows"] > 0
        assert sum(row["rows"] for row in periods) == NUM_ROWS
        share = np.mean([row[f"teacher_{measure}"] for row in periods])
        assert share == pytest.approx(0.75 if task == "score" else 0.95, abs=0.02)
        assert np.mean([row[f"candidate_{measure}"] for row in periods]) < share - 0.05
        assert ("num_lost" in found, "bound" in found) == (task != "score", task == "score")
    assert 0 < found["bound"] < 0.5, "on the scale of the scores, which is 5 long"


def test_a_wrong_answer_has_its_reading_and_the_nearest_training_texts_with_their_truths(tmp_path: Path) -> None:
    row = read_analysis(analysed(tmp_path, "entities"))["tables"]["answers"][0]
    assert (row["unknown_token"], row["new_words"]) == (False, "")
    assert isinstance(row["cut"], bool)
    assert row["nearest_1"].startswith("card")
    assert row["nearest_truth_1"] in ("card (PER)", "")
    assert 1 >= row["cosine_1"] >= row["cosine_2"] >= row["cosine_3"] > 0


@pytest.mark.parametrize("task", ["multi_label", "score"])
def test_errors_by_chance_confirm_a_slice_in_at_most_5_of_100_sets(task: str) -> None:
    rng = np.random.default_rng(1)
    words = np.array(["the", "card", "is", "lost", "my", "money", "where"])
    texts = [" ".join(rng.choice(words, int(rng.integers(1, 9)))) for _ in range(800)]
    truths = [
        str(rng.integers(0, 21) / 4) if task == "score"
        else str(read_truth([name for name in "abcde" if rng.random() < 0.3], task)) for _ in texts
    ]  # fmt: skip
    conditions = describe(texts, named(truths, Target(task=task)))
    confirmed = 0
    for _ in range(200):
        shared_N = rng.normal(size=800)
        teacher_N, candidate_N = (np.abs(shared_N + rng.normal(size=800)) for _ in range(2))
        wrong_N = candidate_N > np.quantile(teacher_N, 0.75)
        confirmed += any(row["confirmed"] for row in find_slices(conditions, wrong_N, rng, most=20))
    assert confirmed / 200 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
