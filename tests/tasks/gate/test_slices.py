from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from bento.errors import DataError
from tasks.gate import GateConfig, SliceGate, judge, judge_slice_values, slice_columns
from tasks.types import Split
from tests.tasks.gate.answers import pair

ROWS = Split(
    name="test",
    ids=("a", "b", "c"),
    texts=("one two", "one two three four five six", ("one two three", "four five six seven eight nine ten")),
    labels=("x", "y", "x"),
)


def parts(n, *sizes):
    """The first rows are of part p0, the next of p1, ...; the rest are of `rest`."""
    names = [f"p{at}" for at, size in enumerate(sizes) for _ in range(size)]
    return [*names, *["rest"] * (n - len(names))]


def by_part(candidate, reference, parts_N, **rule):
    config = GateConfig(slices=(SliceGate(by="source", **rule),))
    found = judge(candidate, reference, reference_name="teacher", config=config, columns={"source": parts_N})
    return found[-1]


def test_class_length_and_any_column_are_parts():
    rules = (SliceGate(by="class"), SliceGate(by="length", edges=(3, 6)), SliceGate(by="source"))
    found = slice_columns(rules, ROWS, {"source": ["mail", None, 7]})
    assert found == {
        "class": ("x", "y", "x"),
        "length": ("1-2 words", "6+ words", "6+ words"),
        "source": ("mail", "(missing)", "7"),
    }


def test_an_empty_value_is_a_missing_one():
    assert slice_columns((SliceGate(by="source"),), ROWS, {"source": ["", " ", None]}) == {"source": ("(missing)",) * 3}


@pytest.mark.parametrize("name", ["class", "length"])
def test_a_column_that_is_called_as_a_built_in_slice_is_refused_where_it_is_asked_for(name):
    with pytest.raises(DataError, match=rf"the data has a column '{name}', .*; give the column another name"):
        slice_columns((SliceGate(by=name),), ROWS, {name: [1, 2, 3]})
    assert slice_columns((SliceGate(by="source"),), ROWS, {name: [1, 2, 3], "source": [1, 1, 1]})


def test_two_rules_by_one_column_are_refused():
    rules = [{"by": "length", "edges": [3]}, {"by": "class"}, {"by": "length", "edges": [6]}]
    with pytest.raises(ValidationError, match="expected one rule for each column, got more by length"):
        GateConfig.model_validate({"slices": rules})


def test_a_missing_column_is_refused_with_the_nearest_one():
    with pytest.raises(DataError, match=r"no column 'sorce'; did you mean 'source'\?"):
        slice_columns((SliceGate(by="sorce"),), ROWS, {"source": [1, 2, 3]})
    with pytest.raises(DataError, match="there are class, length, source"):
        slice_columns((SliceGate(by="qqq"),), ROWS, {"source": [1, 2, 3]})


def test_a_named_value_that_never_occurs_and_a_column_of_ids_are_refused(monkeypatch):
    with pytest.raises(DataError, match="class is never z; it is x, y"):
        slice_columns((SliceGate(by="class", only=("x", "z")),), ROWS, {})
    monkeypatch.setattr("tasks.gate.slices.MAX_PARTS", 2)
    with pytest.raises(DataError, match="3 different values in 3 rows"):
        slice_columns((SliceGate(by="number"),), ROWS, {"number": [1, 2, 3]})


@pytest.mark.parametrize("edges", [[], [5, 3], [1, 4], [4, 4]])
def test_edges_have_to_rise(edges):
    with pytest.raises(ValidationError, match="edges that rise"):
        SliceGate.model_validate({"by": "length", "edges": edges})


def test_a_part_that_is_broken_fails_where_the_whole_passes():
    candidate, reference = pair(4_000, candidate_only=0, reference_only=25)
    verdict = by_part(candidate, reference, parts(4_000, 100))
    assert (verdict.gate, verdict.outcome, verdict.n) == ("accuracy_vs_teacher_by_source", "fail", 100)
    assert "2 parts: 1 pass, 1 fail; worst is source=p0: candidate is 25.0 points worse" in verdict.reason
    whole = judge(candidate, reference, reference_name="teacher", config=GateConfig())[0]
    assert whole.outcome == "pass"


def test_a_part_of_too_few_rows_is_inconclusive_and_never_a_pass():
    candidate, reference = pair(4_000, candidate_only=0, reference_only=0)
    verdict = by_part(candidate, reference, parts(4_000, 10))
    assert (verdict.outcome, verdict.n, verdict.needed_n) == ("inconclusive", 10, 50)


def test_only_the_named_parts_count():
    candidate, reference = pair(4_000, candidate_only=0, reference_only=40)
    assert by_part(candidate, reference, parts(4_000, 100), only=("rest",)).outcome == "pass"


def test_equal_models_pass_in_all_parts():
    candidate, reference = pair(3_000, candidate_only=0, reference_only=0)
    verdict = by_part(candidate, reference, parts(3_000, 1_000, 1_000))
    assert (verdict.outcome, "3 parts: 3 pass" in verdict.reason) == ("pass", True)


def test_missing_answers_fail_the_slice():
    candidate, reference = pair(500, candidate_only=0, reference_only=0)
    candidate.probabilities_NC[3] = np.nan
    assert by_part(candidate, reference, parts(500, 100)).outcome == "fail"


def test_every_part_has_a_verdict_of_its_own():
    candidate, reference = pair(1_000, candidate_only=0, reference_only=30)
    rule = SliceGate(by="source")
    found = judge_slice_values(candidate, reference, parts(1_000, 100, 400), "champion", rule)
    assert [verdict.gate for verdict in found] == [
        "accuracy_vs_champion[source=p0]",
        "accuracy_vs_champion[source=p1]",
        "accuracy_vs_champion[source=rest]",
    ]
    assert [verdict.outcome for verdict in found] == ["fail", "pass", "pass"]
    assert replace(found[0], reason="").n == 100
