"""What is listed of answers that have parts, or are more or less far off."""

import numpy as np

from bento.task_types import Target
from tasks.analysis.answers import answer_rows
from tasks.data.truths import write_entities
from tasks.types import EntityPredictions, SigmoidPredictions, Split

IDS = ("1", "2", "3")
SPLIT = Split(name="test", ids=IDS, texts=("Anna of York", "b", "c"), labels=("", "", ""))


def sigmoids(task: str, probabilities: list[list[float]], truth: list[list[float]]) -> SigmoidPredictions:
    return SigmoidPredictions(
        ids=IDS, task=task, probabilities_NC=np.array(probabilities, dtype=np.float32),
        truth_NC=np.array(truth, dtype=np.float32), threshold=0.5, latency_ms_N=np.empty(0),
    )  # fmt: skip


def test_sets_that_the_teacher_had_right_come_first_and_right_ones_not_at_all() -> None:
    truth = [[1, 0], [1, 1], [0, 0]]
    teacher = sigmoids("multi_label", [[0.1, 0.9], [0.9, 0.9], [0, 0]], truth)
    candidate = sigmoids("multi_label", [[0.1, 0.9], [0.9, 0.1], [0, 0]], truth)
    rows = answer_rows(SPLIT, teacher, candidate, ("joy", "love"), Target(task="multi_label"))
    assert [(row["id"], row["truth"], row["teacher"], row["candidate"]) for row in rows] == [
        ("2", "joy, love", "joy, love", "joy"),
        ("1", "joy", "love", "love"),
    ]
    assert [(row["off"], row["teacher_off"]) for row in rows] == [(1, 0), (2, 2)]


def test_scores_are_told_on_their_scale_the_furthest_off_first() -> None:
    found = sigmoids("score", [[0.5], [0.1], [1.0]], [[0.5], [0.3], [0.0]])
    rows = answer_rows(SPLIT, found, found, ("score",), Target(task="score", low=0, high=5))
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
    first, second = answer_rows(SPLIT, teacher, candidate, (), Target(task="entities"))
    assert (first["truth"], first["candidate"], first["off"]) == ("Anna (PER), York (LOC)", "Anna (LOC)", 3)
    assert (second["truth"], second["candidate"], second["off"]) == ("", "c (LOC)", 1)
