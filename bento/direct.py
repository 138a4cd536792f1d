"""POST /predict from its bytes to its handler, when it is a plain request, as nearly all are.

uvicorn's parser calls back for every header, and its scope, its request cycle and the layers of ASGI around the handler
cost more than the handler. What is not plain (chunks, an offer of another protocol, a page of another origin, several
requests at once, the last of a connection) goes through them, and is answered alike.
"""

import asyncio
import re
from collections.abc import Callable, MutableMapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

LINE = b"POST /predict HTTP/1.1\r\n"
HEAD_END = b"\r\n\r\n"
HEAD = re.compile(rb"POST /predict HTTP/1\.1\r\n((?:[A-Za-z0-9-]++:[\t -~\x80-\xff]*+\r\n){1,64}+)\r\n")
"""Possessive throughout, so that a head which does not match costs time in proportion to its length only."""
FIELD = re.compile(rb"([A-Za-z0-9-]++):([^\r\n]*+)\r\n")
UNUSUAL = frozenset((b"expect", b"origin", b"transfer-encoding", b"upgrade"))
"""Headers that change what the answer must look like or how the request is read."""
MAX_LENGTH_DIGITS = 7
MAX_KNOWN_BYTES = 2048
MAX_KNOWN = 256
"""A client's heads differ in the body's length alone: that many that are no longer than this are read only once."""
MAX_HELD_BYTES = 1 << 16
"""A plain request is waited for up to this length; many clients send its head and its body one after the other."""

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case, and values."""


class Head(NamedTuple):
    """Of a plain POST to /predict."""

    headers: Headers
    body_start: int
    end: int
    """Where in the bytes its body begins and ends."""


def read_head(data: bytes | bytearray) -> Head | None:
    """The head of the plain request that `data` begins with; None for part of a head, and for all that is not plain."""
    if not data.startswith(LINE):
        return None
    body_start = data.find(HEAD_END) + len(HEAD_END)
    if body_start < len(LINE):
        return None
    head = bytes(data[:body_start])
    return _known_head(head) if body_start <= MAX_KNOWN_BYTES else _read_head(head)


def _read_head(data: bytes) -> Head | None:
    """As `read_head`, of all that comes before the body."""
    head = HEAD.fullmatch(data)
    if head is None:
        return None
    headers = tuple((name.lower(), value.strip(b" \t")) for name, value in FIELD.findall(head[1]))
    length: bytes | None = None
    for name, value in headers:
        if name == b"content-length":
            if length is not None or not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
                return None
            length = value
        elif name in UNUSUAL or (name == b"connection" and value.lower() != b"keep-alive"):
            return None
    return None if length is None else Head(headers, len(data), len(data) + int(length))


_known_head = lru_cache(MAX_KNOWN)(_read_head)


class Exchange:
    """One request and its answer, in place of uvicorn's `RequestResponseCycle`, of which it has what a connection reads
    and sets."""

    __slots__ = ("_gone", "body", "disconnected", "keep_alive", "response_complete", "response_started")

    def __init__(self, body: bytes) -> None:
        """A request that is here to its last byte."""
        self.body: bytes | None = body
        self.keep_alive = True
        self.disconnected = self.response_started = self.response_complete = False
        self._gone: Callable[[], None] | None = None

    async def receive(self) -> MutableMapping[str, Any]:
        """As ASGI has it: the body, then, when it happens, that the client is gone."""
        if self.body is not None:
            body, self.body = self.body, None
            return {"type": "http.request", "body": body, "more_body": False}
        gone = asyncio.Event()
        self.watch(gone.set)
        await gone.wait()
        return {"type": "http.disconnect"}

    def watch(self, gone: Callable[[], None]) -> Callable[[], object]:
        """Call `gone` when the client goes away or has gone, unless what is returned is called before."""
        self._gone = gone
        if self.disconnected:
            gone()
        return self._forget

    def _forget(self) -> None:
        self._gone = None

    @property
    def message_event(self) -> "Exchange":
        """What a connection sets when it has changed `disconnected`."""
        return self

    def set(self) -> None:
        """Part of an event."""
        if self.disconnected and self._gone is not None:
            self._gone()


def response_bytes(response: Response, more: Headers, *, keep_alive: bool) -> bytes:
    """A whole HTTP/1.1 answer with `more` headers before its own."""
    parts = [STATUS_LINE[response.status_code]]
    for name, value in (*more, *response.raw_headers):
        parts += (name, b": ", value, b"\r\n")
    if not keep_alive and "connection" not in response.headers:
        parts.append(b"connection: close\r\n")
    return b"".join((*parts, b"\r\n", response.body))
