"""The section on errors: costs only where they were given, chance told from finding, nothing measured a dash."""

from pathlib import Path

from tasks.report.build import write_build_report
from tasks.report.errors import errors_view
from tests.tasks.report.sample import analysis, build_summary


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
