"""uvicorn's HTTP/1.1 connection with a bound on what a client may cost that sends or reads slowly, or never ends.

uvicorn times only the pause between two requests: a connection that dribbles its headers, its body or its reading of
the answer would be held for ever, and headers of any length would be kept in memory.
"""

import asyncio
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, cast

from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from bento.client import CLIENT
from bento.direct import MAX_HELD_BYTES, Exchange, Head, Headers, read_head, response_bytes
from bento.overload import ARRIVED, Load, Overload
from bento.request_ids import SCOPE_KEY, RequestIds
from bento.schemas import ApiError

REQUEST_WITHIN_S = 20.0
"""From a request's first byte to its last, and from a connection to its first request: 1 MiB at 52 kB/s."""
ANSWER_WITHIN_S = 20.0
"""How long a client may leave what was sent to it unread."""
KEEP_ALIVE_S = 75
"""How long a connection may stay idle, if BentoML is given no longer time: more than balancers keep theirs (nginx and
AWS 60 s), since whoever hangs up first may cut off a request that is on its way. BentoML's default is 5 s."""
MAX_HEADER_BYTES = 1 << 16
Endpoint = Callable[[Request], Awaitable[Response]]
UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


class Behind(NamedTuple):
    """What a connection needs of the server behind it."""

    overload: Overload
    predict: Endpoint | None = None
    """Answers plain requests to /predict, which then skip uvicorn; never raises."""


class Held(NamedTuple):
    """A plain request of which the last byte is not here yet; its head is read once, however small the pieces are."""

    head: Head
    so_far: bytearray


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    behind: ClassVar[Behind | None] = None
    """Once the server in this process is ready."""
    num_open: ClassVar[int] = 0
    """Connections of this process."""
    ids: ClassVar[RequestIds] = RequestIds()
    """Of requests that are refused here."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; the first request has to come in time."""
        super().connection_made(transport)
        BoundedProtocol.num_open += 1
        self.timeout_keep_alive = max(self.timeout_keep_alive, KEEP_ALIVE_S)
        self._within_headers = self._within_request = False
        self._num_header_bytes = 0
        """Read since the request began or its body last went on: headers, trailers and the lengths of chunks."""
        self._is_counted = False
        """Whether a request of this connection is in flight: one at most, since the next begins when it is answered."""
        self._held: Held | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._slow: asyncio.TimerHandle | None = self.loop.call_later(REQUEST_WITHIN_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        BoundedProtocol.num_open -= 1
        if self._is_counted and self.behind is not None:
            self.behind.overload.load.give_up(1)
        self._is_counted = False
        self._finish_request()
        self._finish_answer()

    def on_message_begin(self) -> None:
        """A request's first byte is there."""
        super().on_message_begin()
        self._within_headers = self._within_request = True
        self._num_header_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header is there, or a trailer, which nothing here reads and which must not pass as a header."""
        if self._within_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request's headers are there."""
        super().on_headers_complete()
        self._within_headers = False
        if self.behind is not None:
            cast(dict[str, Any], self.scope)[ARRIVED] = time.perf_counter()

    def on_body(self, body: bytes) -> None:
        """More of a request's body is there."""
        self._num_header_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request's last byte is there."""
        super().on_message_complete()
        self._within_request = False
        self._finish_request()
        if self.behind is not None and not self.cycle.response_complete:
            self._count(self.behind.overload.load)

    def _count(self, load: Load) -> None:
        if not (self._is_counted or self.flow.write_paused):
            load.begin()
            self._is_counted = True

    def _should_upgrade(self) -> bool:
        """Never: uvicorn would hand the connection to its WebSocket protocol, and its end would not be seen here."""
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """An offer of another protocol gets the last answer: where the request ends the parser does not say."""
        self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Let the request wait for its turn."""
        if self.behind is None:
            super()._start_asgi_task(cycle, app)
            return
        if not cycle.more_body:  # it waited for another one's answer
            self._count(self.behind.overload.load)
        self.behind.overload.begin(cast(dict[str, Any], cycle.scope), partial(self._begin, cycle, app))

    def _begin(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not cycle.disconnected:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """A request was answered."""
        self._end_count()
        super().on_response_complete()

    def _end_count(self) -> None:
        if self._is_counted and self.behind is not None:
            self.behind.overload.load.end()
            self._is_counted = False

    def data_received(self, data: bytes) -> None:
        """Answer a plain request or refuse what would be late, else parse; a whole request at once sets no timer."""
        if self.behind is not None and (self._held is not None or self._is_between()):
            data = self._take_plain(data, self.behind)
        if data:
            self._parse(data)
        if not self._within_request:
            self._finish_request()
            return
        if self._slow is None and not self.transport.is_closing():
            self._slow = self.loop.call_later(REQUEST_WITHIN_S, self._too_slow)
        if self._num_header_bytes > MAX_HEADER_BYTES:
            self._refuse(ApiError(431, "headers_too_large", f"expected headers of at most {MAX_HEADER_BYTES} bytes"))

    def _parse(self, data: bytes) -> None:
        """The long way; nothing is read behind the last request of a connection."""
        if self.cycle is not None and not (self.cycle.keep_alive or self._within_request):
            return
        if b"pgrade:" in data and not self._within_request:
            data = _without_upgrade(data)
        self._num_header_bytes += len(data)  # a request that begins in `data` counts from nought
        super().data_received(data)
        if self.timeout_keep_alive_task is None and self._is_between():  # blank lines, or the rest of what was refused
            self._wait_for_next()

    def _take_plain(self, data: bytes, behind: Behind) -> bytes:
        """Answer, refuse or hold a plain request. Returns what has to go the long way."""
        so_far: bytes | bytearray = data
        if self._held is None:
            head = read_head(data)
        else:
            head, so_far = self._held
            so_far += data
        if head is None or len(so_far) > head.end or self.flow.write_paused:
            return self._let_go(so_far)
        if len(so_far) < head.end:
            return self._hold(head, so_far) if head.end <= MAX_HELD_BYTES else self._let_go(so_far)
        self._held, self._within_request = None, False
        if refusal := behind.overload.refusal(head.headers):
            self.transport.write(refusal)
            self._wait_for_next()
            return b""
        if behind.predict is None:
            return bytes(so_far)
        self._answer(head.headers, bytes(so_far[head.body_start :]), behind.overload, behind.predict)
        return b""

    def _hold(self, head: Head, so_far: bytes | bytearray) -> bytes:
        if self._held is None:
            self._unset_keepalive_if_required()
            self._held = Held(head, bytearray(so_far))
            self._within_request, self._within_headers = True, False
        return b""

    def _let_go(self, so_far: bytes | bytearray) -> bytes:
        self._held, self._within_request = None, False
        return bytes(so_far)

    def shutdown(self) -> None:
        """Answer what has begun to come, then end."""
        if self._held is not None:
            self._parse(self._let_go(self._held.so_far))
        super().shutdown()

    def _answer(self, headers: Headers, body: bytes, overload: Overload, predict: Endpoint) -> None:
        """Let a plain request wait for its turn."""
        self._unset_keepalive_if_required()
        exchange = self.cycle = Exchange(body)  # type: ignore[assignment]
        self._count(overload.load)
        scope: dict[str, Any] = {
            "type": "http", "method": "POST", "path": "/predict", "headers": headers, "client": self.client,
            ARRIVED: time.perf_counter(), SCOPE_KEY: overload.ids.of(headers), CLIENT: exchange,
        }  # fmt: skip
        overload.turns.take(partial(self._begin_exchange, exchange, predict, Request(scope, exchange.receive)))

    def _begin_exchange(self, exchange: Exchange, predict: Endpoint, request: Request) -> None:
        if not exchange.disconnected:
            task = self.loop.create_task(self._respond(exchange, predict, request))
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)

    async def _respond(self, exchange: Exchange, predict: Endpoint, request: Request) -> None:
        try:
            response = await predict(request)
        except BaseException:
            self.transport.close()
            raise
        if not exchange.disconnected:
            self._send(exchange, response, request.scope[SCOPE_KEY])

    def _send(self, exchange: Exchange, response: Response, request_id: str) -> None:
        exchange.response_started = exchange.response_complete = True
        more = [*self.server_state.default_headers, (b"x-request-id", request_id.encode())]
        self.transport.write(response_bytes(response, more, keep_alive=exchange.keep_alive))
        if not exchange.keep_alive or "connection" in response.headers:
            self.transport.close()
        self.on_response_complete()

    def eof_received(self) -> None:
        """The client sends no more: say so where something is missing; whoever waits for an answer counts as gone."""
        if self._within_request:
            self._refuse(ApiError(400, "incomplete_request", "the request ended before its last byte; send all of it"))

    def pause_writing(self) -> None:
        """The client does not read: give it some time, in which what it asked for holds up no others."""
        super().pause_writing()
        self._end_count()
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
        """Say why, unless nothing was asked or this or another answer is on its way, and hang up."""
        busy = self.cycle is not None and not self.cycle.response_complete
        answered = self._held is None and self.cycle is not None and self.cycle.response_started
        unanswered = self._within_request and not (busy if self._within_headers else answered)
        if unanswered and not self.transport.is_closing():
            self._write_refusal(error)
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, which uvicorn would do in plain text and without an id."""
        message = (
            "expected an HTTP/1.1 request of a known method, with one right Content-Length and a URL below "
            f"{MAX_HEADER_BYTES} bytes, got none that can be read; send it anew"
        )
        self._write_refusal(ApiError(400, "invalid_http", message))
        self.transport.close()

    def _write_refusal(self, error: ApiError) -> None:
        headers = self.headers if self._held is None else self._held.head.headers
        more = [*self.server_state.default_headers, (b"x-request-id", self.ids.of(headers).encode())]
        response = Response(error.body(), error.status, error.headers, "application/json")
        self.transport.write(response_bytes(response, more, keep_alive=False))


def _without_upgrade(data: bytes) -> bytes:
    """A request without its offer of another protocol, which a server may ignore: httptools would skip the body.

    Java's HttpClient makes the offer with the first request of each connection.
    """
    head, blank, rest = data.partition(b"\r\n\r\n")
    return UPGRADE.sub(b"", head) + blank + rest
