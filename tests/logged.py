"""Rows of the request log, and a database that a test can take away."""

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from bento import database
from bento.records import insert_rows, spool_line, stored_row
from bento.request_log import RequestLog


def row(request_id: str, item: int = 0, **changes: Any) -> dict[str, Any]:
    """A row as the service hands it to the log."""
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
        "caller": None,
        "audit_rate": None,
    } | changes


def line(request_id: str, **changes: Any) -> bytes:
    """A row as the spool has it."""
    return spool_line(row(request_id, **changes), str)


def store(*rows: dict[str, Any]) -> None:
    """Put rows into the database without a log."""
    values = [stored_row(spool_line(row, str)) for row in rows]
    assert insert_rows(database.engine(), [value for value in values if value is not None]) == len(rows)


def sample(log: RequestLog, name: str, **labels: str) -> float | None:
    """A metric's value."""
    return log.metrics.registry.get_sample_value(name, labels)


def logged_ids(engine: sa.Engine | None = None) -> list[str]:
    """The ids of all requests in the database, in order of the ids."""
    with (engine or database.engine()).connect() as connection:
        return list(connection.scalars(sa.select(database.requests.c.request_id).order_by("request_id")))


def wait_until(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for what another thread does."""
    until = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


class Gate:
    """The database, which a test can take away or make slow."""

    def __init__(self) -> None:
        self.is_open = True
        self.delay_s = 0.0

    def engine(self) -> sa.Engine:
        """For `RequestLog`."""
        time.sleep(self.delay_s)
        if not self.is_open:
            raise OperationalError("planted", None, OSError("the database is away"))
        return database.engine()
