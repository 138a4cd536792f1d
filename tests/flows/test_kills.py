"""Retrains on a real Prefect server: one at a time through a suspension, and once though everything is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled

from tests.terminal import ROOT, Terminal, free_port, wait_for

pytestmark = pytest.mark.slow


@dataclass
class Machines:
    """A Prefect server, and the worker beside it that runs `tests.slow_retrain`."""

    environment: dict[str, str]
    home: Path
    port: int
    running: "dict[str, subprocess.Popen[str]]" = field(default_factory=dict)

    def start(self) -> None:
        """Server and worker, each with a process group of its own."""
        self._start("server", "prefect", "server", "start", "--port", str(self.port))
        wait_for(f"http://127.0.0.1:{self.port}/api/health", self.running["server"], timeout_s=240)
        self._start("worker", "tests.slow_retrain", "serve")

    def _start(self, name: str, *arguments: str) -> None:
        with (self.home / f"{name}.log").open("a", encoding="utf-8") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments], env=self.environment, cwd=ROOT, text=True, start_new_session=True,
                stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        """Server, worker and the run that it started, all at once, as a power cut does."""
        for process in self.running.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
        self.running.clear()

    def look(self) -> None:
        """A monitoring pass of another process."""
        command = [sys.executable, "-m", "tests.slow_retrain", "look"]
        done = subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]

    def said(self) -> str:
        """The end of what server and worker printed."""
        logs = [self.home / "server.log", self.home / "worker.log"]
        return "\n".join(f"{path.name}: {path.read_text(encoding='utf-8')[-3000:]}" for path in logs)

    def notes(self) -> list[str]:
        """What the retrains noted."""
        path = self.home / "notes"
        return path.read_text(encoding="utf-8").split() if path.exists() else []


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    home, port = tmp_path_factory.mktemp("kills"), free_port()
    settings = {
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    terminal = replace(Terminal(home=home), more=tuple(settings.items()))
    found = Machines(environment=terminal.environment, home=home, port=port)
    try:
        found.start()
        yield found
    finally:
        found.kill()


@pytest.fixture
def prefect(machines: Machines) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(f"http://127.0.0.1:{machines.port}/api") as client:
        wait(lambda: client.read_deployments(), "the deployment")
        yield client


def wait(holds: Callable[[], Any], what: str, timeout_s: float = 240) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what} did not come within {timeout_s} s"
        time.sleep(0.5)
    return found


def start(prefect: SyncPrefectClient, **parameters: Any) -> FlowRun:
    deployment = prefect.read_deployment_by_name("retrain/smoke").id
    return prefect.create_flow_run_from_deployment(deployment, parameters=parameters)


def reach(prefect: SyncPrefectClient, run: FlowRun, name: str) -> FlowRun:
    wait(lambda: prefect.read_flow_run(run.id).state_name == name, f"{name}")
    return prefect.read_flow_run(run.id)


def test_a_suspended_retrain_keeps_a_second_one_out_until_it_is_answered_or_cancelled(
    machines: Machines, prefect: SyncPrefectClient
) -> None:
    first = start(prefect, ask=True)
    reach(prefect, first, "Suspended")
    refused = reach(prefect, start(prefect), "Failed")
    assert refused.state is not None
    assert f"({first.id})" in str(refused.state.message), "it names the run that has to be answered"
    assert machines.notes() == ["begun"], "the second did nothing"
    prefect.resume_flow_run(first.id, run_input={"approve": True})
    reach(prefect, first, "Completed")
    another = start(prefect, ask=True)
    reach(prefect, another, "Suspended")
    prefect.set_flow_run_state(another.id, Cancelled())
    reach(prefect, start(prefect), "Completed")


def test_a_retrain_completes_once_though_server_worker_and_run_are_killed_in_its_midst(machines: Machines) -> None:
    machines.home.joinpath("notes").unlink(missing_ok=True)
    with SyncPrefectClient(f"http://127.0.0.1:{machines.port}/api") as prefect:
        wait(lambda: prefect.read_deployments(), "the deployment")
        machines.look()
        wait(lambda: machines.notes() == ["begun"], "the retrain that the event started")
        (running,) = [run for run in prefect.read_flow_runs() if run.state_name == "Running"]
    machines.kill()
    machines.start()
    with SyncPrefectClient(f"http://127.0.0.1:{machines.port}/api") as prefect:
        assert prefect.read_flow_run(running.id).state_name == "Running", "Prefect takes it for alive"
        try:
            wait(lambda: (machines.look(), machines.notes().count("begun") == 2)[1], "the retrain asked for again")
        except AssertionError as error:
            raise AssertionError(machines.said()) from error
        assert prefect.read_flow_run(running.id).state_name == "Crashed"
        wait(lambda: machines.notes() == ["begun", "begun", "done"], "the end of the retrain")
        reach(prefect, start(prefect, look=1), "Completed")
    machines.look()
    time.sleep(3)
    assert machines.notes() == ["begun", "begun", "done"], "once, whoever asks again"
