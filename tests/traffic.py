"""Real service processes that follow the name `tiny`, a balancer that asks them whether they are ready, and clients."""

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.replicas import Replica

NUM_CLIENTS = 4
PAUSE_S = 0.02
"""Between a client's requests, so that the load is steady and no overload."""

WINDOW = 20
"""Answers in a row that tell which versions serve."""


class Follower(Replica):
    """A replica that follows the name `tiny` and computes every answer."""

    def __init__(self, state: Path, number: int) -> None:
        own = {"RETORT_FOLLOW": "tiny", "RETORT_HOME": str(state), "RETORT_CACHE_MB": "0", "BENTOML_DO_NOT_TRACK": "1"}
        super().__init__(os.environ | own | {"BENTOML_HOME": str(state / f"bentoml-{number}")})

    def is_ready(self) -> bool:
        """As a balancer asks."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        return False

    def metric(self, line: str) -> float:
        """The value of one line of /metrics, 0 when it is not there."""
        for found in httpx.get(f"{self.url}/metrics").text.splitlines():
            if found.startswith(f"{line} "):
                return float(found.rpartition(" ")[2])
        return 0.0


@contextlib.contextmanager
def followers(state: Path, num: int = 1) -> Iterator[list[Follower]]:
    """Replicas that are ready."""
    started: list[Follower] = []
    try:
        for number in range(num):
            started.append(Follower(state, number))
        for replica in started:
            replica.wait_until_ready()
        yield started
    finally:
        for replica in started:
            replica.kill()


def wait_for(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    """Poll until `condition` holds."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"it did not happen within {timeout_s} s"
        time.sleep(0.05)


@dataclass(kw_only=True)
class Answer:
    """What one request got."""

    key: str
    status: int | str
    """Or the error of a connection that failed."""
    latency_s: float
    closing: bool
    """Whether the service asked for the connection to be closed."""
    content: dict[str, Any]

    @property
    def version(self) -> str:
        return str(self.content["model"]["version"]) if self.status == 200 else ""


class Load:
    """Clients with kept-alive connections that go round the ready replicas, and never try anything again."""

    def __init__(self, replicas: list[Follower]) -> None:
        self.replicas = replicas
        self.ready = list(replicas)
        self.answers: list[Answer] = []
        self._keys = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(NUM_CLIENTS)]
        self._threads.append(threading.Thread(target=self._balance))

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def now_from(self, *versions: str, least: int = WINDOW) -> list[Answer]:
        """Wait until these versions and no other answer; the next answers, `least` or a few more."""
        wait_for(lambda: {answer.version for answer in self.answers[-WINDOW:]} == set(versions))
        start = len(self.answers)
        wait_for(lambda: len(self.answers) >= start + least)
        return self.answers[start:]

    def latency_s(self, quantile: float) -> float:
        """Of all answers so far."""
        return float(np.quantile([answer.latency_s for answer in self.answers], quantile))

    def failed(self) -> list[Answer]:
        """Those that are no answer."""
        return [answer for answer in self.answers if answer.status != 200]

    def _balance(self) -> None:
        while not self._stop.wait(0.05):
            self.ready = [replica for replica in self.replicas if replica.is_ready()]

    def _ask(self) -> None:
        with httpx.Client(timeout=10) as client:
            while not self._stop.wait(PAUSE_S):
                number = next(self._keys)
                ready = self.ready
                if ready:
                    self.answers.append(_ask(client, ready[number % len(ready)], f"person {number % 200}"))


def _ask(client: httpx.Client, replica: Follower, key: str) -> Answer:
    started = time.perf_counter()
    try:
        response = client.post(f"{replica.url}/predict", json={"text": "my card is lost", "key": key})
    except httpx.TransportError as error:
        return Answer(
            key=key, status=repr(error), latency_s=time.perf_counter() - started, closing=False, content={}
        )  # fmt: skip
    closing = response.headers.get("connection") == "close"
    latency_s = time.perf_counter() - started
    return Answer(
        key=key, status=response.status_code, latency_s=latency_s, closing=closing, content=response.json()
    )  # fmt: skip
