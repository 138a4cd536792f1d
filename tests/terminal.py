"""`retort` as a person runs it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
SMOKE = ROOT / "configs" / "smoke.yaml"


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """`retort` as a person runs it, with a state folder of its own."""

    home: Path
    more: tuple[tuple[str, str], ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """This process's, without any server of the developer's."""
        gone = ("RETORT_", "PREFECT_", "MLFLOW_", "BENTOML_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(gone)}
        return kept | {"RETORT_HOME": str(self.home), "COLUMNS": "200"} | dict(self.more)

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """The command, running."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        return subprocess.Popen(command, env=self.environment, cwd=self.home.parent, text=True, **options)

    def run(self, *arguments: str, timeout: float = 900) -> "subprocess.CompletedProcess[str]":
        """The command's exit code, stdout and stderr."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        return subprocess.run(
            command, env=self.environment, cwd=self.home.parent, text=True, capture_output=True, timeout=timeout
        )

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The command's JSON document; its exit code is checked."""
        done = self.run(*arguments, "--json")
        assert done.returncode == code, done.stderr[-3000:]
        return json.loads(done.stdout)


@contextmanager
def serving(terminal: Terminal, name: str) -> Iterator[str]:
    """Base URL of `retort serve NAME`."""
    port = free_port()
    process = terminal.start("serve", name, "--port", str(port))
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(url: str, process: "subprocess.Popen[str]", timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{url}: the process ended with {process.returncode}"
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"{url} did not answer within {timeout_s} s")
