"""The request log: nothing lost that could be kept, and nothing that makes an answer wait."""

import errno
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from bento import database, request_log
from bento import spool as spool_module
from bento.metrics import Metrics
from bento.records import read_window
from bento.redaction import text_rule
from bento.request_log import SPOOLED_WITHIN_S, RequestLog
from tests import postgres
from tests.logged import Gate, line, logged_ids, row, sample, wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def log(gate: Gate) -> Iterator[RequestLog]:
    log = RequestLog(Metrics(), engine=gate.engine, max_pending_rows=100)
    log.start()
    yield log
    log.close(0.5)


@pytest.fixture
def next_log(gate: Gate) -> Iterator[Callable[[], RequestLog]]:
    """Start a log as the next process would; it is closed at the end."""
    logs = []

    def start() -> RequestLog:
        logs.append(RequestLog(Metrics(), engine=gate.engine))
        logs[-1].start()
        return logs[-1]

    yield start
    for log in logs:
        log.close(0.5)


ANSWERS = """
import sys, time
from bento.metrics import Metrics
from bento.request_log import RequestLog
from tests.logged import row
log = RequestLog(Metrics())
log.start()
for number in range(100_000):
    log.append([row(f"{number:06}")])
    print(number, time.monotonic(), flush=True)
    time.sleep(0.0005)
"""


def left_behind(state: Path, name: str, content: bytes) -> None:
    """A file as a killed process leaves it."""
    folder = state / "spool" / f"4194304-{name}"
    folder.mkdir(parents=True)
    (folder / "00000001.jsonl").write_bytes(content)


def append_one_by_one(log: RequestLog, names: str) -> None:
    """Each row is tried to be spooled before the next is appended."""
    for name in names:
        log.append([row(name)])
        wait_until(lambda: not log._pending)


def texts_on_disk(state: Path) -> bytes:
    return b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())


def test_rows_are_written_within_a_moment_without_a_flush(log: RequestLog) -> None:
    log.append([row("a"), row("b")])
    wait_until(lambda: len(read_window("tiny", 0, 2000)) == 2)
    wait_until(lambda: sample(log, "retort_log_rows_total") == 2)
    assert logged_ids() == ["a", "b"]


def test_appending_does_not_wait_for_a_slow_database_and_a_slow_one_loses_nothing(log: RequestLog, gate: Gate) -> None:
    gate.delay_s = 0.3
    slowest_s = 0.0
    for index in range(50):
        started = time.perf_counter()
        log.append([row(f"{index:02}")])
        slowest_s = max(slowest_s, time.perf_counter() - started)
        time.sleep(0.005)
    assert slowest_s < 0.1
    assert log.flush(10)
    assert logged_ids() == [f"{index:02}" for index in range(50)]


def test_rows_wait_for_a_database_that_is_away_and_are_all_written_when_it_is_back(log: RequestLog, gate: Gate) -> None:
    gate.is_open = False
    log.append([row(str(index)) for index in range(5)])
    assert not log.flush()
    assert sample(log, "retort_log_pending_rows") == 5
    assert (sample(log, "retort_log_spool_bytes") or 0) > 500
    assert (sample(log, "retort_log_errors_total") or 0) >= 1
    gate.is_open = True
    assert log.flush()
    assert [row["request_id"] for row in read_window("tiny", 0, 2000)] == ["0", "1", "2", "3", "4"]
    assert sample(log, "retort_log_pending_rows") == 0
    assert sample(log, "retort_log_spool_bytes") == 0


def test_a_long_time_without_a_database_ends_with_every_row_stored_and_few_files(
    next_log: Callable[[], RequestLog], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 20_000)
    gate.is_open = False
    log = next_log()
    for first in range(0, 2000, 100):
        log.append([row(f"{index:04}") for index in range(first, first + 100)])
        time.sleep(0.005)
    assert not log.flush()
    assert 2 < len(log.spool) < 40
    gate.is_open = True
    assert log.flush(10)
    assert len(logged_ids()) == 2000
    assert sample(log, "retort_log_rows_total") == 2000
    assert sample(log, "retort_log_dropped_rows_total", reason="duplicate") == 0


def test_a_database_that_fails_in_an_unheard_of_way_is_tried_again(log: RequestLog) -> None:
    engine = log.engine

    def without_driver() -> sa.Engine:
        raise ModuleNotFoundError("No module named 'psycopg'")

    log.engine = without_driver
    log.append([row("a")])
    assert not log.flush()
    log.engine = engine
    assert log.flush()
    assert logged_ids() == ["a"]


def test_rows_beyond_the_memory_limit_are_dropped_and_counted_without_blocking(log: RequestLog, gate: Gate) -> None:
    gate.is_open = False
    log.append([row(str(index)) for index in range(130)])
    assert sample(log, "retort_log_dropped_rows_total", reason="queue_full") == 30
    gate.is_open = True
    assert log.flush()
    assert len(read_window("tiny", 0, 2000)) == 100


def test_a_full_spool_drops_what_is_new_and_counts_it(gate: Gate) -> None:
    gate.is_open = False
    log = RequestLog(Metrics(), engine=gate.engine, spool_bytes=3 * len(line("a")))
    log.start()
    append_one_by_one(log, "abcde")
    wait_until(lambda: sample(log, "retort_log_dropped_rows_total", reason="spool_full") == 2)
    gate.is_open = True
    assert log.flush()
    assert logged_ids() == ["a", "b", "c"]
    log.append([row("f")])
    assert log.flush()
    assert logged_ids() == ["a", "b", "c", "f"]
    assert log.close()


def test_while_the_disk_is_full_rows_still_reach_the_database(
    log: RequestLog, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([row("a")])
    assert log.flush()  # the database has its file and needs no room
    write = os.write

    def full(_fd: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log.append([row("b")])
    assert log.flush()
    assert logged_ids() == ["a", "b"]
    assert sample(log, "retort_log_unspooled_rows_total") == 1
    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(spool_module, "RETRY_DISK_S", 0.0)
    wait_until(lambda: log.spool._no_disk_before <= time.monotonic())
    log.append([row("c")])
    assert log.flush()
    assert logged_ids() == ["a", "b", "c"]
    assert sample(log, "retort_log_unspooled_rows_total") == 1


def test_without_disk_and_database_rows_are_dropped_beyond_a_bound_and_lost_ones_counted_at_the_end(
    gate: Gate, state: Path
) -> None:
    gate.is_open = False
    state.mkdir()
    (state / "spool").write_text("a file where the folder should be")
    log = RequestLog(Metrics(), engine=gate.engine)
    log.spool.memory_bytes = 3 * len(line("a"))
    log.start()
    append_one_by_one(log, "abcde")
    wait_until(lambda: sample(log, "retort_log_dropped_rows_total", reason="disk_refuses") == 2)
    assert not log.close(0.3)
    assert sample(log, "retort_log_dropped_rows_total", reason="shutdown") == 3


def test_a_row_that_is_there_already_is_counted_and_harms_no_other(log: RequestLog) -> None:
    log.append([row("a", label="first")])
    assert log.flush()
    log.append([row("b"), row("a", label="second"), row("c")])
    assert log.flush()
    assert {row["request_id"]: row["label"] for row in read_window("tiny", 0, 2000)} == {
        "a": "first",
        "b": "refund",
        "c": "refund",
    }
    assert sample(log, "retort_log_dropped_rows_total", reason="duplicate") == 1


def test_a_row_that_the_database_refuses_is_dropped_and_the_rest_is_written(log: RequestLog) -> None:
    log.append([row("a"), row("b", label=None), row("c"), row("d", text=None), row("e", text="\ud800"), row("f")])
    assert log.flush()
    assert [row["request_id"] for row in read_window("tiny", 0, 2000)] == ["a", "c", "f"]
    assert sample(log, "retort_log_dropped_rows_total", reason="refused") == 3


def test_what_the_database_says_of_a_refused_row_does_not_bring_its_text_into_the_log(
    log: RequestLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.append([row("a", label=None, text="my secret")])
    assert log.flush()
    assert "NOT NULL" in caplog.text
    assert "secret" not in caplog.text


def test_closing_writes_the_rest(gate: Gate) -> None:
    log = RequestLog(Metrics(), engine=gate.engine)
    log.start()
    log.append([row(str(index)) for index in range(2500)])
    assert log.close()
    assert len(read_window("tiny", 0, 2000)) == 2500
    assert not list(log.spool.folder.iterdir())


def test_closing_without_a_database_ends_in_time_and_the_next_start_stores_the_rest(
    gate: Gate, next_log: Callable[[], RequestLog]
) -> None:
    gate.is_open = False
    log = RequestLog(Metrics(), engine=gate.engine)
    log.start()
    log.append([row("a")])
    started = time.monotonic()
    assert not log.close(0.3)
    assert time.monotonic() - started < 3
    gate.is_open = True
    next_log()
    wait_until(lambda: logged_ids() == ["a"])


def test_what_killed_processes_left_is_stored_once_and_damaged_lines_are_counted(
    state: Path, next_log: Callable[[], RequestLog]
) -> None:
    left_behind(state, "a", line("a") + b"\xff\x00 damaged\n" + line("b"))
    left_behind(state, "b", line("b") + line("c") + line("d")[:-20])
    log = next_log()
    wait_until(lambda: logged_ids() == ["a", "b", "c"])
    wait_until(lambda: sample(log, "retort_log_dropped_rows_total", reason="corrupt") == 2)
    assert sample(log, "retort_log_dropped_rows_total", reason="duplicate") == 0
    wait_until(lambda: not list((state / "spool").glob("*/*.jsonl")))


@pytest.mark.parametrize("database_is_up", [True, False])
def test_what_was_answered_before_the_stated_bound_survives_a_kill(
    state: Path, next_log: Callable[[], RequestLog], monkeypatch: pytest.MonkeyPatch, database_is_up: bool
) -> None:
    monkeypatch.setenv("RETORT_DATABASE_URL", f"sqlite:///{state / 'a.db'}")
    if not database_is_up:
        (state / "a.db").mkdir(parents=True)
    process = subprocess.Popen([sys.executable, "-c", ANSWERS], cwd=ROOT, text=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.7)
    process.kill()
    killed_at = time.monotonic()
    whole_lines = process.communicate()[0].rpartition("\n")[0]
    answers = [line.split() for line in whole_lines.splitlines()]
    if not database_is_up:
        (state / "a.db").rmdir()
    next_log()
    wait_until(lambda: not list((state / "spool").glob("*/*.jsonl")))
    stored = {int(request_id) for request_id in logged_ids()}
    lost_s = [killed_at - float(at) for number, at in answers if int(number) not in stored]
    assert len(answers) > 100
    assert max(lost_s, default=0.0) < SPOOLED_WITHIN_S


def test_a_process_that_dies_beside_a_living_one_leaves_its_rows_to_it(
    state: Path, next_log: Callable[[], RequestLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "ADOPT_EVERY_S", 0.1)
    next_log()
    left_behind(state, "a", line("a"))
    wait_until(lambda: logged_ids() == ["a"])
    assert [row["request_id"] for row in read_window("tiny", 0, 2000)] == ["a"]


def test_two_logs_share_one_state_folder_and_database(next_log: Callable[[], RequestLog]) -> None:
    logs = [next_log(), next_log()]

    def append(log: RequestLog, prefix: str) -> None:
        for index in range(200):
            log.append([row(f"{prefix}{index:03}")])
            time.sleep(0.001)

    threads = [threading.Thread(target=append, args=(log, prefix)) for log, prefix in zip(logs, "ab", strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(log.flush() for log in logs)
    assert logged_ids() == [f"{prefix}{index:03}" for prefix in "ab" for index in range(200)]
    assert [sample(log, "retort_log_rows_total") for log in logs] == [200, 200]


def test_a_file_that_somebody_deletes_is_told_of_and_holds_up_no_other(
    log: RequestLog, gate: Gate, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate.is_open = False
    log.append([row("a")])
    assert not log.flush()
    for path in (state / "spool").glob("*/*.jsonl"):
        path.unlink()
    gate.is_open = True
    log.append([row("b")])
    assert log.flush()
    assert logged_ids() == ["b"]
    assert sample(log, "retort_log_dropped_rows_total", reason="spool_deleted") == 1
    assert "somebody deleted" in caplog.text


@pytest.mark.parametrize("mode", ["redact", "hash", "drop"])
def test_what_may_not_be_stored_never_reaches_the_disk(gate: Gate, state: Path, mode: str) -> None:
    gate.is_open = False
    rule = text_rule(mode, "a key of 16 characters")  # type: ignore[arg-type]
    log = RequestLog(Metrics(), engine=gate.engine, stored_text=rule)
    log.start()
    log.append([row("a", text="I am joe@example.com", text_pair="call 0301234567")])
    assert not log.flush()
    assert b'"request_id":"a"' in texts_on_disk(state)
    gate.is_open = True
    assert log.close()
    found = texts_on_disk(state)
    assert b"joe@example.com" not in found
    assert b"0301234567" not in found
    (read,) = read_window("tiny", 0, 2000)
    assert (read["text"], read["text_pair"]) == (rule("I am joe@example.com"), rule("call 0301234567"))


def test_many_threads_lose_nothing(log: RequestLog) -> None:
    log.max_pending_rows = 10_000

    def append(worker: int) -> None:
        for index in range(100):
            log.append([row(f"{worker}-{index}")])

    threads = [threading.Thread(target=append, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.flush()
    assert len(read_window("tiny", 0, 2000)) == 400


def test_a_disk_that_does_not_sync_is_told_of(
    log: RequestLog, gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(spool_module, "SYNC_AFTER_S", 0.0)
    monkeypatch.setattr(os, "fsync", fail)
    gate.is_open = False
    log.append([row("a")])
    wait_until(lambda: "a power cut may lose rows" in caplog.text)
    assert "Input/output error" in caplog.text


@pytest.mark.slow
def test_rows_wait_for_a_postgresql_that_is_down_at_the_start_and_stops_in_between(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = postgres.binaries()
    if folder is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("expected PostgreSQL's server programs and psycopg; apt-get install postgresql brings the first")
    monkeypatch.setattr(request_log, "RETRY_S", (0.1, 0.2))
    with postgres.stopped(folder) as (url, control):
        monkeypatch.setenv("RETORT_DATABASE_URL", url)
        log = RequestLog(Metrics())
        log.start()
        log.append([row("a", text="é \0", received_at=1764145234.1234567, probabilities=[float("nan"), 1e-06])])
        assert not log.flush()
        control("start")
        log.append([row("b"), row("c", label=None, text="my secret"), row("a"), row("d", text_pair="x", audit=True)])
        wait_until(lambda: sample(log, "retort_log_pending_rows") == 0)
        control("stop")
        log.append([row("e")])
        assert not log.flush()
        control("start")
        assert log.flush()
        assert log.close()
        assert logged_ids() == ["a", "b", "d", "e"]
        read = {row["request_id"]: row for row in read_window("tiny", 0, 2e9)}
        database.engine().dispose()
    assert (read["d"]["text_pair"], read["d"]["audit"]) == ("x", True)
    assert (read["a"]["text"], read["a"]["received_at"]) == ("é \ufffd", 1764145234.1234567)
    assert read["a"]["probabilities"] == [None, 1e-06]
    assert sample(log, "retort_log_dropped_rows_total", reason="refused") == 1
    assert sample(log, "retort_log_dropped_rows_total", reason="duplicate") == 1
    assert "secret" not in caplog.text
