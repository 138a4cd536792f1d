"""Servers as processes: ours and the peers are started, measured and ended; what cannot be is told."""

import subprocess
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import psutil
import pytest

from bento.errors import RetortError
from bento.predictor import Predictor
from flows.bench_serve import changes, systems
from flows.bench_serve.bench import QUICK, Bench, in_turns
from flows.bench_serve.changes import kill_rows, restart_rows, swap_rows, under_load
from flows.bench_serve.contenders import BENTOML, UVICORN, bare_uvicorn, stock_bentoml
from flows.bench_serve.cost import cost_rows
from flows.bench_serve.systems import Absent, Running, System, running, settings_in

TEXT = "my card is lost"
SMALL = replace(QUICK, num_requests=300, num_warm=50, num_tuning=200, change_s=6.0)


def answer(system: System) -> Any:
    with running(system) as server:
        assert server.resident_bytes() > 10e6
        before_s = server.cpu_s()
        response = httpx.post(f"{server.url}{system.path}", content=system.body(TEXT), timeout=20)
        assert server.cpu_s() >= before_s
    assert not psutil.pid_exists(server.process.pid)
    assert response.status_code == 200, response.text
    return response.json()


def test_bare_uvicorn_answers_as_the_predictor_does(model: Path) -> None:
    found = answer(bare_uvicorn(model)[-1])
    predictor = Predictor(model)
    probabilities_C = predictor.predict([TEXT])[0]
    assert found["label"] == predictor.labels[int(probabilities_C.argmax())]
    assert found["probability"] == pytest.approx(float(probabilities_C.max()), abs=1e-6)


@pytest.mark.slow
def test_both_apis_of_stock_bentoml_answer(model: Path) -> None:
    settings = stock_bentoml(model)
    plain, batched = answer(settings[0]), answer(settings[-1])
    assert [plain] == batched


@pytest.mark.slow
def test_the_clocks_fit_the_service(model: Path) -> None:
    rows = {row["metric"]: row["value"] for row in cost_rows(Bench(model, [TEXT, "a refund"], SMALL))}
    assert {"CPU: ONNX Runtime", "CPU: tokeniser", "CPU: HTTP in", "CPU: HTTP out", "CPU: JSON"} <= rows.keys()
    assert 0 < rows["CPU outside of the model"] < 50
    assert all(rows[f"CPU: {piece}"] > 0 for piece in ("ONNX Runtime", "tokeniser", "HTTP in", "HTTP out"))


@pytest.mark.slow
def test_a_swap_under_load_fails_no_request(model: Path) -> None:
    (row,) = swap_rows(Bench(model, [TEXT, "a refund"], SMALL))
    assert (row["value"], row["met"]) == (0, True), row["against"]


def test_a_killed_replica_loses_what_it_had_and_a_retry_saves_that(model: Path) -> None:
    bench = Bench(model, [TEXT, "a refund"], replace(SMALL, change_s=2.0))
    bench.service = bare_uvicorn(model)[0]
    failed, lost = kill_rows(bench)
    assert (failed["value"], failed["met"]) == (0, True), failed["against"]
    assert lost["value"] < 50


def test_each_replica_is_restarted_on_its_port(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports: list[int | None] = []

    def counted(system: System, port: int | None = None) -> AbstractContextManager[Running]:
        ports.append(port)
        return running(system, port)

    monkeypatch.setattr("flows.bench_serve.changes.running", counted)
    bench = Bench(model, [TEXT, "a refund"], SMALL)
    bench.service = bare_uvicorn(model)[0]
    (row,) = restart_rows(bench)
    assert ports[:2] == ports[2:]
    assert row["value"] is not None


def test_a_change_that_takes_longer_than_the_load_is_no_result(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, send = Event(), changes.send

    def noted(plan: Any) -> Any:
        try:
            return send(plan)
        finally:
            ended.set()

    def change() -> None:
        assert ended.wait(60)
        time.sleep(0.5)  # until the thread has given its result

    bench = Bench(model, [TEXT, "a refund"], SMALL)
    monkeypatch.setattr(changes, "send", noted)
    with running(bare_uvicorn(model)[0]) as server, pytest.raises(RetortError, match="end within 0 s of load"):
        under_load(bench, [server], 0.2, change)


def test_a_peer_that_fails_is_absent_from_then_on_and_the_service_may_not(model: Path) -> None:
    bench = Bench(model, [TEXT, "a refund"], SMALL)
    good = bare_uvicorn(model)[0]
    broken = replace(good, name=BENTOML, command=(sys.executable, "-c", "raise SystemExit(1)"))
    bench.parallel = replace(good, name="Retort")
    bench.__dict__["peers"] = {BENTOML: broken, UVICORN: good}
    found = in_turns(bench, 2, lambda server: server.ready_s)
    assert [len(found[name]) for name in ("Retort", BENTOML, UVICORN)] == [2, 0, 2]
    assert isinstance(bench.peers[BENTOML], Absent)
    bench.parallel = replace(broken, name="Retort")
    with pytest.raises(RetortError):
        in_turns(bench, 1, lambda server: server.ready_s)


def test_a_server_that_ends_at_once_is_told_with_its_last_words() -> None:
    broken = System(name="broken", command=(sys.executable, "-c", "raise SystemExit('no port for me')"))
    with pytest.raises(RetortError, match=r"(?s)broken was not ready.*no port for me"), running(broken):
        pass


def test_what_cannot_be_installed_is_absent_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path
) -> None:
    def fail(command: list[str], **_: Any) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="ERROR: no matching distribution")

    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.setattr(systems.subprocess, "run", fail)
    found = settings_in(("a-server==1",), lambda python, model: [], model)
    assert found == Absent(reason="a-server==1 cannot be installed: ERROR: no matching distribution")


def test_an_environment_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands: list[list[str]] = []

    def pretend(command: list[str], **_: Any) -> None:
        commands.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)

    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.setattr(systems.subprocess, "run", pretend)
    first, second = (systems.environment_python(("a==1", "b==2")) for _ in range(2))
    assert first == second
    assert len(commands) == 2
    assert commands[1][-2:] == ["a==1", "b==2"]


def test_the_best_setting_of_a_peer_is_compared_and_one_that_does_not_start_is_left_out(
    monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    good = bare_uvicorn(model)[:2]
    broken = replace(good[0], command=(sys.executable, "-c", "raise SystemExit(1)"))
    found = {UVICORN: [broken, *good], BENTOML: [broken]}
    monkeypatch.setattr("flows.bench_serve.bench.contenders", lambda model: found)
    peers = Bench(model, [TEXT, "a refund"], replace(SMALL, max_settings=None)).peers
    assert peers[UVICORN] in good
    assert isinstance(peers[BENTOML], Absent)
    assert "was not ready" in peers[BENTOML].reason
