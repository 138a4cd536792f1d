"""Deployed flows from the outside: a person's approval by the form, and the drift loop by HTTP alone."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings

from bento.manifest import Manifest
from tests import receivers
from tests.receivers import Received
from tests.small import COLOURS, NOUNS, colours_build
from tests.terminal import Terminal, serving

pytestmark = pytest.mark.slow

FORMS = ("see this", "we like the", "what about a", "they sold one", "here is no", "give me my")
TRAFFIC = [(f"{form} {colour} {noun}", colour) for form in FORMS for colour in COLOURS for noun in NOUNS]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small build, with a monitor that alarms early and a gate that lets little data decide."""
    folder = tmp_path_factory.mktemp("deployed")
    tree = colours_build(folder) | {
        "name": "loop",
        "monitor": {
            "false_alarm_budget": 0.5, "looks": 1, "tolerance": 0.0, "schedule": "0 0 1 1 *", "cooldown_minutes": 0.2,
        },
        "notify": ["custom-webhook/ops"],
        "gate": {"accuracy": {"margin": 0.99}, "min_rows": 20},
        "release": {"approval": "auto"},
        # Every class will mean another, so nothing of the old test holds.
        "retrain": {"frozen_margin": 0.99, "fresh": {"min_rows": 20, "margin": 0.5}, "weight": 2},
    }  # fmt: skip
    path = folder / "loop.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def served(terminal: Terminal, config: Path) -> Iterator[Terminal]:
    """A Prefect server with all flows deployed, and a first champion."""
    assert terminal.json("run", str(config))["outcome"] == "promoted"
    runner = terminal.start("deploy", str(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with SyncPrefectClient(_api(terminal)) as prefect:
            _wait(lambda: len(prefect.read_deployments()) >= 4, 240, "the deployments")
        yield terminal
    finally:
        runner.terminate()
        runner.wait(30)


@pytest.fixture(scope="module")
def told(served: Terminal) -> Iterator[Received]:
    """What the receiver that the config names gets; its address is in a block, as a person saves it."""
    with receivers.web() as got, temporary_settings({PREFECT_API_URL: _api(served)}):
        block = CustomWebhookNotificationBlock(
            name="ops", url=f"http://127.0.0.1:{got.port}/", json_data={"title": "{{subject}}", "text": "{{body}}"}
        )
        block.save("ops")
        yield got


@pytest.fixture(scope="module")
def deployed(served: Terminal, told: Received) -> Terminal:
    """The same, with a receiver of its notices."""
    return served


def _wait(condition: Any, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {timeout_s} s"
        time.sleep(0.5)


def _api(deployed: Terminal) -> str:
    return dict(deployed.more)["PREFECT_API_URL"]


def _titles(told: Received) -> list[str]:
    return [json.loads(body)["title"] for body in told.bodies]


def test_a_suspended_build_keeps_others_out_and_promotes_what_a_person_approves_on_its_form(
    deployed: Terminal, told: Received
) -> None:
    with SyncPrefectClient(_api(deployed)) as prefect:  # asks again when the server, its SQLite busy, answers 503
        build = prefect.read_deployment_by_name("build/loop").id
        overrides = ["release.approval=require", "compress.2.threads=2"]
        run = prefect.create_flow_run_from_deployment(build, parameters={"overrides": overrides}).id
        _wait(lambda: prefect.read_flow_run(run).state_name == "Suspended", 400, "the suspended run")
        before = deployed.json("status", "loop")[0]
        assert before["champion"]["version"] == "1"
        assert before["versions"][0]["aliases"] == ["challenger"]
        second = prefect.create_flow_run_from_deployment(build).id
        _wait(
            lambda: prefect.read_flow_run(second).state_name == "Failed", 240, "the refusal of a second build beside it"
        )
        message = prefect.read_flow_run(second).state.message
        assert f"({run})" in message, "it names the run that is suspended"
        answer = {"approve": True, "approver": "Ada", "comment": "I read the report"}
        prefect.resume_flow_run(run, run_input=answer)
        _wait(lambda: prefect.read_flow_run(run).state_name == "Completed", 400, "the end of the run")
        after = deployed.json("status", "loop")[0]
        assert after["champion"]["version"] == before["versions"][0]["version"]
        assert (after["ledger"][0]["who"], after["ledger"][0]["why"]) == (
            "Ada",
            "a build started by hand: I read the report",
        )
        assert [row["retort.outcome"] for row in _mlflow_tags(deployed, str(run))] == ["promoted"], (
            "one run, though begun twice"
        )
    assert _titles(told)[-2:] == ["Retort: failed run of loop", "Retort: promotion of loop"]


def _mlflow_tags(deployed: Terminal, flow_run: str) -> list[dict[str, str]]:
    """Tags of the finished MLflow runs of one flow run."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{deployed.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("loop")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.`retort.flow_run_id` = '{flow_run}'")
    assert all(run.info.status == "FINISHED" for run in found)
    return [run.data.tags for run in found]


def _another_meaning() -> dict[str, str]:
    """Every class now goes by the name of the next: what the champion learnt is wrong everywhere."""
    return dict(zip(COLOURS, COLOURS[1:] + COLOURS[:1], strict=True))


def test_harm_seen_over_http_ends_in_a_new_champion_that_serves(
    deployed: Terminal, config: Path, told: Received
) -> None:
    told.bodies.clear()
    with serving(deployed, "loop") as url:
        before = httpx.get(f"{url}/identity").json()["version"]
        now_means = _another_meaning()
        with httpx.Client(base_url=url) as client:
            for at, (text, label) in enumerate(TRAFFIC):
                client.post("/predict", json={"text": text, "request_id": f"r{at}"}).raise_for_status()
                body = {"request_id": f"r{at}", "label": now_means[label]}
                client.post("/feedback", json=body).raise_for_status()
        look = deployed.json("monitor", str(config))
        assert (look["state"], look["action"]) == ("harm", "retrain")
        again = deployed.json("monitor", str(config))
        assert again["action"] == "none", "one retrain at a time"
        _wait(lambda: httpx.get(f"{url}/identity").json()["version"] != before, 400, "a new champion")
    status = deployed.json("status", "loop")[0]
    promotions = [row for row in status["ledger"] if "audited accuracy" in row["why"]]
    assert [row["action"] for row in promotions] == ["promote"], "once"
    assert [row["action"] for row in status["looks"]].count("retrain") == 1
    assert _titles(told)[0] == "Retort: harm of loop"
    _wait(lambda: _titles(told)[-1] == "Retort: promotion of loop", 120, "the notice of the promotion")
    lineage = Manifest.read(Path(status["champion"]["model_path"])).lineage["retrain"]
    num_used = lineage["num_labelled"] + lineage["num_validation"] + lineage["num_fresh"]
    assert 0.9 * len(TRAFFIC) < num_used <= len(TRAFFIC)
