"""The shadow is asked in secret, when nothing waits, and never instead of or before a person."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from bento import database, records
from bento.app import Server, create_app
from bento.predictor import Predictor
from bento.serve_settings import ServeSettings
from bento.shadow import MAX_WAITING_REQUESTS, Copy
from tests.arms import point_at, put_beside
from tests.serving import Client, serving
from tests.tiny import write_tiny_model


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    return [write_tiny_model(tmp_path / f"v{seed}", seed=seed) for seed in (1, 2)]


@pytest.fixture
def server(models: list[Path]) -> Server:
    """Version 1 serves, and version 2 is asked everything again."""
    point_at(models[0], "1")
    put_beside(models[1], "2", "shadow", 1.0)
    return Server(ServeSettings(follow="tiny"))


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with serving(create_app(server)) as client:
        yield client


def shadows() -> list[dict[str, object]]:
    statement = sa.select(database.shadows).order_by(database.shadows.c.request_id, database.shadows.c.item)
    with database.engine().connect() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def count(server: Server, name: str, **labels: str) -> float:
    return server.metrics.registry.get_sample_value(f"retort_{name}_total", labels) or 0.0


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "it did not happen within 10 s"
        time.sleep(0.005)


def test_what_the_shadow_answers_is_logged_beside_the_request_and_not_as_traffic(
    client: Client, server: Server, models: list[Path]
) -> None:
    texts = ["my card", "refund please"]
    answer = client.post("/predict", json={"texts": texts, "request_id": "r"}).json()
    assert answer["model"]["version"] == "1"
    wait_for(lambda: count(server, "shadow_rows") == 2)
    assert server.log.flush()
    first, second = shadows()
    assert (first["arm"], first["version"], first["request_id"], first["item"]) == ("shadow", "2", "r", 0)
    expected_NC = Predictor(models[1]).predict(texts)
    assert np.allclose(np.array([first["probabilities"], second["probabilities"]]), expected_NC, atol=1e-6)
    rows = records.read_window("tiny", 0, time.time() + 1)
    assert [(row["arm"], row["version"]) for row in rows] == [("champion", "1")] * 2
    assert len(records.read_request("tiny", "r")) == 2
    assert count(server, "arm_requests", arm="champion") == 1
    predictions = server.metrics.predictions
    assert sum(sample.value for sample in predictions.collect()[0].samples if sample.name.endswith("_total")) == 2


def test_the_shadow_is_asked_about_its_share_alone(client: Client, server: Server, models: list[Path]) -> None:
    put_beside(models[1], "2", "shadow", 0.3)
    server.router.check_assignment()
    arm = server.router.serving.beside["shadow"].arm
    ids = [f"r{number}" for number in range(40)]
    for request_id in ids:
        client.post("/predict", json={"text": "my card", "request_id": request_id})
        time.sleep(0.005)  # else the next one may come before the shadow has looked
    wait_for(lambda: count(server, "shadow_rows") == sum(map(arm.draws, ids)))
    assert server.log.flush()
    assert {row["request_id"] for row in shadows()} == {request_id for request_id in ids if arm.draws(request_id)}


def test_while_requests_wait_the_shadow_is_skipped_and_counted(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.inference.batcher, "num_queued", 1)
    server.shadow.offer(copy(server, "r", 3))
    assert count(server, "shadow_skipped", reason="busy") == 3
    assert count(server, "shadow_rows") == 0


def test_a_request_that_comes_while_the_shadow_works_ends_its_work(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = Predictor.predict

    def slow(self: Predictor, texts: list[str]) -> object:
        monkeypatch.setattr(server.inference.batcher, "num_queued", 1)  # a request comes
        return predict(self, texts)

    monkeypatch.setattr(Predictor, "predict", slow)
    server.shadow.offer(copy(server, "r", 5))
    wait_for(lambda: count(server, "shadow_skipped", reason="busy") == 4)
    assert count(server, "shadow_rows") == 1


def test_a_slow_shadow_delays_no_answer_and_what_its_queue_cannot_hold_is_counted(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, go_on = Predictor.predict, threading.Event()

    def stuck(self: Predictor, texts: list[str]) -> object:
        go_on.wait(20)
        return predict(self, texts)

    monkeypatch.setattr(Predictor, "predict", stuck)
    monkeypatch.setattr(server.shadow, "is_idle", lambda: True)
    try:
        for _ in range(MAX_WAITING_REQUESTS + 4):
            assert client.post("/predict", json={"text": "my card"}).status_code == 200
        wait_for(lambda: count(server, "shadow_skipped", reason="queue_full") == 3)
    finally:
        go_on.set()
    wait_for(lambda: count(server, "shadow_rows") == MAX_WAITING_REQUESTS + 1)


def test_a_shadow_that_fails_is_counted_and_goes_on(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    predict = Predictor.predict

    def broken(self: Predictor, texts: list[str]) -> object:
        if texts == ["refund"]:
            raise RuntimeError("planted")
        return predict(self, texts)

    monkeypatch.setattr(Predictor, "predict", broken)
    server.shadow.offer(copy(server, "r", 1, text="refund"))
    server.shadow.offer(copy(server, "s", 1))
    wait_for(lambda: count(server, "shadow_rows") == 1)
    assert count(server, "shadow_skipped", reason="failed") == 1
    assert "planted" in caplog.text
    assert client.post("/predict", json={"text": "refund"}).status_code == 200


def copy(server: Server, request_id: str, num_texts: int, text: str = "my card") -> Copy:
    model = server.router.serving.beside["shadow"].model
    return Copy(model=model, request_id=request_id, texts=[text] * num_texts, received_at=1000.0)
