"""The load generator against a server whose delays, refusals, drops and stalls are planted."""

import asyncio
import json
import sys
from typing import Any

import numpy as np
import pytest

from bento.errors import RetortError
from flows.bench_serve.load import LOST, TIMED_OUT, Load, Plan, request_bytes
from flows.bench_serve.traffic import Outcome, read_outcome, send
from tests.flows.bench_serve.planted import Planted, serving


def plan(*servers: Planted, texts: list[str], **settings: Any) -> Plan:
    fields = {"connections": 4, **settings, "ports": tuple(server.port for server in servers), "path": "/predict"}
    return Plan.model_validate(fields | {"bodies": [json.dumps({"text": text}) for text in texts]})


def run(*servers: Planted, texts: list[str], **settings: Any) -> Outcome:
    return read_outcome(asyncio.run(Load(plan(*servers, texts=texts, **settings)).run()))


def test_a_request_is_complete_before_the_clock_starts() -> None:
    head, body = request_bytes("/predict", '{"text": "é"}').split(b"\r\n\r\n")
    assert head.startswith(b"POST /predict HTTP/1.1\r\n")
    assert b"Content-Length: %d" % len(body) in head


def test_a_closed_loop_measures_a_planted_delay_and_its_rate() -> None:
    with serving(Planted(delay_s=0.02)) as server:
        outcome = run(server, texts=["a"] * 60)
    assert outcome.statuses() == {"200": 60}
    assert 20 <= outcome.quantile_ms(0.5) < 40
    assert 4 / 0.04 < outcome.answered_per_s <= 4 / 0.02
    assert outcome.generator_cpu_ms > 0


def test_a_planted_slow_server_shows_in_the_ratio() -> None:
    with serving(Planted(delay_s=0.005)) as fast, serving(Planted(delay_s=0.05)) as slow:
        ratio = run(fast, texts=["a"] * 80).answered_per_s / run(slow, texts=["a"] * 20).answered_per_s
    assert ratio > 3


def test_every_status_is_counted_and_refusals_have_latencies_of_their_own() -> None:
    with serving(Planted()) as server:
        outcome = run(server, texts=["a", "429", "a"] * 20)
    assert outcome.statuses() == {"200": 40, "429": 20}
    assert (outcome.num_failed, outcome.error_rate) == (20, pytest.approx(1 / 3))
    assert outcome.quantile_ms(0.99, status=429) > 0
    assert np.isnan(outcome.quantile_ms(0.99, status=500))


def test_a_dropped_connection_loses_its_request_alone_and_a_retry_saves_it() -> None:
    texts = ["a", "a", "drop once", *["a"] * 10]
    with serving(Planted()) as server:
        assert run(server, texts=texts).statuses() == {"lost": 1, "200": 12}
    with serving(Planted()) as server:
        outcome = run(server, texts=texts, retries=1)
    assert outcome.statuses() == {"200": 13}
    assert outcome.tries_N.tolist() == [1, 1, 2, *[1] * 10]


def test_a_retry_that_fails_too_is_a_failure() -> None:
    with serving(Planted()) as server:
        outcome = run(server, texts=["a", "drop", "a"], retries=1)
    assert outcome.status_N.tolist() == [200, LOST, 200]


def test_what_is_never_answered_times_out_from_when_it_was_due() -> None:
    with serving(Planted()) as server:
        outcome = run(server, texts=["hang", *["a"] * 9], arrivals_s=[0.01 * at for at in range(10)], timeout_s=0.3)
    assert outcome.status_N.tolist() == [TIMED_OUT, *[200] * 9]
    assert 300 <= outcome.latency_ms_N[0] < 600


def test_what_waits_here_for_a_connection_times_out_as_well() -> None:
    with serving(Planted()) as server:
        texts, arrivals_s = ["hang", "a", "a"], [0.0, 0.01, 0.02]
        outcome = run(server, texts=texts, arrivals_s=arrivals_s, connections=1, timeout_s=0.2)
    assert outcome.num(200) + outcome.num(TIMED_OUT) == 3
    assert outcome.num(TIMED_OUT) >= 1


@pytest.mark.parametrize("connections", [1, 200])
def test_a_stall_shows_in_every_request_that_was_due_in_it(connections: int) -> None:
    """A closed loop would see one slow request a connection; here all that should have been sent are late."""
    arrivals_s = [0.005 * at for at in range(240)]
    with serving(Planted(stall_s=(0.3, 0.8))) as server:
        outcome = run(server, texts=["a"] * len(arrivals_s), arrivals_s=arrivals_s, connections=connections)
    assert outcome.statuses() == {"200": len(arrivals_s)}
    late_N = outcome.latency_ms_N > 100
    assert 70 <= late_N.sum() <= 180
    assert 400 <= outcome.quantile_ms(0.99) < 700
    assert outcome.quantile_ms(0.2) < 50


def test_requests_are_sent_when_they_are_due() -> None:
    arrivals_s = [0.05, 0.05, 0.05, 0.2]
    with serving(Planted()) as server:
        outcome = run(server, texts=["a"] * 4, arrivals_s=arrivals_s)
    assert outcome.due_s_N.tolist() == arrivals_s
    assert (outcome.done_s_N >= arrivals_s).all()
    assert outcome.late_ms < 100


def test_a_closed_loop_ends_after_its_time() -> None:
    with serving(Planted(delay_s=0.01)) as server:
        outcome = run(server, texts=["a"] * 10_000, seconds=0.2)
    assert 0 < outcome.num_requests < 200


def test_only_ready_replicas_get_requests() -> None:
    with serving(Planted(ready=False)) as down, serving(Planted()) as up:
        outcome = run(down, up, texts=["a"] * 40)
    assert outcome.statuses() == {"200": 40}
    assert (down.seen["a"], up.seen["a"]) == (0, 40)


def test_a_replica_that_is_no_longer_ready_gets_no_more() -> None:
    with serving(Planted()) as first, serving(Planted()) as second:

        async def drained() -> dict[str, Any]:
            load = Load(plan(first, second, texts=["a"] * 100, arrivals_s=[0.01 * at for at in range(100)]))
            asyncio.get_running_loop().call_later(0.3, setattr, first, "ready", False)
            return await load.run()

        outcome = read_outcome(asyncio.run(drained()))
    assert outcome.num_failed == 0
    assert second.seen["a"] >= 40


def test_nobody_to_connect_to_is_a_failure_of_each_request() -> None:
    with serving(Planted()) as server:
        pass
    outcome = run(server, texts=["a"] * 5, arrivals_s=[0.01 * at for at in range(5)])
    assert outcome.statuses() == {"lost": 5}


def test_the_process_of_its_own_finds_the_same() -> None:
    with serving(Planted()) as server:
        outcome = send(plan(server, texts=["a", "429"] * 10))
    assert outcome.statuses() == {"200": 10, "429": 10}


def test_a_generator_that_breaks_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RetortError, match="the load generator ended with 1"):
        send(plan(Planted(), texts=["a"]))
