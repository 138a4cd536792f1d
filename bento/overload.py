"""What waits inside this process, counted from the moment that a request is here to its last byte.

When the event loop is what is slow, requests wait in it rather than in the batcher's queue. Little's law says for how
long: those that are read and not answered, times the mean time from one answer to the next. A request that would be
late by that is refused before it is parsed, which costs a small part of what answering it would.
"""

import asyncio
import math
import re
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.requests import Request

from bento.direct import Headers
from bento.metrics import Metrics, outcome
from bento.request_ids import AccessLog, RequestIds
from bento.schemas import ApiError

SAID_FOR_S = 0.005
"""How long what a refusal says stays true: in the time that it takes to say it another request is answered."""
LEARNING_RATE = 0.01
"""Weight of the newest answer in the mean time between two."""
PROMPT_SHARE = 0.2
"""Of its time a request may be predicted to wait. A machine that is shared may become slower meanwhile, and with the
queue grows what each answer costs: at twice the capacity and a deadline of a second, 91 % of the peak were answered
with 0.2, 87 % with 0.1 and 88 % with 0.35, five runs of ten seconds each, so part of that is chance."""
ARRIVED, LATE = "retort.arrived", "retort.late"
"""Keys of a request's scope."""
TURNS = re.compile(r"/predict|/v2/models/[^/]+/infer")
"""Paths whose requests take turns."""

AT_ONCE = 16
"""Requests that begin in one iteration of the event loop: some milliseconds."""


def arrived_at(request: Request) -> float:
    """When the request's headers were read, or first asked for; in the seconds of `time.perf_counter`."""
    return float(request.scope.setdefault(ARRIVED, time.perf_counter()))


class Load:
    """Requests in flight and how fast they are answered; for one event loop."""

    def __init__(self) -> None:
        """Idle."""
        self.in_flight = 0
        self._interval_s = 0.0
        self._since = 0.0

    def begin(self) -> None:
        """A request is here to its last byte."""
        if self.in_flight == 0:
            self._since = time.perf_counter()
        self.in_flight += 1

    def end(self) -> None:
        """A request was answered."""
        now = time.perf_counter()
        self._interval_s += LEARNING_RATE * (now - self._since - self._interval_s)
        self._since = now
        self.in_flight -= 1

    def give_up(self, number: int) -> None:
        """So many requests lost their client before the answer, which says nothing of how fast answers come."""
        self.in_flight -= number

    def wait_s(self) -> float:
        """When the newest of those in flight gets its turn, if they are answered as fast as lately."""
        return max(0, self.in_flight - 1) * self._interval_s


class Turns:
    """Lets a few requests begin in each iteration of the event loop, in the order in which they came.

    All that are read at once would begin at once, and until the last of them has had its turn nothing is read and
    nobody is refused.
    """

    def __init__(self) -> None:
        """Nothing waits."""
        self._waiting: deque[Callable[[], None]] = deque()
        self._num_begun = 0
        self._is_due = False

    def take(self, begin: Callable[[], None]) -> None:
        """Call `begin` now, or in a later iteration when this one has had its share."""
        if self._waiting or self._num_begun >= AT_ONCE:
            self._waiting.append(begin)
        else:
            self._num_begun += 1
            begin()
        self._call_next()

    def _call_next(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """Another iteration."""
        self._is_due = False
        self._num_begun = min(AT_ONCE, len(self._waiting))
        for _ in range(self._num_begun):
            self._waiting.popleft()()
        if self._num_begun:
            self._call_next()


class Overload:
    """Refuses requests that would be late, plain ones before they cost anything."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        deadline_ms: float,
        ids: RequestIds,
        is_away: Callable[[], bool],
        access_log: AccessLog | None = None,
    ) -> None:
        """`deadline_ms` is the longest that any client waits; while `is_away`, answers need more than is said here."""
        self.load = Load()
        self.turns = Turns()
        self.metrics = metrics
        self.deadline_ms = deadline_ms
        self.ids = ids
        self.is_away = is_away
        self.access_log = access_log
        self._answered = metrics.requests.labels("/predict", "429")
        self._latency = metrics.latency.labels("/predict", outcome(429))
        self._errors = metrics.errors.labels(code="queue_full")
        self._said = (b"", b"")
        """A refusal before and behind the request's id."""
        self._said_until = 0.0

    def is_late(self) -> bool:
        """Whether a request that comes now would be answered too late."""
        return self.load.wait_s() * 1000 > PROMPT_SHARE * self.deadline_ms and not self.is_away()

    def begin(self, scope: MutableMapping[str, Any], start: Callable[[], None]) -> None:
        """Call `start` when it is the request's turn: at once where it costs little, as one does that is refused."""
        if not TURNS.fullmatch(scope["path"]):
            start()
        elif self.is_late():
            scope[LATE] = True
            start()
        else:
            self.turns.take(start)

    def check(self, request: Request) -> None:
        """Raises: ApiError 429 for a request that would have been late when its headers were read."""
        if LATE in request.scope:
            self.metrics.rejected.inc()
            raise self._error()

    def refusal(self, headers: Headers) -> bytes | None:
        """The whole answer to a plain request that would be late; None to all others."""
        if not self.is_late():
            return None
        started = time.perf_counter()
        request_id = self.ids.of(headers)
        answer = self._answer(request_id.encode(), started)
        seconds = time.perf_counter() - started
        self._count(seconds)
        if self.access_log is not None and self.access_log.draws():
            self.access_log.write_line(request_id, "POST", "/predict", 429, seconds)
        return answer

    def _answer(self, request_id: bytes, now: float) -> bytes:
        if now >= self._said_until:
            self._said, self._said_until = self._around_id(), now + SAID_FOR_S
        before, behind = self._said
        return b"%b%b%b" % (before, request_id, behind)

    def _around_id(self) -> tuple[bytes, bytes]:
        error = self._error()
        body, retry_after = error.body(), error.headers["Retry-After"].encode()
        before = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: %b\r\nx-request-id: " % retry_after
        return before, b"\r\ncontent-length: %d\r\ncontent-type: application/json\r\n\r\n%b" % (len(body), body)

    def _error(self) -> ApiError:
        wait_ms = self.load.wait_s() * 1000
        message = (
            f"{self.load.in_flight} requests wait, an answer in {wait_ms:.0f} ms, and the request has at most "
            f"{self.deadline_ms:.0f} ms; try again later"
        )
        headers = {"Retry-After": str(max(1, math.ceil(wait_ms / 1000)))}
        return ApiError(429, "queue_full", message, headers=headers)

    def _count(self, seconds: float) -> None:
        self.metrics.rejected.inc()
        self._errors.inc()
        self._answered.inc()
        self._latency.observe(seconds)
