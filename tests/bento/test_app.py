"""The HTTP contract, every refusal, and what happens when the database or the model is away."""

import asyncio
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import pytest
import sqlalchemy as sa
from tokenizers import Encoding

from bento import audit_records, database, records
from bento.app import ROUTES, RequestIds, Server, create_app
from bento.arms import drawn
from bento.entities import entity_tags
from bento.handlers import SCRIPTS, STATIC, WEB
from bento.predictor import Predictor
from bento.schemas import MAX_BODY_BYTES, MAX_CHARACTERS, MAX_TEXTS
from bento.serve_settings import ServeSettings
from bento.task_types import Target
from tests.arms import point_at, put_beside
from tests.serving import Client, serving
from tests.tiny import write_tiny_model


def error(response: httpx.Response) -> tuple[int, str, str | None]:
    content = response.json()["error"]
    assert content["message"]
    return response.status_code, content["code"], content["field"]


def test_one_text_is_answered_with_its_label_and_the_identity_of_the_model(client: Client, model: Path) -> None:
    answer = client.post("/predict", json={"text": "my card is lost"}).json()
    predictor = Predictor(model)
    probabilities_C = predictor.predict(["my card is lost"])[0]
    assert answer["predictions"] == [
        {
            "label": predictor.labels[probabilities_C.argmax()],
            "probability": pytest.approx(float(probabilities_C.max()), abs=0),
            "abstained": False,
        }
    ]
    assert answer["model"] == {"name": "tiny", "version": "local", "model_sha256": predictor.sha256, "bento": ""}
    assert len(answer["request_id"]) == 32


def test_predictions_come_in_the_order_of_the_texts_and_each_is_the_one_for_the_text_alone(
    client: Client, model: Path
) -> None:
    texts = ["card " * length for length in (9, 1, 5, 2, 7)] + ["refund", "where is my balance"]
    answer = client.post("/predict", json={"texts": texts, "return_all": True}).json()
    predictor = Predictor(model)
    for prediction, text in zip(answer["predictions"], texts, strict=True):
        alone_C = predictor.predict([text])[0]
        assert list(prediction["probabilities"].values()) == pytest.approx(alone_C.tolist(), abs=1e-6)


def test_a_pair_can_be_given_as_text_and_text_pair(make_server: Callable[..., Server], model_of_pairs: Path) -> None:
    with serving(create_app(make_server(model=model_of_pairs))) as client:
        one = client.post("/predict", json={"text": "card", "text_pair": "refund", "return_all": True}).json()
        many = client.post("/predict", json={"texts": [["card", "refund"]], "return_all": True}).json()
        assert one["predictions"] == many["predictions"]
        assert client.get("/identity").json()["pairs"] is True
        assert [(item["text"], item["text_pair"]) for item in client.get("/audit").json()["items"]] == [
            ("card", "refund")
        ] * 2


def test_half_a_pair_and_a_pair_too_many_are_refused(
    client: Client, make_server: Callable[..., Server], model_of_pairs: Path
) -> None:
    assert error(client.post("/predict", json={"text": "card", "text_pair": "refund"})) == (422, "pairs", "text_pair")
    assert error(client.post("/predict", json={"texts": ["card", ["card", "refund"]]}))[:2] == (422, "pairs")
    with serving(create_app(make_server(model=model_of_pairs))) as of_pairs:
        assert error(of_pairs.post("/predict", json={"text": "card"})) == (422, "pairs", "text_pair")


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({}, 422, "text_or_texts", "text"),
        ({"text": "a", "texts": ["a"]}, 422, "text_or_texts", "text"),
        ({"text": ""}, 422, "empty_text", "text"),
        ({"text": " \n\t\u2003"}, 422, "empty_text", "text"),
        ({"texts": ["a", " "]}, 422, "empty_text", "texts[1]"),
        ({"texts": ["a", ["b", ""]]}, 422, "empty_text", "texts[1][1]"),
        ({"texts": []}, 422, "too_short", "texts"),
        ({"texts": ["a"] * (MAX_TEXTS + 1)}, 422, "too_long", "texts"),
        ({"text": "a" * (MAX_CHARACTERS + 1)}, 422, "string_too_long", "text"),
        ({"texts": ["a" * (MAX_CHARACTERS + 1)]}, 422, "string_too_long", "texts[0]"),
        ({"text": 5}, 422, "string_type", "text"),
        ({"text": None, "texts": None}, 422, "text_or_texts", "text"),
        ({"texts": [["a"]]}, 422, "string_type", "texts[0]"),
        ({"text": "a", "colour": "red"}, 422, "extra_forbidden", "colour"),
        ({"text": "a", "request_id": ""}, 422, "string_pattern_mismatch", "request_id"),
        ({"text": "a", "request_id": "x" * 65}, 422, "string_pattern_mismatch", "request_id"),
        ({"text": "a", "request_id": "a\u0000b"}, 422, "string_pattern_mismatch", "request_id"),
        ({"text": "a", "return_all": "yes"}, 422, "bool_type", "return_all"),
        ({"texts": ["a"], "text_pair": "b"}, 422, "pair_without_text", "text_pair"),
        ([], 422, "model_type", None),
        (7, 422, "model_type", None),
    ],
)
def test_a_request_that_cannot_be_answered_says_what_is_wrong(
    client: Client, body: object, status: int, code: str, field: str | None
) -> None:
    assert error(client.post("/predict", json=body)) == (status, code, field)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b'{"text": "\\ud800"}', b"[" * 100_000, b'{"text": "\xed\xa0\x80"}', b"text=hello"],
    ids=["empty", "cut", "not UTF-8", "lone surrogate", "deep", "surrogate bytes", "a form"],
)
def test_a_body_that_is_not_json_is_a_400(client: Client, body: bytes) -> None:
    assert error(client.post("/predict", content=body))[:2] == (400, "invalid_json")


def test_deep_but_valid_json_is_refused_and_not_a_crash(client: Client) -> None:
    body = b'{"text": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    assert client.post("/predict", content=body).status_code in (400, 422)


def test_json_is_read_whatever_the_content_type_says(client: Client) -> None:
    response = client.post("/predict", content=b'{"text": "card"}', headers={"Content-Type": "text/plain"})
    assert response.status_code == 200


@pytest.mark.parametrize("text", ["a\u0000b", "\u202eright to left", "🜄" * 500, "\ufffd", "a" * MAX_CHARACTERS])
def test_unusual_texts_are_answered_and_logged(client: Client, server: Server, text: str) -> None:
    response = client.post("/predict", json={"text": text})
    assert response.status_code == 200
    assert server.log.flush()
    assert client.get("/audit").json()["items"][0]["text"] == text.replace("\0", "\ufffd")


@pytest.mark.parametrize("num_bytes", [MAX_BODY_BYTES + 1, 10_000_000])
def test_a_body_above_the_limit_is_a_413(client: Client, num_bytes: int) -> None:
    assert error(client.post("/predict", content=b" " * num_bytes))[:2] == (413, "body_too_large")


def test_a_used_request_id_is_a_409_for_other_texts_also_for_the_next_process(
    make_server: Callable[..., Server], client: Client
) -> None:
    body = {"text": "card", "request_id": "order-17"}
    others = [{"text": "refund"}, {"texts": ["card", "card"]}]
    assert client.post("/predict", json=body).json()["request_id"] == "order-17"
    for other in others:
        assert error(client.post("/predict", json=other | {"request_id": "order-17"})) == (
            409, "request_id_used", "request_id",
        )  # fmt: skip
    client.post("/feedback", json={"request_id": "order-17", "label": "refund"})
    with serving(create_app(make_server())) as next_client:
        for other in others:
            assert next_client.post("/predict", json=other | {"request_id": "order-17"}).status_code == 409
        assert next_client.post("/predict", json=body).status_code == 200


def test_request_ids_are_in_order_of_time_and_never_the_same() -> None:
    ids = RequestIds()
    made = [ids.new() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert {len(bytes.fromhex(request_id)) for request_id in made} == {16}
    assert [request_id[:12] for request_id in made] == sorted(request_id[:12] for request_id in made)


def test_a_client_that_tries_again_gets_the_same_answer_and_one_row(client: Client, server: Server) -> None:
    body = {"text": "a\0card", "request_id": "order-18"}
    answers = [client.post("/predict", json=body).json() for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert server.log.flush()
    assert [item["request_id"] for item in client.get("/audit").json()["items"]] == ["order-18"]


def test_unknown_paths_and_methods_are_told_apart(client: Client) -> None:
    assert error(client.get("/nope"))[:2] == (404, "not_found")
    response = client.get("/predict")
    assert error(response)[:2] == (405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


def test_feedback_right_after_the_answer_is_stored(client: Client) -> None:
    answer = client.post("/predict", json={"text": "my card"}).json()
    stored = client.post("/feedback", json={"request_id": answer["request_id"], "label": "refund"})
    predicted = answer["predictions"][0]["label"]
    assert stored.status_code == 200
    assert stored.json() == {
        "request_id": answer["request_id"],
        "item": 0,
        "label": "refund",
        "predicted": predicted,
        "agrees": predicted == "refund",
    }
    again = client.post("/feedback", json={"request_id": answer["request_id"], "label": "refund"})
    assert again.json() == stored.json()
    another = client.post("/feedback", json={"request_id": answer["request_id"], "label": "transfer"})
    assert error(another)[:2] == (409, "already_labelled")
    assert "'refund'" in another.json()["error"]["message"]


def test_a_label_is_corrected_only_when_that_is_asked_for_and_the_earlier_one_is_kept(client: Client) -> None:
    body = {"request_id": client.post("/predict", json={"text": "card"}).json()["request_id"]}
    client.post("/feedback", json=body | {"label": "refund"})
    assert client.post("/feedback", json=body | {"label": "transfer"}).status_code == 409
    corrected = client.post("/feedback", json=body | {"label": "transfer", "replace": True, "audit": True})
    assert corrected.json()["label"] == "transfer"
    assert [(row["label"], row["source"]) for row in audit_records.history("tiny")] == [("refund", "client")]


def test_a_key_labels_what_was_sent_with_it_and_an_auditors_key_everything(make_server: Callable[..., Server]) -> None:
    mine, theirs, auditor = (f"a-key-of-the-tests-{number}" for number in range(3))
    headers = {key: {"X-API-Key": key} for key in (mine, theirs, auditor)}
    server = make_server(api_keys=f"{mine} {theirs}", audit_keys=auditor)
    with serving(create_app(server)) as client:
        asked = [
            client.post("/predict", json={"text": text}, headers=headers[mine]).json() for text in ("card", "lost")
        ]
        first, second = ({"request_id": answer["request_id"], "label": "refund"} for answer in asked)
        assert error(client.post("/feedback", json=first, headers=headers[theirs]))[:2] == (404, "unknown_request")
        assert client.get("/audit", headers=headers[theirs]).json()["items"] == []
        assert len(client.get("/audit", headers=headers[auditor]).json()["items"]) == 2
        assert client.post("/feedback", json=first, headers=headers[mine]).status_code == 200
        assert client.post("/feedback", json=second, headers=headers[auditor]).status_code == 200
        (logged,) = records.read_request("tiny", first["request_id"])
        assert logged["caller"] is not None
        assert mine not in str(logged)


def test_feedback_on_several_texts_names_the_item(client: Client) -> None:
    request_id = client.post("/predict", json={"texts": ["card", "refund"]}).json()["request_id"]
    body: dict[str, object] = {"request_id": request_id, "label": "refund"}
    assert error(client.post("/feedback", json=body)) == (422, "item_needed", "item")
    assert error(client.post("/feedback", json=body | {"item": 2})) == (422, "no_such_item", "item")
    assert error(client.post("/feedback", json=body | {"item": -1}))[0] == 422
    assert client.post("/feedback", json=body | {"item": 1}).json()["item"] == 1
    assert client.post("/feedback", json=body | {"item": 0}).status_code == 200


def test_feedback_for_an_unknown_request_is_a_404(client: Client) -> None:
    response = client.post("/feedback", json={"request_id": "nobody", "label": "refund"})
    assert error(response) == (404, "unknown_request", "request_id")


def test_a_label_that_the_model_does_not_have_must_be_meant(client: Client) -> None:
    body = {"request_id": client.post("/predict", json={"text": "card"}).json()["request_id"], "label": "crypto"}
    response = client.post("/feedback", json=body)
    assert error(response) == (422, "unknown_label", "label")
    assert "card_lost, refund, transfer" in response.json()["error"]["message"]
    assert client.post("/feedback", json=body | {"new_label": True}).json()["label"] == "crypto"


@pytest.mark.parametrize("label", ["", " ", "a\u0000b", 3, "x" * 257])
def test_a_label_that_is_none_is_a_422(client: Client, label: object) -> None:
    response = client.post("/feedback", json={"request_id": "r", "label": label, "new_label": True})
    assert response.status_code == 422


def test_the_audit_queue_shows_what_was_drawn_until_it_has_a_label(client: Client) -> None:
    request_id = client.post("/predict", json={"texts": ["card", "refund"]}).json()["request_id"]
    queue = client.get("/audit").json()
    assert [(item["item"], item["text"], item["text_pair"]) for item in queue["items"]] == [
        (0, "card", None),
        (1, "refund", None),
    ]
    assert queue["labels"] == ["card_lost", "refund", "transfer"]
    assert queue["items"][0]["candidates"][0]["label"] == queue["items"][0]["label"]
    client.post("/feedback", json={"request_id": request_id, "label": "refund", "item": 0})
    assert [item["item"] for item in client.get("/audit?limit=5").json()["items"]] == [1]
    assert len(client.get("/audit?limit=0000005").json()["items"]) == 1


@pytest.mark.parametrize(
    "limit", ["0", "501", "9999999", "0005000", "00000199999999999999999999", "000001" + "0" * 5000, "-1", "٣", ""]
)
def test_a_limit_of_the_audit_queue_that_is_none_is_a_422(client: Client, limit: str) -> None:
    assert error(client.get(f"/audit?limit={limit}")) == (422, "limit", "limit")


def test_every_prediction_is_logged_with_the_identity_of_the_model(client: Client, server: Server) -> None:
    before = time.time()
    answer = client.post("/predict", json={"texts": ["card", "refund"]}).json()
    assert server.log.flush()
    with database.engine().connect() as connection:
        rows = connection.execute(sa.select(database.requests)).mappings().all()
    assert [row["text"] for row in rows] == ["card", "refund"]
    for row, prediction in zip(rows, answer["predictions"], strict=True):
        assert row["request_id"] == answer["request_id"]
        assert {key: row[key] for key in ("name", "version", "model_sha256")} == {
            key: answer["model"][key] for key in ("name", "version", "model_sha256")
        }
        assert row["label"] == prediction["label"]
        assert row["arm"] == "champion"
        assert before <= row["received_at"] <= time.time()
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_answers_go_on_while_the_database_is_down(
    make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RETORT_DATABASE_URL", f"sqlite:///{tmp_path}/a-folder/retort.db")
    (tmp_path / "a-folder").mkdir()
    (tmp_path / "a-folder/retort.db").mkdir()
    server = make_server()
    with serving(create_app(server)) as client:
        assert client.post("/predict", json={"text": "card", "request_id": "mine"}).status_code == 200
        assert error(client.post("/feedback", json={"request_id": "mine", "label": "refund"}))[:2] == (
            503,
            "log_unavailable",
        )
        assert error(client.get("/audit"))[:2] == (503, "log_unavailable")
        assert client.get("/readyz").status_code == 200
        assert server.metrics.registry.get_sample_value("retort_log_errors_total") >= 1
        (tmp_path / "a-folder/retort.db").rmdir()
        assert client.post("/feedback", json={"request_id": "mine", "label": "refund"}).status_code == 200


def test_a_database_that_hangs_holds_up_one_answer_briefly_and_the_next_not_at_all(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, asked = threading.Event(), list[str]()

    def hang(_name: str, request_id: str) -> list[tuple[str, str | None]]:
        asked.append(request_id)
        release.wait(20)
        return []

    monkeypatch.setattr(records, "request_texts", hang)
    try:
        started = time.monotonic()
        for request_id in ("first", "second"):
            assert client.post("/predict", json={"text": "card", "request_id": request_id}).status_code == 200
        assert time.monotonic() - started < 10
        assert asked == ["first"]
    finally:
        release.set()


def test_without_a_model_the_service_lives_but_is_not_ready() -> None:
    with serving(create_app(Server(ServeSettings()))) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503
        assert "RETORT_MODEL" in client.get("/readyz").json()["reason"]
        assert error(client.post("/predict", json={"text": "card"}))[:2] == (503, "not_ready")
        assert error(client.get("/identity"))[:2] == (503, "not_ready")


def test_a_draining_service_is_not_ready_but_answers(client: Client, server: Server) -> None:
    server.drain()
    assert client.get("/readyz").status_code == 503
    assert client.get("/v2/health/ready").status_code == 503
    assert client.get("/livez").status_code == 200
    assert client.post("/predict", json={"text": "card"}).status_code == 200


def test_the_log_is_written_when_the_service_stops(make_server: Callable[..., Server]) -> None:
    with serving(create_app(make_server())) as client:
        client.post("/predict", json={"text": "card"})
    with database.engine().connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(database.requests)) == 1


def test_a_failing_model_is_a_500_in_json_and_the_request_may_be_repeated(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Predictor, texts: object, encodings: object) -> None:
        raise RuntimeError("planted")

    body = {"text": "card", "request_id": "again"}
    with monkeypatch.context() as planted:
        planted.setattr(Predictor, "logits", fail)
        assert error(client.post("/predict", json=body))[:2] == (500, "internal")
    assert client.post("/predict", json=body).status_code == 200


def test_identity_names_the_model_and_its_labels(client: Client, model: Path) -> None:
    assert client.get("/identity").json() == {
        "name": "tiny",
        "version": "local",
        "model_sha256": Predictor(model).sha256,
        "bento": "",
        "labels": ["card_lost", "refund", "transfer"],
        "task": "single_label",
        "pairs": False,
        "max_tokens": 16,
        "threads": 1,
    }


def test_metrics_count_requests_predictions_and_the_model(client: Client) -> None:
    label = client.post("/predict", json={"texts": ["card", "card"]}).json()["predictions"][0]["label"]
    client.get("/a/path/that/nobody/knows")
    text = client.get("/metrics").text
    assert 'retort_requests_total{route="/predict",status="200"} 1.0' in text
    assert 'retort_requests_total{route="other",status="404"} 1.0' in text
    assert f'retort_predictions_total{{label="{label}"}} 2.0' in text
    assert 'retort_request_seconds_bucket{le="0.0005",outcome="ok",route="/predict"}' in text
    assert 'name="tiny"' in text
    assert "process_resident_memory_bytes" in text


def test_the_openapi_document_has_every_route_and_resolves(client: Client) -> None:
    document = client.get("/docs.json").json()
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert described == {(method, path) for method, path, _ in ROUTES if not path.startswith("/static")}
    schemas = document["components"]["schemas"]
    names = {part.split('"')[0] for part in orjson.dumps(document).decode().split("#/components/schemas/")[1:]}
    assert names <= set(schemas)
    assert {"400", "409", "413", "422", "429", "503"} <= set(document["paths"]["/predict"]["post"]["responses"])
    assert schemas["PredictRequest"]["additionalProperties"] is False


def test_the_page_and_its_files_come_from_the_service_alone(client: Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in page.text
    assert "https://" not in page.text
    asked = set(re.findall(r'"static/([^"]+)"', page.text))
    asked |= {
        file for script in SCRIPTS for file in re.findall(r'from "./([^"]+)"', client.get(f"/static/{script}").text)
    }
    assert asked == set(STATIC) == {path.name for path in WEB.iterdir()} - {"index.html"}
    assert {client.get(f"/static/{file}").status_code for file in asked} == {200}
    assert client.get("/static/app.py").status_code == 404
    assert client.get("/static/..%2fapp.py").status_code == 404


@pytest.mark.anyio
async def test_a_full_queue_is_a_429_with_retry_after(make_server: Callable[..., Server]) -> None:
    server = make_server(queue_limit=256)
    app = create_app(server)
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as http:
        bodies = [{"texts": [f"card {number} {place}" for place in range(MAX_TEXTS)]} for number in range(8)]
        responses = await asyncio.gather(*(http.post("/predict", json=body) for body in bodies))
        refused = [response for response in responses if response.status_code == 429]
        assert {response.status_code for response in responses} == {200, 429}
        assert all(response.headers["retry-after"] == "1" for response in refused)
        assert (await http.post("/predict", json=bodies[-1])).status_code == 200


@pytest.mark.anyio
async def test_a_request_past_its_deadline_is_a_503(
    make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Predictor.logits

    def late(self: Predictor, texts: list[str], encodings: list[object]) -> object:
        time.sleep(0.2)
        return slow(self, texts, encodings)

    app = create_app(make_server(deadline_ms=20))
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as http:
        monkeypatch.setattr(Predictor, "logits", late)
        assert error(await http.post("/predict", json={"text": "card"}))[:2] == (503, "deadline_exceeded")


def test_the_header_says_how_long_the_client_waits(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted in ("0", "-1", "soon", "1.5"):
        refused = client.post("/predict", json={"text": "card"}, headers={"X-Deadline-Ms": wanted})
        assert error(refused)[:2] == (400, "deadline")
    assert client.post("/predict", json={"text": "card"}, headers={"X-Deadline-Ms": "5000"}).status_code == 200
    slow = Predictor.logits

    def late(self: Predictor, texts: list[str], encodings: list[object]) -> object:
        time.sleep(0.2)
        return slow(self, texts, encodings)

    monkeypatch.setattr(Predictor, "logits", late)
    answer = client.post("/predict", json={"text": "lost"}, headers={"X-Deadline-Ms": "20"})
    assert error(answer)[:2] == (503, "deadline_exceeded")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_AUDIT_RATE", "0.5")
    monkeypatch.setenv("RETORT_BATCH_TOKENS", "8")
    monkeypatch.setenv("RETORT_THREADS", "")
    settings = ServeSettings.from_env()
    assert (settings.audit_rate, settings.batch_tokens, settings.threads) == (0.5, 8, None)
    monkeypatch.setenv("RETORT_QUEUE_LIMIT", "many")
    with pytest.raises(ValueError, match="queue_limit"):
        ServeSettings.from_env()


@pytest.mark.anyio
async def test_a_request_whose_client_has_gone_is_not_computed(
    make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, computed = Predictor.logits, []

    def slow(self: Predictor, texts: list[str], encodings: list[Encoding]) -> object:
        computed.append(texts[0])
        time.sleep(0.4)
        return inner(self, texts, encodings)

    incoming = [{"type": "http.request", "body": b'{"text": "refund"}'}, {"type": "http.disconnect"}]
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return incoming.pop(0)

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    server = make_server(workers=1)
    app = create_app(server)
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as http:
        monkeypatch.setattr(Predictor, "logits", slow)
        waiting = asyncio.create_task(http.post("/predict", json={"text": "card"}))
        await asyncio.sleep(0.05)
        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [], "query_string": b""}
        await app(scope, receive, send)
        assert (await waiting).status_code == 200
    assert sent[0]["status"] == 499
    assert computed == ["card"]


@pytest.fixture
def of_sets(make_server: Callable[..., Server], tmp_path: Path) -> Server:
    return make_server(model=write_tiny_model(tmp_path / "sets", target=Target(task="multi_label")))


def test_a_model_of_label_sets_answers_them(of_sets: Server) -> None:
    with serving(create_app(of_sets)) as client:
        body = {"texts": ["my card is lost", "refund"], "return_all": True}
        for prediction in client.post("/predict", json=body).json()["predictions"]:
            chosen = {label: value for label, value in prediction["probabilities"].items() if value >= 0.5}
            assert dict(zip(prediction["labels"], prediction["label_probabilities"], strict=True)) == chosen
        assert client.get("/identity").json()["task"] == "multi_label"
        request = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["my card is lost"]}]}
        outputs = client.post("/v2/models/tiny/infer", json=request).json()["outputs"]
        assert [output["name"] for output in outputs] == ["labels", "probabilities"]
        assert isinstance(orjson.loads(outputs[0]["data"][0]), list)
        wanted = client.post("/v2/models/tiny/infer", json=request | {"outputs": [{"name": "label"}]})
        assert (wanted.status_code, wanted.json()["code"]) == (422, "output")


def test_a_model_of_scores_answers_a_number_on_its_scale(make_server: Callable[..., Server], tmp_path: Path) -> None:
    folder = write_tiny_model(
        tmp_path / "scores", labels=["score"], pairs=True, target=Target(task="score", low=0, high=5)
    )
    with serving(create_app(make_server(model=folder))) as client:
        answer = client.post("/predict", json={"text": "card", "text_pair": "refund", "return_all": True}).json()
        share = float(Predictor(folder).predict([("card", "refund")])[0, 0])
        assert answer["predictions"] == [{"score": pytest.approx(5 * share)}]
        assert 0 < share < 1


def test_a_model_of_entities_answers_where_they_are_and_the_same_alone_and_in_a_batch(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    tags = entity_tags(["LOC", "PER"])
    folder = write_tiny_model(tmp_path / "entities", labels=tags, seed=3, target=Target(task="entities"))
    texts = ["my card, please help", "refund", "where is money where is refund card lost"]
    with serving(create_app(make_server(model=folder))) as client:
        together = client.post("/predict", json={"texts": texts, "return_all": True}).json()["predictions"]
        alone = [client.post("/predict", json={"text": text}).json()["predictions"][0] for text in texts]
        assert [set(prediction) for prediction in together] == [{"entities"}] * 3
        for text, one, other in zip(texts, together, alone, strict=True):
            assert [entity | {"score": 0} for entity in one["entities"]] == [
                entity | {"score": 0} for entity in other["entities"]
            ]
            for entity in one["entities"]:
                assert text[entity["start"] : entity["end"]] == entity["text"]
                assert entity["label"] in ("LOC", "PER")
                assert 0.2 <= entity["score"] <= 1
        assert any(prediction["entities"] for prediction in together)
        request = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": texts[:1]}]}
        (output,) = client.post("/v2/models/tiny/infer", json=request).json()["outputs"]
        assert (output["name"], orjson.loads(output["data"][0])) == ("entities", alone[0]["entities"])


def test_what_is_no_single_class_takes_no_feedback_and_waits_for_no_label(of_sets: Server) -> None:
    with serving(create_app(of_sets)) as client:
        request_id = client.post("/predict", json={"text": "my card is lost"}).json()["request_id"]
        sent = client.post("/feedback", json={"request_id": request_id, "label": "refund"})
        assert error(sent) == (422, "task", None)
        assert client.get("/audit").json()["items"] == []


def test_while_it_drains_the_service_answers_is_not_ready_and_asks_for_the_connection_to_be_closed(
    client: Client, server: Server
) -> None:
    assert "connection" not in client.post("/predict", json={"text": "card"}).headers
    server.drain()
    response = client.post("/predict", json={"text": "card"})
    assert (response.status_code, response.headers["connection"]) == (200, "close")
    assert client.get("/readyz").status_code == 503
    assert client.post("/predict", json={}).headers["connection"] == "close"


def test_the_protocol_takes_the_key_as_a_parameter_and_a_key_that_is_no_string_is_refused(
    tmp_path: Path,
) -> None:
    point_at(write_tiny_model(tmp_path / "v1", seed=1), "1")
    put_beside(write_tiny_model(tmp_path / "v2", seed=2), "2", "challenger", 0.5)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["my card"]}
    with serving(create_app(Server(ServeSettings(follow="tiny")))) as client:
        for number in range(20):
            body = {"inputs": [tensor], "parameters": {"key": f"person {number}"}}
            answers = {client.post("/v2/models/tiny/infer", json=body).json()["model_version"] for _ in range(3)}
            assert answers == {"2" if drawn("salt", f"person {number}", 0.5) else "1"}
            plain = client.post("/predict", json={"text": "my card", "key": f"person {number}"}).json()
            assert {plain["model"]["version"]} == answers
        body = {"inputs": [tensor], "parameters": {"key": 7}}
        refused = client.post("/v2/models/tiny/infer", json=body)
        assert (refused.status_code, refused.json()["field"]) == (422, "parameters.key")


def test_a_request_without_a_key_is_drawn_by_its_id_so_a_second_try_gets_the_same_model(tmp_path: Path) -> None:
    point_at(write_tiny_model(tmp_path / "v1", seed=1), "1")
    put_beside(write_tiny_model(tmp_path / "v2", seed=2), "2", "challenger", 0.5)
    with serving(create_app(Server(ServeSettings(follow="tiny")))) as client:
        for _ in range(20):
            answer = client.post("/predict", json={"text": "my card"}).json()
            assert answer["model"]["version"] == ("2" if drawn("salt", answer["request_id"], 0.5) else "1")
            again = client.post("/predict", json={"text": "my card", "request_id": answer["request_id"]}).json()
            assert again == answer
