"""Following the champion: swaps without a failed request, refusals that leave the old model serving."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from bento import database
from bento.app import Server, ServeSettings, create_app
from bento.manifest import ONNX_FILE, folder_sha256
from bento.metrics import Metrics
from bento.router import Router
from tests.serving import serving
from tests.tiny import write_tiny_model


def point_at(model: Path, version: str, *, sha256: str | None = None) -> None:
    """Make `model` the champion of `tiny`."""
    row = {
        "version": version,
        "model_sha256": sha256 or folder_sha256(model),
        "model_path": str(model),
        "bento": f"tiny:{version}",
        "updated_at": time.time(),
    }
    with database.engine().begin() as connection:
        connection.execute(sa.delete(database.champions).where(database.champions.c.name == "tiny"))
        connection.execute(sa.insert(database.champions), row | {"name": "tiny"})


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "it did not happen within 10 s"
        time.sleep(0.01)


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    return [write_tiny_model(tmp_path / f"v{seed}", seed=seed) for seed in (1, 2)]


@pytest.fixture
def router() -> Iterator[Router]:
    router = Router(Metrics(), follow="tiny", every_s=0.02)
    yield router
    router.stop()


def version(router: Router) -> str:
    return router.current.identity.version if router.current else ""


def test_the_champion_of_the_pointer_is_loaded_at_the_start(router: Router, models: list[Path]) -> None:
    point_at(models[0], "1")
    router.start()
    assert router.current is not None
    assert router.current.identity.version == "1"
    assert router.current.identity.bento == "tiny:1"
    assert router.current.predictor.sha256 == folder_sha256(models[0])


def test_without_a_champion_nothing_serves_until_one_is_promoted(router: Router, models: list[Path]) -> None:
    router.start()
    assert router.current is None
    assert "tiny has no champion" in router.reason
    point_at(models[0], "1")
    wait_for(lambda: version(router) == "1")


def test_an_altered_model_is_refused_and_the_old_one_goes_on(router: Router, models: list[Path]) -> None:
    point_at(models[0], "1")
    router.start()
    with (models[1] / ONNX_FILE).open("ab") as file:
        file.write(b"x")
    point_at(models[1], "2")
    wait_for(lambda: router.metrics.registry.get_sample_value("retort_model_swaps_refused_total") == 1)
    assert version(router) == "1"
    assert "expected sha256" in router.reason


def test_a_model_other_than_the_promoted_one_is_refused(router: Router, models: list[Path]) -> None:
    point_at(models[0], "1")
    router.start()
    point_at(models[1], "2", sha256="0" * 64)
    wait_for(lambda: "expected model sha256 0000" in router.reason)
    assert version(router) == "1"


def test_a_missing_model_is_refused_once_and_the_next_good_one_serves(router: Router, models: list[Path]) -> None:
    point_at(models[0], "1")
    router.start()
    sha256 = folder_sha256(models[1])
    hidden = models[1].with_name("hidden")
    shutil.move(models[1], hidden)
    point_at(models[1], "2", sha256=sha256)
    wait_for(lambda: router.metrics.registry.get_sample_value("retort_model_swaps_refused_total") == 1)
    time.sleep(0.1)
    assert router.metrics.registry.get_sample_value("retort_model_swaps_refused_total") == 1
    point_at(hidden, "3")
    wait_for(lambda: version(router) == "3")


def test_a_database_that_is_away_leaves_the_model_serving(models: list[Path]) -> None:
    point_at(models[0], "1")
    router = Router(Metrics(), follow="tiny")
    router.check_pointer()

    def away(name: str) -> None:
        raise OSError("planted")

    router.pointer = away
    router.check_pointer()
    assert version(router) == "1"
    assert router.metrics.registry.get_sample_value("retort_pointer_errors_total") == 1


def test_an_embedded_model_that_was_altered_is_never_ready(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    (model / "tokenizer.json").write_text("{}")
    with serving(create_app(Server(ServeSettings(model=model)))) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503
        assert "tokenizer.json" in client.get("/readyz").json()["reason"]


@pytest.mark.anyio
async def test_promotions_under_load_fail_no_request_and_each_answer_fits_its_model(models: list[Path]) -> None:
    point_at(models[0], "0")
    server = Server(ServeSettings(follow="tiny"))
    server.router.every_s = 0.02
    app = create_app(server)
    transport = httpx.ASGITransport(app=app)
    answers: list[httpx.Response] = []
    stop = asyncio.Event()
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as http:

        async def load() -> None:
            while not stop.is_set():
                answers.append(await http.post("/predict", json={"texts": ["my card", "refund"], "return_all": True}))

        clients = [asyncio.create_task(load()) for _ in range(8)]
        for number in range(1, 7):
            await asyncio.to_thread(point_at, models[number % 2], str(number))
            await asyncio.to_thread(wait_for, lambda: version(server.router) == str(number))  # noqa: B023
        await asyncio.to_thread(wait_for, lambda: answers[-1].json()["model"]["version"] == "6")
        stop.set()
        await asyncio.gather(*clients)
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model"]["version"] for answer in answers} >= {"1", "3", "6"}
    by_model: dict[str, set[float]] = {}
    for answer in answers:
        content = answer.json()
        by_model.setdefault(content["model"]["model_sha256"], set()).add(content["predictions"][0]["probability"])
    assert len(by_model) == 2
    assert all(len(probabilities) == 1 for probabilities in by_model.values())
