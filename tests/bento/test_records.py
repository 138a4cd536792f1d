"""The request log: nothing lost that could be kept, nothing blocked, and what monitoring reads."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from bento import database
from bento.metrics import Metrics
from bento.records import (
    DuplicateFeedbackError,
    RequestLog,
    add_feedback,
    audit_queue,
    drawn_for_audit,
    labelled_rows,
    read_request,
    read_window,
)


def row(request_id: str, item: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "item": item,
        "name": "tiny",
        "model_sha256": "0" * 64,
        "version": "1",
        "arm": "champion",
        "received_at": 1000.0,
        "text": "my card",
        "text_pair": None,
        "label": "refund",
        "probabilities": [0.1, 0.9],
        "latency_ms": 1.5,
        "audit": False,
    } | changes


def sample(log: RequestLog, name: str, **labels: str) -> float | None:
    return log.metrics.registry.get_sample_value(name, labels)


class Gate:
    """The database, which a test can take away."""

    def __init__(self) -> None:
        self.is_open = True

    def engine(self) -> sa.Engine:
        if not self.is_open:
            raise OperationalError("planted", None, OSError("the database is away"))
        return database.engine()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def log(gate: Gate) -> Iterator[RequestLog]:
    log = RequestLog(Metrics(), engine=gate.engine, max_pending_rows=100)
    log.start()
    yield log
    log.close(0.5)


def test_rows_are_written_within_a_moment_without_a_flush(log: RequestLog) -> None:
    log.append([row("a"), row("b")])
    until = time.monotonic() + 5
    while len(read_window("tiny", 0, 2000)) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert sample(log, "retort_log_rows_total") == 2


def test_rows_wait_for_a_database_that_is_away_and_are_all_written_when_it_is_back(log: RequestLog, gate: Gate) -> None:
    gate.is_open = False
    log.append([row(str(index)) for index in range(5)])
    assert not log.flush()
    assert sample(log, "retort_log_pending_rows") == 5
    assert sample(log, "retort_log_errors_total") >= 1
    gate.is_open = True
    assert log.flush()
    assert [row["request_id"] for row in read_window("tiny", 0, 2000)] == ["0", "1", "2", "3", "4"]
    assert sample(log, "retort_log_pending_rows") == 0


def test_rows_beyond_the_memory_limit_are_dropped_and_counted_without_blocking(log: RequestLog, gate: Gate) -> None:
    gate.is_open = False
    log.append([row(str(index)) for index in range(130)])
    assert sample(log, "retort_log_dropped_rows_total", reason="queue_full") == 30
    gate.is_open = True
    assert log.flush()
    assert len(read_window("tiny", 0, 2000)) == 100


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
    log.append([row("a"), row("b", label=None), row("c")])
    assert log.flush()
    assert [row["request_id"] for row in read_window("tiny", 0, 2000)] == ["a", "c"]
    assert sample(log, "retort_log_dropped_rows_total", reason="refused") == 1


def test_closing_writes_the_rest(gate: Gate) -> None:
    log = RequestLog(Metrics(), engine=gate.engine)
    log.start()
    log.append([row(str(index)) for index in range(2500)])
    assert log.close()
    assert len(read_window("tiny", 0, 2000)) == 2500


def test_closing_without_a_database_gives_up_in_time_and_says_how_much_was_lost(gate: Gate) -> None:
    gate.is_open = False
    log = RequestLog(Metrics(), engine=gate.engine)
    log.start()
    log.append([row("a")])
    started = time.monotonic()
    assert not log.close(0.3)
    assert time.monotonic() - started < 3
    assert sample(log, "retort_log_dropped_rows_total", reason="shutdown") == 1


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


def test_the_audit_draw_is_repeatable_and_near_its_rate() -> None:
    drawn = [drawn_for_audit(f"request-{index}", 0, 0.05) for index in range(20_000)]
    assert drawn == [drawn_for_audit(f"request-{index}", 0, 0.05) for index in range(20_000)]
    assert sum(drawn) / len(drawn) == pytest.approx(0.05, abs=0.006)
    assert not any(drawn_for_audit(f"request-{index}", 0, 0.0) for index in range(100))
    assert all(drawn_for_audit(f"request-{index}", 0, 1.0) for index in range(100))


def test_a_window_is_half_open_of_one_name_and_limited_to_its_newest_rows(log: RequestLog) -> None:
    log.append([row(str(index), received_at=1000.0 + index) for index in range(10)])
    log.append([row("other", name="another")])
    assert log.flush()
    assert [row["request_id"] for row in read_window("tiny", 1002, 1006)] == ["2", "3", "4", "5"]
    assert [row["request_id"] for row in read_window("tiny", 1002, 1006, limit=2)] == ["4", "5"]


def test_feedback_joins_its_item_and_is_stored_once(log: RequestLog) -> None:
    log.append([row("a"), row("a", item=1)])
    assert log.flush()
    add_feedback("tiny", "a", 1, "transfer", 1500.0)
    add_feedback("tiny", "a", 1, "transfer", 1550.0)
    assert [(row["item"], row["true_label"], row["labelled_at"]) for row in read_request("tiny", "a")] == [
        (0, None, None),
        (1, "transfer", 1500.0),
    ]
    with pytest.raises(DuplicateFeedbackError, match="item 1 of request a"):
        add_feedback("tiny", "a", 1, "refund", 1600.0)
    assert [row["item"] for row in labelled_rows("tiny", 1500.0)] == [1]
    assert labelled_rows("tiny", 1500.1) == []


def test_two_models_may_be_asked_under_one_request_id(log: RequestLog) -> None:
    log.append([row("a"), row("a", name="another", label="spam")])
    assert log.flush()
    add_feedback("tiny", "a", 0, "transfer", 1500.0)
    assert [row["true_label"] for row in read_request("tiny", "a")] == ["transfer"]
    assert [(row["label"], row["true_label"]) for row in read_request("another", "a")] == [("spam", None)]


def test_the_audit_queue_is_what_was_drawn_and_has_no_label(log: RequestLog) -> None:
    log.append([row("a", audit=True), row("b"), row("c", audit=True), row("d", audit=True)])
    assert log.flush()
    add_feedback("tiny", "a", 0, "refund", 1500.0)
    assert [row["request_id"] for row in audit_queue("tiny", 10)] == ["c", "d"]
    assert [row["request_id"] for row in audit_queue("tiny", 1)] == ["c"]
