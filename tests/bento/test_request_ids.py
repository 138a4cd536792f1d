"""Every answer has an id, and the access log names requests by it and by nothing private."""

import json
import time
from collections.abc import Callable

import httpx
import pytest

from bento.app import Server, create_app
from bento.predictor import Predictor
from tests.serving import Client, serving, v2_body

PATHS = ("/livez", "/nope", "/v2/models/other", "/static/none", "/audit?limit=x")


def test_the_callers_id_comes_back_on_every_answer(client: Client) -> None:
    for path in PATHS:
        assert client.get(path, headers={"X-Request-Id": "trace-1:a/b"}).headers["x-request-id"] == "trace-1:a/b"


def test_without_an_id_each_answer_gets_one_of_its_own(client: Client) -> None:
    ids = [client.get(path).headers["x-request-id"] for path in PATHS]
    ids += [client.post("/predict", json={"text": text}).headers["x-request-id"] for text in ("card", "")]
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 32 for each in ids)


@pytest.mark.parametrize(("sent", "same"), [({}, True), ({"X-Request-Id": "again"}, False)])
def test_an_answers_own_id_is_the_headers_unless_the_caller_chose_that(
    client: Client, sent: dict[str, str], same: bool
) -> None:
    """So that a line of the access log leads to its rows, and a proxy's id that comes twice is no conflict."""
    answered = [client.post("/predict", json={"text": text}, headers=sent) for text in ("my card", "my money")]
    answered.append(client.post("/v2/models/tiny/infer", json=v2_body(["my card"]), headers=sent))
    bodies = [answer.json() for answer in answered]
    own = [body.get("request_id") or body["id"] for body in bodies]
    assert len(set(own)) == 3
    assert [answer.headers["x-request-id"] == each for answer, each in zip(answered, own, strict=True)] == [same] * 3


@pytest.mark.parametrize("given", [b"", b"a b", b'"quoted"', b"a\tb", b"x" * 65, b"\xff", b"{}"])
def test_an_id_that_could_forge_a_line_is_replaced(client: Client, given: bytes) -> None:
    answered = client.get("/livez", headers={"X-Request-Id": given}).headers.get_list("x-request-id")
    assert len(answered) == 1
    assert len(answered[0]) == 32


def lines(captured: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in captured.readouterr().err.splitlines() if line.startswith("{")]


def test_the_access_log_has_route_status_time_and_id_of_every_request_and_no_text(
    make_server: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(create_app(make_server(access_log=1))) as client:
        client.post("/predict", json={"text": "my secret card"}, headers={"X-Request-Id": "one"})
        client.get("/v2/models/other?secret=card", headers={"X-Request-Id": "two"})
    first, second = lines(capsys)
    assert set(first) == {"time", "id", "method", "route", "status", "ms"}
    assert (first["id"], first["method"], first["route"], first["status"]) == ("one", "POST", "/predict", 200)
    assert (second["id"], second["route"], second["status"]) == ("two", "/v2/models/{name}", 404)
    assert abs(float(str(first["time"])) - time.time()) < 60
    assert 0 < float(str(first["ms"])) < 60_000
    assert "secret" not in json.dumps([first, second])


def test_a_share_of_the_requests_is_logged_and_none_by_default(
    make_server: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    for share, low, high in ((0.5, 60, 140), (0, 0, 0)):
        server = make_server(access_log=share)
        with serving(create_app(server)) as client:
            for _ in range(200):
                client.get("/livez")
        assert low <= len(lines(capsys)) <= high


def test_the_log_of_a_failure_names_the_request(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(Predictor, "logits", fail)
    response: httpx.Response = client.post("/predict", json={"text": "card"}, headers={"X-Request-Id": "find-me"})
    assert (response.status_code, response.headers["x-request-id"]) == (500, "find-me")
    assert "request id find-me" in caplog.text
