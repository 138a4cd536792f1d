"""The page of the loop's benchmark: every row, a chart of each stream, and a bar of each policy's cost."""

from pathlib import Path
from typing import Any

import pytest

from tasks.report.policies import cost_figure, stream_figure, write_policies_report


def record(policy: str, errors: int, retrains: list[int]) -> dict[str, Any]:
    return {
        "stream": "tweets <later>", "seed": 0, "policy": policy, "step": 50, "change": 250,
        "states": ["no_drift"] * 6 + ["suspect"] * 4, "retrains": retrains, "errors": [errors] * 10,
        "costs": {"errors": 10.0 * errors, "labels": 4.0, "retrains": 10.0 * len(retrains)},
    }  # fmt: skip


RECORDS = [record("Retort", 5, [8]), record("never", 20, []), record("periodic", 9, [5, 10])]
ROW = {"metric": "missed", "value": 4.0, "unit": "%", "against": "never 100 %", "ratio": None, "target": "<= 5 %",
       "met": True}  # fmt: skip


def test_a_stream_shows_accuracy_retrains_alarms_and_the_change() -> None:
    (axes,) = stream_figure(RECORDS).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["Retort"].get_ydata().tolist() == pytest.approx([0.9] * 10)
    assert "periodic" not in lines, "only some are drawn"
    (triangle,) = [line for line in axes.lines if line.get_marker() == "^" and len(line.get_xdata())]
    assert list(triangle.get_xdata()) == [400]
    assert list(lines["Retort: mix or suspect"].get_xdata()) == [350, 400, 450, 500]
    assert any(list(line.get_xdata()) == [250, 250] for line in axes.lines)


def test_bars_add_up_to_the_cost_of_each_policy() -> None:
    (axes,) = cost_figure(RECORDS).axes
    widths = [bar.get_width() for bar in axes.patches]
    assert [sum(widths[at::3]) for at in range(3)] == [2 * 204.0, 2 * 114.0, 2 * 64.0]


def test_the_page_has_rows_and_charts_and_escapes_names(tmp_path: Path) -> None:
    found = {"title": "On a set", "rows": [ROW, ROW | {"value": None, "met": None}], "records": RECORDS}
    page = write_policies_report(found, tmp_path / "drift.html").read_text()
    assert "4.00 %" in page
    assert "tweets &lt;later&gt;" in page
    assert page.count("<svg") == 2


def test_a_page_without_streams_has_its_table_alone(tmp_path: Path) -> None:
    found = {"title": "On a set", "rows": [ROW], "records": []}
    assert "<svg" not in write_policies_report(found, tmp_path / "drift.html").read_text()
