"""Clocks of CPU time: booked by thread and piece, and nothing of what is called is changed."""

import threading
import time

import pytest

from flows.bench_serve import clocks


@pytest.fixture(autouse=True)
def _from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "used_s", type(clocks.used_s)(float))


def work(seconds: float) -> str:
    """Use the processor for so long."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return "done"


def test_a_call_is_booked_on_its_thread_without_the_time_that_it_waits() -> None:
    def wait_and_work() -> str:
        time.sleep(0.2)
        return work(0.05)

    thread = threading.Thread(target=clocks.timed("piece", wait_and_work), name="worker")
    thread.start()
    thread.join()
    assert clocks.used_s.keys() == {("worker", "piece")}
    assert 0.05 <= clocks.used_s["worker", "piece"] < 0.15


def test_a_call_that_fails_is_booked_and_fails() -> None:
    def fail() -> None:
        work(0.01)
        raise KeyError("planted")

    with pytest.raises(KeyError, match="planted"):
        clocks.timed("piece", fail)()
    assert clocks.used_s["MainThread", "piece"] >= 0.01


def test_a_snapshot_has_every_thread_by_name() -> None:
    work(0.02)
    found = clocks.snapshot()
    assert found["process_s"] >= found["threads_s"]["MainThread"] - 0.05
    assert found["threads_s"]["MainThread"] >= 0.02
