"""Replicas of the service as real processes, and HAProxy before them with the configuration that the repository has."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.terminal import ROOT, free_port, wait_for

CONFIG = ROOT / "configs" / "haproxy" / "haproxy.cfg"


class Replica:
    """`bentoml serve` on a port of its own, which can be ended and started again."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self.environment = environment
        self.start()

    @property
    def url(self) -> str:
        """Where it answers, past the balancer."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the process without waiting for it."""
        command = [sys.executable, "-m", "bentoml", "serve", "bento.service:Retort", "--host", "127.0.0.1"]
        self.process = subprocess.Popen([*command, "-p", str(self.port)], cwd=ROOT, env=self.environment, text=True)

    def wait_until_ready(self) -> None:
        """Until it answers predictions."""
        wait_for(f"{self.url}/readyz", self.process)

    def kill(self) -> None:
        """SIGKILL to supervisor and workers at once, as when a machine is lost."""
        if self.process.poll() is None:
            for process in [
                psutil.Process(self.process.pid),
                *psutil.Process(self.process.pid).children(recursive=True),
            ]:
                process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM, as at a rolling restart; its exit code."""
        self.process.terminate()
        return self.process.wait(30)


@contextmanager
def replicas(num: int, model: Path, home: Path) -> Iterator[list[Replica]]:
    """Ready replicas that share the state folder, and so the database."""
    own = {"RETORT_MODEL": str(model), "RETORT_HOME": str(home), "RETORT_CACHE_MB": "0", "BENTOML_DO_NOT_TRACK": "true"}
    started: list[Replica] = []
    try:
        for at in range(num):
            started.append(Replica(os.environ | own | {"BENTOML_HOME": str(home / f"bentoml{at}")}))
        for replica in started:
            replica.wait_until_ready()
        yield started
    finally:
        for replica in started:
            replica.kill()


def haproxy() -> str | None:
    """Where HAProxy is, if it is installed; Debian keeps it off the path of users."""
    return shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def balanced(behind: list[Replica]) -> Iterator[str]:
    """Base URL of HAProxy before three replicas."""
    bind = f"127.0.0.1:{free_port()}"
    addresses = {f"RETORT_{at}": f"127.0.0.1:{replica.port}" for at, replica in enumerate(behind, 1)}
    program = haproxy()
    assert program is not None
    process = subprocess.Popen(
        [program, "-db", "-f", str(CONFIG)], env=os.environ | addresses | {"RETORT_BIND": bind}, text=True
    )
    try:
        wait_for(f"http://{bind}/readyz", process)
        yield f"http://{bind}"
    finally:
        process.terminate()
        process.wait(10)
