"""The request log: an answer hands its rows over and goes on; two threads bring them to the database.

memory -> (writer, every 40 ms) -> spool on the disk -> (loader, every 200 ms) -> database

What is in the spool outlives the process and is tried again for as long as the database is away. A row is known by its
model, request id and item, so trying again stores it once. What can be lost: at a kill, answers younger than
`SPOOLED_WITHIN_S`; at a power cut, those younger than twice `spool.SYNC_AFTER_S`; beyond the bounds on memory and
disk, new rows, which are counted by reason.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from bento import database, records, settings
from bento.metrics import Metrics
from bento.records import Row
from bento.redaction import without_nul
from bento.spool import SYNC_AFTER_S, Segment, Spool, SpoolFullError

logger = logging.getLogger(__name__)

SPOOL_EVERY_S = 0.04
SPOOLED_WITHIN_S = 0.1
"""An answer that is older than this survives a kill of the process."""
LOAD_EVERY_S = 0.2
ADOPT_EVERY_S = 10.0
"""How often the files of processes that died are looked for."""
RETRY_S = (0.2, 5.0)
"""First and longest pause after the database refused."""
MAX_PENDING_ROWS = 50_000
MAX_SPOOL_ROWS = 250
MAX_INSERT_ROWS = 512
"""Of one statement and transaction. All of it runs without Python's lock; what comes before holds up answers."""
SPOOL_BYTES = 256 << 20
RECEIVED_AT = records.COLUMNS.index("received_at")


class RequestLog:
    """Brings rows to the `requests` table from threads of its own."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        engine: Callable[[], sa.Engine] = database.engine,
        max_pending_rows: int = MAX_PENDING_ROWS,
        spool_bytes: int = SPOOL_BYTES,
        stored_text: Callable[[str], str] = without_nul,
    ) -> None:
        """`engine` is called for each write, so a database that is down at the start is found later.

        `stored_text` is what may be stored of a text; nothing else of it reaches the disk.
        """
        self.metrics = metrics
        self.engine = engine
        self.max_pending_rows = max_pending_rows
        self.stored_text = stored_text
        self.spool = Spool(settings.home() / "spool", max_bytes=spool_bytes)
        self._pending: list[Row] = []
        lock = threading.Lock()
        self._to_spool, self._to_load, self._loaded = (threading.Condition(lock) for _ in range(3))
        self._num_added = 0
        self._num_done = 0
        self._num_failures = 0
        self._flush_to = 0
        """So many rows are waited for: hurry until they are done, or the database fails."""
        self._stopping = False
        self._threads = [
            threading.Thread(target=work, name=f"retort-log-{name}", daemon=True)
            for name, work in (("spool", self._spool_rows), ("load", self._load_segments))
        ]

    def start(self) -> None:
        """Take over what was left by dead processes, and start the threads."""
        self._adopt()
        for thread in self._threads:
            thread.start()

    def append(self, rows: Sequence[Row]) -> None:
        """Take `rows` and return at once; what does not fit in memory is dropped and counted."""
        with self._to_spool:
            room = max(0, self.max_pending_rows - len(self._pending))
            if not self._pending:
                self._to_spool.notify()
            self._pending.extend(rows[:room])
            self._num_added += min(len(rows), room)
        if len(rows) > room:
            self._dropped("queue_full", len(rows) - room)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything appended so far is in the database; False when that failed or time ran out."""
        with self._loaded:
            target, num_failures = self._num_added, self._num_failures
            self._flush_to = target
            self._to_spool.notify()
            self._to_load.notify()
            self._loaded.wait_for(lambda: self._num_done >= target or self._num_failures > num_failures, timeout_s)
            return self._num_done >= target

    def close(self, timeout_s: float = 5.0) -> bool:
        """Store the rest and stop; False when rows are left for the next start, or lost for want of a disk."""
        self.flush(timeout_s)
        with self._to_spool:
            self._stopping = True
            self._to_spool.notify()
            self._to_load.notify()
        for thread in self._threads:
            thread.join(timeout_s)
        num_left, num_lost = self._num_waiting(), len(self._pending) + self.spool.close()
        if num_left:
            logger.error(
                "the request log ends with %d rows that are not in the database: %d are lost, the next start stores "
                "the others from %s", num_left, num_lost, self.spool.folder,
            )  # fmt: skip
            self._dropped("shutdown", num_lost)
        return not num_left

    def _dropped(self, reason: str, num_rows: int) -> None:
        if num_rows:
            self.metrics.log_dropped.labels(reason=reason).inc(num_rows)

    def _adopt(self) -> None:
        try:
            self.spool.adopt()
        except OSError as error:
            logger.warning("what dead processes left of the request log cannot be taken over: %s", error)

    def _spool_rows(self) -> None:
        """The writer: rows to the spool."""
        while True:
            with self._to_spool:
                self._to_spool.wait_for(lambda: self._pending or self._stopping, SYNC_AFTER_S)
                if self._pending:
                    self._to_spool.wait_for(self._in_a_hurry, SPOOL_EVERY_S)
                rows, self._pending = self._pending, []
                if self._stopping and not rows:
                    return
            for first in range(0, len(rows), MAX_SPOOL_ROWS):
                self._spool(rows[first : first + MAX_SPOOL_ROWS])
            self._sync()

    def _spool(self, rows: Sequence[Row]) -> None:
        lines = list(self._lines(rows))
        try:
            on_disk = self.spool.write(b"".join(lines), len(lines))
        except SpoolFullError as error:
            self._dropped(str(error), len(lines))
            return self._done(len(rows))
        if not on_disk:
            self.metrics.log_unspooled.inc(len(lines))
        self._done(len(rows) - len(lines))

    def _lines(self, rows: Sequence[Row]) -> Iterator[bytes]:
        for row in rows:
            try:
                yield records.spool_line(row, self.stored_text)
            except Exception as error:  # noqa: BLE001 - one bad row must not end the log
                logger.error("a row of the request log is no row, dropped: %r", error)
                self._dropped("refused", 1)

    def _sync(self) -> None:
        try:
            self.spool.sync()
        except OSError as error:
            logger.warning("a power cut may lose rows of the request log, the disk does not sync: %s", error)

    def _load_segments(self) -> None:
        """The loader: segments to the database, oldest first."""
        pause_s, adopt_at = LOAD_EVERY_S, time.monotonic() + ADOPT_EVERY_S
        while True:
            with self._to_load:
                self._to_load.wait_for(lambda: len(self.spool) or self._stopping, ADOPT_EVERY_S)
                self._to_load.wait_for(self._in_a_hurry, pause_s)
                if self._stopping:
                    return
            if not self._load_oldest():
                pause_s = min(max(pause_s, RETRY_S[0]) * 2, RETRY_S[1])
            else:
                pause_s = 0.0 if len(self.spool) > 1 else LOAD_EVERY_S
            if time.monotonic() >= adopt_at:
                self._adopt()
                adopt_at = time.monotonic() + ADOPT_EVERY_S

    def _load_oldest(self) -> bool:
        """Store one segment and delete it; False when the database or the disk refuses, and it stays."""
        segment = self.spool.take()
        if segment is None:
            return True
        try:
            self._load(segment)
            self.spool.remove(segment)
        except Exception as error:  # noqa: BLE001 - whatever it is, the rows stay and are tried again
            logger.warning("the request log cannot be written, %d rows wait: %s", self._num_waiting(), _cause(error))
            self.metrics.log_errors.inc()
            with self._loaded:
                self._num_failures += 1
                self._flush_to = 0
                self._loaded.notify_all()
            return False
        self._done(segment.num_rows)
        return True

    def _load(self, segment: Segment) -> None:
        *lines, half = self._read(segment).split(b"\n")
        for first in range(segment.num_loaded, len(lines), MAX_INSERT_ROWS):
            chunk = lines[first : first + MAX_INSERT_ROWS]
            rows = [row for line in chunk if (row := records.stored_row(line)) is not None]
            if rows:
                self.metrics.log_lag.set(time.time() - float(rows[0][RECEIVED_AT]))
                self._store(self.engine(), rows, replayed=segment.adopted)
            segment.num_loaded += len(chunk)
            self._dropped("corrupt", len(chunk) - len(rows))
        self._dropped("corrupt", int(half != b""))

    def _read(self, segment: Segment) -> bytes:
        try:
            return segment.read()
        except FileNotFoundError:
            logger.error("rows of the request log are lost, somebody deleted %s", segment.path)
            self._dropped("spool_deleted", segment.num_rows - segment.num_loaded)
            return b""

    def _store(self, engine: sa.Engine, rows: Sequence[Sequence[Any]], *, replayed: bool) -> None:
        """Insert all; a row that the database refuses for what it holds is found by halves and dropped."""
        try:
            num_stored = records.insert_rows(engine, rows)
        except (DataError, IntegrityError) as error:
            if len(rows) > 1:
                self._store(engine, rows[: len(rows) // 2], replayed=replayed)
                self._store(engine, rows[len(rows) // 2 :], replayed=replayed)
                return
            logger.error("the database refuses a row of the request log, dropped: %s", _cause(error))
            self._dropped("refused", 1)
            return
        self.metrics.log_rows.inc(num_stored)
        if not replayed:  # of a dead process's rows some may be stored already
            self._dropped("duplicate", len(rows) - num_stored)

    def _in_a_hurry(self) -> bool:
        return self._flush_to > self._num_done or self._stopping

    def _num_waiting(self) -> int:
        return self._num_added - self._num_done

    def _done(self, num_rows: int) -> None:
        """Count rows that need no more work, and tell who waits."""
        with self._to_load:
            self._num_done += num_rows
            num_waiting = self._num_waiting()
            self._to_load.notify()
            self._loaded.notify_all()
        self.metrics.log_pending.set(num_waiting)
        self.metrics.log_spool.set(self.spool.num_bytes())


def _cause(error: Exception) -> str:
    """What went wrong, without the statement's parameters or the row that databases add to it, which are texts."""
    cause = (error.orig if isinstance(error, DBAPIError) else None) or error
    return str(cause).partition("\n")[0]
