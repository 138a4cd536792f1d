"""The service as a real process: start, size, answers, and an orderly end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import sqlalchemy as sa

from bento import database
from bento.metrics import Metrics
from bento.request_log import SPOOLED_WITHIN_S, RequestLog
from tests.logged import logged_ids, wait_until
from tests.service import service_process, wait_until_ready

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = "import json, sys, bento.service, bento.app; print(json.dumps(sorted(sys.modules)))"
SUPERVISOR = "import json, sys, bento.service; print(json.dumps(sorted(sys.modules)))"


def modules_after(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_service_imports_nothing_of_the_training_stack() -> None:
    heavy = {"torch", "transformers", "mlflow", "prefect", "pandas", "scipy", "sklearn", "optimum", "datasets"}
    assert not modules_after(IMPORTED) & heavy


def test_the_supervising_process_does_not_load_the_runtime() -> None:
    assert not modules_after(SUPERVISOR) & {"onnxruntime", "sqlalchemy", "tokenizers"}


@pytest.fixture
def process(model: Path, state: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with service_process(model, state) as started:
        yield started


def resident_bytes(pid: int) -> int:
    parent = psutil.Process(pid)
    return sum(process.memory_info().rss for process in (parent, *parent.children(recursive=True)))


@pytest.mark.slow
def test_a_real_process_starts_answers_stays_small_and_ends_without_a_failed_request(
    process: tuple[subprocess.Popen[bytes], str],
) -> None:
    server, url = process
    wait_until_ready(url)
    assert resident_bytes(server.pid) < 400e6
    assert "retort_model_info" in httpx.get(f"{url}/metrics").text
    assert httpx.get(f"{url}/").text.startswith("<!doctype html>")
    assert "/predict" in httpx.get(f"{url}/docs.json").json()["paths"]
    assert httpx.post(f"{url}/predict", content=b"x" * 10_000_000).status_code == 413
    assert httpx.get(f"{url}/nope").json()["error"]["code"] == "not_found"

    failures: list[object] = []
    answered: list[int] = []
    draining = threading.Event()

    def load() -> None:
        with httpx.Client() as http:
            while not draining.is_set():
                response = http.post(f"{url}/predict", json={"texts": ["my card"] * 20})
                if response.status_code != 200:
                    failures.append(response.text)
                answered.append(len(response.json()["predictions"]))

    clients = [threading.Thread(target=load) for _ in range(3)]
    for client in clients:
        client.start()
    time.sleep(0.3)
    server.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert httpx.get(f"{url}/readyz").status_code == 503
    draining.set()
    for client in clients:
        client.join()
    assert server.wait(20) == 0
    assert not failures
    with database.engine().connect() as connection:
        num_rows = connection.scalar(sa.select(sa.func.count()).select_from(database.requests))
    assert num_rows == sum(answered)


@pytest.mark.slow
def test_a_killed_service_has_logged_what_it_answered_before_the_stated_bound(
    process: tuple[subprocess.Popen[bytes], str],
) -> None:
    supervisor, url = process
    wait_until_ready(url)
    answered: list[tuple[float, str]] = []

    def load() -> None:
        with httpx.Client() as http, contextlib.suppress(httpx.TransportError):  # the kill ends it
            while True:
                answer = http.post(f"{url}/predict", json={"texts": ["my card"] * 5}).json()
                answered.append((time.monotonic(), answer["request_id"]))

    clients = [threading.Thread(target=load) for _ in range(3)]
    for client in clients:
        client.start()
    time.sleep(1.5)
    processes = [psutil.Process(supervisor.pid), *psutil.Process(supervisor.pid).children(recursive=True)]
    killed_at = time.monotonic()
    for each in reversed(processes):
        each.kill()
    for client in clients:
        client.join()
    supervisor.wait()

    log = RequestLog(Metrics())
    log.start()
    wait_until(lambda: not list(log.spool.folder.glob("*/*.jsonl")))
    assert log.close()
    stored = logged_ids()
    lost_s = [killed_at - at for at, request_id in answered if stored.count(request_id) != 5]
    assert len(answered) > 20
    assert max(lost_s, default=0.0) < SPOOLED_WITHIN_S


@pytest.mark.skipif(sys.platform != "linux", reason="expected Linux, whose kernel tells a worker of its parent's death")
def test_a_killed_supervisor_takes_its_worker_along_and_frees_the_port(
    process: tuple[subprocess.Popen[bytes], str],
) -> None:
    supervisor, url = process
    wait_until_ready(url)
    workers = psutil.Process(supervisor.pid).children(recursive=True)
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    try:
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", int(url.rpartition(":")[2])))
    finally:
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
