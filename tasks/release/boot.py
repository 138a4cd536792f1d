"""The boot check: start the very Bento that was built, and see it answer as it was evaluated.

Together with the gate this is the second blessing without which nothing is promoted.
"""

import contextlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bento.errors import ReleaseError
from bento.predictor import Predictor
from tasks.gate import judge_limit
from tasks.release.package import Package

log = logging.getLogger("retort.boot")

READY_TIMEOUT_S = 60.0
BAD_REQUESTS: tuple[Any, ...] = ({}, {"text": ""}, {"text": 7}, {"text": "a", "unknown": 1}, [], {"texts": []})
NUM_TIMED = 100


@dataclass(frozen=True, kw_only=True)
class BootCheck:
    """What the started Bento showed."""

    passed: bool
    checks: dict[str, str]
    """Check -> `ok`, or what was expected and got."""
    ready_s: float
    latency_ms_p95: float
    """Of one sentence over HTTP."""

    def evidence(self) -> dict[str, Any]:
        """As JSON-able values, for the ledger."""
        return asdict(self)


def check_boot(
    package: Package, *, sha256: str, golden: Sequence[Any], latency_p95_ms: float | None, name: str
) -> BootCheck:
    """Start `package` on a free port, in a temporary home, and check it. Raises: ReleaseError if it never starts."""
    expected = Predictor(package.model_path)
    with serving(package, name) as (url, ready_s), httpx.Client(base_url=url, timeout=10) as client:
        checks = {
            "identity": _identity(client, sha256),
            "golden": _golden(client, expected, golden),
            "refusals": _refusals(client),
        }
        p95_ms = _latency_p95_ms(client, golden)
        if latency_p95_ms is not None:
            verdict = judge_limit("latency_p95_ms", p95_ms, latency_p95_ms, "ms")
            checks["latency"] = "ok" if verdict.outcome == "pass" else f"p95 over HTTP is {verdict.reason}"
    passed = all(found == "ok" for found in checks.values())
    return BootCheck(passed=passed, checks=checks, ready_s=ready_s, latency_ms_p95=p95_ms)


@contextlib.contextmanager
def serving(package: Package, name: str) -> Iterator[tuple[str, float]]:
    """Base URL and seconds until ready of a process that serves `package`; it is stopped at the end."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="retort-boot-") as state:
        log_path = Path(state) / "serve.log"
        environment = {key: value for key, value in os.environ.items() if key not in ("RETORT_FOLLOW", "RETORT_MODEL")}
        environment |= {"RETORT_HOME": state, "RETORT_DATABASE_URL": f"sqlite:///{state}/retort.db"}
        command = [sys.executable, "-m", "bentoml", "serve", str(package.path), "--host", "127.0.0.1", "-p", str(port)]
        start = time.perf_counter()
        with log_path.open("wb") as output:
            process = subprocess.Popen(
                [*_dying_with_us(), *command], env=environment, stdout=output, stderr=output, cwd=state
            )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, process, log_path)
            yield url, time.perf_counter() - start
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _dying_with_us() -> list[str]:
    """Words before a command that end it when this process is killed, where util-linux has them."""
    return ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        time.sleep(0.05)
    tail = log_path.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise ReleaseError(
        f"boot check: the Bento was not ready within {READY_TIMEOUT_S:.0f} s; its log ends with:\n{tail}"
    )


def _identity(client: httpx.Client, sha256: str) -> str:
    found = client.get("/identity").json().get("model_sha256")
    return "ok" if found == sha256 else f"expected model_sha256 {sha256}, got {found}"


def _golden(client: httpx.Client, expected: Predictor, golden: Sequence[Any]) -> str:
    """Each golden sentence, alone, must get the answer that the evaluated model gives it."""
    for text in golden:
        wanted = {name: values[0] for name, values in expected.answers([text], expected.predict([text])).items()}
        fields = {"text": text} if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}
        response = client.post("/predict", json=fields)
        if response.status_code != 200:
            return f"expected 200 for {text!r}, got {response.status_code}: {response.text[:200]}"
        answer = response.json()["predictions"][0]
        if not all(_same(value, answer.get(name)) for name, value in wanted.items()):
            return f"expected {json.dumps(wanted)[:200]} for {text!r}, got {json.dumps(answer)[:200]}"
    return "ok"


def _same(expected: Any, got: Any) -> bool:
    """Whether an answered value is the evaluated one: numbers to six digits, all else exactly."""
    if isinstance(expected, dict):
        return (
            isinstance(got, dict)
            and got.keys() == expected.keys()
            and all(_same(expected[key], got[key]) for key in got)
        )
    if isinstance(expected, list):
        return isinstance(got, list) and len(got) == len(expected) and all(map(_same, expected, got))
    if isinstance(expected, float):
        return isinstance(got, float) and bool(np.isclose(got, expected, atol=1e-6))
    return bool(expected == got)


def _refusals(client: httpx.Client) -> str:
    for body in BAD_REQUESTS:
        status = client.post("/predict", json=body).status_code
        if not 400 <= status < 500:
            return f"expected a 4xx for {json.dumps(body)}, got {status}"
    return "ok"


def _latency_p95_ms(client: httpx.Client, golden: Sequence[Any]) -> float:
    latency_ms = []
    for at in range(NUM_TIMED):
        text = golden[at % len(golden)]
        fields = {"text": text} if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}
        start = time.perf_counter()
        client.post("/predict", json=fields)
        latency_ms.append((time.perf_counter() - start) * 1e3)
    return float(np.quantile(latency_ms, 0.95))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
