"""Gauges from the database, against rows that promotion, monitoring and labelling really wrote."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import sqlalchemy as sa
from prometheus_client import Counter

from bento import audit_records, database
from bento.app import Server, create_app
from bento.loop_metrics import STATES, LoopMetrics, _audited
from bento.router import Identity
from tasks.monitor.looks import store_look
from tasks.release.ledger import Champion, read_champion, swap_champion
from tasks.types import DriftState
from tests.serving import serving

IDENTITY = Identity(name="tiny", version="1", model_sha256="a" * 64, bento="")
EVIDENCE = {
    "drift": {"alpha": 0.0006, "tests": {"embedding": {"statistic": 0.1, "p_value": 0.01, "p_holm": 0.04}}},
    "harm": {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}},
}


def gauges(loop: LoopMetrics) -> dict[str, float]:
    """Name, with the label's value if it has one -> value."""
    return {
        " ".join([sample.name.removeprefix("retort_"), *sample.labels.values()]): sample.value
        for family in loop.collect()
        for sample in family.samples
    }


def make_loop(identity: Callable[[], Identity | None] = lambda: IDENTITY, **options: object) -> LoopMetrics:
    return LoopMetrics(identity, Counter("errors", "", registry=None), **options)  # type: ignore[arg-type]


def read_gauges() -> dict[str, float]:
    loop = make_loop()
    loop.read()
    return gauges(loop)


def promote(sha256: str, version: str, action: str = "promote") -> None:
    new = Champion(name="tiny", version=version, model_sha256=sha256, model_path=Path("m"), bento="")
    assert swap_champion(new, expected=read_champion("tiny"), action=action, who="me", why="test", evidence={})


def look(state: str, key: str, **evidence: object) -> None:
    values = {"name": "tiny", "state": state, "action": "none", "reason": "", "key": key}
    assert store_look(values | {"evidence": EVIDENCE | evidence})


def test_a_new_database_has_an_empty_queue_and_nothing_else() -> None:
    assert read_gauges() == {"audit_queue_rows": 0}


def test_the_states_are_those_that_monitoring_decides_between() -> None:
    assert get_args(DriftState) == STATES


def test_the_queue_is_what_was_drawn_and_has_no_label(server: Server) -> None:
    with serving(create_app(server)) as client:
        request_id = client.post("/predict", json={"texts": ["card", "refund", "help", "my"]}).json()["request_id"]
        client.post("/feedback", json={"request_id": request_id, "label": "refund", "item": 1})
    found = read_gauges()
    assert (found["audit_queue_rows"], found["audit_labelled_ratio"]) == (3, 0.25)
    assert len(audit_records.audit_queue("tiny", 100)) == 3


def test_counting_the_queue_uses_an_index_of_the_drawn_rows_alone() -> None:
    statement = str(_audited("tiny").compile(database.engine(), compile_kwargs={"literal_binds": True}))
    with database.engine().connect() as connection:
        plan = str(connection.execute(sa.text(f"EXPLAIN QUERY PLAN {statement}")).all())
    assert "requests_drawn" in plan


def test_a_rollback_does_not_make_a_model_young(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    for days_ago, sha256, version, action in (
        (30, "a" * 64, "1", "promote"),
        (2, "b" * 64, "2", "promote"),
        (1, "a" * 64, "1", "rollback"),
    ):
        with monkeypatch.context() as past:
            past.setattr(time, "time", lambda days_ago=days_ago: now - days_ago * 86_400)
            promote(sha256, version, action)
    assert read_gauges()["model_age_seconds"] == pytest.approx(30 * 86_400, abs=60)


def test_the_last_look_is_shown_with_its_evidence_and_the_number_of_looks() -> None:
    look("suspect", "1")
    look("harm", "2")
    found = read_gauges()
    assert {state: found[f"drift_state {state}"] for state in STATES} == {
        "no_drift": 0, "mix_only": 0, "suspect": 0, "harm": 1,
    }  # fmt: skip
    assert found["drift_looks"] == 2
    assert 0 <= found["drift_look_age_seconds"] < 60
    assert (found["drift_p_value embedding"], found["drift_alpha"]) == (0.04, 0.0006)
    assert found["audited_accuracy_ratio"] == 0.9


@pytest.mark.slow
def test_postgresql_says_the_same(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_DATABASE_URL", postgresql)
    assert read_gauges() == {"audit_queue_rows": 0}
    look("harm", "1")
    promote("a" * 64, "1")
    found = read_gauges()
    assert {found["drift_state harm"], found["drift_looks"]} == {1}
    assert (found["drift_p_value embedding"], found["audited_accuracy_ratio"]) == (0.04, 0.9)
    assert found["model_age_seconds"] < 60
    database.engine().dispose()


def test_a_look_without_labels_has_no_accuracy() -> None:
    look("no_drift", "1", harm={"accuracy": None})
    assert "audited_accuracy_ratio" not in read_gauges()


def test_looks_and_promotions_of_another_model_are_not_shown() -> None:
    look("harm", "1")
    promote("a" * 64, "1")
    other = Identity(name="other", version="1", model_sha256="a" * 64, bento="")
    loop = make_loop(lambda: other)
    loop.read()
    assert gauges(loop) == {"audit_queue_rows": 0}


def test_a_database_that_goes_away_leaves_nothing_and_is_counted() -> None:
    def away() -> sa.Engine:
        raise sa.exc.OperationalError("select", {}, Exception("planted"))

    loop = make_loop()
    loop.read()
    assert gauges(loop)
    loop.engine = away
    loop.read()
    assert gauges(loop) == {}
    assert loop.errors._value.get() == 1


def test_without_a_model_nothing_is_read() -> None:
    loop = make_loop(lambda: None)
    loop.read()
    assert gauges(loop) == {}


def test_a_slow_database_is_asked_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[float] = []

    def slow() -> sa.Engine:
        reads.append(time.monotonic())
        time.sleep(0.02)
        return database.engine()

    loop = make_loop(engine=slow, every_s=0.0)
    database.engine()
    loop.start()
    time.sleep(0.5)
    loop.stop()
    assert len(reads) == 1  # 20 ms of reading are followed by 2 s of rest


@pytest.mark.parametrize(("took_s", "pause_s"), [(0.001, 30), (1, 100), (3_600, 600)])
def test_the_pause_grows_with_the_time_that_a_read_takes_up_to_ten_minutes(took_s: float, pause_s: float) -> None:
    assert make_loop().pause_s(took_s) == pytest.approx(pause_s)


def test_the_service_reads_in_a_thread_and_the_scrape_never_waits_for_it(server: Server) -> None:
    entered, release = threading.Event(), threading.Event()

    def hangs() -> sa.Engine:
        entered.set()
        release.wait(10)
        return database.engine()

    server.loop_metrics.engine = hangs
    with serving(create_app(server)) as client:
        assert entered.wait(5)
        started = time.monotonic()
        assert client.get("/metrics").status_code == 200
        assert time.monotonic() - started < 1
        release.set()


def test_the_service_shows_what_its_thread_read(server: Server) -> None:
    look("suspect", "1")
    with serving(create_app(server)) as client:
        until = time.monotonic() + 5
        while "retort_drift_state" not in (text := client.get("/metrics").text) and time.monotonic() < until:
            time.sleep(0.02)
    assert 'retort_drift_state{state="suspect"} 1.0' in text
