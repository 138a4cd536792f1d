"""Who decides about a promotion, and what the pages of Prefect and MLflow say of a build."""

from pathlib import Path

import pytest

from flows import summary
from flows.build import _needs_person
from flows.config import Config, load_config
from tasks.types import GateReport, Verdict
from tests.terminal import SMOKE


def config(approval: str, drop: float = 0.0) -> Config:
    return load_config(Path(SMOKE), [f"release.approval={approval}", f"release.accuracy_drop={drop}"])


def report(difference: float, gate: str = "accuracy_vs_champion") -> GateReport:
    verdict = Verdict(gate=gate, outcome="pass", observed=difference, limit=-0.05, n=500, reason="as planted")
    return GateReport(verdicts=(verdict,))


@pytest.mark.parametrize(
    ("approval", "drop", "difference", "asked"),
    [
        ("auto", 0.0, -0.04, False),
        ("require", 0.0, 0.04, True),
        ("require_if", 0.02, -0.03, True),
        ("require_if", 0.02, -0.01, False),
        ("require_if", 0.0, 0.01, False),
    ],
)
def test_a_person_is_asked_as_the_config_says(approval: str, drop: float, difference: float, asked: bool) -> None:
    assert _needs_person(config(approval, drop), report(difference)) is asked


def test_a_first_champion_and_a_loss_against_the_teacher_ask_nobody_under_require_if() -> None:
    assert _needs_person(config("require_if"), report(-0.04, gate="accuracy_vs_teacher")) is False


def test_the_page_of_a_build_has_its_scores_and_the_reason_of_each_verdict() -> None:
    row = {
        "accuracy": 0.9,
        "accuracy_interval": [0.88, 0.92],
        "macro_f1": 0.8,
        "size_bytes": 8e6,
        "latency_ms_p50": 1.5,
    }
    result = {
        "name": "smoke",
        "version": "3",
        "bento": "smoke:abc",
        "model_sha256": "f" * 64,
        "scores": {"teacher": row, "candidate": row | {"accuracy": 0.91}},
        "verdicts": [{"gate": "size_mb", "outcome": "fail", "reason": "8 MB, limit 5 MB"}],
    }
    text = summary.markdown(result, "blocked")
    assert text.startswith("# smoke: blocked\n\nVersion 3, Bento `smoke:abc`")
    assert "| candidate | 0.9100 | 0.880-0.920 | 0.8000 | 8.0 | 1.50 |" in text
    assert text.endswith("- **size_mb**: fail. 8 MB, limit 5 MB")
    searched = summary.markdown(result | {"search": {"words": "Point 3 answers soonest."}}, "blocked")
    assert "\n\nPoint 3 answers soonest.\n\n- **size_mb**" in searched
    unregistered = summary.markdown(result | {"version": None, "bento": None}, "blocked")
    assert "Version" not in unregistered
