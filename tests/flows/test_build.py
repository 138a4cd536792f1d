"""Who decides about a promotion, and what the pages of Prefect and MLflow say of a build."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows import build, summary
from flows.build import _needs_person, _release, _try
from flows.config import Config, load_config
from flows.terminal import EXIT_CODES
from tasks.experiment import table
from tasks.release import ledger
from tasks.release.ledger import Champion
from tasks.types import GateReport, Verdict
from tests.experiments import versions
from tests.terminal import SMOKE
from tests.tiny import write_tiny_model

__all__ = ["versions"]


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


def test_a_config_with_an_experiment_tries_a_candidate_that_fits_and_promotes_another_at_once(
    versions: list[Champion], tmp_path: Path
) -> None:
    asked = load_config(Path(SMOKE), ["release.experiment.delta=0.02"])
    given = {"who": "retort", "why": "a retrain"}
    assert _try(load_config(Path(SMOKE), []), versions[1], versions[0], **given) is None
    assert _try(asked, versions[1], None, **given) is None, "there is nothing to compare a first model with"
    other = write_tiny_model(tmp_path / "other", labels=("a", "b"))
    assert _try(asked, replace(versions[1], model_path=other), versions[0], **given) is None
    tried = _try(asked, versions[1], versions[0], **given)
    assert tried is not None
    assert (tried["outcome"], tried["experiment"]["phase"]) == ("experiment", "shadow")
    assert EXIT_CODES["experiment"] == 0
    assert _try(asked, versions[1], versions[0], **given) == tried, "a build that was killed finds what it began"
    found = table.running("tiny")
    assert found is not None
    table.end(found, "vetoed", who="retort", reason="worse", evidence={})
    again = _try(asked, versions[1], versions[0], **given)
    assert again is not None
    assert (again["outcome"], again["experiment"]["reason"]) == ("blocked", "worse")


def test_a_model_that_was_rolled_back_is_not_promoted_by_the_next_build(
    versions: list[Champion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, *_ = versions
    for entry, before, action in ((new, old, "promote"), (old, new, "rollback")):
        assert ledger.swap_champion(
            entry, expected=before, action=action, who="ada", why="worse on Monday", evidence={}
        )
    (tmp_path / "card.md").write_text("card", encoding="utf-8")
    monkeypatch.setattr(summary, "write_card", lambda *_: tmp_path / "card.md")
    monkeypatch.setattr(build, "_candidate", lambda *_: None)
    monkeypatch.setattr(build, "prepare_release", lambda _candidate: (new, None))
    built: Any = None
    result = _release(config("auto"), built, report(0.0), old, {"mlflow_run_id": "r"}, "a schedule")
    assert result["outcome"] == "blocked"
    assert result["rolled_back"] == "version 2, this very model, was rolled back by ada: worse on Monday"
    assert ledger.read_champion(old.name) == old


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
    assert "| candidate | 0.9100 | 0.880-0.920 | 0.8000 | 8.0 MB | 1.50 ms |" in text
    assert text.endswith("- **size_mb**: fail. 8 MB, limit 5 MB")
    hostile = {"gate": "accuracy_vs_teacher_by_class", "outcome": "fail", "reason": "worst is class=[a](http://b) |"}
    text = summary.markdown(result | {"verdicts": [hostile]}, "blocked")
    assert text.endswith("- **accuracy_vs_teacher_by_class**: fail. worst is class=\\[a\\](http://b) \\|")
    searched = summary.markdown(result | {"search": {"words": "Point 3 answers soonest."}}, "blocked")
    assert "\n\nPoint 3 answers soonest.\n\n- **size_mb**" in searched
    unregistered = summary.markdown(result | {"version": None, "bento": None}, "blocked")
    assert "Version" not in unregistered
    floor = {"floor": "TF-IDF", "scores": result["scores"] | {"floor": row | {"accuracy": 0.95}}}
    assert "\n- **Floor**: worth a look. −4.00 pt against TF-IDF: train the teacher" in summary.markdown(
        result | floor, "promoted"
    )
    lower = {"floor": "TF-IDF", "scores": result["scores"] | {"floor": row}}
    assert "worth a look" not in summary.markdown(result | lower, "promoted")
