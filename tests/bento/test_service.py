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
from prometheus_client.parser import text_string_to_metric_families

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
    wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 503)
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


def counted(url: str) -> dict[str, float]:
    """Answers to /predict by process, as whichever process takes this connection tells them."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    return {
        sample.labels["process"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "retort_requests_total"
        and (sample.labels["route"], sample.labels["status"]) == ("/predict", "200")
    }


def asked(url: str, number: int) -> None:
    """So many answers, each over a connection of its own."""
    for _ in range(number):
        assert httpx.post(f"{url}/predict", json={"text": "my card"}).status_code == 200


@pytest.mark.slow
def test_several_processes_answer_on_one_port_outlive_one_of_them_and_end_together(model: Path, state: Path) -> None:
    with service_process(model, state, RETORT_PROCESSES="2") as (supervisor, url):
        wait_until_ready(url)
        wait_until(lambda: httpx.get(f"{url}/metrics").text.count("\nretort_ready{") == 2, 60)
        asked(url, 60)
        first = counted(url)
        assert sum(first.values()) == 60
        assert len(first) == 2, "each got some"
        assert counted(url) == first, "it does not matter who is asked"

        time.sleep(SPOOLED_WITHIN_S)
        worker = psutil.Process(supervisor.pid).children()[0]
        worker.kill()
        worker.wait(10)
        asked(url, 20)
        wait_until(lambda: httpx.get(f"{url}/metrics").text.count("\nretort_ready{") == 2, 60)
        asked(url, 60)
        assert len(counted(url)) == 2
        assert max(counted(url).values()) > max(first.values()), "the one that lived went on counting"

        folders = {Path(path).parent for path in unix_sockets(supervisor.pid)}
        assert len(folders) == 1
        with under_load(url) as answered:
            time.sleep(0.3)
            supervisor.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        assert supervisor.wait(20) == 0
        assert not folders.pop().exists(), "nothing is left behind"
    assert set(answered) == {200}
    assert not list((state / "spool").glob("*/*.jsonl"))
    with database.engine().connect() as connection:
        num_rows = connection.scalar(sa.select(sa.func.count()).select_from(database.requests))
    assert num_rows == 60 + 20 + 60 + len(answered)


@contextlib.contextmanager
def under_load(url: str) -> Iterator[list[int]]:
    """Three clients that ask one after the other; the statuses of their answers."""
    statuses, over = list[int](), threading.Event()

    def ask() -> None:
        with httpx.Client() as http:
            while not over.is_set():
                statuses.append(http.post(f"{url}/predict", json={"text": "my card"}).status_code)

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        yield statuses
    finally:
        over.set()
        for client in clients:
            client.join()


def unix_sockets(pid: int) -> list[str]:
    """Where a process and its children meet."""
    parent = psutil.Process(pid)
    found = [each.net_connections("unix") for each in (parent, *parent.children())]
    return [str(one.laddr) for many in found for one in many if "/retort-" in str(one.laddr)]


def test_a_number_of_processes_that_is_none_is_said_without_a_traceback(
    model: Path, state: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with service_process(model, state, RETORT_PROCESSES="many") as (supervisor, _):
        assert supervisor.wait(60) != 0
    said = "".join(capfd.readouterr())
    assert "RETORT_PROCESSES: expected a whole number from 1 to 64, got 'many'" in said
    assert "Traceback" not in said


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
