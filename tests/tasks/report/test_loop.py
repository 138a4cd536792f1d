"""The picture of a loop says what was counted."""

from pathlib import Path
from typing import Any

import pytest

from tasks.report.loop import rolling_mean, write_loop_report


def story(**changes: Any) -> dict[str, Any]:
    marks = [
        {"at": 0, "kind": "phase", "text": "as in training", "tone": "muted"},
        {"at": 300, "kind": "phase", "text": "new <products>", "tone": "muted"},
        {"at": 450, "kind": "look", "text": "look: harm, action retrain", "tone": "bad"},
    ]
    whole = {
        "name": "demo", "created_at": "2026-11-26T13:00:00+00:00", "seconds": 90, "num_failed": 0,
        "with_retort": [True] * 300 + [False] * 200 + [True] * 300,
        "left_alone": [True] * 300 + [False] * 500, "versions": ["1"] * 500 + ["2"] * 300, "marks": marks,
    }  # fmt: skip
    return whole | changes


def test_the_rolling_mean_is_of_its_neighbours() -> None:
    centre_N, mean_N = rolling_mean([True, False, False, True], 2)
    assert (centre_N.tolist(), mean_N.tolist()) == ([1, 2, 3], [0.5, 0, 0.5])
    assert rolling_mean([True], 150)[1].tolist() == [1]


def test_the_page_has_both_accuracies_the_events_and_a_picture(tmp_path: Path) -> None:
    page = write_loop_report(story(), tmp_path).read_text(encoding="utf-8")
    assert "75.0 %" in page  # 600 of 800
    assert "37.5 %" in page  # 300 of 800
    assert "of the last 150, kept good" in page
    assert "look: harm, action retrain" in page
    assert "new &lt;products&gt;" in page
    assert "version 2" in page
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000


@pytest.mark.parametrize("number", [1, 40])
def test_few_requests_make_a_page_too(number: int, tmp_path: Path) -> None:
    few = {key: story()[key][:number] for key in ("with_retort", "left_alone", "versions", "marks")}
    assert write_loop_report(story(**few), tmp_path).is_file()
