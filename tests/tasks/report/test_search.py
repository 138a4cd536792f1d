from pathlib import Path
from typing import Any

from tasks.report.build import write_build_report
from tasks.report.search import search_view, step_notes


def row(number: int, state: str = "trained", **more: Any) -> dict[str, Any]:
    return {
        "number": number, "state": state, "point": {"num_layers": number, "hidden_size": None}, "why": "", "probe": 0.5,
        "latency_ms": 0.5 + number, "size_mb": 4.0, "accuracy": 0.9, "seconds": 12.0, "on_front": False,
    } | more  # fmt: skip


FOUND = {
    "words": "Point 1 answers soonest <b>.",
    "chosen": 1,
    "teacher_accuracy": 0.92,
    "chain": [],
    "trials": [
        row(2, on_front=True), row(1, on_front=True), row(3),
        row(4, "cannot_win", accuracy=None, why="point 1 is better in all that is known"),
    ],
}  # fmt: skip


def test_trained_points_come_fastest_first_with_what_became_of_them() -> None:
    view = search_view(FOUND)
    assert view is not None
    assert [one["number"] for one in view["trained"]] == ["1", "2", "3"]
    assert [one["fate"] for one in view["trained"]] == ["chosen", "on the front", "beaten"]
    assert view["others"][0]["fate"] == "could not win: point 1 is better in all that is known"
    assert view["trained"][0]["point"] == "num_layers 1", "what all points share is left out"
    assert "<svg" in view["chart"]


def test_a_report_shows_the_search_with_its_words_escaped(tmp_path: Path) -> None:
    text = write_build_report({"name": "x", "search": FOUND}, tmp_path).read_text(encoding="utf-8")
    assert "What the search looked at" in text
    assert "answers soonest &lt;b&gt;" in text
    assert "The 1 points that were not trained" in text
    assert "What the search looked at" not in write_build_report({"name": "x"}, tmp_path).read_text(encoding="utf-8")


def test_pruned_weights_are_said_to_gain_no_speed(tmp_path: Path) -> None:
    steps = [{"name": "prune_weights", "stages": ["distil", "prune_weights"], "accuracy": 0.9}]
    assert "gains no speed" in step_notes({"steps": steps})[0]
    assert step_notes({"steps": [{"name": "export", "stages": ["distil", "export"]}]}) == []
    text = write_build_report({"name": "x", "steps": steps}, tmp_path).read_text(encoding="utf-8")
    assert "it gains no speed from them" in text
