"""Three real replicas behind HAProxy: one is killed under load, and all are restarted one after the other."""

import itertools
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from bento import database
from tests.replicas import CONFIG, Replica, balanced, haproxy, replicas
from tests.tiny import write_tiny_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(haproxy() is None, reason="expected haproxy; apt-get install haproxy brings it"),
]

NUM_CLIENTS = 4
PAUSE_S = 0.02
"""Between a client's requests, so that a replica that starts finds some processor time."""
SMALL = {"texts": ["my card is lost", "where is my refund"]}
LARGE = {"texts": ["my card is lost " * 1_000] * 8}
"""128 kB, more than the balancer's buffer, so that it cannot send it again."""


class Load:
    """Clients that ask until they are stopped; one of them sends large requests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answered: list[str] = []
        self.failed: list[tuple[dict[str, Any], str]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(at,)) for at in range(NUM_CLIENTS)]

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End every client after its answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, num: int) -> None:
        """Until so many more requests have come to their end."""
        wanted, deadline = self._num_done() + num, time.monotonic() + 30
        while self._num_done() < wanted:
            assert time.monotonic() < deadline, f"{self.url}: fewer than {num} requests in 30 s"
            time.sleep(0.01)

    def _num_done(self) -> int:
        return len(self.answered) + len(self.failed)

    def _ask(self, client: int) -> None:
        with httpx.Client(base_url=self.url, timeout=30) as http:
            for number in itertools.count():
                if self._stop.is_set():
                    return
                time.sleep(PAUSE_S)
                body = (LARGE if client == 0 else SMALL) | {"request_id": f"{id(self)}-{client}-{number}"}
                problem = ask(http, body)
                if problem is None:
                    self.answered.append(body["request_id"])
                else:
                    self.failed.append((body, problem))


def ask(http: httpx.Client, body: dict[str, Any]) -> str | None:
    """What went wrong, or None."""
    try:
        response = http.post("/predict", json=body)
    except httpx.TransportError as error:
        return repr(error)
    return None if response.status_code == 200 else f"{response.status_code}: {response.text}"


@contextmanager
def loaded(url: str) -> Iterator[Load]:
    """Load until the block ends, with a hundred requests before and after it."""
    load = Load(url)
    load.start()
    try:
        load.wait_for(100)
        yield load
        load.wait_for(100)
    finally:
        load.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Replica], str, str]]:
    """Replicas, the balancer's URL, and the database's."""
    folder = tmp_path_factory.mktemp("cluster")
    with replicas(3, write_tiny_model(folder / "model"), folder / "home") as behind, balanced(behind) as url:
        yield behind, url, f"sqlite:///{folder}/home/retort.db"


def logged(url: str) -> Counter[str]:
    """Request id -> its rows in the log."""
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        return Counter(connection.execute(sa.select(database.requests.c.request_id)).scalars())


def test_the_configuration_is_valid() -> None:
    program = haproxy()
    assert program is not None
    own = {f"RETORT_{at}": f"127.0.0.1:{at}" for at in (1, 2, 3)} | {"RETORT_BIND": "127.0.0.1:9"}
    done = subprocess.run([program, "-c", "-f", str(CONFIG)], env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_restarting_one_replica_after_the_other_fails_no_request(cluster: tuple[list[Replica], str, str]) -> None:
    behind, url, database_url = cluster
    with loaded(url) as load:
        for replica in behind:
            assert replica.terminate() == 0
            replica.start()
            replica.wait_until_ready()
            time.sleep(1)
    for replica in behind:
        assert 'retort_arm_requests_total{arm="champion"} 0.0' not in httpx.get(f"{replica.url}/metrics").text
    assert load.failed == []
    time.sleep(1)  # for the log's last rows
    rows = logged(database_url)
    assert all(rows[request_id] in (2, 8) for request_id in load.answered)


def test_killing_a_replica_fails_at_most_what_was_in_flight_on_it(cluster: tuple[list[Replica], str, str]) -> None:
    behind, url, _ = cluster
    with loaded(url) as load:
        behind[0].kill()
    assert len(load.failed) <= NUM_CLIENTS
    assert all(body["texts"] == LARGE["texts"] for body, _ in load.failed)  # small ones were asked again
    with httpx.Client(base_url=url) as http:
        assert [ask(http, body) for body, _ in load.failed] == [None] * len(load.failed)


def test_a_dead_replica_without_retries_would_be_seen(cluster: tuple[list[Replica], str, str]) -> None:
    behind, _, _ = cluster
    with loaded(behind[1].url) as load:
        behind[1].kill()
    assert len(load.failed) > NUM_CLIENTS
