"""The request log: a background writer that never makes an answer wait, and the readers that monitoring uses.

Losing a log row is better than losing an answer: a full memory queue drops new rows and counts them, and a database
that is down is tried again until it is back.
"""

import hashlib
import itertools
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError

from bento import database
from bento.errors import RetortError
from bento.metrics import Metrics

logger = logging.getLogger(__name__)

Row = dict[str, Any]
"""Column name -> value."""

WRITE_EVERY_S = 0.1
RETRY_S = (0.2, 5.0)
"""First and longest pause after a failed write."""
MAX_PENDING_ROWS = 50_000
MAX_INSERT_ROWS = 1_000


class DuplicateFeedbackError(RetortError):
    """This item has another label already."""


def drawn_for_audit(request_id: str, item: int, rate: float) -> bool:
    """Whether this item belongs to the random audit sample: a hash of its id, so the draw can be repeated."""
    digest = hashlib.sha256(f"{request_id}/{item}".encode()).digest()
    return int.from_bytes(digest[:8]) < rate * 2**64


def texts_sha256(texts: Sequence[tuple[str, str | None]]) -> str:
    """Digest of a request's texts, each with its second sentence or None, as they are stored."""
    stored = [[None if part is None else _without_nul(part) for part in text] for text in texts]
    return hashlib.sha256(json.dumps(stored).encode()).hexdigest()


def _without_nul(text: str) -> str:
    """PostgreSQL refuses NUL in text, so it is stored as the replacement character."""
    return text.replace("\0", "\ufffd")


def _storable(row: Row) -> Row:
    return {key: _without_nul(value) if isinstance(value, str) else value for key, value in row.items()}


def _insert_rows(engine: sa.Engine, rows: Sequence[Row]) -> int:
    """Insert the rows that are not stored yet and return their number; repeating a write is harmless."""
    insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
    statement = insert(database.requests).on_conflict_do_nothing(index_elements=["name", "request_id", "item"])
    with engine.begin() as connection:
        result = connection.execute(statement, [_storable(row) for row in rows])
    return result.rowcount if result.rowcount >= 0 else len(rows)


class RequestLog:
    """Writes rows to the `requests` table from a thread of its own."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        engine: Callable[[], sa.Engine] = database.engine,
        max_pending_rows: int = MAX_PENDING_ROWS,
    ) -> None:
        """`engine` is called for each write, so a database that is down at the start is found later."""
        self.metrics = metrics
        self.engine = engine
        self.max_pending_rows = max_pending_rows
        self._pending: deque[Row] = deque()
        self._changed = threading.Condition()
        self._num_added = 0
        self._num_done = 0
        self._num_failures = 0
        self._hurry = False
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="retort-request-log", daemon=True)

    def start(self) -> None:
        """Start the writer."""
        self._thread.start()

    def append(self, rows: Sequence[Row]) -> None:
        """Queue `rows` and return at once; what does not fit in memory is dropped and counted."""
        with self._changed:
            room = max(0, self.max_pending_rows - len(self._pending))
            self._pending.extend(rows[:room])
            self._num_added += len(rows[:room])
            num_pending = len(self._pending)
        self.metrics.log_pending.set(num_pending)
        if len(rows) > room:
            self.metrics.log_dropped.labels(reason="queue_full").inc(len(rows) - room)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything appended so far is written; False when the database failed or time ran out."""
        with self._changed:
            target, num_failures = self._num_added, self._num_failures
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._num_done >= target or self._num_failures > num_failures, timeout_s)
            return self._num_done >= target

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write the rest and stop; False when rows had to be given up."""
        until = time.monotonic() + timeout_s
        while not (written := self.flush(max(0.0, until - time.monotonic()))) and time.monotonic() < until:
            time.sleep(WRITE_EVERY_S)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        if not written:
            logger.error("the request log ends with %d rows unwritten", len(self._pending))
            self.metrics.log_dropped.labels(reason="shutdown").inc(len(self._pending))
        return written

    def _work(self) -> None:
        pause_s = WRITE_EVERY_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._hurry, pause_s)
                if self._stopping:
                    return
                rows = list(itertools.islice(self._pending, MAX_INSERT_ROWS))
                self._hurry = self._hurry and len(rows) < len(self._pending)
            if rows and not self._write(rows):
                pause_s = min(max(pause_s, RETRY_S[0]) * 2, RETRY_S[1])
            else:
                pause_s = 0.0 if len(rows) == MAX_INSERT_ROWS else WRITE_EVERY_S

    def _write(self, rows: list[Row]) -> bool:
        """Store the head of the queue; False when the database cannot be reached, and the rows stay queued."""
        self.metrics.log_lag.set(time.time() - float(rows[0]["received_at"]))
        try:
            self._store(rows)
        except SQLAlchemyError as error:
            logger.warning("the request log cannot be written, %d rows wait: %s", len(self._pending), error)
            self.metrics.log_errors.inc()
            with self._changed:
                self._num_failures += 1
                self._changed.notify_all()
            return False
        self._done(len(rows))
        return True

    def _store(self, rows: list[Row]) -> None:
        """Insert all; rows that the database refuses for what they hold are dropped one by one, not tried for ever."""
        try:
            num_stored = _insert_rows(self.engine(), rows)
        except (OperationalError, InterfaceError):
            raise
        except DBAPIError as error:
            if len(rows) > 1:
                for row in rows:
                    self._store([row])
                return
            logger.error("the database refuses a row of the request log, dropped: %s", error)
            self.metrics.log_dropped.labels(reason="refused").inc()
            return
        self.metrics.log_rows.inc(num_stored)
        if num_stored < len(rows):
            self.metrics.log_dropped.labels(reason="duplicate").inc(len(rows) - num_stored)

    def _done(self, num_rows: int) -> None:
        with self._changed:
            for _ in range(num_rows):
                self._pending.popleft()
            self._num_done += num_rows
            num_pending = len(self._pending)
            self._changed.notify_all()
        self.metrics.log_pending.set(num_pending)


def _joined() -> sa.Select[Any]:
    """Requests with their feedback, if any, as `true_label` and `labelled_at`."""
    requests, feedback = database.requests, database.feedback
    same_item = sa.and_(*(feedback.c[key] == requests.c[key] for key in ("name", "request_id", "item")))
    return sa.select(
        requests, feedback.c.label.label("true_label"), feedback.c.received_at.label("labelled_at")
    ).select_from(requests.outerjoin(feedback, same_item))


def _read(statement: sa.Select[Any], engine: sa.Engine | None) -> list[Row]:
    with (engine or database.engine()).connect() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def read_window(
    name: str, since: float, until: float, limit: int | None = None, *, engine: sa.Engine | None = None
) -> list[Row]:
    """The requests to `name` with since <= received_at < until, oldest first; with a `limit`, the newest so many.

    Each row has the columns of `requests`, and `true_label` and `labelled_at`, which are None without feedback.
    """
    requests = database.requests
    statement = (
        _joined()
        .where(requests.c.name == name, requests.c.received_at >= since, requests.c.received_at < until)
        .order_by(requests.c.received_at.desc(), requests.c.id.desc())
        .limit(limit)
    )
    return _read(statement, engine)[::-1]


def labelled_rows(name: str, since: float, *, engine: sa.Engine | None = None) -> list[Row]:
    """The requests to `name` whose label arrived at or after `since`, in the order of the labels."""
    statement = (
        _joined()
        .where(database.requests.c.name == name, database.feedback.c.received_at >= since)
        .order_by(database.feedback.c.received_at, database.requests.c.id)
    )
    return _read(statement, engine)


def audit_queue(name: str, limit: int, *, engine: sa.Engine | None = None) -> list[Row]:
    """Requests to `name` that were drawn for audit and have no label yet, oldest first."""
    requests = database.requests
    statement = (
        _joined()
        .where(requests.c.name == name, requests.c.audit, database.feedback.c.label.is_(None))
        .order_by(requests.c.received_at, requests.c.id)
        .limit(limit)
    )
    return _read(statement, engine)


def read_request(name: str, request_id: str, *, engine: sa.Engine | None = None) -> list[Row]:
    """All items of one request to `name` in order; empty when it is not in the log."""
    requests = database.requests
    statement = _joined().where(requests.c.name == name, requests.c.request_id == request_id)
    return _read(statement.order_by(requests.c.item), engine)


def add_feedback(
    name: str, request_id: str, item: int, label: str, received_at: float, *, engine: sa.Engine | None = None
) -> None:
    """Store what was right for one item; the same label again changes nothing. Raises: DuplicateFeedbackError."""
    row = {"name": name, "request_id": request_id, "item": item, "label": label, "received_at": received_at}
    try:
        with (engine or database.engine()).begin() as connection:
            connection.execute(sa.insert(database.feedback), _storable(row))
    except IntegrityError as error:
        (known,) = [row for row in read_request(name, request_id, engine=engine) if row["item"] == item]
        if known["true_label"] != _without_nul(label):
            message = f"item {item} of request {request_id} has the label {known['true_label']!r} already"
            raise DuplicateFeedbackError(message) from error
