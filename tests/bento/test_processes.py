"""Several processes behind one port: how many, and that each can tell what all of them counted."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bento import processes
from bento.errors import UserError
from bento.processes import Siblings, merged, num_processes


@pytest.mark.parametrize(("given", "expected"), [(None, 1), ("", 1), ("1", 1), ("64", 64)])
def test_the_number_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, given: str | None, expected: int
) -> None:
    monkeypatch.delenv("RETORT_PROCESSES", raising=False)
    if given is not None:
        monkeypatch.setenv("RETORT_PROCESSES", given)
    assert num_processes() == expected


@pytest.mark.parametrize("given", ["0", "65", "-1", "two", "1.5", "²"])
def test_what_is_no_such_number_is_said(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("RETORT_PROCESSES", given)
    with pytest.raises(UserError, match=f"expected a whole number from 1 to 64, got '{given}'"):
        num_processes()


def exposition(answered: int) -> bytes:
    registry = CollectorRegistry()
    counter = Counter("retort_requests", "Answered {requests}", ("route",), registry=registry)
    counter.labels(route='/odd "\\ {route}').inc(answered)
    Counter("retort_plain", "Has no labels", registry=registry).inc()
    if answered > 1:  # a family that not every process has
        Histogram("retort_seconds", "Time", buckets=(1.0,), registry=registry).observe(0.5)
    return generate_latest(registry)


def samples(text: bytes) -> dict[tuple[str, str, str], float]:
    families = list(text_string_to_metric_families(text.decode()))
    assert len({family.name for family in families}) == len(families), "each family is described once"
    return {
        (sample.name, sample.labels["process"], sample.labels.get("route", "")): sample.value
        for family in families
        for sample in family.samples
    }


def test_expositions_become_one_that_can_be_read_with_a_label_for_each_process() -> None:
    found = samples(merged({"2": exposition(5), "1": exposition(1)}))
    route = '/odd "\\ {route}'
    assert found["retort_requests_total", "1", route] == 1
    assert found["retort_requests_total", "2", route] == 5
    assert found["retort_plain_total", "1", ""] == found["retort_plain_total", "2", ""] == 1
    assert found["retort_seconds_count", "2", ""] == 1
    assert ("retort_seconds_count", "1", "") not in found


def test_what_is_no_exposition_is_not_passed_on() -> None:
    with pytest.raises(ValueError, match="expected a sample"):
        merged({"1": b"<html>"})


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Siblings, Siblings]]:
    first, second = (Siblings(index, tmp_path / "service") for index in (1, 2))
    first.start(lambda: exposition(3))
    second.start(lambda: exposition(4))
    yield first, second
    first.stop()
    second.stop()


def answered(text: bytes) -> dict[str, float]:
    return {process: value for (name, process, _), value in samples(text).items() if name == "retort_requests_total"}


def test_each_process_tells_of_all_until_they_end_and_the_last_takes_the_folder_along(
    pair: tuple[Siblings, Siblings],
) -> None:
    first, second = pair
    assert first.folder.stat().st_mode & 0o777 == 0o700, "nobody else can enter"
    for _ in range(3):
        assert answered(first.exposition(exposition(10))) == {"1": 10, "2": 4}
        assert answered(second.exposition(exposition(20))) == {"1": 3, "2": 20}
    second.stop()
    assert answered(first.exposition(exposition(10))) == {"1": 10}
    assert first.folder.exists()
    first.stop()
    assert not first.folder.exists()


def test_a_process_that_was_killed_is_left_out_and_its_successor_is_back(
    pair: tuple[Siblings, Siblings], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = pair
    assert second._socket is not None
    second._socket.shutdown(socket.SHUT_RDWR)  # as the kernel does, which leaves the path behind
    second._socket.close()
    assert answered(first.exposition(exposition(10))) == {"1": 10}
    assert "process 2 does not say what it counted" in caplog.text
    successor = Siblings(2, first.folder)
    successor.start(lambda: exposition(1))
    assert answered(first.exposition(exposition(10))) == {"1": 10, "2": 1}
    successor.stop()


def test_processes_that_hang_hold_nobody_up_for_longer_than_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(processes, "TIMEOUT_S", 0.5)
    with ExitStack() as hanging:
        for index in range(2, 12):
            listening = hanging.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(str(Siblings(index, tmp_path)._path))
            listening.listen()
        started = time.monotonic()
        assert answered(Siblings(1, tmp_path).exposition(exposition(1))) == {"1": 1}
    assert time.monotonic() - started < 4  # one after the other: five seconds
    assert "process 2 does not say what it counted" in caplog.text
