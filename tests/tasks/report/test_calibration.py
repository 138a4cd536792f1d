"""The section on calibration and abstention."""

from pathlib import Path

from tasks.report.build import write_build_report
from tasks.report.calibration import calibration_view
from tests.tasks.report.sample import analysis, build_summary


def test_before_and_after_stand_side_by_side_with_the_curve(tmp_path: Path) -> None:
    text = write_build_report(build_summary(), tmp_path).read_text(encoding="utf-8")
    assert "Temperature 0.800" in text
    assert "<td>5.20 %</td><td>1.10 %</td>" in text
    assert "abstains below a confidence of 0.620, and where it would answer oos" in text
    view = calibration_view(build_summary())
    assert view is not None
    assert "<svg" in view["chart"]
    assert "right answers" in view["reliability"]
    assert [row["label"] for row in view["shares"]] == [
        "answered", "wrong among the answered", "wrong if all were answered", "answered of the input in scope",
    ]  # fmt: skip


def test_without_a_threshold_only_the_curve_is_shown() -> None:
    view = calibration_view({"analysis": analysis() | {"abstention": None}})
    assert view is not None
    assert view["threshold"] is None
    assert view["reliability"] is None
    assert view["shares"] == []
    assert "<svg" in view["chart"]
    assert calibration_view({}) is None


def test_label_sets_and_entities_show_how_far_their_confidence_is_off(tmp_path: Path) -> None:
    curve = {"confidence": [0.5, 0.9], "accuracy": [0.4, 0.95], "num_answers": [50.0, 150.0]}
    silent: dict[str, list[float]] = {"confidence": [], "accuracy": [], "num_answers": []}
    curves = {"teacher": silent, "candidate": curve}
    summary = build_summary() | {"analysis": {}, "task": "entities", "reliability": curves}
    text = write_build_report(summary, tmp_path).read_text(encoding="utf-8")
    assert "the score of each entity that is found" in text
    assert "6.25 % of the candidate" in text, "(50 * 0.1 + 150 * 0.05) / 200"
    assert "– of the teacher" in text
    assert "F1 by type" in text or "weakest of" in text
