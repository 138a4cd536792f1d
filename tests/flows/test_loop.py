"""Deployed flows from the outside: a person's approval by the form, and the drift loop by HTTP alone."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient

from tasks.data.synthetic import generate
from tests.terminal import SMOKE, Terminal, free_port, wait_for

pytestmark = pytest.mark.slow

NUM_REQUESTS = 600


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke build, with a monitor that alarms early and a gate that lets little data decide."""
    tree = yaml.safe_load(SMOKE.read_text(encoding="utf-8")) | {"name": "loop"}
    tree["monitor"] = {"false_alarm_budget": 0.5, "looks": 1, "tolerance": 0.0, "schedule": "0 0 1 1 *"}
    tree["gate"]["accuracy"] = {"margin": 0.3}
    path = tmp_path_factory.mktemp("deployed") / "loop.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def deployed(terminal: Terminal, config: Path, built: dict[str, Any]) -> Iterator[Terminal]:
    """A Prefect server with all flows deployed, and a first champion."""
    import subprocess
    import sys

    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    served = replace(
        terminal,
        more=(
            ("PREFECT_API_URL", url),
            ("PREFECT_SERVER_ANALYTICS_ENABLED", "false"),
            ("PREFECT_HOME", str(config.parent)),
        ),
    )
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    server = subprocess.Popen(
        command, env=served.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    )
    runner = None
    try:
        wait_for(f"{url}/health", server)
        assert served.json("run", str(config))["outcome"] == "promoted"
        runner = served.start("deploy", str(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with SyncPrefectClient(url) as prefect:
            _wait(lambda: len(prefect.read_deployments()) == 3, 60, "three deployments")
        yield served
    finally:
        for process in (runner, server):
            if process is not None:
                process.terminate()
                process.wait(30)


def _wait(condition: Any, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {timeout_s} s"
        time.sleep(0.5)


def _api(deployed: Terminal) -> str:
    return dict(deployed.more)["PREFECT_API_URL"]


def test_a_suspended_build_promotes_what_a_person_approves_on_its_form(deployed: Terminal) -> None:
    with SyncPrefectClient(_api(deployed)) as prefect:  # asks again when the server, its SQLite busy, answers 503
        build = prefect.read_deployment_by_name("build/loop").id
        overrides = ["release.approval=require", "compress.2.threads=2"]
        run = prefect.create_flow_run_from_deployment(build, parameters={"overrides": overrides}).id
        _wait(lambda: prefect.read_flow_run(run).state_name == "Suspended", 180, "the suspended run")
        before = deployed.json("status", "loop")[0]
        assert before["champion"]["version"] == "1"
        assert before["versions"][0]["aliases"] == ["challenger"]
        answer = {"approve": True, "approver": "Ada", "comment": "I read the report"}
        prefect.resume_flow_run(run, run_input=answer)
        _wait(lambda: prefect.read_flow_run(run).state_name == "Completed", 180, "the end of the run")
        after = deployed.json("status", "loop")[0]
        assert after["champion"]["version"] == before["versions"][0]["version"]
        assert (after["ledger"][0]["who"], after["ledger"][0]["why"]) == (
            "Ada",
            "a build started by hand: I read the report",
        )
        assert [row["retort.outcome"] for row in _mlflow_tags(deployed, str(run))] == ["promoted"], (
            "one run, though begun twice"
        )


def _mlflow_tags(deployed: Terminal, flow_run: str) -> list[dict[str, str]]:
    """Tags of the finished MLflow runs of one flow run."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{deployed.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("loop")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.`retort.flow_run_id` = '{flow_run}'")
    assert all(run.info.status == "FINISHED" for run in found)
    return [run.data.tags for run in found]


def _another_meaning(labels: set[str]) -> dict[str, str]:
    """Every class now goes by the name of the next: what the champion learnt is wrong everywhere."""
    order = sorted(labels)
    return dict(zip(order, order[1:] + order[:1], strict=True))


def test_harm_seen_over_http_ends_in_a_new_champion_that_serves(deployed: Terminal, config: Path) -> None:
    import numpy as np

    port = free_port()
    process = deployed.start("serve", "loop", "--port", str(port))
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/readyz", process)
        before = httpx.get(f"{url}/identity").json()["version"]
        rows = generate(NUM_REQUESTS, split="train", period=1, rng=np.random.default_rng(3))
        now_means = _another_meaning({label for _, label in rows})
        with httpx.Client(base_url=url) as client:
            for at, (text, label) in enumerate(rows):
                client.post("/predict", json={"text": text, "request_id": f"r{at}"}).raise_for_status()
                body = {"request_id": f"r{at}", "label": now_means[label]}
                client.post("/feedback", json=body).raise_for_status()
        look = deployed.json("monitor", str(config))
        assert (look["state"], look["action"]) == ("harm", "retrain")
        again = deployed.json("monitor", str(config))
        assert again["action"] == "none", "the cooldown holds a second retrain back"
        _wait(lambda: httpx.get(f"{url}/identity").json()["version"] != before, 400, "a new champion")
    finally:
        process.terminate()
        process.wait(20)
    status = deployed.json("status", "loop")[0]
    assert "audited accuracy" in status["ledger"][0]["why"]
    assert [row["action"] for row in status["looks"]] == ["none", "retrain"]
    labelled = Path(status["looks"][1]["payload"]["extra"])
    assert len([json.loads(line) for line in labelled.read_text(encoding="utf-8").splitlines()]) == NUM_REQUESTS
