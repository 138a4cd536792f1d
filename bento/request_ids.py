"""`X-Request-Id` on every answer, and the sampled access log, which names a request by it."""

import logging
import os
import random
import re
import sys
import time
from collections.abc import Iterable

import orjson
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:@/+=-]{1,64}")
"""Longer ones, and signs that a log line or a header could be forged with, are replaced."""
ID_BYTES = 10
SCOPE_KEY = "retort.request_id"


class RequestIds:
    """Unguessable ids, since whoever knows one may say what was right; the system is asked for many at a time.

    They begin with the time, so that the log's index grows at its end and not all over.
    """

    def __init__(self) -> None:
        """Empty at first."""
        self._random = b""

    def new(self) -> str:
        """A fresh id of 32 hexadecimal digits: milliseconds since the epoch in 12 of them, and 80 random bits."""
        if not self._random:
            self._random = os.urandom(ID_BYTES * 256)
        taken, self._random = self._random[:ID_BYTES], self._random[ID_BYTES:]
        return f"{time.time_ns() // 1_000_000:012x}{taken.hex()}"

    def of(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The id that came in `headers`, if it is one, else a new one."""
        found = next((value for name, value in headers if name == b"x-request-id"), b"")
        return found.decode() if REQUEST_ID.fullmatch(found) else self.new()


class WithRequestId:
    """ASGI middleware: the caller's `X-Request-Id`, or a new one, comes back with whatever is answered."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` answers."""
        self.app = app
        self.ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope[SCOPE_KEY] = self.ids.of(scope["headers"])
        request_id = scope[SCOPE_KEY].encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-request-id", request_id))
            await send(message)

        await self.app(scope, receive, send_with_id)


def request_id(request: Request) -> str:
    """The id that goes back with the answer to `request`."""
    return str(request.scope[SCOPE_KEY])


class AccessLog:
    """JSON lines about a share of the requests on standard error; never their texts, keys or addresses."""

    def __init__(self, share: float) -> None:
        """`share` of the requests, drawn at random, from 0 to 1."""
        self.share = share
        self.logger = logging.getLogger("retort.access")
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False  # a line is JSON only without the prefix that other lines get
        self.logger.handlers = [logging.StreamHandler(sys.stderr)]

    def write(self, request: Request, route: str, status: int, seconds: float) -> None:
        """One line, if the request is drawn."""
        if self.draws():
            self.write_line(request_id(request), request.method, route, status, seconds)

    def draws(self) -> bool:
        """Whether the next request is one of those with a line."""
        return random.random() < self.share

    def write_line(self, request_id: str, method: str, route: str, status: int, seconds: float) -> None:
        """One line."""
        line = {"time": time.time(), "id": request_id, "method": method, "route": route, "status": status}
        self.logger.info(orjson.dumps(line | {"ms": round(seconds * 1000, 3)}).decode())
