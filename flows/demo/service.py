"""`retort` as a person runs it: its commands, and its service with messages on the way."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bento import settings
from bento.errors import RetortError
from flows.bench_serve.systems import free_port
from flows.demo.world import Message

CONNECTIONS = 4
READY_WITHIN_S = 120
AUDIT_RATE = 0.25
"""Of the requests are drawn for labelling: more than one would pay for, since the demo has minutes and not weeks."""


def retort(*arguments: str, codes: Sequence[int] = (0,)) -> str:
    """The standard output of a command. Raises: RetortError for another exit code than those of `codes`."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments], text=True, capture_output=True, check=False, env=_environment()
    )
    if done.returncode not in codes:
        raise RetortError(f"retort {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def retort_json(*arguments: str, codes: Sequence[int] = (0,)) -> Any:
    """The document that a command prints."""
    return json.loads(retort(*arguments, "--json", codes=codes))


def _environment() -> dict[str, str]:
    return os.environ | {"RETORT_HOME": str(settings.home()), "RETORT_DATABASE_URL": settings.database_url()}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One request as its sender saw it."""

    at_s: float
    """Since the service was ready."""
    request_id: str
    text: str
    right: str
    """The label that is right."""
    label: str | None
    """What was answered; null when nothing was."""
    version: str | None
    """Of the model that answered."""


class Service:
    """A running service and what it has been asked."""

    def __init__(self, name: str, url: str) -> None:
        """Nothing asked yet."""
        self.name = name
        self.url = url
        self.answers: list[Answer] = []
        self.began_at = time.monotonic()
        self._right: dict[str, str] = {}
        self._client = httpx.Client(base_url=url, timeout=30)

    def ask(self, messages: Sequence[Message]) -> None:
        """Send them from a few connections; every answer is kept."""
        start = len(self.answers)
        self._right |= {_request_id(start + at): message.label for at, message in enumerate(messages)}
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            self.answers += pool.map(self._ask, range(start, start + len(messages)), messages)

    def _ask(self, number: int, message: Message) -> Answer:
        request_id = _request_id(number)
        label = version = None
        try:
            answer = self._client.post("/predict", json={"text": message.text, "request_id": request_id})
            if answer.status_code == 200:
                found = answer.json()
                label, version = found["predictions"][0]["label"], found["model"]["version"]
        except httpx.HTTPError as error:
            version = f"failed: {error}"
        at_s = time.monotonic() - self.began_at
        return Answer(
            at_s=at_s, request_id=request_id, text=message.text, right=message.label, label=label, version=version
        )

    def label_queue(self, folder: Path) -> int:
        """Do what an auditor does with the whole queue, who knows what is right: export, fill in, import."""
        path = folder / "queue.jsonl"
        retort("audit", "export", self.name, str(path))
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        labelled = [row | {"label": self._right[row["request_id"]]} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in labelled), encoding="utf-8")
        if labelled:
            retort("audit", "import", self.name, str(path))
        return len(labelled)


def _request_id(number: int) -> str:
    return f"demo-{number:06d}"


@contextmanager
def serving(name: str, log: Path) -> Iterator[Service]:
    """`retort serve`, stopped at the end. Raises: RetortError when it is not ready in time."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = _environment() | {"RETORT_AUDIT_RATE": str(AUDIT_RATE)}
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "serve", name, "--port", str(port)],
            env=environment, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            _wait(url, process, log)
            yield Service(name, url)
        finally:
            process.terminate()
            process.wait(30)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise RetortError(f"the service did not become ready within {READY_WITHIN_S} s; see {log}")
