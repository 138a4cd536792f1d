"""The service as a process of its own, as BentoML starts it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def service(model: Path, home: Path, **settings: str) -> Iterator[str]:
    """Start the service with `RETORT_*` set from `settings`, wait until it is ready, give its URL, end it."""
    with service_process(model, home, **settings) as (_, url):
        wait_until_ready(url)
        yield url


@contextmanager
def service_process(model: Path, home: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The supervising process, just started, and its URL; ended with its workers."""
    port = free_port()
    own = {"RETORT_MODEL": str(model), "RETORT_HOME": str(home), "BENTOML_HOME": str(home / "bentoml")}
    environment = os.environ | own | {"BENTOML_DO_NOT_TRACK": "true"} | settings
    command = [sys.executable, "-m", "bentoml", "serve", "bento.service:Retort", "--host", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            child.kill()
        process.kill()
        process.wait()


def wait_until_ready(url: str, timeout_s: float = 120) -> None:
    """Return when predictions are answered."""
    started = time.monotonic()
    while time.monotonic() - started < timeout_s:
        with contextlib.suppress(httpx.TransportError):  # not listening yet
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        time.sleep(0.05)
    pytest.fail(f"not ready within {timeout_s} s")
