"""The trials of the gate's benchmark: which rows are asked for, and what counts as refused."""

from typing import Any

import pytest

from flows import bench_gate_trials as trials
from tasks.types import Verdict


def verdict(outcome: Any, needed_n: int | None = None) -> Verdict:
    return Verdict(gate="accuracy", outcome=outcome, observed=0.0, limit=0.0, n=1, needed_n=needed_n, reason="")


@pytest.mark.parametrize(("max_rows", "n"), [(None, 900), (500, 500)])
def test_the_rows_that_the_first_undecided_pilot_asks_for_are_tried(max_rows: int | None, n: int) -> None:
    answers = iter([verdict("fail"), verdict("pass"), verdict("inconclusive", 900), verdict("inconclusive", 2_000)])
    asked = []

    def compare(number: int) -> list[Verdict]:
        asked.append(number)
        return [next(answers)]

    assert trials.refused(compare, max_rows=max_rows) == (n, True)
    assert asked == [200, 200, 200, n]


def test_pilots_that_always_decide_are_enough_themselves() -> None:
    assert trials.refused(lambda number: [verdict("pass")]) == (200, False)


def test_rows_tell_the_shares_and_whether_they_are_few_enough() -> None:
    found = trials.passed_row("a fault", [True, False, False, False], 20.0, "")
    assert (found["value"], found["met"]) == (25, False)
    found = trials.refused_row([(200, False), (900, True), (700, False), (800, False), (900, False)], "accuracy")
    assert (found["value"], found["met"]) == (20, True)
    assert "800 in the median" in found["against"]
