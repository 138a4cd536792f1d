"""Local receivers of notifications: a web server and a mail server that keep what they got."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Received:
    """Where a receiver listens, and what has come."""

    port: int = 0
    bodies: list[bytes] = field(default_factory=list)
    status: int = 200
    """What a web server answers; a mail server refuses with anything but 200."""


@contextmanager
def web() -> Iterator[Received]:
    """A web server that takes what is posted."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self.send_response(received.status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    with _running(ThreadingHTTPServer(("127.0.0.1", 0), Handler), received):
        yield received


@contextmanager
def mail() -> Iterator[Received]:
    """As much of a mail server as a client needs that sends one mail in clear."""
    received = Received()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 here")
            for line in self.rfile:
                word = line.strip().upper()
                if word == b"DATA":
                    self._say("354 go on")
                    received.bodies.append(self._read_mail())
                    self._say("250 taken" if received.status == 200 else "550 refused")
                elif word == b"QUIT":
                    return self._say("221 bye")
                else:
                    self._say("250 well")
            return None

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

        def _read_mail(self) -> bytes:
            return b"".join(iter(self.rfile.readline, b".\r\n"))

    with _running(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler), received):
        yield received


@contextmanager
def _running(server: socketserver.BaseServer, received: Received) -> Iterator[None]:
    received.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def as_mail(body: bytes) -> EmailMessage:
    """A received mail, parsed."""
    found = message_from_bytes(body, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found
