"""What earlier looks asked for, and what became of it."""

import time
from pathlib import Path
from typing import Any

import pytest

from tasks.monitor import looks
from tasks.monitor.decide import Repair


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)


def store(action: str, key: str, *, champion: str = "c", **drift: Any) -> int:
    repair = drift.pop("repair", None)
    evidence = {"champion_sha256": champion, "drift": {"prior_window": {"a": 1.0}, "window_sha256": "w"} | drift}
    evidence |= {"repair": repair} | ({"last_row": drift["last_row"]} if "last_row" in drift else {})
    found = looks.store_look(
        {"name": "tiny", "state": "harm", "action": action, "reason": "because", "key": key, "evidence": evidence}
        | {"payload": {"name": "tiny"} if action in ("retrain", "correct_prior") else None}
    )
    assert found is not None
    return found


def test_the_same_look_is_stored_once() -> None:
    store("none", "k")
    with pytest.raises(AssertionError):
        store("none", "k")
    assert len(looks.read_looks("tiny")) == 1


def test_only_what_this_champion_led_to_counts_as_its_past() -> None:
    store("correct_prior", "1", prior_window={"a": 0.9, "b": 0.1})
    store("correct_prior", "2", champion="another")
    store("audit", "3", window_sha256="w3")
    store("audit", "4", champion="another", window_sha256="w4")
    found = looks.past("tiny", "c", retrain="run 7")
    assert found.priors == ({"a": 0.9, "b": 0.1},)
    assert found.audited == {"w3"}
    assert found.retrain == "run 7"


def test_drift_was_found_by_the_first_look_at_this_champion_that_saw_it() -> None:
    store("none", "1", drifted=False, last_row=3)
    store("audit", "2", champion="another", drifted=True, last_row=4)
    assert looks.drift_found("tiny", "c") is None
    store("audit", "3", drifted=True, last_row=7)
    store("audit", "4", drifted=True, last_row=9)
    assert looks.drift_found("tiny", "c") == 7


def test_looks_of_an_earlier_version_which_noted_no_row_found_nothing() -> None:
    store("audit", "1", drifted=True)
    assert looks.drift_found("tiny", "c") is None


def test_a_look_of_a_clock_since_set_back_is_not_the_last_retrain() -> None:
    store("retrain", "1")
    now = time.time()
    assert looks.last_retrain_at("tiny", now - 3600) is None
    assert looks.last_retrain_at("tiny", now) == pytest.approx(now, abs=5)


def test_a_request_stays_open_until_it_has_an_outcome() -> None:
    look = store("retrain", "1")
    assert [row["id"] for row in looks.unsent("tiny")] == [look]
    assert looks.unanswered("tiny", "c", before=time.time() + 1) == [], "an event that is not out is unsent, not lost"
    looks.mark_sent(look)
    assert looks.unsent("tiny") == []
    assert looks.unanswered("tiny", "c", before=time.time() - 60) == [], "it may still begin"
    looks.mark_sent(look)
    (lost,) = looks.unanswered("tiny", "c", before=time.time() + 1)
    assert (lost["id"], lost["times"]) == (look, 2)
    assert looks.unanswered("tiny", "another", before=time.time() + 1) == [], "its champion serves no longer"
    looks.finish(look, "blocked")
    assert looks.unanswered("tiny", "c", before=time.time() + 1) == []
    assert looks.outcome(look) == "blocked"


def test_an_outcome_is_kept_of_a_look_whose_event_was_not_noted() -> None:
    look = store("retrain", "1")
    looks.finish(look, "promoted")
    assert looks.outcome(look) == "promoted"


def test_a_correction_of_the_prior_is_not_asked_for_again_by_itself() -> None:
    look = store("correct_prior", "1")
    looks.mark_sent(look)
    assert looks.unanswered("tiny", "c", before=time.time() + 1) == []


def test_a_repair_is_that_of_the_model_before() -> None:
    store("retrain", "1", repair={"goal": 0.9, "num_labels": 40})
    assert looks.past("tiny", "c", retrain="").repair is None
    assert looks.past("tiny", "its successor", retrain="").repair == Repair(goal=0.9, num_labels=40)
    store("retrain", "2", champion="its successor")
    assert looks.past("tiny", "third", retrain="").repair is None
