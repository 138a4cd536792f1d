"""uvicorn's HTTP/1.1 connection with a bound on what a client may cost that sends or reads slowly, or never ends.

uvicorn times only the pause between two requests: a connection that dribbles its headers, its body or its reading of
the answer would be held for ever, and headers of any length would be kept in memory.
"""

import asyncio
import re
import socket
import struct
import time
from functools import partial
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from bento.overload import ARRIVED, Overload
from bento.schemas import ApiError

REQUEST_WITHIN_S = 20.0
"""From a request's first byte to its last, and from a connection to its first request: 1 MiB at 52 kB/s."""
ANSWER_WITHIN_S = 20.0
"""How long a client may leave what was sent to it unread."""
MAX_HEADER_BYTES = 1 << 16
UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    overload: ClassVar[Overload | None] = None
    """Of the server in this process, once it is ready."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; the first request has to come in time."""
        super().connection_made(transport)
        self._within_headers = self._within_request = False
        self._num_header_bytes = 0
        self._num_asked = 0
        self._stalled: asyncio.TimerHandle | None = None
        self._slow: asyncio.TimerHandle | None = self.loop.call_later(REQUEST_WITHIN_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        if self.overload is not None:
            self.overload.load.give_up(self._num_asked)
        self._num_asked = 0
        self._finish_request()
        self._finish_answer()

    def on_message_begin(self) -> None:
        """A request's first byte is there."""
        super().on_message_begin()
        self._within_headers = self._within_request = True
        self._num_header_bytes = 0

    def on_headers_complete(self) -> None:
        """A request's headers are there."""
        super().on_headers_complete()
        self._within_headers = False
        if self.overload is not None:
            self.overload.load.begin()
            self._num_asked += 1
            cast(dict[str, Any], self.scope)[ARRIVED] = time.perf_counter()

    def on_message_complete(self) -> None:
        """A request's last byte is there."""
        super().on_message_complete()
        self._within_request = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Let the request wait for its turn."""
        if self.overload is None:
            super()._start_asgi_task(cycle, app)
        else:
            self.overload.begin(cast(dict[str, Any], cycle.scope), partial(self._begin, cycle, app))

    def _begin(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not cycle.disconnected:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """A request was answered."""
        super().on_response_complete()
        if self._num_asked and self.overload is not None:
            self.overload.load.end()
            self._num_asked -= 1

    def data_received(self, data: bytes) -> None:
        """Refuse what would be late, else parse; the common case, a whole request at once, sets no timer."""
        if self.overload is not None and self._is_between() and (refusal := self.overload.refusal(data)):
            self.transport.write(refusal)
            self._wait_for_next()
            return
        if b"pgrade:" in data and not self._within_request:
            data = _without_upgrade(data)
        self._num_header_bytes += len(data)  # a request that begins in `data` counts from nought
        super().data_received(data)
        if not self._within_request:
            self._finish_request()
            return
        if self._slow is None and not self.transport.is_closing():
            self._slow = self.loop.call_later(REQUEST_WITHIN_S, self._too_slow)
        if self._within_headers and self._num_header_bytes > MAX_HEADER_BYTES:
            self._refuse(ApiError(431, "headers_too_large", f"expected headers of at most {MAX_HEADER_BYTES} bytes"))

    def pause_writing(self) -> None:
        """The client does not read: give it some time."""
        super().pause_writing()
        self._stalled = self.loop.call_later(ANSWER_WITHIN_S, self._drop)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._finish_answer()

    def _is_between(self) -> bool:
        """Whether nothing of a request is here and nothing has to be answered yet."""
        return not self._within_request and (self.cycle is None or self.cycle.response_complete)

    def _wait_for_next(self) -> None:
        """As uvicorn does after an answer."""
        self._finish_request()
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _finish_request(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _finish_answer(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _drop(self) -> None:
        """Hang up, and have the kernel forget what was not read instead of keeping it for nobody."""
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()

    def _too_slow(self) -> None:
        if self.flow.read_paused:  # the rest waits here, behind requests that are still being answered
            self._slow = self.loop.call_later(REQUEST_WITHIN_S, self._too_slow)
            return
        message = f"expected the whole request within {REQUEST_WITHIN_S:g} s; send it at once"
        self._refuse(ApiError(408, "request_too_slow", message))

    def _refuse(self, error: ApiError) -> None:
        """Say why, unless nothing was asked or another answer is on its way, and hang up."""
        busy = self.cycle is not None and not self.cycle.response_complete
        answered = self.cycle is not None and self.cycle.response_started
        if self._within_request and not (busy if self._within_headers else answered):
            body = error.body()
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[error.status] + head + body)
        self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """A request without its offer of another protocol, which a server may ignore: httptools would skip the body.

    Java's HttpClient makes the offer with the first request of each connection.
    """
    head, blank, rest = data.partition(b"\r\n\r\n")
    return UPGRADE.sub(b"", head) + blank + rest
