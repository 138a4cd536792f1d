"""Exact matches of entities, against scikit-learn on the same entities and the published example of seqeval."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tasks.stats.entities import Entity, entity_terms
from tasks.stats.multi_label import macro_statistic, micro_statistic

TYPES = ("LOC", "MISC", "PER")


def f1(answers: list[list[Entity]], truth: list[list[Entity]]) -> tuple[float, float]:
    sums_1K = entity_terms(answers, truth, TYPES).sum(axis=0)[None]
    return float(micro_statistic(sums_1K)[0]), float(macro_statistic(sums_1K)[0])


def test_seqevals_example_is_half_right() -> None:
    """https://github.com/chakki-works/seqeval: one entity too long by a word, one right; F1 0.50."""
    truth: list[list[Entity]] = [[(3, 6, "MISC")], [(0, 2, "PER")]]
    assert f1([[(2, 6, "MISC")], [(0, 2, "PER")]], truth) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([(0, 2, "PER"), (5, 6, "LOC")], 1.0),
        ([(0, 2, "LOC"), (5, 6, "LOC")], 0.5),
        ([(0, 1, "PER"), (5, 6, "LOC")], 0.5),
        ([(0, 2, "PER"), (0, 2, "PER"), (5, 6, "LOC")], 1.0),
        ([], 0.0),
    ],
)
def test_span_and_type_have_to_be_exact_and_repeating_does_not_pay(answer: list[Entity], expected: float) -> None:
    assert f1([answer], [[(0, 2, "PER"), (5, 6, "LOC")]])[0] == expected


def test_terms_agree_with_scikit_learn_on_entities_as_labels() -> None:
    rng = np.random.default_rng(0)
    rows = [[(at, at + 1, TYPES[rng.integers(3)]) for at in range(4) if rng.random() < 0.6] for _ in range(60)]
    found = [
        [(a, b, name if rng.random() < 0.7 else "LOC") for a, b, name in row if rng.random() < 0.8] for row in rows
    ]
    every = [(row, at, name) for row in range(60) for at in range(4) for name in TYPES]
    true, answered = ([(at, at + 1, name) in side[row] for row, at, name in every] for side in (rows, found))
    micro, macro = f1(found, rows)
    assert micro == pytest.approx(f1_score(true, answered))
    of_type = [[one == name for _, _, one in every] for name in TYPES]
    assert macro == pytest.approx(np.mean([f1_score(np.array(true)[its], np.array(answered)[its]) for its in of_type]))
