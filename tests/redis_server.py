"""A real Redis on loopback, for the tests of what is shared through one."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class RedisServer:
    """A running Redis."""

    process: subprocess.Popen[bytes]
    url: str


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """Start a Redis with its files in `folder`; the test is skipped where the program is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no")
    process = subprocess.Popen([program, *settings], stdout=subprocess.DEVNULL)
    try:
        _wait_until_open(port)
        yield RedisServer(process, f"redis://127.0.0.1:{port}/0")
    finally:
        process.kill()
        process.wait()


def _wait_until_open(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """The process hangs meanwhile: its socket is open, and nothing is answered."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
