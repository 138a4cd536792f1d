"""A suspended retrain keeps a second one of the same name out; a dead or ended one does not."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.exceptions import Pause

from flows import exclusive as module
from flows.exclusive import exclusive, retrain_lease, under_way
from tasks import lease
from tasks.lease import HeldError
from tasks.monitor import looks

As = Callable[[str | None], str]


@pytest.fixture(autouse=True)
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Runs that Prefect knows to have ended."""
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)
    found: set[str] = set()
    monkeypatch.setattr(module, "_is_over", lambda run: run in found)
    return found


@pytest.fixture
def run_as(monkeypatch: pytest.MonkeyPatch) -> As:
    """Be a run of a deployment, or one by hand."""

    def be(name: str | None) -> str:
        run: Any = SimpleNamespace(id=str(uuid4()) if name else None, name=name)
        monkeypatch.setattr(module.runtime, "flow_run", run, raising=False)
        monkeypatch.setattr(module.runtime, "deployment", SimpleNamespace(id=uuid4() if name else None), raising=False)
        return str(run.id)

    return be


def suspend(name: str) -> None:
    with pytest.raises(Pause), exclusive(name, timeout_hours=24):
        raise Pause


def test_a_suspended_run_keeps_a_second_retrain_out_and_resumes(run_as: As, monkeypatch: pytest.MonkeyPatch) -> None:
    run_as("brave-fox")
    suspend("tiny")
    first = module.runtime.flow_run
    run_as("shy-owl")
    assert under_way("tiny").startswith("run brave-fox")
    with pytest.raises(HeldError, match="run brave-fox"), exclusive("tiny", timeout_hours=24):
        pytest.fail("two retrains of one model")
    with exclusive("other", timeout_hours=24):
        pass
    monkeypatch.setattr(module.runtime, "flow_run", first)
    with exclusive("tiny", timeout_hours=24):
        pass
    assert under_way("tiny") == ""


def test_a_run_that_was_cancelled_while_suspended_lets_go(run_as: As, ended: set[str]) -> None:
    ended.add(run_as("brave-fox"))
    suspend("tiny")
    run_as("shy-owl")
    with exclusive("tiny", timeout_hours=24):
        assert "shy-owl" in under_way("tiny")


def test_a_suspended_run_lets_go_some_time_after_its_approval_timed_out(run_as: As) -> None:
    run_as("brave-fox")
    suspend("tiny")
    held = lease.holder(retrain_lease("tiny"))
    assert held is not None
    assert held["seconds"] == 24 * 3600 + module.MARGIN_SECONDS


def test_a_run_that_fails_lets_go(run_as: As) -> None:
    run_as("brave-fox")
    with pytest.raises(ValueError, match="broken"), exclusive("tiny", timeout_hours=24):
        raise ValueError("broken")
    assert under_way("tiny") == ""


def test_by_hand_nothing_is_held(run_as: As) -> None:
    run_as("brave-fox")
    suspend("tiny")
    run_as(None)
    with exclusive("tiny", timeout_hours=24):
        assert "brave-fox" in under_way("tiny"), "the suspended run has it still"


def test_a_killed_run_lets_go_and_prefect_is_told(run_as: As, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(module, "_mark_crashed", told.append)
    lease.take(retrain_lease("tiny"), "brave-fox", "run brave-fox", seconds=-1.0)
    assert under_way("tiny") == ""
    assert told == ["brave-fox"]
    assert under_way("tiny") == ""
    assert told == ["brave-fox"], "once"


def look() -> int:
    found = looks.store_look(
        {"name": "tiny", "state": "harm", "action": "retrain", "reason": "because", "key": "k", "evidence": {}}
    )
    assert found is not None
    return found


def test_what_one_look_asked_for_is_made_once(run_as: As) -> None:
    run_as("brave-fox")
    asked, made = look(), []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"outcome": "blocked", "name": "tiny"}

    first = module.once("tiny", asked, make, timeout_hours=24)
    second = module.once("tiny", asked, make, timeout_hours=24)
    assert (first["outcome"], second["outcome"], second["repeated"], len(made)) == ("blocked", "blocked", True, 1)


def test_a_run_that_fails_leaves_the_request_open(run_as: As) -> None:
    run_as("brave-fox")
    asked = look()

    def fail() -> dict[str, Any]:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        module.once("tiny", asked, fail, timeout_hours=24)
    assert looks.outcome(asked) is None
    assert module.once("tiny", asked, lambda: {"outcome": "promoted"}, timeout_hours=24)["outcome"] == "promoted"


def test_a_build_that_no_look_asked_for_is_made_each_time(run_as: As) -> None:
    run_as(None)
    made = [module.once("tiny", None, lambda: {"outcome": "promoted"}, timeout_hours=24) for _ in range(2)]
    assert made == [{"outcome": "promoted"}] * 2
