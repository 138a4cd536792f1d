"""One owner at a time, through suspensions, kills and clocks that are set."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from tasks import lease
from tasks.lease import HeldError, holder, release, take


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time of the module under test."""

    def put(now: float) -> None:
        monkeypatch.setattr(lease.time, "time", lambda: now)

    return put


def test_a_second_owner_is_refused_until_the_first_gives_it_back() -> None:
    assert take("retrain tiny", "a", "run a")
    assert not take("retrain tiny", "b", "run b")
    assert take("retrain other", "b", "run b"), "another name is another lease"
    release("retrain tiny", "b")
    found = holder("retrain tiny")
    assert found is not None, "nobody gives back what is another's"
    assert found["owner"] == "a"
    release("retrain tiny", "a")
    assert holder("retrain tiny") is None
    assert take("retrain tiny", "b", "run b")


def test_a_killed_owner_loses_it_when_it_is_not_renewed(clock: Callable[[float], None]) -> None:
    clock(1000.0)
    take("retrain tiny", "a", "run a", seconds=60)
    clock(1059.0)
    assert not take("retrain tiny", "b", "run b")
    assert lease.lost("retrain tiny") is None
    clock(1061.0)
    assert holder("retrain tiny") is None
    assert lease.lost("retrain tiny") == "a"
    assert take("retrain tiny", "b", "run b")
    assert not take("retrain tiny", "a", "run a"), "the first comes too late"


def test_a_clock_set_back_does_not_make_a_lease_last_for_ever(clock: Callable[[float], None]) -> None:
    clock(1_000_000.0)
    take("retrain tiny", "a", "run a", seconds=60)
    clock(1000.0)
    assert take("retrain tiny", "b", "run b")


def test_a_suspended_owner_keeps_it_and_takes_it_up_again(clock: Callable[[float], None]) -> None:
    clock(1000.0)
    with lease.lease("retrain tiny", "a", "run a", seconds=60) as held:
        held.keep(86_400)
    clock(40_000.0)
    assert not take("retrain tiny", "b", "run b")
    with lease.lease("retrain tiny", "a", "run a", seconds=60):
        pass
    assert holder("retrain tiny") is None


def test_whoever_waits_in_vain_learns_who_has_it() -> None:
    take("monitor tiny", "a", "a look by process 7")
    with (
        pytest.raises(HeldError, match="expected nobody else at it, got a look by process 7, since 20"),
        lease.lease("monitor tiny", "b", "another"),
    ):
        pytest.fail("two have it")


def test_whoever_waits_gets_it_when_the_first_ends() -> None:
    take("monitor tiny", "a", "the first")
    threading.Timer(0.3, release, ("monitor tiny", "a")).start()
    with lease.lease("monitor tiny", "b", "the second", wait_seconds=20):
        found = holder("monitor tiny")
        assert found is not None
        assert found["owner"] == "b"


def test_a_lease_in_use_outlasts_its_seconds() -> None:
    with lease.lease("monitor tiny", "a", "the first", seconds=0.6):
        time.sleep(1.2)
        assert not take("monitor tiny", "b", "the second")


def test_a_database_that_is_away_for_a_while_does_not_end_the_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def renew(name: str, owner: str, _what: str, *, seconds: float) -> bool:
        calls.append(owner)
        if len(calls) == 2:
            raise sa.exc.OperationalError("UPDATE", {}, Exception("away"))
        return True

    monkeypatch.setattr(lease, "take", renew)
    with lease.lease("monitor tiny", "a", "the first", seconds=0.15):
        time.sleep(0.5)
    assert len(calls) >= 4


def test_it_is_given_back_when_what_it_protects_fails() -> None:
    with pytest.raises(ValueError, match="broken"), lease.lease("monitor tiny", "a", "the first"):
        raise ValueError("broken")
    assert holder("monitor tiny") is None


def _try(barrier: "threading.Barrier", winners: "multiprocessing.Queue[int]", owner: int) -> None:
    barrier.wait()
    if take("retrain tiny", str(owner), "one of many"):
        winners.put(owner)


def test_of_many_processes_at_once_one_gets_it() -> None:
    context = multiprocessing.get_context("fork")
    barrier, winners = context.Barrier(4), context.Queue()
    release("nothing", "nobody")  # the tables are there before the race
    processes = [context.Process(target=_try, args=(barrier, winners, owner)) for owner in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert winners.get(timeout=5) in range(4)
    assert winners.empty()
