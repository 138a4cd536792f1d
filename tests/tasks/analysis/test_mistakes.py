"""Each kind of mistake by hand, and a label that is dropped comes first."""

import numpy as np
import pytest

from tasks.analysis.mistakes import entity_mistakes, mistake_columns, mistakes
from tasks.data.truths import write_entities
from tasks.types import EntityPredictions, SigmoidPredictions

LABELS = ("joy", "love", "pride")


def label_sets(chosen_NC: np.ndarray, truth_NC: np.ndarray) -> SigmoidPredictions:
    return SigmoidPredictions(
        ids=tuple(map(str, range(len(truth_NC)))), task="multi_label", probabilities_NC=chosen_NC.astype(np.float32),
        truth_NC=truth_NC.astype(np.float32), threshold=0.5, latency_ms_N=np.empty(0),
    )  # fmt: skip


def test_missed_and_invented_labels_are_counted_by_hand() -> None:
    truth_NC = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]])
    teacher, candidate = truth_NC.copy(), np.array([[0, 0, 1], [0, 1, 1], [0, 1, 0]])
    teacher[2] = (1, 0, 0)
    first, *_ = rows = mistakes(label_sets(teacher, truth_NC), label_sets(candidate, truth_NC), LABELS)
    assert tuple(first) == mistake_columns("multi_label")
    assert [tuple(row.values())[:-2] for row in rows] == [
        # label, true, missed by candidate and teacher, invented by both, lost
        ("joy", 2, 2, 0, 0, 1, 2),
        ("pride", 0, 0, 0, 2, 0, 2),
        ("love", 2, 0, 1, 0, 0, 0),
    ]


def test_a_dropped_label_comes_first_though_it_is_no_longer_invented_and_others_change_more() -> None:
    rng = np.random.default_rng(0)
    truth_NC = rng.random((3000, 3)) < (0.5, 0.3, 0.03)
    teacher_NC, candidate_NC = (truth_NC ^ (rng.random((3000, 3)) < (0.2, 0.2, 0.02)) for _ in range(2))
    candidate_NC[:, 2] = False
    rows = mistakes(label_sets(teacher_NC, truth_NC), label_sets(candidate_NC, truth_NC), LABELS)
    assert (rows[0]["label"], rows[0]["worse"]) == ("pride", "missed")
    assert rows[0]["candidate_missed"] == rows[0]["true"] == truth_NC[:, 2].sum()
    assert rows[0]["candidate_invented"] == 0 < rows[0]["teacher_invented"]


NEW_YORK = (0, 8, "LOC")


@pytest.mark.parametrize(
    ("answered", "true", "expected"),
    [
        ([NEW_YORK], [NEW_YORK], []),
        ([], [NEW_YORK], [("missed", "LOC")]),
        ([NEW_YORK], [], [("invented", "LOC")]),
        ([(0, 3, "LOC")], [NEW_YORK], [("wrong_boundary", "LOC")]),
        ([(0, 8, "PER")], [NEW_YORK], [("wrong_type", "LOC")]),
        # neither span nor type: two mistakes
        ([(0, 3, "PER")], [NEW_YORK], [("missed", "LOC"), ("invented", "PER")]),
        # one name read as two, and two as one
        ([(0, 3, "LOC"), (4, 8, "LOC")], [NEW_YORK], [("wrong_boundary", "LOC"), ("invented", "LOC")]),
        ([(0, 14, "LOC")], [NEW_YORK, (9, 14, "LOC")], [("wrong_boundary", "LOC"), ("missed", "LOC")]),
        # what is right accounts for nothing else; the very span comes before an overlap
        ([NEW_YORK], [NEW_YORK, (4, 8, "PER")], [("missed", "PER")]),
        ([(0, 8, "PER")], [NEW_YORK, (4, 12, "PER")], [("wrong_type", "LOC"), ("missed", "PER")]),
        # what only touches does not overlap
        ([(8, 9, "LOC")], [NEW_YORK], [("missed", "LOC"), ("invented", "LOC")]),
    ],
)
def test_each_mistake_with_an_entity_is_of_one_kind(
    answered: list[tuple[int, int, str]], true: list[tuple[int, int, str]], expected: list[tuple[str, str]]
) -> None:
    assert list(entity_mistakes(answered, true)) == expected


def test_planted_boundaries_are_counted_as_such_under_the_true_type() -> None:
    truth = tuple(write_entities([(0, 8, "LOC"), (9, 13, "PER")]) for _ in range(20))
    cut = tuple(write_entities([(0, 5, "LOC"), (9, 13, "PER")]) for _ in range(20))
    teacher, candidate = (
        EntityPredictions(
            ids=tuple(map(str, range(20))), types=("LOC", "PER"), answers=answers, truth=truth, latency_ms_N=np.empty(0)
        )
        for answers in (truth, cut)
    )
    of_place, of_person = mistakes(teacher, candidate, ("LOC", "PER"))
    assert (of_place["label"], of_place["true"], of_place["candidate_wrong_boundary"], of_place["lost"]) == (
        "LOC", 20, 20, 20,
    )  # fmt: skip
    assert of_place["worse"] == "wrong boundary"
    zero = {name for name, value in of_place.items() if value == 0}
    assert zero == set(mistake_columns("entities")) - {
        "label", "true", "candidate_wrong_boundary", "lost", "worse", "p_holm",
    }  # fmt: skip
    assert (of_person["lost"], of_person["worse"]) == (0, "")


def test_mistakes_by_chance_are_called_worse_in_at_most_5_of_100_sets() -> None:
    rng = np.random.default_rng(1)
    truth_NC = rng.random((600, 3)) < (0.5, 0.3, 0.1)
    worse = 0
    for _ in range(200):
        shared_NC = rng.random((600, 3)) < 0.1
        pair = (label_sets(truth_NC ^ shared_NC ^ (rng.random((600, 3)) < 0.1), truth_NC) for _ in range(2))
        worse += any(row["worse"] for row in mistakes(*pair, LABELS))
    assert worse / 200 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
