"""The story of the looks, and their runs in MLflow."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bento.errors import TrackingError
from flows import look_report
from flows.look_report import highlights, read_story, track
from tasks.monitor import looks
from tasks.monitor.changes import Changes
from tasks.monitor.words import WordChange
from tasks.release import ledger, look_runs
from tasks.release.ledger import Champion
from tests.tasks.report.sample import look_evidence

CONFIG: Any = SimpleNamespace(name="bank", monitor=SimpleNamespace(false_alarm_budget=0.1, looks=90))


@pytest.fixture(autouse=True)
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes by one second whenever it is asked for."""
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)
    now = iter(range(1_000, 2_000))
    for module in (looks, ledger):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: float(next(now))))


def take_look(key: str, *, action: str = "none") -> int | None:
    evidence = look_evidence("no_drift") | {"champion": "1"}
    return looks.store_look(
        {"name": "bank", "state": "no_drift", "action": action, "reason": "quiet", "key": key, "evidence": evidence}
    )


def promote(version: str, before: Champion | None, action: str = "promote") -> Champion:
    new = Champion(name="bank", version=version, model_sha256=version * 64, model_path=Path("m"), bento=f"b:{version}")
    assert ledger.swap_champion(new, expected=before, action=action, who="ada", why="better", evidence={})
    return new


def test_every_champion_begins_the_budget_anew() -> None:
    first = promote("1", None)
    for key in "abc":
        take_look(key)
    promote("2", first)
    take_look("d", action="retrain")
    story = read_story(CONFIG)
    assert [look["number"] for look in story.looks] == [1, 2, 3, 1]
    assert story.num_looks == 1
    assert story.looks[2]["spent"] == pytest.approx(1 - 0.9 ** (3 / 90))
    assert [(mark["kind"], mark["text"]) for mark in story.marks] == [("promote", "v2"), ("retrain", "")]


def test_looks_that_are_not_drawn_count(monkeypatch: pytest.MonkeyPatch) -> None:
    promote("1", None)
    monkeypatch.setattr(look_report, "MOST_DRAWN", 2)
    for key in "abcde":
        take_look(key)
    story = read_story(CONFIG)
    assert ([look["number"] for look in story.looks], story.num_looks) == ([4, 5], 5)


def test_without_a_look_there_is_no_story() -> None:
    assert read_story(CONFIG).looks == []


def test_only_the_newest_pages_stay_and_those_of_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_report, "KEPT_PAGES", 2)
    others = {"bank-look-repeated", "bank-look-2-look-1", "bank-1"}
    for name in {f"bank-look-{number}" for number in (2, 9, 10, 11)} | others:
        (tmp_path / "reports" / name).mkdir(parents=True)
    look_report._prune("bank")
    assert {path.name for path in (tmp_path / "reports").iterdir()} == {"bank-look-10", "bank-look-11"} | others


def test_an_old_page_that_cannot_be_removed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(look_report, "KEPT_PAGES", 1)
    (tmp_path / "reports" / "bank-look-2").mkdir(parents=True)
    (tmp_path / "reports" / "bank-look-1").write_text("no folder", encoding="utf-8")
    look_report._prune("bank")
    assert "an old page of bank stays" in caplog.text


def result(look: int | None) -> dict[str, Any]:
    return {
        "look": look, "champion": "1", "state": "no_drift", "action": "none", "reason": "quiet", "report": "/r.html",
        "evidence": look_evidence("no_drift"),
    }  # fmt: skip


def test_a_tracking_server_that_is_away_is_told_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any, **__: Any) -> str:
        raise TrackingError("MLflow at http://mlflow took no run")

    promote("1", None)
    monkeypatch.setattr(look_runs, "log_look", away)
    with caplog.at_level(logging.WARNING):
        found = track(CONFIG, result(take_look("a")))
    assert found == {
        "mlflow_run_id": None,
        "untracked": "MLflow at http://mlflow took no run",
    }
    assert "look 1 of bank is not in MLflow" in caplog.text


def test_a_look_is_a_run_and_the_same_window_again_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []
    promote("1", None)
    monkeypatch.setattr(look_runs, "log_look", lambda name, **options: logged.append((name, options)) or "run 7")
    monkeypatch.setattr(look_runs, "logged_looks", lambda _name: {1})
    assert track(CONFIG, result(take_look("a"))) == {"mlflow_run_id": "run 7", "untracked": None}
    ((name, options),) = logged
    assert (name, options["look"], options["step"], options["champion"]) == ("bank", 1, 1, "1")
    assert options["metrics"]["look/state_level"] == 0
    assert track(CONFIG, result(None))["mlflow_run_id"] is None
    assert len(logged) == 1


def test_looks_that_an_absent_server_missed_are_logged_with_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[int] = []
    first = promote("1", None)
    for key in "abc":
        take_look(key)
    promote("2", first)
    monkeypatch.setattr(look_runs, "log_look", lambda _name, **options: logged.append(options) or "run")
    monkeypatch.setattr(look_runs, "logged_looks", lambda _name: {1, 3})
    monkeypatch.setattr(look_report, "MOST_LATE", 2)
    track(CONFIG, result(take_look("d")))
    assert [(options["look"], options["step"]) for options in logged] == [(4, 1), (2, 2)]
    monkeypatch.setattr(look_runs, "logged_looks", lambda _name: set())
    track(CONFIG, result(take_look("e")))
    assert [options["look"] for options in logged[2:]] == [5, 3, 4], "no more than the newest"


def test_a_look_that_was_logged_stays_so_when_earlier_ones_cannot_be(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(_name: str) -> set[int]:
        raise TrackingError("MLflow at http://mlflow took no run")

    promote("1", None)
    monkeypatch.setattr(look_runs, "log_look", lambda _name, **_: "run 7")
    monkeypatch.setattr(look_runs, "logged_looks", away)
    with caplog.at_level(logging.WARNING):
        assert track(CONFIG, result(take_look("a"))) == {"mlflow_run_id": "run 7", "untracked": None}
    assert "earlier looks of bank are still missing" in caplog.text


def test_a_terminal_is_told_the_words_of_either_side() -> None:
    words = (
        WordChange(word="flood", window=0.2, reference=0, z=9, q=0.001),
        WordChange(word="sunny", window=0, reference=0.1, z=-7, q=0.01),
    )
    found = highlights(look_evidence(), Changes(words=words, properties=(), unlike=(), alike=()))
    assert (found["more frequent words"], found["rarer words"]) == ("flood", "sunny")
    assert found["audited accuracy"] == 0.81
