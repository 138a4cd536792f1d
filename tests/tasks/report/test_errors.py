"""The section on errors: costs only where they were given, chance told from finding, nothing measured a dash."""

from pathlib import Path

import pytest

from tasks.report.build import write_build_report
from tasks.report.errors import errors_view
from tests.tasks.report.sample import HOSTILE, analysis, answers_analysis, build_summary, score_summary


def page(folder: Path, **changes: object) -> str:
    summary = build_summary() | {"analysis": analysis() | changes}
    return write_build_report(summary, folder).read_text(encoding="utf-8")


def test_costs_are_shown_where_they_were_given_and_counts_alone_otherwise(tmp_path: Path) -> None:
    weighed = page(tmp_path / "weighed")
    assert "Dearest confusions" in weighed
    assert "An answer costs 0.125 on average, one of the teacher 0.100" in weighed
    plain = page(tmp_path / "plain", weighed=False)
    assert "Most frequent confusions" in plain
    assert "costs" not in plain


def test_every_table_is_linked_and_its_beginning_shown(tmp_path: Path) -> None:
    text = page(tmp_path)
    for table in ("flips", "confusions", "errors", "slices", "label_errors", "over_time", "coverage"):
        assert f'href="{table}.csv"' in text
    assert "lost 61 right answers and gained 49" in text
    assert "1,234 of 4,000 validation and test rows" in text
    assert "2026-01-01 to 2026-02-01" in text
    assert "p = 0.0300" in text


def test_what_was_only_suspected_is_folded_away(tmp_path: Path) -> None:
    (row,) = analysis()["tables"]["slices"]
    rows = [row | {"slice": "word 'it'", "confirmed": False}]
    text = page(tmp_path, tables=analysis()["tables"] | {"slices": rows})
    assert "Nothing that the search suspected was confirmed" in text
    assert text.index("Suspected and not confirmed: 1") < text.index("word &#39;it&#39;")


def test_a_group_without_rows_is_a_dash_and_empty_tables_leave_a_sentence(tmp_path: Path) -> None:
    view = errors_view(analysis())
    assert view is not None
    assert (view["inputs"][0]["candidate"], view["inputs"][0]["candidate_interval"]) == ("–", "")
    empty = page(tmp_path, tables={name: [] for name in analysis()["tables"]})
    assert "The search found no slice with more errors" in empty
    assert "No label looks wrong" in empty
    assert errors_view({}) is None


@pytest.mark.parametrize(("task", "kinds"), [("multi_label", 2), ("entities", 4)])
def test_sets_and_entities_show_their_mistakes_and_all_that_classes_show_but_confusions_and_labels(
    tmp_path: Path, task: str, kinds: int
) -> None:
    summary = build_summary() | {"task": task, "analysis": answers_analysis(task)}
    text = write_build_report(summary, tmp_path).read_text(encoding="utf-8")
    for table in ("mistakes", "answers", "slices", "inputs", "over_time"):
        assert f'href="{table}.csv"' in text
    for table in ("confusions", "label_errors", "coverage"):
        assert f'href="{table}.csv"' not in text
    assert HOSTILE not in text
    assert "lost 61 answers that were right in every part and gained 49" in text
    assert "candidate exactly right" in text
    assert ("wrong boundary" in text) == (task == "entities")
    view = errors_view(answers_analysis(task))
    assert view is not None
    assert [row["label"] for row in view["mistakes"]["rows"]] == [HOSTILE, "joy", "together"]
    assert len(view["mistakes"]["kinds"]) == kinds
    assert view["mistakes"]["rows"][0]["counts"][0] == {"candidate": "1,100", "teacher": "1,100"}
    assert (view["answers"][1]["truth"], view["answers"][1]["nearest"]) == ("none", f"near {HOSTILE} (4.00)")


def test_what_counts_as_an_error_of_a_score_is_said_and_mistakes_are_not_counted(tmp_path: Path) -> None:
    text = write_build_report(score_summary(), tmp_path).read_text(encoding="utf-8")
    assert "A score counts as an error here where it is more than 0.931 off" in text
    assert "candidate within 0.931" in text
    assert "mistakes" not in text
    assert "true scores (SliceLine)" in text
