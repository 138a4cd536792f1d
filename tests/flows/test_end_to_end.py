"""The whole chain as a person runs it, on a minute's worth of synthetic text."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tests.small import colours_build
from tests.terminal import SMOKE, Terminal

pytestmark = pytest.mark.slow

WITHOUT_RETORT = """
import json, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path[:] = [path for path in sys.path if not path.rstrip("/").endswith(sys.argv[3])]
try:
    import bento
except ImportError:
    pass
else:
    sys.exit("the checkout is still on the path")
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
found = mlflow.pyfunc.load_model(f"models:/{sys.argv[2]}@champion").predict(["my laptop does not start", "hello"])
print(json.dumps(found.to_dict(orient="records")))
"""


def test_the_build_is_promoted_and_says_all_that_was_agreed(built: dict[str, Any]) -> None:
    assert built["outcome"] == "promoted"
    assert built["version"] == built["champion"] == "1"
    assert Path(built["report"]).is_file()
    assert Path(built["model_path"]).name == built["model_sha256"]
    for model in ("teacher", "candidate", "floor"):
        assert {"accuracy", "macro_f1", "size_bytes", "latency_ms_p50", "latency_ms_p95"} <= built["scores"][
            model
        ].keys()
    assert {"gate", "outcome", "observed", "limit", "n", "needed_n"} <= built["verdicts"][0].keys()
    assert [stage["name"] for stage in built["stages"]][:2] == ["data", "teacher"]


def test_a_second_run_recomputes_nothing_and_moves_nothing(terminal: Terminal, built: dict[str, Any]) -> None:
    again = terminal.json("run", str(SMOKE))
    assert all(stage["cached"] for stage in again["stages"])
    assert (again["outcome"], again["version"], again["unchanged"]) == ("promoted", "1", True)
    plan = terminal.json("plan", str(SMOKE))
    assert {step["state"] for step in plan["steps"]} == {"cached"}


def test_an_altered_artifact_is_made_again_and_said(terminal: Terminal, built: dict[str, Any]) -> None:
    model = Path(built["model_path"]) / "onnx" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    done = terminal.run("run", str(SMOKE), "--json")
    again = json.loads(done.stdout)
    assert "altered" in done.stderr
    assert [stage["name"] for stage in again["stages"] if not stage["cached"]] == ["calibrate"]
    assert again["model_sha256"] == built["model_sha256"]


def test_a_bad_student_is_blocked_with_exit_3_and_nothing_moves(terminal: Terminal, built: dict[str, Any]) -> None:
    untrained = ("--set", "compress.1.learning_rate=1.0e-9", "--set", "compress.1.epochs=1")
    blocked = terminal.json("run", str(SMOKE), *untrained, code=3)
    assert blocked["outcome"] == "blocked"
    assert {row["gate"]: row["outcome"] for row in blocked["verdicts"]}["accuracy_vs_teacher"] == "fail"
    status = terminal.json("status", "smoke")[0]
    assert status["champion"]["version"] == "1"
    assert [row["version"] for row in status["versions"]] == ["1"]


def test_too_few_rows_to_decide_is_exit_4(terminal: Terminal, built: dict[str, Any]) -> None:
    undecided = terminal.json(
        "run", str(SMOKE), "--set", "gate.accuracy.margin=0.5", "--set", "gate.min_rows=100000", code=4
    )
    assert undecided["outcome"] == "inconclusive"


def test_bad_input_is_exit_2_without_a_traceback(terminal: Terminal, tmp_path: Path) -> None:
    broken = tmp_path / "broken.csv"
    broken.write_text("text,label\nhello,\n", encoding="utf-8")
    for arguments in (
        ["run", "nothing.yaml"],
        ["run", str(SMOKE), "--set", f"data.source={broken}"],
        ["serve", "nobody"],
    ):
        done = terminal.run(*arguments)
        assert done.returncode == 2, done.stderr[-2000:]
        assert "Traceback" not in done.stderr
        assert "error" in done.stderr


def test_the_registered_model_answers_where_retort_is_not_installed(terminal: Terminal, built: dict[str, Any]) -> None:
    uri = f"sqlite:///{terminal.home / 'mlflow.db'}"
    checkout = Path(__file__).parents[2].name
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RETORT, uri, "smoke", checkout],
        capture_output=True, text=True, timeout=120, cwd=terminal.home,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout)
    assert [set(row) for row in rows] == [{"label", "probability", "abstained"}] * 2


def test_the_service_is_the_champion(service: str, built: dict[str, Any]) -> None:
    identity = httpx.get(f"{service}/identity").json()
    assert identity["model_sha256"] == built["model_sha256"]
    assert identity["version"] == "1"
    answer = httpx.post(f"{service}/predict", json={"text": "my laptop does not start"}).json()
    assert answer["model"]["model_sha256"] == built["model_sha256"]


@pytest.fixture(scope="module")
def waiting(terminal: Terminal, built: dict[str, Any]) -> dict[str, Any]:
    """The summary of a second build, which needs approval."""
    summary: dict[str, Any] = terminal.json(
        "run", str(SMOKE), "--set", "compress.2.threads=2", "--set", "release.approval=require"
    )
    return summary


def test_a_build_that_needs_approval_waits_for_a_person(terminal: Terminal, waiting: dict[str, Any]) -> None:
    assert (waiting["outcome"], waiting["version"]) == ("awaiting_approval", "2")
    assert terminal.json("status", "smoke")[0]["champion"]["version"] == "1"
    assert terminal.run("promote", "smoke", "99").returncode == 2


def test_promotion_and_rollback_under_load_lose_no_request(
    terminal: Terminal, service: str, waiting: dict[str, Any]
) -> None:
    stop, statuses, versions = Event(), [], set()

    def load() -> None:
        with httpx.Client(base_url=service, timeout=30) as client:
            while not stop.is_set():
                response = client.post("/predict", json={"text": "where is my ticket"})
                statuses.append(response.status_code)
                versions.add(response.json()["model"]["version"])
                time.sleep(0.005)

    threads = [Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        done = terminal.run("promote", "smoke", waiting["version"], "--why", "looked at the report")
        assert done.returncode == 0, done.stderr
        assert _served(service, waiting["version"])
        status = terminal.json("status", "smoke")[0]
        assert status["champion"]["version"] == waiting["version"]
        assert status["ledger"][0]["why"] == "looked at the report"
        terminal.json("rollback", "smoke")
        assert _served(service, "1")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}
    assert versions == {"1", waiting["version"]}


def _served(service: str, version: str) -> bool:
    for _ in range(100):
        if httpx.get(f"{service}/identity").json()["version"] == version:
            return True
        time.sleep(0.1)
    return False


def test_a_build_killed_in_its_training_and_ended_near_its_end_goes_on(tmp_path: Path) -> None:
    other = Terminal(home=tmp_path / "home")
    config = tmp_path / "colours.yaml"
    tree = colours_build(tmp_path) | {"gate": {"accuracy": {"margin": 0.99}, "min_rows": 20}}
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    work, steps = other.home / "store" / "work", other.home / "store" / "steps"
    _kill_when(other, config, lambda: any(work.glob("*/checkpoint.pt.sha256")))
    _end_when(other, config, lambda: len(list(steps.glob("*.json"))) >= 7)
    num_made = len(list(steps.glob("*.json")))
    done = other.json("run", str(config))
    assert done["outcome"] == "promoted"
    assert sum(stage["cached"] for stage in done["stages"]) >= 7
    assert num_made < len(list(steps.glob("*.json"))), "it was ended before its end"


def _kill_when(terminal: Terminal, config: Path, holds: Callable[[], bool]) -> None:
    """Start a build and kill it as soon as something holds."""
    with _building(terminal, config, holds) as process:
        process.kill()


def _end_when(terminal: Terminal, config: Path, holds: Callable[[], bool]) -> None:
    """Start a build and ask it to end as soon as something holds; nothing that it started goes on."""
    with _building(terminal, config, holds) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
        _, alive = psutil.wait_procs(children, timeout=10)
        assert children
        assert not alive


@contextlib.contextmanager
def _building(terminal: Terminal, config: Path, holds: Callable[[], bool]) -> "Iterator[subprocess.Popen[str]]":
    """A build that has come so far that something holds; at last it is gone, with all that it started."""
    command = ("run", str(config))
    process = terminal.start(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while not holds():
            assert process.poll() is None, f"the build ended with {process.returncode}"
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(ProcessLookupError):  # the temporary Prefect server of a killed one outlives it
            os.killpg(process.pid, signal.SIGTERM)
