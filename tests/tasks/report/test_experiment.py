"""The page of an experiment in each of its states."""

from pathlib import Path
from typing import Any

import pytest

from tasks.report.experiment import EXPERIMENT_STATES, e_value, process_figure, write_experiment_report

CURVE = [0.1, 1.0, 60.0]
EVIDENCE: dict[str, Any] = {
    "num_pairs": 1_400, "num_disagreements": 60, "num_labels": 40, "num_waiting": 20, "num_unreadable": 0,
    "needed_labels": 99, "difference": 0.01, "threshold": 3.0, "points": [1, 700, 1_400],
    "better": {"now": 4.0, "largest": 4.0, "crossed_at": 1_300, "curve": [0.0, 2.0, 4.0]},
    "worse": {"now": 60.0, "largest": 60.0, "crossed_at": 900, "curve": CURVE},
    "slices": [{"label": "<b>refund", "num_pairs": 30, "num_labels": 9, "difference": -0.3, "log_e": 9, "worse": True}],
    "guardrails": [
        {"name": "error_rate", "num_bad": 9, "n": 100, "limit": 0.01, "log_e": 9, "outcome": "fail"},
        {"name": "slow_share", "num_bad": 0, "n": 0, "limit": 0.05, "log_e": 0, "outcome": "inconclusive"},
    ],
    "num_at_share": 100,
    "ratio": {"num_new": 90, "num_old": 910, "share": 0.1, "p_value": 0.3, "look": 0, "due": True},
    "accuracy": {"value": -0.01, "low": -0.05, "high": 0.03},
    "latency_ms": {"value": 0.1, "low": -0.2, "high": 0.4},
}  # fmt: skip


def result(state: str, evidence: Any = EVIDENCE) -> dict[str, Any]:
    config = {"delta": 0.01, "alpha": 0.05, "max_labels": 500, "watch_labels": 200}
    return {
        "name": "tiny", "experiment": 7, "state": state, "phase": "shadow", "champion": "1", "challenger": "2",
        "who": "ada", "why": "a retrain", "reason": "because", "started_at": 0.0, "config": config,
        "evidence": evidence,
    }  # fmt: skip


@pytest.mark.parametrize("state", EXPERIMENT_STATES)
def test_the_page_says_state_and_reason_and_escapes_classes(tmp_path: Path, state: str) -> None:
    looks = [{"at": 0.0, "phase": "shadow", "action": "wait", "reason": "too few"}]
    page = write_experiment_report(result(state), looks, tmp_path).read_text()
    for text in (EXPERIMENT_STATES[state][1], "because", "version 2 against 1", "✗ above", "not enough yet", "too few"):
        assert text in page
    assert "&lt;b&gt;refund" in page
    assert "<b>refund" not in page


@pytest.mark.parametrize(
    ("difference", "worse", "said"),
    [(-0.3, True, "✗ worse"), (-0.3, False, "? not proven worse"), (0.0, False, "✓ no worse so far")],
)
def test_a_class_that_loses_without_a_proof_is_no_tick(
    tmp_path: Path, difference: float, worse: bool, said: str
) -> None:
    one = EVIDENCE["slices"][0] | {"difference": difference, "worse": worse}
    assert said in write_experiment_report(result("shadow", EVIDENCE | {"slices": [one]}), [], tmp_path).read_text()


def test_an_experiment_without_evidence_has_a_page(tmp_path: Path) -> None:
    assert "Waits" in write_experiment_report(result("waiting", None), [], tmp_path).read_text()


def test_a_curve_that_leaves_the_chart_is_labelled_at_its_edge() -> None:
    low, high = process_figure(EVIDENCE).axes[0].get_ylim()
    assert high < CURVE[-1]
    assert low < 0


@pytest.mark.parametrize(("log_e", "shown"), [(0.0, "1.00"), (60.0, "> 400,000"), (-60.0, "< 0.001")])
def test_an_e_value_is_readable(log_e: float, shown: str) -> None:
    assert e_value(log_e) == shown
