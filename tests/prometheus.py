"""A Prometheus server of the tests' own, from the program of this machine."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.terminal import free_port


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=10)

    def get(self, path: str, **parameters: Any) -> Any:
        """The `data` of an answer; what Prometheus refuses is an AssertionError in its words."""
        answer = self.http.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", f"{parameters}: {answer['error']}"
        return answer["data"]

    def series(self, query: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        result: list[dict[str, Any]] = self.get("query", query=query)["result"]
        return result

    def wait_for(self, query: str, timeout_s: float = 20) -> None:
        """Until the query has a result."""
        deadline = time.monotonic() + timeout_s
        while not self.series(query):
            assert time.monotonic() < deadline, f"no result within {timeout_s} s: {query}"
            time.sleep(0.2)


def program() -> str | None:
    """Where Prometheus is, if it is installed."""
    return shutil.which("prometheus")


@contextmanager
def running(folder: Path, config: Mapping[str, Any]) -> Iterator[Prometheus]:
    """A server with this configuration, its data below `folder`, until the block ends."""
    (folder / "prometheus.yml").write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    port = free_port()
    command = [
        "prometheus", "--config.file", "prometheus.yml", "--storage.tsdb.path", "data",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=folder)
    server = Prometheus(f"http://127.0.0.1:{port}")
    try:
        _wait_until_ready(server, process)
        yield server
    finally:
        server.http.close()
        process.terminate()
        process.wait(10)


def _wait_until_ready(server: Prometheus, process: "subprocess.Popen[bytes]", timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        assert process.poll() is None, f"prometheus ended with {process.returncode}"
        try:
            if server.http.get("/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"prometheus was not ready within {timeout_s} s")
