"""Following the champion: swaps without a failed request, refusals that leave the old model serving."""

import asyncio
import shutil
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from tokenizers import Encoding

from bento.app import Server, create_app
from bento.arms import Raised, drawn
from bento.audit_records import raise_audit_rate
from bento.manifest import ONNX_FILE, folder_sha256
from bento.metrics import Metrics
from bento.predictor import Predictor, Text
from bento.records import read_window
from bento.router import Router, load_predictor
from bento.serve_settings import ServeSettings
from bento.task_types import Floats
from tests.arms import end_arm, point_at, put_beside
from tests.serving import serving
from tests.tiny import write_tiny_model


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
    router.check_assignment()

    def away(name: str) -> None:
        raise OSError("planted")

    router.assignment = away
    router.check_assignment()
    assert version(router) == "1"
    assert router.metrics.registry.get_sample_value("retort_pointer_errors_total") == 1


def test_a_raised_audit_rate_is_followed_until_it_lapses_and_outlives_the_database(
    router: Router, models: list[Path]
) -> None:
    point_at(models[0], "1")
    router.start()
    assert router.audit_rate(0.05) == 0.05
    raise_audit_rate("tiny", 0.4, time.time() + 60)
    wait_for(lambda: router.audit_rate(0.05) == 0.4)
    assert (router.audit_rate(0.7), router.audit_rate(0.0)) == (0.7, 0.0)
    raise_audit_rate("tiny", 0.4, time.time() + 0.3)
    wait_for(lambda: router.audit_rate(0.05) == 0.05)
    router.stop()
    router.raised = Raised(rate=0.4, until=time.time() + 60)
    router.assignment = lambda name: 1 / 0  # type: ignore[assignment, return-value]
    router.check_assignment()
    assert router.audit_rate(0.05) == 0.4


def test_a_service_draws_more_while_the_rate_is_raised_and_notes_the_chance(models: list[Path]) -> None:
    point_at(models[0], "1")
    server = Server(ServeSettings(follow="tiny", audit_rate=0.05))
    with serving(create_app(server)) as client:
        for rate in (0.05, 0.6):
            if rate > 0.05:
                raise_audit_rate("tiny", rate, time.time() + 60)
                server.router.check_assignment()
            for at in range(4):
                body = {"texts": ["my card"] * 32, "request_id": f"{rate}-{at}"}
                assert client.post("/predict", json=body).status_code == 200
    rows = read_window("tiny", 0, time.time() + 60)
    drawn_at = {rate: [row["audit"] for row in rows if row["audit_rate"] == rate] for rate in (0.05, 0.6)}
    assert [len(found) for found in drawn_at.values()] == [128, 128]
    assert sum(drawn_at[0.05]) < 25 < 50 < sum(drawn_at[0.6])


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
                await asyncio.sleep(0)  # a cached answer is there without the event loop's turn

        def answered() -> str:
            return answers[-1].json()["model"]["version"] if answers else ""

        clients = [asyncio.create_task(load()) for _ in range(8)]
        for number in range(1, 7):
            await asyncio.to_thread(point_at, models[number % 2], str(number))
            await asyncio.to_thread(wait_for, lambda: answered() == str(number))  # noqa: B023
        stop.set()
        await asyncio.gather(*clients)
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model"]["version"] for answer in answers} == set("0123456")
    by_model: dict[str, set[float]] = {}
    for answer in answers:
        content = answer.json()
        by_model.setdefault(content["model"]["model_sha256"], set()).add(content["predictions"][0]["probability"])
    assert len(by_model) == 2
    assert all(len(probabilities) == 1 for probabilities in by_model.values())


def refused(router: Router) -> float | None:
    return router.metrics.registry.get_sample_value("retort_model_swaps_refused_total")


def arms(router: Router) -> dict[str, str]:
    return {model.arm: model.identity.version for model in router.serving.models()}


def test_a_challenger_gets_its_share_and_gives_it_back(router: Router, models: list[Path]) -> None:
    point_at(models[0], "1")
    router.check_assignment()
    put_beside(models[1], "2", "challenger", 0.5)
    router.check_assignment()
    assert arms(router) == {"champion": "1", "challenger": "2"}
    chosen = {unit: router.serving.choose(unit) for unit in map(str, range(100))}
    assert {unit for unit, model in chosen.items() if model and model.arm == "challenger"} == {
        unit for unit in chosen if drawn("salt", unit, 0.5)
    }
    end_arm("challenger")
    router.check_assignment()
    assert arms(router) == {"champion": "1"}
    assert all(router.serving.choose(unit) is router.current for unit in chosen)


def test_a_share_that_changes_loads_nothing(
    router: Router, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(models[0], "1")
    put_beside(models[1], "2", "challenger", 0.1)
    router.check_assignment()
    before = router.serving.beside["challenger"].model
    monkeypatch.setattr("bento.router.load_predictor", pytest.fail)
    put_beside(models[1], "2", "challenger", 0.4)
    router.check_assignment()
    assert router.serving.beside["challenger"].model is before
    assert router.metrics.registry.get_sample_value("retort_arm_share", {"arm": "challenger"}) == 0.4


def test_a_challenger_that_is_promoted_is_not_loaded_again(
    router: Router, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(models[0], "1")
    put_beside(models[1], "2", "challenger", 0.1)
    router.check_assignment()
    loaded = router.serving.beside["challenger"].model.predictor
    monkeypatch.setattr("bento.router.load_predictor", pytest.fail)
    point_at(models[1], "2")
    router.check_assignment()
    assert arms(router) == {"champion": "2"}
    assert router.current is not None
    assert router.current.predictor is loaded


@pytest.mark.parametrize("arm", ["challenger", "shadow"])
def test_an_altered_model_beside_the_champion_is_refused_and_the_champion_answers_its_share(
    router: Router, models: list[Path], arm: str, caplog: pytest.LogCaptureFixture
) -> None:
    point_at(models[0], "1")
    with (models[1] / ONNX_FILE).open("ab") as file:
        file.write(b"x")
    put_beside(models[1], "2", arm, 0.5)
    router.check_assignment()
    router.check_assignment()
    assert refused(router) == 1
    assert "tiny version 2 is refused" in caplog.text
    assert arms(router) == {"champion": "1"}
    assert all(router.serving.choose(str(unit)) is router.current for unit in range(50))


def test_a_challenger_with_other_labels_is_refused(router: Router, models: list[Path], tmp_path: Path) -> None:
    point_at(models[0], "1")
    put_beside(write_tiny_model(tmp_path / "other", labels=("a", "b")), "2", "challenger", 0.5)
    router.check_assignment()
    assert refused(router) == 1
    assert "expected the champion's labels" in router.reason
    assert arms(router) == {"champion": "1"}


def test_a_champion_that_moves_ends_what_stood_beside_the_old_one_in_one_step(
    router: Router, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(models[0], "1")
    put_beside(models[1], "2", "challenger", 0.5)
    put_beside(models[1], "2", "shadow", 1.0)
    router.check_assignment()
    taken: list[dict[str, str]] = []
    take_over = router._take_over
    monkeypatch.setattr(router, "_take_over", lambda serving: (take_over(serving), taken.append(arms(router))))
    point_at(write_tiny_model(tmp_path / "v3", seed=3), "3")
    router.check_assignment()
    assert taken == [{"champion": "3"}]


def test_a_model_that_no_request_holds_any_more_is_released(router: Router, models: list[Path]) -> None:
    point_at(models[0], "1")
    router.check_assignment()
    assert router.current is not None
    old = router.current
    gone = weakref.ref(old.predictor)
    point_at(models[1], "2")
    router.check_assignment()
    assert gone() is not None  # a request still has it
    del old
    assert gone() is None


def test_the_same_tokenizer_is_not_read_again(router: Router, models: list[Path], tmp_path: Path) -> None:
    point_at(models[0], "1")
    router.check_assignment()
    assert router.current is not None
    first = router.current.predictor.tokenizer
    point_at(models[1], "2")
    router.check_assignment()
    assert version(router) == "2"
    assert router.current.predictor.tokenizer is first
    point_at(write_tiny_model(tmp_path / "longer", max_tokens=30), "3")
    router.check_assignment()
    assert version(router) == "3"
    assert router.current.predictor.tokenizer is not first
    assert len(router.current.predictor.tokenize(["card " * 40])[0].ids) == 30
    assert len(first.encode("card " * 40).ids) == 16


def test_a_model_is_warm_at_every_length_that_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    predict = Predictor.logits

    def logits(self: Predictor, texts: Sequence[Text], encodings: Sequence[Encoding]) -> Floats:
        lengths.extend(len(encoding.ids) for encoding in encodings)
        return predict(self, texts, encodings)

    monkeypatch.setattr(Predictor, "logits", logits)
    load_predictor(write_tiny_model(tmp_path / "short", max_tokens=20), 1)
    assert lengths == [3, 6, 10, 18, 20]
    lengths.clear()
    load_predictor(write_tiny_model(tmp_path / "pairs", max_tokens=512, pairs=True), 1)
    assert lengths == [5, 11, 19, 35, 67, 131, 259, 512, 512]
