import json

import numpy as np
import pytest

from bento.entities import entity_tags
from bento.task_types import Target
from tasks.floor import NUM_LATENCY_ROWS, fit_floor, fit_task_floor
from tasks.types import EntityPredictions, Split

LABELS = ("apple", "pear", "never seen")


def split(name, num_rows, *, pairs=False):
    labels = [LABELS[at % 2] for at in range(num_rows)]
    texts = [f"{name} row {at} is about the {label}" for at, label in enumerate(labels)]
    chosen = [("a question", text) for text in texts] if pairs else texts
    return Split(name=name, ids=tuple(map(str, range(num_rows))), texts=tuple(chosen), labels=tuple(labels))


def test_the_floor_learns_words_and_reports_probabilities_size_and_latency():
    test = split("test", 250)
    predictions, size_bytes = fit_floor(split("train", 60), test, LABELS)
    assert predictions.correct_N.all()
    assert predictions.ids == test.ids
    assert predictions.probabilities_NC.shape == (250, 3)
    assert np.allclose(predictions.probabilities_NC.sum(axis=1), 1, atol=1e-5)
    assert len(predictions.latency_ms_N) == NUM_LATENCY_ROWS
    assert (predictions.latency_ms_N > 0).all()
    assert size_bytes > 1000


def test_a_label_without_training_rows_gets_no_probability():
    predictions, _ = fit_floor(split("train", 60), split("test", 10), LABELS)
    assert (predictions.probabilities_NC[:, 2] == 0).all()


def test_text_pairs_are_joined():
    predictions, _ = fit_floor(split("train", 60, pairs=True), split("test", 20, pairs=True), LABELS)
    assert predictions.correct_N.all()


def test_the_fit_is_deterministic():
    first, _ = fit_floor(split("train", 60), split("test", 20), LABELS)
    second, _ = fit_floor(split("train", 60), split("test", 20), LABELS)
    assert np.array_equal(first.probabilities_NC, second.probabilities_NC)


def test_the_floor_of_label_sets_learns_the_words_of_each_label() -> None:
    def sets(name: str, num_rows: int) -> Split:
        names = [[word for at, word in enumerate(("red", "blue")) if row >> at & 1] for row in range(num_rows)]
        texts = [f"number {row} {' and '.join(chosen)}" for row, chosen in enumerate(names)]
        return Split(
            name=name, ids=tuple(map(str, range(num_rows))), texts=tuple(texts), labels=tuple(map(json.dumps, names))
        )

    target = Target(task="multi_label")
    found, _ = fit_task_floor(sets("train", 80), sets("validation", 40), sets("test", 40), ("blue", "red"), target)
    assert np.array_equal(found.chosen_NC, found.truth_NC)
    assert len(found.latency_ms_N) == 40


def test_the_floor_of_pairs_is_how_many_words_they_share() -> None:
    pairs = (("a red car", "a red car"), ("a red car", "one blue ship"), ("a red car", "a red ship"))
    rows = Split(name="test", ids=("1", "2", "3"), texts=pairs, labels=("5.0", "0.0", "2.5"))
    target = Target(task="score", low=0, high=5)
    found, _ = fit_task_floor(rows, rows, rows, ("score",), target)
    same, other, half = found.probabilities_NC[:, 0]
    assert same == pytest.approx(1, abs=1e-6)
    assert same > half > other


def test_the_floor_of_entities_is_each_words_usual_tag_and_nothing_for_a_new_word() -> None:
    rows = {"texts": ("Anna saw York", "York saw Anna", "York"), "ids": ("1", "2", "3")}
    train = Split(
        name="train", labels=('[[0, 4, "PER"], [9, 13, "LOC"]]', '[[9, 13, "PER"]]', '[[0, 4, "LOC"]]'), **rows
    )
    test = Split(name="test", ids=("4", "5"), texts=("York Anna, Bob", "saw"), labels=("[]", "[]"))
    found, num_bytes = fit_task_floor(train, train, test, tuple(entity_tags(["LOC", "PER"])), Target(task="entities"))
    assert isinstance(found, EntityPredictions)
    assert found.answers == ('[[0, 4, "LOC"], [5, 9, "PER"]]', "[]")
    assert (found.types, num_bytes > 0) == (("LOC", "PER"), True)
