"""The lines that a reviewer reads first."""

from typing import Any

from tasks.report.findings import findings_view
from tests.tasks.report.sample import HOSTILE, analysis, answers_analysis, build_summary, score_summary, verdict


def found(summary: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {row["area"]: row for row in findings_view(summary)}


def test_each_area_has_its_line_and_leads_to_its_evidence() -> None:
    rows = found(build_summary())
    assert list(rows) == ["Accuracy", "Floor", "Classes", "Behaviour", "Calibration", "Abstention", "Slices", "Labels"]
    assert rows["Accuracy"]["text"] == "−0.40 pt against the teacher: 61 right answers lost, 49 gained"
    assert (rows["Accuracy"]["sign"], rows["Accuracy"]["link"]) == ("✓", "#flips")
    assert rows["Classes"]["text"].startswith("22 of 30 lost more than 5 points of F1; the weakest, class 0,")
    assert findings_view({}) == []


def test_accuracy_takes_the_verdict_of_its_gate_and_nothing_else_is_red() -> None:
    no = verdict("accuracy_vs_teacher", "fail", -0.05, -0.01)
    rows = found(build_summary() | {"verdicts": [no]})
    assert rows["Accuracy"]["sign"] == "✗"
    assert found(build_summary() | {"verdicts": []})["Accuracy"]["sign"] == "?"
    assert {row["tone"] for area, row in rows.items() if area != "Accuracy"} <= {"good", "unsure"}


def test_the_first_line_is_of_the_metric_that_judges_the_task() -> None:
    rows = found(score_summary())
    assert list(rows) == ["Spearman", "Floor", "Slices"]
    assert rows["Slices"]["text"].endswith("40.0 % are more than 0.931 off")
    assert (rows["Spearman"]["sign"], rows["Spearman"]["text"]) == ("✓", "−0.004 against the teacher")
    assert rows["Spearman"]["link"] == "#gate"
    assert rows["Floor"]["text"] == "+0.067 against the cosine of both texts' TF-IDF vectors"


def test_mistakes_that_are_more_than_the_teachers_and_not_by_chance_ask_for_a_look() -> None:
    entities = answers_analysis("entities")
    worse = found(build_summary() | {"analysis": entities})["Mistakes"]
    assert (worse["sign"], worse["link"]) == ("?", "#mistakes")
    assert worse["text"].startswith("1,100 missed (teacher 1,100), 1,101 invented")
    assert worse["text"].endswith(f"not by chance: {HOSTILE} (missed)")
    entities["mistakes"]["worse"] = [f"type {at} (missed)" for at in range(8)]
    assert found(build_summary() | {"analysis": entities})["Mistakes"]["text"].endswith("type 5 (missed) and 2 more")
    entities["mistakes"]["worse"] = []
    assert found(build_summary() | {"analysis": entities})["Mistakes"]["sign"] == "✓"


def test_a_candidate_that_word_counts_beat_asks_for_a_look() -> None:
    summary = build_summary()
    assert found(summary)["Floor"]["sign"] == "✓"
    summary["scores"]["floor"]["accuracy"] = summary["scores"]["candidate"]["accuracy"]
    assert (found(summary)["Floor"]["sign"], "train the teacher" in found(summary)["Floor"]["text"]) == ("?", True)


def test_one_failure_more_is_chance_and_twenty_are_not() -> None:
    test = {"test": "typos", "kind": "invariance", "num_cases": 200, "teacher_failures": 10, "candidate_failures": 11}
    chance = found(build_summary() | {"behaviour": [test | {"only_candidate": 1}]})["Behaviour"]
    worse = found(build_summary() | {"behaviour": [test | {"candidate_failures": 30, "only_candidate": 20}]})[
        "Behaviour"
    ]
    assert chance["sign"] == "✓"
    assert worse["sign"] == "?"
    assert "not by chance: typos" in worse["text"]


def test_a_calibration_that_is_off_and_a_confirmed_slice_ask_for_a_look() -> None:
    off = analysis()
    off["calibration"]["calibration_error"] = 0.2
    off["tables"]["slices"][0]["confirmed"] = False
    rows = found(build_summary() | {"analysis": off})
    assert (rows["Calibration"]["sign"], rows["Slices"]["sign"]) == ("?", "✓")
    assert found(build_summary())["Slices"]["sign"] == "?"
