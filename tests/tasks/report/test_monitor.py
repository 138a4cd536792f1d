"""The monitoring report says the state, its evidence and the decision."""

from pathlib import Path

import pytest

from tasks.report.monitor import write_monitor_report
from tests.tasks.report.sample import HOSTILE, monitor_evidence
from tests.tasks.report.test_build import Reader


def read(evidence: dict[str, object], folder: Path) -> Reader:
    return Reader(write_monitor_report(evidence, folder).read_text(encoding="utf-8"))


def test_state_evidence_and_decision_are_told(tmp_path: Path):
    page = read(monitor_evidence(), tmp_path)
    assert page.open == []
    for words in (
        "Harm",
        "Decision: retrain.",
        "audited accuracy is below its baseline",
        "77.0 % to 85.0 %",
        "412",
        "0.0012",
    ):
        assert words in page.text
    assert "90 looks" in page.text
    assert "Suspect" in page.text


def test_a_p_value_above_its_limit_is_no_change(tmp_path: Path):
    text = read(monitor_evidence(), tmp_path).text
    assert text.count("✗ changed") == 1
    assert text.count("✓ no change seen") == 1


def test_labels_are_escaped_and_the_largest_change_comes_first(tmp_path: Path):
    page = read(monitor_evidence(), tmp_path)
    assert "script" not in page.tags
    assert page.text.index("refund") < page.text.index(HOSTILE)
    assert "+13.00 pt" in page.text


@pytest.mark.parametrize("key", sorted(monitor_evidence()))
def test_a_missing_key_only_drops_its_section(tmp_path: Path, key: str):
    evidence = monitor_evidence()
    del evidence[key]
    assert "Made by Retort" in read(evidence, tmp_path).text


def test_evidence_without_a_place_of_its_own_is_shown_as_recorded(tmp_path: Path):
    assert "window_sha256" in read(monitor_evidence(), tmp_path).text
