"""The outbox: stored first, sent until it arrived, one receiver independent of the others."""

from pathlib import Path
from typing import Any

import pytest

from tasks import notices
from tasks.notices import deliver, pending, post


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)


def test_each_receiver_gets_each_notice_once() -> None:
    post("tiny", "harm", "it hurts", ["slack-webhook/ops", "smtp-mail/team"])
    sent: list[tuple[str, str]] = []

    def send(row: dict[str, Any]) -> None:
        sent.append((row["receiver"], row["text"]))

    assert deliver("tiny", send) == 0
    assert deliver("tiny", send) == 0
    assert sent == [("slack-webhook/ops", "it hurts"), ("smtp-mail/team", "it hurts")]


def test_a_dead_receiver_is_asked_once_a_run_and_keeps_nothing_from_the_others() -> None:
    for text in ("first", "second"):
        post("tiny", "harm", text, ["slack-webhook/ops", "smtp-mail/team"])
    asked: list[str] = []

    def send(row: dict[str, Any]) -> str | None:
        asked.append(row["receiver"])
        return "ConnectError" if row["receiver"] == "slack-webhook/ops" else None

    assert deliver("tiny", send) == 1
    assert asked == ["slack-webhook/ops", "smtp-mail/team", "smtp-mail/team"]
    assert [(row["text"], row["attempts"], row["error"]) for row in pending("tiny")] == [
        ("first", 1, "ConnectError"),
        ("second", 0, None),
    ]
    assert deliver("tiny", lambda _row: None) == 0
    assert pending("tiny") == []


def test_a_receiver_is_given_up_after_many_attempts() -> None:
    post("tiny", "harm", "it hurts", ["slack-webhook/gone"])
    for _ in range(notices.MOST_ATTEMPTS):
        assert deliver("tiny", lambda _row: "ValueError") == 1
    assert deliver("tiny", lambda _row: "ValueError") == 0


def test_without_receivers_nothing_is_stored() -> None:
    post("tiny", "harm", "it hurts", [])
    assert pending("tiny") == []
